"""History replayed gives the tables that the services had, to the byte."""

from __future__ import annotations

import dataclasses
import gzip
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from agents import shipping
from agents.order import order_id
from events import FarandoleJournal, PaymentAuthorised, Shipment
from farandole.audit.records import Place
from farandole.cli.replay import _stopped_by
from farandole.errors import ReplayError
from farandole.replay.rebuilding import Live, Rebuilder, Rebuilt, compare, read_live
from farandole.replay.replica import Replica
from farandole.replay.shadowing import shadow
from farandole.replay.snapshot import Snapshot
from farandole.simulation.plan import SERVICES
from farandole.simulation.run import Run
from farandole.simulation.workers import Workshop
from tests.replay.maker import Maker, order, ordered, stocked
from tests.replay.model import ModelSource, played, quiet

SEEDS = 30


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


def replica_of(workshop: Workshop, run: Run, service: str) -> Replica:
    return Replica(service, workshop.project, run.plan.partitions)


def rebuild(source: ModelSource | Maker, replica: Replica) -> tuple[Live, Rebuilt]:
    live = read_live(source, replica, quiet)
    assert live.moving == []
    return live, Rebuilder(source, replica).run(live.position, quiet)


def test_history_replayed_is_the_tables_as_their_changelogs_have_them(workshop: Workshop) -> None:
    """Crashes, aborts, parked sagas, fired timers, condemned messages among it; decisions that failed then fail not
    today: what was put aside is put aside all the same.
    """
    rows = dead = 0
    for seed in range(SEEDS):
        run = played(workshop, seed)
        source = ModelSource(run)
        workshop.heal()
        for service in SERVICES:
            replica = replica_of(workshop, run, service)
            live, rebuilt = rebuild(source, replica)
            assert rebuilt.rows == live.rows, f"seed {seed}, {service}: {rebuilt.notes.kept}"
            assert rebuilt.notes.count == 0, f"seed {seed}: {rebuilt.notes.kept}"
            rows += sum(len(each) for each in live.rows.values())
            dead += len(live.rows["parked", 0])
    assert rows > 10 * SEEDS
    assert dead > 0


def test_rows_that_went_go_when_the_journal_says_so(workshop: Workshop) -> None:
    """By no clock: nothing tells a replay for how long rows were kept."""
    maker = Maker(workshop, batch=3)
    stocked(maker, "tea", 10_000)
    ordered(maker, [order(n, "tea", 1) for n in range(200)], order_id)
    maker.settle(lambda saga, step: ("accepted", "r", ""), keep=20)
    decode = workshop.project.codec.type_of(FarandoleJournal).decode_row
    journals = [record for (topic, _), log in maker.log.items() if topic.endswith(".journal") for record in log]
    assert sum(len(decode(record.value or b"").evicted) for record in journals) > 100
    for service in SERVICES:
        replica = Replica(service, workshop.project, 6)
        live, rebuilt = rebuild(maker, replica)
        assert rebuilt.rows == live.rows, service
        assert rebuilt.notes.count == 0
    replicas = {service: Replica(service, workshop.project, 6) for service in SERVICES}
    found = shadow(maker, workshop.topics, replicas, quiet)
    assert (found.differing, found.rows_differing) == ([], 0)


def test_a_decision_that_is_another_today_shows_in_the_rows_it_wrote(workshop: Workshop) -> None:
    def sloppy(event: PaymentAuthorised) -> Any:
        shipping.shipments[event.saga] = Shipment(phase="dispatched")

    run = played(workshop, 5)
    source = ModelSource(run)
    bindings = [
        (flow, event, dataclasses.replace(decision, function=sloppy) if event is PaymentAuthorised else decision)
        for flow, event, decision in workshop.services["shipping"].bindings
    ]
    replica = Replica("shipping", workshop.project, run.plan.partitions, bindings)
    live, rebuilt = rebuild(source, replica)
    differences = {each.table: each for each in compare(live, rebuilt, replica)}
    assert differences["shipments"].count + rebuilt.notes.count > 0
    assert rebuilt.notes.count > 0, "the answer of a call that is not made any more is the first sign"


