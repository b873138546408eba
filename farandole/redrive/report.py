"""Dead letters, plans and outcomes in words: tables for people, objects for scripts.

Invariant: what comes from topics is printed as it is, never as markup, and bytes only as farandole.redrive.showing has
them.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from farandole.cli.progress import WIDE
from farandole.redrive.asking import WITHOUT_BYTES, Result, Task
from farandole.redrive.queue import Book, Letter, Sequence
from farandole.redrive.showing import words

LISTED: Final = 50
"""Lines for people, unless they ask for more."""


def as_dict(book: Book, letter: Letter, state: str) -> dict[str, Any]:
    done = book.done.get((letter.service, letter.source))
    row = book.row((letter.service, letter.source.partition, letter.saga)) if letter.saga else None
    reason, error = book.newest(letter)
    return {
        "service": letter.service,
        "saga": letter.saga,
        "state": state,
        "reason": reason,
        "error": error,
        "time": _moment(letter.time),
        "letter": str(letter.where),
        "source": str(letter.source),
        "size": letter.size,
        "truncated": letter.truncated,
        "letters_of_saga": 0 if row is None else row.count - row.done,
        "tries": 0 if row is None else row.tries,
        "who": done.outcome.who if done else "",
        "why": done.outcome.why if done else "",
    }


def told(book: Book, letter: Letter) -> dict[str, Any]:
    """Everything about one letter."""
    tries = book.tries.get((letter.service, letter.source), [])
    sequence = book.sequence((letter.service, letter.source.partition, letter.saga)) if letter.saga else None
    waiting = sequence.letters if sequence else []
    return {
        **as_dict(book, letter, book.state(letter)),
        "key": None if letter.key is None else letter.key.decode(errors="replace"),
        "headers": {name: f"{len(value)} bytes" for name, value in letter.headers},
        "bytes": words(book.codec, letter),
        "operations": [
            {
                "outcome": each.outcome.outcome,
                "edited": each.outcome.edited,
                "error": each.outcome.error,
                "who": each.outcome.who,
                "why": each.outcome.why,
                "at": _moment(each.at),
            }
            for each in tries
        ],
        "sequence": [
            {"number": n, "source": str(each.source), "reason": book.newest(each)[0], "this": each is letter}
            for n, each in enumerate(waiting, sequence.number if sequence else 0)
        ],
    }


def _moment(milliseconds: int) -> str:
    if milliseconds < 0:
        return "unknown"
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)


def _table(title: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column == "letters" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_plain(str(cell)) for cell in row))
    return table


def _plain(text: str) -> Text:
    """What comes from topics is no markup."""
    return Text(text)


def print_list(rows: list[dict[str, Any]], counts: Counter[Any], limit: int) -> None:
    console = _console()
    if not rows:
        console.print("there are no such dead letters")
        return
    summary = [(*key, f"{count:,}") for key, count in sorted(counts.items())]
    console.print(_table("", ("service", "reason", "state", "letters"), summary), "")
    names = ("service", "saga", "state", "time", "source", "reason", "error")
    console.print(_table("", names, [tuple(row[name] for name in names) for row in rows[:limit]]))
    if len(rows) > limit:
        console.print(f"and {len(rows) - limit:,} more (--limit 0, or --json)")


def print_letter(said: dict[str, Any]) -> None:
    console = _console()
    for name in ("service", "saga", "state", "reason", "error", "time", "source", "letter", "key", "size", "headers"):
        if said[name] not in ("", {}):
            console.print(_plain(f"{name:10} {said[name]}"))
    for name, value in said["bytes"].items():
        text = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
        console.print(_plain(f"\n{name}\n{text}" if "\n" in text else f"{name:10} {text}"))
    for each in said["operations"]:
        why = f": {each['error'] or each['why']}" if each["error"] or each["why"] else ""
        console.print(_plain(f"operation  {each['outcome']} by {each['who']} at {each['at']}{why}"))
    if len(said["sequence"]) > 1:
        console.print("\nthe saga's letters, in order")
        for each in said["sequence"]:
            console.print(
                _plain(f"{'→' if each['this'] else ' '} {each['number']:4} {each['source']} {each['reason']}")
            )


def print_plan(chosen: list[Sequence], task: Task, as_json: bool) -> None:
    letters = sum(len(each.letters[: task.most]) for each in chosen)
    sagas = sum(bool(each.saga) for each in chosen)
    counts = Counter((each.service, each.reason) for each in chosen)
    if as_json:
        plan = [
            {
                "service": each.service,
                "saga": each.saga,
                "reason": each.reason,
                "letters": [str(letter.source) for letter in each.letters[: task.most]],
            }
            for each in chosen
        ]
        said = {"dry_run": True, "action": task.action, "letters": letters, "sagas": sagas, "plan": plan}
        failed = [
            {"service": each.service, "saga": each.saga, "letter": str(each.source), "error": WITHOUT_BYTES}
            for each in task.beyond(chosen)
        ]
        print(json.dumps({**said, "failed": failed}))
        return
    at = f", {task.rate:g} a second" if task.rate else ""
    rows = [(service, reason, f"{count:,}") for (service, reason), count in sorted(counts.items())]
    console = _console()
    console.print(
        f"{task.action}: {letters:,} letters of {sagas:,} sagas and {len(chosen) - sagas:,} without a saga{at}"
    )
    if rows:
        console.print(_table("", ("service", "reason", "sequences"), rows))
    for each in chosen[:LISTED]:
        whose = each.saga or str(each.letters[0].source)
        console.print(
            _plain(f"  {each.service} {whose}: {len(each.letters[: task.most])} from {each.letters[0].source}")
        )
    if len(chosen) > LISTED:
        console.print(f"  and {len(chosen) - LISTED:,} more")
    sys.stdout.flush()


def print_edited(book: Book, letter: Letter, value: bytes, as_json: bool) -> None:
    said = {"letter": str(letter.source), "bytes": words(book.codec, dataclasses.replace(letter, value=value))}
    print(json.dumps({"dry_run": True, **said}) if as_json else json.dumps(said["bytes"], indent=2, ensure_ascii=False))


def print_result(result: Result, console: Console) -> None:
    counts = ", ".join(f"{count:,} {name}" for name, count in sorted(result.counts.items())) or "nothing to do"
    console.print(f"{counts} in {result.seconds:.1f} s; {result.gone:,} sagas go on")
    failed = result.failed
    for course in failed[:LISTED]:
        whose = course.sequence.saga or str(course.sequence.letters[0].source)
        console.print(_plain(f"  {course.sequence.service} {whose}: {course.outcome}: {course.error}"))
    if len(failed) > LISTED:
        console.print(f"  and {len(failed) - LISTED:,} more (--json has all)")
