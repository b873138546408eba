"""`farandole replay`: recorded history, read again by itself."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from farandole.cli.files import probe, written
from farandole.cli.progress import shown, terminated
from farandole.errors import ConfigError

app = typer.Typer(no_args_is_help=True)

DIFFERENT = 1
"""Exit code of `rebuild` if the tables differ; 4 (ReplayError) if history cannot be replayed."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Rate = Annotated[float, typer.Option(help="Records per second; 0: as fast as it goes.", min=0)]
From = Annotated[str | None, typer.Option("--from-timestamp", help="ISO 8601 with a zone: 2026-03-01T08:00:00Z.")]
To = Annotated[str | None, typer.Option("--to-timestamp", help="Not included.")]
TopicNames = Annotated[list[str] | None, typer.Option("--topic", help="Repeatable. Else all that hold events.")]


@app.callback()
def replay() -> None:
    """Read recorded history again: print it, rebuild tables from it, see what other rules would have done.

    It assigns partitions to itself, joins no live group, commits nothing, and makes no outside call.

    Example: farandole replay inspect --saga o-3f2a… | jq .
    """
    signal.signal(signal.SIGTERM, terminated)


@app.command()
def inspect(
    topic: TopicNames = None,
    saga: Annotated[str, typer.Option(help="Of this saga alone; in the order of time.")] = "",
    flow: Annotated[str, typer.Option(help="Of this flow alone, such as order/1.")] = "",
    type_: Annotated[list[str] | None, typer.Option("--type", help="Such as order.placed. Repeatable.")] = None,
    offsets: Annotated[
        list[str] | None, typer.Option(help="topic/partition/first-last, or …/first-. Repeatable.")
    ] = None,
    begin: From = None,
    end: To = None,
    limit: Annotated[int, typer.Option(help="Stop after so many; 0: all.", min=0)] = 0,
    rate: Rate = 0.0,
    out: Annotated[Path | None, typer.Option("--out", help="A file to write to, or add to with --resume.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="File that says where it stopped; it is begun if it is not there.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be read, and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: one JSON object.")] = False,
) -> None:
    """Print what lies in the topics: one JSON object for each record, on a line of its own.

    Bytes that cannot be read are shown as hex with the reason; values that a schema calls sensitive are masked.

    Example: farandole replay inspect --topic order --type order.cancelled --from-timestamp 2026-03-01T00:00:00Z
    """
    from farandole.replay import inspecting
    from farandole.replay.opening import opened
    from farandole.replay.pace import Pace
    from farandole.replay.selection import Selection, bounds, chosen_topics, instant, stretch

    asked = {
        "topics": sorted(topic or []), "saga": saga, "flow": flow, "types": sorted(type_ or []),
        "offsets": sorted(offsets or []), "from": begin, "to": end,
    }  # fmt: skip
    if saga and resume:
        raise ConfigError("one saga is read as a whole", where="--resume", mend="leave --resume out")
    if out and out.exists() and not resume:
        raise ConfigError("the file is there already", where=str(out), mend="name another one, or give --resume")
    probe(out, "--out")
    probe(resume, "--resume", beside=True)
    with opened() as found, shown(eta=True) as progress:
        stretches = dict(stretch(text) for text in offsets or ())
        selection = Selection(
            chosen_topics(found.topics, topic or (each[0] for each in stretches)),
            None if begin is None else instant(begin, "--from-timestamp"),
            None if end is None else instant(end, "--to-timestamp"),
            stretches,
            saga,
            flow,
            frozenset(type_ or ()),
        )
        for name in selection.types:
            found.project.codec.type_named(name)
        where = (inspecting.load(resume, asked) if resume else None) or bounds(found.reader, selection)
        for told in where.gone:
            print(f"note: {told}", file=sys.stderr)
        if dry_run:
            _plan(where, as_json)
            return
        inspection = inspecting.Inspection(found.project.codec, selection, where, Pace(rate), limit)
        with ExitStack() as stack:
            file = stack.enter_context(out.open("a")) if out else sys.stdout
            _stopped_by(inspection.interrupt)
            try:
                inspection.run(found.reader, lambda text: print(text, file=file), progress)
                file.flush()
            except BrokenPipeError:  # whoever reads has seen enough; how much of it, nobody knows
                resume = None
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            finally:
                if resume:
                    file.flush()
                    inspecting.save(resume, asked, inspection)


def _stopped_by(interrupt: Callable[[Callable[[], None]], None]) -> None:
    """Signals stop the command when what it has under way is whole."""
    for number, stop in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, terminated)):
        signal.signal(number, lambda n, frame, stop=stop: interrupt(lambda: stop(n, frame)))  # type: ignore[misc]