def test_from_a_snapshot_it_is_the_same_and_less_is_read(workshop: Workshop, tmp_path: Path) -> None:
    """Cut anywhere: at a position of the journal, or by whoever interrupts it in the middle of a line."""
    whole = less = 0
    for seed in range(10):
        run = played(workshop, seed)
        source = ModelSource(run)
        workshop.heal()
        for service in SERVICES:
            replica = replica_of(workshop, run, service)
            live, rebuilt = rebuild(source, replica)
            half = {p: end // 2 for p, end in live.position.items()}
            first = Rebuilder(source, replica)
            first.run(half, quiet)
            first.so_far().save(tmp_path / "snapshot", "here.")
            loaded = Snapshot.load(tmp_path / "snapshot", service, "here.")
            second = Rebuilder(source, replica, loaded).run(live.position, quiet)
            assert second.rows == live.rows, f"seed {seed}, {service}"
            assert second.position == live.position
            whole, less = whole + rebuilt.records, less + second.records
    assert 0 < less < whole


def interrupt() -> None:
    raise KeyboardInterrupt


def signalled() -> None:
    signal.raise_signal(signal.SIGINT)


def nothing() -> None:
    pass


@contextmanager
def at_commit(
    line: int,
    monkeypatch: pytest.MonkeyPatch,
    replica: Replica,
    before: Callable[[], None] = nothing,
    after: Callable[[], None] = nothing,
) -> Iterator[None]:
    """What happens before or after the replica commits that line."""
    lines, commit = count(), replica.processor.commit

    def committed(at: int) -> Any:
        due = next(lines) == line
        if due:
            before()
        done = commit(at)
        if due:
            after()
        return done

    with monkeypatch.context() as planted:
        planted.setattr(replica.processor, "commit", committed)
        yield


def test_whoever_interrupts_it_goes_on_where_it_stopped(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = played(workshop, 55)
    source, replica = ModelSource(run), replica_of(workshop, run, "inventory")
    live, rebuilt = rebuild(source, replica)
    lines = rebuilt.transactions
    assert lines > 5
    for stop in range(lines):
        rebuilder = Rebuilder(source, replica)
        with at_commit(stop, monkeypatch, replica, before=interrupt), pytest.raises(KeyboardInterrupt):
            rebuilder.run(live.position, quiet)
        resumed = Rebuilder(source, replica, rebuilder.so_far()).run(live.position, quiet)
        assert resumed.rows == live.rows, f"stopped at line {stop}"
        assert resumed.transactions == lines - stop


def test_a_signal_between_a_line_and_the_note_of_it_waits_for_the_note(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the handler that the command installs; what is left to do begins behind that line."""
    run = played(workshop, 7)
    source, replica = ModelSource(run), replica_of(workshop, run, "inventory")
    live, rebuilt = rebuild(source, replica)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for stop in range(rebuilt.transactions):
            rebuilder = Rebuilder(source, replica)
            _stopped_by(rebuilder.interrupt)
            with at_commit(stop, monkeypatch, replica, after=signalled), pytest.raises(KeyboardInterrupt):
                rebuilder.run(live.position, quiet)
            resumed = Rebuilder(source, replica, rebuilder.so_far()).run(live.position, quiet)
            assert resumed.rows == live.rows, f"stopped at line {stop}"
            assert resumed.transactions == rebuilt.transactions - stop - 1
    finally:
        for each, handler in handlers.items():
            signal.signal(each, handler)


def test_a_snapshot_that_is_not_whole_or_of_somebody_else_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    run = played(workshop, 1)
    source, replica = ModelSource(run), replica_of(workshop, run, "order")
    live = read_live(source, replica, quiet)
    path = tmp_path / "snapshot"
    Snapshot("order", live.position, live.rows, live.times).save(path, "")
    lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    with pytest.raises(ReplayError, match="it is of order"):
        Snapshot.load(path, "payment", "")
    path.write_bytes(gzip.compress(b"".join(lines[:-1])))
    with pytest.raises(ReplayError, match="not written to its end"):
        Snapshot.load(path, "order", "")
    for nonsense in (b"", b"nonsense", gzip.compress(b"[]\n"), gzip.compress(b'{"format": "x"}\n')):
        path.write_bytes(nonsense)
        with pytest.raises(ReplayError, match="cannot be used"):
            Snapshot.load(path, "order", "")


def test_a_snapshot_of_which_a_byte_is_another_is_refused(workshop: Workshop, tmp_path: Path) -> None:
    run = played(workshop, 1)
    source, replica = ModelSource(run), replica_of(workshop, run, "order")
    live = read_live(source, replica, quiet)
    path = tmp_path / "snapshot"
    Snapshot("order", live.position, live.rows, live.times).save(path, "")
    raw, refused = path.read_bytes(), 0
    for at in range(0, len(raw), 1 + len(raw) // 400):
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :])
        try:
            assert Snapshot.load(path, "order", "").rows == {each: rows for each, rows in live.rows.items() if rows}
        except ReplayError:
            refused += 1
        else:
            assert at < 30 or at > len(raw) - 30, "gzip's own name and time of the file, and bits that fill the end"
    assert refused > 100


@pytest.mark.parametrize("topic", ["order.journal", "order.commands"])
def test_what_is_past_retention_is_said_with_its_place(workshop: Workshop, topic: str) -> None:
    run = played(workshop, 3)
    source, replica = ModelSource(run), replica_of(workshop, run, "order")
    place = next(place for place, records in source.log.items() if place[0] == topic and records)
    source.starts[place] = source.log[place][-1].offset + 1
    with pytest.raises(ReplayError, match="past retention") as failure:
        Rebuilder(source, replica).run(None, quiet)
    assert failure.value.where.startswith(f"{place[0]}/{place[1]}")


def test_a_partition_that_moves_is_named_and_not_compared(workshop: Workshop) -> None:
    run = played(workshop, 3)
    source, replica = ModelSource(run), replica_of(workshop, run, "order")
    ends = source.ends

    def growing() -> dict[Place, int]:
        source._ends["order.journal", 0] += 1
        return ends()

    source.ends = growing  # type: ignore[method-assign]
    live = read_live(source, replica, quiet, sleep=lambda seconds: None)
    assert live.moving == [0]
