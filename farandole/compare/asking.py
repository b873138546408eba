"""What the project's own commands say of one order: asked as a person asks, each a process of its own, with --json.

Visibility: how many of the order's messages, as they lie in the topics, a command shows. Debugging: which of a fixed
list of questions about an order that is stuck are answered by what a command prints, without concluding anything: yes
only if a field says it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from farandole.compare.facts import Fact
from farandole.compare.figures import share

STORY, TRAIL, INSPECT = "story", "trail", "replay inspect"

ARGUMENTS: Final[dict[str, tuple[str, ...]]] = {
    STORY: ("story", "{}", "--json"),
    TRAIL: ("trail", "{}", "--json"),
    INSPECT: ("replay", "inspect", "--saga", "{}"),
}

PROGRAM: Final = ["-m", "farandole.cli.main"]
ANSWER_WITHIN: Final = 60.0

UNKNOWN: Final = {STORY: (1, "there is no record of a saga"), TRAIL: (2, "no trail")}
"""Exit code and words with which a command says that it does not know an order: an answer, and no failure."""

LAST_LINES: Final = 3
"""Of a command that has failed."""


@dataclass(frozen=True)
class Said:
    """objects: what was printed; nothing if the command does not know the order. seconds: until its process ended

    problem: why there is no answer: the command has failed; late: it took longer than it was given
    """

    command: str
    seconds: float
    objects: list[Any]
    problem: str = ""
    late: bool = False


def commands(there: Iterable[str]) -> list[str]:
    """Those that this project has. there: names of its commands"""
    names = set(there)
    return [name for name, arguments in ARGUMENTS.items() if arguments[0] in names]


def ask(command: str, saga: str, environment: Mapping[str, str], root: Path, within: float = ANSWER_WITHIN) -> Said:
    """within: seconds after which it is killed"""
    arguments = [part.format(saga) for part in ARGUMENTS[command]]
    began = time.monotonic()
    try:
        done = subprocess.run(
            [sys.executable, *PROGRAM, *arguments],
            env=dict(environment), cwd=root, capture_output=True, text=True, timeout=within, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Said(command, time.monotonic() - began, [], f"did not end within {within:.0f} s", late=True)
    seconds = time.monotonic() - began
    if done.returncode != 0:
        return Said(command, seconds, [], "" if _unknown(command, done) else _failure(done))
    try:
        return Said(command, seconds, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")])
    except ValueError as error:
        return Said(command, seconds, [], f"printed what is no JSON: {error}")


def _unknown(command: str, done: subprocess.CompletedProcess[str]) -> bool:
    code, words = UNKNOWN.get(command, (0, ""))
    return done.returncode == code and words in done.stderr


def _failure(done: subprocess.CompletedProcess[str]) -> str:
    last = " / ".join(line.strip() for line in done.stderr.strip().splitlines()[-LAST_LINES:])
    return f"ended with exit code {done.returncode}: {last or '(it said nothing)'}"


# ---- visibility


def strings(value: Any) -> Iterator[str]:
    """Every text in it, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield name
            yield from strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)


def shown(said: Said, facts: Iterable[Fact]) -> tuple[int, int]:
    """(messages of the order that the command shows, messages that it has). A name counts as often as it is there."""
    there = Counter(fact.name for fact in facts)
    names = {name: name for name in there} | {_short(name): name for name in there if ".commands." in name}
    found = Counter(names[text] for text in strings(said.objects) if text in names)
    return sum(min(count, found[name]) for name, count in there.items()), there.total()


def _short(command: str) -> str:
    """`inventory.commands.reserve_stock` → reserve-stock, as a trail has it."""
    return command.rpartition(".")[2].replace("_", "-")


def visibility(said: Iterable[tuple[Said, Iterable[Fact]]]) -> dict[str, Any]:
    """Of one command and flow."""
    asked = [(each.seconds, *shown(each, facts)) for each, facts in said]
    seconds = [each[0] for each in asked]
    return {
        "orders": len(asked),
        "whole": share(sum(saw == of for _, saw, of in asked), len(asked)),
        "messages": share(sum(each[1] for each in asked), sum(each[2] for each in asked)),
        "seconds": {
            "median": round(median(seconds), 2) if seconds else None,
            "most": round(max(seconds), 2) if seconds else None,
        },
    }


# ---- debugging

QUESTIONS: Final = {
    "where": "which step it stands at",
    "why": "which service it waits for",
    "since": "since when",
    "done": "what was done so far",
    "can": "what one can do",
}


def answers(said: Said, service: str) -> dict[str, bool]:
    """Question → whether the command answers it. service: the one that is down"""
    known: dict[str, Callable[[Any, str], dict[str, bool]]] = {STORY: _story, TRAIL: _trail}
    if not said.objects:
        return dict.fromkeys(QUESTIONS, False)
    if said.command == INSPECT:
        return _records(said.objects, service)
    return known[said.command](said.objects[0], service)


def _story(found: Mapping[str, Any], service: str) -> dict[str, bool]:
    steps = list(_steps(found.get("story", [])))
    waiting = [str(each) for each in found.get("waiting", [])]
    return {
        "where": bool(waiting),
        "why": any(service in each for each in waiting),
        "since": any(each.get("state") == "waits" and "at" in each for each in steps),
        "done": bool(steps),
        "can": bool(found.get("advice")),
    }


def _steps(steps: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for each in steps:
        yield each
        yield from _steps(each.get("below", []))


def _trail(found: Mapping[str, Any], service: str) -> dict[str, bool]:
    waiting = [step for step in found.get("steps", []) if not step.get("answer")]
    return {
        "where": bool(waiting),
        "why": any(service in str(each) for each in waiting),
        "since": any(step.get("sent") for step in waiting),
        "done": any(step.get("answer") for step in found.get("steps", [])),
        "can": bool(found.get("advice")),
    }


def _records(found: Sequence[Mapping[str, Any]], service: str) -> dict[str, bool]:
    """Of records, one a line: each says what happened, and when (`type`, `time`), and what it came of (`cause`).

    That is what was done. It says where the order stands only if a field says so as one of a story does (`waiting`,
    `since`, `advice`): that nothing comes after the last record is concluded from its time and its type, not read.
    """
    waiting = [each for each in found if each.get("waiting")]
    return {
        "where": bool(waiting),
        "why": any(service in str(each["waiting"]) for each in waiting),
        "since": any(each.get("since") for each in waiting),
        "done": any(each.get("type") and each.get("time") for each in found),
        "can": any(each.get("advice") for each in found),
    }