def _plan(where: Any, as_json: bool) -> None:
    stretches = {f"{t}/{p}": [first, where.last[t, p]] for (t, p), first in where.first.items()}
    wanted = {place: each for place, each in stretches.items() if each[0] < each[1]}
    if as_json:
        print(json.dumps({"offsets": where.total, "stretches": wanted, "past_retention": where.gone}))
        return
    print(f"{where.total:,} offsets in {len(wanted)} partitions (markers of transactions count)")
    for place, (first, last) in sorted(wanted.items()):
        print(f"  {place}: {first} to {last - 1}")


@app.command()
def rebuild(
    service: Annotated[str, typer.Argument(help="Whose tables: order, inventory, …")],
    from_snapshot: Annotated[
        Path | None, typer.Option(help="Begin there, instead of at the beginning of history.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on from this file, and leave there where it ended or was stopped: a snapshot, too."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Put them in the place of the live ones. The service has to be stopped.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="With --apply: say what would change, and end.")] = False,
    rate: Rate = 0.0,
    as_json: AsJson = False,
) -> None:
    """Recompute a service's tables from history, as its journal tells it, and compare them with the live ones.

    What was put aside then is put aside again, whatever today's code would do with it. Exit code 0: the same, to the
    byte. 1: they differ. 4: history cannot be replayed.

    Example: farandole replay rebuild inventory --from-snapshot inventory.snapshot
    """
    from farandole.replay import report
    from farandole.replay.applying import Applier, check_stopped
    from farandole.replay.opening import opened
    from farandole.replay.pace import Pace
    from farandole.replay.rebuilding import Rebuilder, compare, read_live
    from farandole.replay.snapshot import Snapshot

    probe(resume, "--resume", beside=True)
    if resume and resume.exists():
        from_snapshot = resume
    with opened() as found, shown(eta=True) as progress:
        replica = found.replica(service)
        if apply and not dry_run:
            check_stopped(found.config, found.namespace + service)  # before an hour of work, and again after it
        snapshot = Snapshot.load(from_snapshot, service, found.namespace) if from_snapshot else None
        live = read_live(found.reader, replica, progress)
        until = live.position | {p: found.reader.ends()[f"{service}.journal", p] for p in live.moving}
        rebuilder = Rebuilder(found.reader, replica, snapshot, Pace(rate))
        _stopped_by(rebuilder.interrupt)
        try:
            rebuilt = rebuilder.run(until, progress)
        finally:
            if resume and rebuilder.rebuilt.position:
                with written(resume, "--resume"):
                    rebuilder.so_far().save(resume, found.namespace)
        outcome = report.Comparison(rebuilt, live.moving, compare(live, rebuilt, replica), from_snapshot)
        if apply and not dry_run and outcome.differing:
            outcome.written = Applier(found.config, found.namespace, found.reader, replica).apply(
                live, rebuilt, progress
            )
            again = read_live(found.reader, replica, progress)
            outcome.left = sum(each.count for each in compare(again, rebuilt, replica))
    report.show(outcome, as_json)
    raise typer.Exit(0 if outcome.ok else DIFFERENT)


