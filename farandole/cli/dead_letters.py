"""`farandole dead-letters`: what services could not handle, and what an operator does about it."""

from __future__ import annotations

import getpass
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farandole.cli.progress import Report, show_outcome, shown
from farandole.errors import ConfigError

if TYPE_CHECKING:
    from farandole.redrive.asking import Result, Task
    from farandole.redrive.choosing import Choice
    from farandole.redrive.queue import Book, Desk, Letter

app = typer.Typer(no_args_is_help=True, add_completion=False)

FAILED = 1
"""Exit code when a letter failed again, or came to something else than is asked."""

Services = Annotated[list[str] | None, typer.Option("--service", help="Of this service. Repeatable.")]
Sagas = Annotated[list[str] | None, typer.Option("--saga", help="Of this saga, such as an order's id. Repeatable.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="With this reason class. Repeatable.")]
Places = Annotated[
    list[str] | None, typer.Option("--letter", help="The letter of this source, topic/partition/offset. Repeatable.")
]
Since = Annotated[str | None, typer.Option(help="Not older than: 30m, 2h, 7d, or a date and time.")]
Until = Annotated[str | None, typer.Option(help="Older than: the same.")]
Rate = Annotated[float | None, typer.Option(help="Letters a second at the most.", min=0.001)]
Who = Annotated[str, typer.Option(help="Who asks, for the audit topic; user@host if it is left out.")]
Why = Annotated[str, typer.Option(help="Why, for the audit topic.")]
Patience = Annotated[float, typer.Option(help="Seconds without any outcome after which the waiting ends.", min=1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and do nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


@app.callback()
def dead_letters() -> None:
    """Look at what services could not handle; have it decided again, edit it, or discard it.

    Example: farandole dead-letters list && farandole dead-letters redrive --service payment
    """


@app.command(name="list")
def list_(
    service: Services = None,
    saga: Sagas = None,
    reason: Reasons = None,
    since: Since = None,
    until: Until = None,
    state: Annotated[
        list[str] | None,
        typer.Option(help="parked, open, waiting, redriven, discarded, or all. Repeatable; what is not dealt with."),
    ] = None,
    limit: Annotated[int, typer.Option(help="Lines for people; 0: all. --json has all.", min=0)] = 50,
    as_json: AsJson = False,
) -> None:
    """List dead letters, and how they stand.

    parked: of a saga that waits; open: it parks none, and nobody has dealt with it; waiting: asked for, and not yet
    carried out; redriven and discarded: dealt with.

    Example: farandole dead-letters list --service payment --since 2h
    """
    from farandole.redrive.queue import DISCARDED, REDRIVEN, STATES
    from farandole.redrive.report import as_dict, print_list

    states = set(state or [])
    for name in states - {*STATES, "all"}:
        raise ConfigError(f"no such state: {name}", where="--state", mend=f"one of {', '.join(STATES)}, all")
    if not states or "all" in states:
        states = set(STATES) if states else set(STATES) - {REDRIVEN, DISCARDED}
    choice = _choice(service, saga, reason, None, since, until)
    with shown() as progress, _desk(choice, progress) as desk:
        book = desk.book
        found = [(letter, book.state(letter)) for letters in book.letters.values() for letter in letters]
        found = [
            (letter, stands)
            for letter, stands in found
            if stands in states and choice.fits(letter, book.newest(letter)[0])
        ]
        found.sort(key=lambda each: (each[0].service, each[0].saga == "", each[0].saga, each[0].where))
        rows = [as_dict(book, letter, stands) for letter, stands in found]
    counts = Counter((row["service"], row["reason"], row["state"]) for row in rows)
    if as_json:
        by = [dict(zip(("service", "reason", "state", "letters"), (*key, n), strict=True)) for key, n in counts.items()]
        print(json.dumps({"letters": rows, "counts": sorted(by, key=lambda each: tuple(map(str, each.values())))}))
        return
    print_list(rows, counts, limit or len(rows))


@app.command()
def show(
    service: Services = None,
    saga: Sagas = None,
    letter: Places = None,
    as_json: AsJson = False,
) -> None:
    """Show one letter: where it comes from, what was wrong, its bytes in words as far as they go, its neighbours.

    With --saga it is the letter that is due. Fields that the schema calls sensitive are masked, and bytes that might
    hold one are not shown.

    Example: farandole dead-letters show --saga o-17
    """
    from farandole.redrive.report import print_letter, told

    choice = _choice(service, saga, None, letter, None, None)
    if not (saga or letter):
        raise ConfigError(
            "which one?", mend="--saga SAGA for the letter that is due, or --letter topic/partition/offset"
        )
    with shown() as progress, _desk(choice, progress, kept=choice.fits) as desk:
        found = _the_one(desk.book, choice)
        said = told(desk.book, found)
    if as_json:
        print(json.dumps(said))
    else:
        print_letter(said)


@app.command()
def redrive(
    service: Services = None,
    saga: Sagas = None,
    reason: Reasons = None,
    letter: Places = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is not dealt with.")] = False,
    rate: Rate = None,
    who: Who = "",
    why: Why = "",
    patience: Patience = 60.0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Have letters decided again by their service, a saga's in order, each exactly once; wait for what becomes of them.

    A saga is meant as a whole: all that waits, and what comes meanwhile. If a letter fails again its saga waits at it.
    May be interrupted at any moment and repeated. Exit code 0: all is done. 1: some failed again, or
    are without their bytes, or somebody else did otherwise before.

    Example: farandole dead-letters redrive --service payment --rate 50 --dry-run
    """
    choice = _choice(service, saga, reason, letter, since, until)
    if everything and not choice.is_everything:
        raise ConfigError("--all is all", mend="leave out --all, or the other choices")
    if not everything and choice.is_everything:
        raise ConfigError("which letters?", mend="--all, or --service, --saga, --reason, --letter, --since, --until")
    _carry_out(choice, _task("redrive", who, why, None, rate, patience), dry_run, as_json)


@app.command()
def discard(
    context: typer.Context,
    why: Annotated[str, typer.Option(help="Why. It is kept.")],
    service: Services = None,
    saga: Sagas = None,
    reason: Reasons = None,
    letter: Places = None,
    rest: Annotated[bool, typer.Option("--rest", help="Of a saga not only the letter that is due, but all.")] = False,
    rate: Rate = None,
    who: Who = "",
    patience: Patience = 60.0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Leave letters alone for good. The saga's next one is due then, and with its last one it is not parked any more.

    A saga that has several letters does not say which one: name it with --letter, or mean --rest. So a repetition hits
    no other.

    What is discarded never happens: think of what the saga waits for. The bytes stay in the queue. Exit code 0: all is
    done. 1: somebody had it redriven before.

    Example: farandole dead-letters discard --letter order/3/17 --why "a test order"
    """
    choice = _choice(service, saga, reason, letter, None, None)
    if not why.strip():
        raise ConfigError("a discard needs a reason", where="--why")
    if not (saga or reason or letter):
        raise ConfigError("which letters?", mend="--saga, --letter or --reason")
    _carry_out(choice, _task("discard", who, why, None if rest else 1, rate, patience), dry_run, as_json, context)


@app.command()
def edit(
    context: typer.Context,
    why: Annotated[str, typer.Option(help="Why. It is kept.")],
    service: Services = None,
    saga: Sagas = None,
    letter: Places = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="field=value, such as lines[0].quantity=2. Repeatable.")
    ] = None,
    from_json: Annotated[
        Path | None, typer.Option(help="A file with `fields`, and `type` and `meta` where they cannot be read.")
    ] = None,
    who: Who = "",
    patience: Patience = 60.0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Have one letter decided again with other fields: the one of a saga that is due, or one that parks none.

    A saga that has several letters does not say which one: name it with --letter. So a repetition hits no other.
    What comes out has to fit the schema, and keeps topic, key, saga and metadata. The letter itself stays as it came.
    Exit code 0: it is done. 1: it failed again, or was redriven without this edit or discarded before.

    Example: farandole dead-letters edit --letter order/3/17 --set currency=EUR --why "the shop sent euro"
    """
    from farandole.cli.naming import command_for, note_dealt_with
    from farandole.redrive.asking import Result, of_letter
    from farandole.redrive.editing import edited, read_document
    from farandole.redrive.naming import check_lasting, compared, dealt_with
    from farandole.redrive.report import print_edited, print_result

    if not (saga or letter) or not (changes or from_json):
        raise ConfigError("which letter, and what of it?", mend="--saga or --letter, and --set or --from-json")
    choice = _choice(service, saga, None, letter, None, None)
    document = read_document(from_json) if from_json else None
    keys = _topics().keys()
    with shown() as progress, _desk(choice, progress, kept=choice.fits) as desk:

        def changed(letter: Letter) -> bytes:
            return edited(desk.book.codec, letter, keys[letter.source.topic], changes or [], document)

        chosen = choice.sequences(desk.book)
        before = compared(desk.book, dealt_with(desk.book, choice, chosen, 1), "redrive", changed)
        note_dealt_with(before, "edited")
        if before and not chosen:
            result = Result("redrive", [], 0.0, before)
            show_outcome(result, as_json, print_result)
            raise typer.Exit(0 if result.ok else FAILED)
        found = _the_one(desk.book, choice)
        check_lasting(desk.book, choice, chosen, partial(command_for, context))
        _check_due(desk.book, found)
        value = changed(found)
        sequence = of_letter(desk, found)
        if dry_run:
            print_edited(desk.book, found, value, as_json)
            return
        task = _task("redrive", who, why, 1, None, patience, value)
        result = _asking(desk, task, progress).carry_out([sequence])
        result.before = before
        left = desk.book.sequence(sequence.key) if sequence.saga else None
    show_outcome(result, as_json, print_result)
    if left and left.letters and not as_json and result.ok:
        print(f"{len(left.letters)} letters of {found.saga} wait: farandole dead-letters redrive --saga {found.saga}")
    raise typer.Exit(0 if result.ok else FAILED)


# ---- what they share


def _choice(
    services: list[str] | None,
    sagas: list[str] | None,
    reasons: list[str] | None,
    letters: list[str] | None,
    since: str | None,
    until: str | None,
) -> Choice:
    from farandole.redrive.choosing import Choice, moment

    now = time.time_ns() // 1_000_000
    return Choice(
        tuple(services or ()),
        tuple(sagas or ()),
        tuple(reasons or ()),
        tuple(letters or ()),
        moment(since, now),
        moment(until, now),
    )


def _task(
    action: str,
    who: str,
    why: str,
    most: int | None,
    rate: float | None,
    patience: float,
    edited: bytes | None = None,
) -> Task:
    from farandole.redrive.asking import Task

    return Task(action, who or f"{getpass.getuser()}@{socket.gethostname()}", why, most, rate, edited, patience)


def _topics() -> Any:
    from farandole import config
    from farandole.topics import Topics

    return Topics.load(config.project_root() / "topics.yaml")


@contextmanager
def _desk(choice: Choice, progress: Report, kept: Callable[[Letter], bool] = lambda letter: False) -> Iterator[Desk]:
    """All that is known of the services' letters, read."""
    import events
    from farandole import config
    from farandole.audit.reading import Reader
    from farandole.codec import Codec
    from farandole.redrive.choosing import check_services
    from farandole.redrive.queue import Book, Desk
    from farandole.registry import configured

    services = check_services(choice.services, list(_topics().services))
    codec = Codec.load(config.project_root() / "schemas", events, configured())
    client = config.kafka_client_config()
    config.check_broker(client)
    book = Book(codec, services, kept)
    desk = Desk(Reader(client, config.namespace(), book.topics), book)
    try:
        desk.read(progress, "reading dead letters")
        yield desk
    finally:
        desk.close()


def _asking(desk: Desk, task: Task, progress: Report) -> Any:
    from farandole import config
    from farandole.redrive.asking import Asking

    return Asking(config.kafka_client_config(), config.namespace(), desk, task, progress)


def _carry_out(choice: Choice, task: Task, dry_run: bool, as_json: bool, context: typer.Context | None = None) -> None:
    """context: of the command, where it means one letter of a saga."""
    from farandole.cli.naming import command_for, note_dealt_with
    from farandole.redrive.asking import WITHOUT_BYTES
    from farandole.redrive.naming import check_lasting, compared, dealt_with
    from farandole.redrive.report import print_plan, print_result

    with shown() as progress, _desk(choice, progress) as desk:
        chosen = choice.sequences(desk.book)
        before = compared(desk.book, dealt_with(desk.book, choice, chosen, task.most), task.action)
        note_dealt_with(before, "discarded" if task.action == "discard" else "redriven")
        if task.most is not None and context is not None:
            check_lasting(desk.book, choice, chosen, partial(command_for, context))
        beyond = task.beyond(chosen)
        if dry_run or not as_json:
            print_plan(chosen, task, as_json and dry_run)
        if dry_run:
            for letter in beyond:
                print(f"failed: {letter.service} {letter.source}: {WITHOUT_BYTES}", file=sys.stderr)
            raise typer.Exit(0 if not beyond and all(each.as_asked for each in before) else FAILED)
        result: Result = _asking(desk, task, progress).carry_out(chosen)
        result.before = before
    show_outcome(result, as_json, print_result)
    raise typer.Exit(0 if result.ok else FAILED)


def _the_one(book: Book, choice: Choice) -> Letter:
    """The letter that is meant: of a saga the one that is due. ConfigError if it is none, or several."""
    if choice.letters:
        found = [letter for letters in book.letters.values() for letter in letters if choice.fits(letter)]
    else:
        found = [sequence.letters[0] for sequence in choice.sequences(book)]
        if not found:
            past = [letter for letters in book.letters.values() for letter in letters if choice.fits(letter)]
            found = past[-1:]
    if not found:
        raise ConfigError("there is no such letter", mend="farandole dead-letters list --state all")
    if len(found) > 1:
        places = ", ".join(f"--service {each.service} --letter {each.source}" for each in found[:5])
        raise ConfigError(f"there are {len(found)} such letters", mend=f"one of {places}")
    return found[0]


def _check_due(book: Book, letter: Letter) -> None:
    """ConfigError unless it is the letter's turn."""
    from farandole.redrive.queue import OPEN, PARKED, WAITING

    stands = book.state(letter)
    if stands == WAITING:
        raise ConfigError("an operation about it is under way", mend="wait for its outcome: does the worker run?")
    if stands not in (PARKED, OPEN):
        raise ConfigError(f"it was {stands} before", where=str(letter.source))
    sequence = book.sequence((letter.service, letter.source.partition, letter.saga)) if letter.saga else None
    if sequence is not None and sequence.letters[0] is not letter:
        raise ConfigError(
            f"{sequence.letters[0].source} is due first", where=str(letter.source), mend="redrive, edit or discard that"
        )