@app.command()
def shadow(
    flow: Annotated[str, typer.Option(help="Report sagas of this flow alone, such as order/1.")] = "",
    begin: From = None,
    end: To = None,
    unasked: Annotated[
        str, typer.Option(help="What outside calls that were never made are answered: unknown, accepted or refused.")
    ] = "unknown",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write every saga that differs to this file, as JSON lines.")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Directory for what is read and how far the play is; it is begun if it is not there."),
    ] = None,
    rate: Rate = 0.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be read, and end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Run the services of this checkout over recorded history, and say what would have come out otherwise.

    Everything stays in memory: no group, no topic, no outside system is touched. All of history is played; the times
    choose the sagas that are reported, by when they began. Outside calls are answered as they were then, by their
    idempotency key. Exit code 0, whatever differs: differences are the result.

    With --resume DIR what was stopped or killed goes on with the same DIR. Rules may change from one run to the next:
    history is read once, and only played anew.

    Example: farandole replay shadow --from-timestamp 2026-03-01T00:00:00Z --out differing.jsonl

    Example: farandole replay shadow --resume march   (change a rule in agents/, and the same again)
    """
    from farandole.replay import shadow_report
    from farandole.replay.opening import opened
    from farandole.replay.pace import Pace
    from farandole.replay.plain import line
    from farandole.replay.readstate import look
    from farandole.replay.resuming import Kept
    from farandole.replay.rules import digest
    from farandole.replay.selection import instant
    from farandole.replay.shadowing import plan, shadow

    if unasked not in ("unknown", "accepted", "refused"):
        raise ConfigError(f"no such outcome: {unasked}", where="--unasked", mend="unknown, accepted or refused")
    window = (
        None if begin is None else instant(begin, "--from-timestamp"),
        None if end is None else instant(end, "--to-timestamp"),
    )
    probe(out, "--out")
    with opened() as found, shown(eta=True) as progress, ExitStack() as stack:
        codec, cluster = found.project.codec, found.reader.cluster() if resume else ""
        if dry_run:
            before = look(resume, found.namespace, cluster) if resume else None
            planned = plan(found.reader, found.topics, codec, progress, before)
            print(json.dumps(planned) if as_json else f"{planned['offsets']:,} offsets in {planned['topics']} topics")
            return
        kept = None
        if resume:
            kept = stack.enter_context(Kept(resume, found.namespace, cluster, digest(codec, unasked)))
            for told in kept.notes():
                print(f"note: {told}", file=sys.stderr)
            _stopped_by(kept.moments.interrupt)
        replicas = {service: found.replica(service) for service in found.topics.services}
        options = {"unasked": unasked, "window": window, "flow": flow, "pace": Pace(rate), "kept": kept}
        outcome = shadow(found.reader, found.topics, replicas, progress, **options)  # type: ignore[arg-type]
    if out:
        with written(out, "--out"):
            out.write_text("".join(line(each.to_dict()) + "\n" for each in outcome.differing))
    shadow_report.show(outcome, as_json)


@app.command()
def snapshot(
    service: Annotated[str, typer.Argument(help="Whose tables: order, inventory, …")],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    as_json: AsJson = False,
) -> None:
    """Write a service's tables, as they are now, and their position in its journal to a file.

    Later a rebuild that begins there reads only what was since; and it needs nothing that has gone by then.

    Example: farandole replay snapshot inventory --out inventory.snapshot
    """
    from farandole.errors import ReplayError
    from farandole.replay.opening import opened
    from farandole.replay.rebuilding import read_live
    from farandole.replay.snapshot import Snapshot

    probe(out, "--out", beside=True)
    with opened() as found, shown(eta=True) as progress:
        live = read_live(found.reader, found.replica(service), progress)
        if live.moving:
            raise ReplayError(
                f"partitions {', '.join(map(str, live.moving))} of {service} never stood still",
                where=f"{service}.journal",
                mend="try again when it is quieter",
            )
        made = Snapshot(service, live.position, live.rows, live.times)
        with written(out, "--out"):
            made.save(out, found.namespace)
    if as_json:
        print(json.dumps({"service": service, "file": str(out), "rows": made.count, "position": made.position}))
    else:
        print(f"{made.count:,} rows of {service} in {out}")
