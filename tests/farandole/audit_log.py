"""A log in memory that the audit reads like Kafka, and ways to damage it.

`Recording` is the world of tests/flows with every event, answer and fired timer written to such a log, ids and causes
as the engine makes them. So a clean log is what the real decisions did, and a damaged one is that with one thing wrong.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

import events
from farandole import Call, Event, Meta, Timer
from farandole.audit.gateway import Gateway
from farandole.audit.passcodes import Passcodes
from farandole.audit.records import LogRecord, Place, Where
from farandole.audit.report import Report
from farandole.audit.rounds import Options, audit
from farandole.codec import Codec
from farandole.flow import Decision
from farandole.partitioner import partition_of
from farandole.topics import Topics
from tests.flows.world import Message, PendingCall, World, saga_of, world

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000_000
EventT = TypeVar("EventT", bound=Event)


@functools.cache
def codec() -> Codec:
    return Codec.load(ROOT / "schemas", events)


@functools.cache
def topics() -> Topics:
    return Topics.load(ROOT / "topics.yaml")


class Log:
    """Every topic of the system. `audit()` reads it; offsets of dropped records stay empty, as transaction markers do.

    growing: called one after another, each before the ends are asked for once more: what a live system does meanwhile
    """

    def __init__(self) -> None:
        self.partitions: dict[str, int] = {name: topic.partitions for name, topic in topics().topics.items()}
        places = [(name, n) for name, count in self.partitions.items() for n in range(count)]
        self.starts: dict[Place, int] = dict.fromkeys(places, 0)
        self.records: dict[Place, list[LogRecord | None]] = {place: [] for place in places}
        self.growing: list[Callable[[Log], None]] = []
        self.clock = NOW
        self._asked = 0
        self._clients = itertools.count()

    def copy(self) -> Log:
        other = copy.copy(self)
        other.records = {place: list(records) for place, records in self.records.items()}
        other.starts, other.growing = dict(self.starts), []
        other._clients = itertools.count(1_000_000)
        return other

    # ---- as the audit sees it

    def ends(self) -> dict[Place, int]:
        self._asked += 1
        if self._asked > 1 and self.growing:
            self.growing.pop(0)(self)
        return {place: len(records) for place, records in self.records.items()}

    def read(
        self,
        first: Mapping[Place, int],
        end: Mapping[Place, int],
        take: Callable[[LogRecord], None],
        progress: Any,
        what: str,
    ) -> int:
        found = [r for place in end for r in self.records[place][first[place] : end[place]] if r is not None]
        for record in self.in_order(found):
            take(record)
        return len(found)

    in_order: Callable[[list[LogRecord]], list[LogRecord]] = staticmethod(lambda records: records)

    def audit(
        self,
        settled: bool = True,
        open_for: float = 3600.0,
        gateway: Gateway | None = None,
        passcodes: Passcodes | None = None,
    ) -> Report:
        self._asked = 0
        return audit(self, codec(), topics(), Options(settled, open_for, pause=0), gateway, passcodes=passcodes)

    # ---- writing

    def append(
        self,
        topic: str,
        partition: int,
        key: str | bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> Where:
        records = self.records[topic, partition]
        self.clock += 1
        raw = key.encode() if isinstance(key, str) else key
        records.append(LogRecord(topic, partition, len(records), self.clock, raw, value, headers or []))
        return Where(topic, partition, len(records) - 1)

    def write(self, event: Event, meta: Meta, key: str | None = None, partition: int | None = None) -> Where:
        kind = codec().type_of(type(event))
        field = topics().topics[kind.topic].key
        event = replace(event, saga=meta.saga)
        own = meta.saga if field == "saga" else getattr(event, str(field))
        key = own if key is None else key
        home = partition_of(own, self.partitions[kind.topic]) if partition is None else partition
        return self.append(kind.topic, home, key, kind.encode(event, encode(meta)))

    def publish(
        self, event: Event, saga: str, cause: Where | None = None, number: int | str = 0, flow: str = "order/1"
    ) -> Where:
        """An event that a record caused; without a cause, a client's."""
        if cause is None:
            return self.write(event, Meta(f"client/{next(self._clients)}", saga, flow, ""))
        return self.write(event, Meta(f"{cause}.{number}", saga, flow, self.meta(cause).id))

    def row(self, table: str, partition: int, key: str, row: Any) -> Where:
        """A row of a table such as `inventory-levels`; None: it is deleted."""
        return self.row_in(f"{table}-changelog", partition, key, row)

    def row_in(self, topic: str, partition: int, key: str, row: Any) -> Where:
        value = None if row is None else codec().type_of(type(row)).encode_row(row)
        return self.append(topic, partition, key, value)

    def journal(self, service: str, topic: str, partition: int, first: int, last: int) -> Where:
        line = events.FarandoleJournal(
            took=(events.FarandoleStretch(topic=topic, first=first, last=last),), answered=(), fired=()
        )
        return self.append(f"{service}.journal", partition, None, codec().type_of(type(line)).encode_row(line))

    def letter(self, service: str, source: Where, reason: str, count: int = 1) -> Where:
        """A dead letter for a record that is in the log."""
        record = self.at(source)
        headers = [
            ("__dlq.errors.topic", source.topic.encode()),
            ("__dlq.errors.partition", b"%d" % source.partition),
            ("__dlq.errors.offset", b"%d" % source.offset),
            ("__dlq.errors.delivery.count", b"%d" % count),
            ("__dlq.reason", reason.encode()),
        ]
        return self.append(f"{service}.dlq", source.partition, record.key, record.value, headers)

    def park(self, service: str, source: Where, saga: str, reason: str = "decision-failed") -> Where:
        """A record becomes a dead letter, and its saga is parked. Returns where the letter lies."""
        letter = self.letter(service, source, reason)
        row = events.FarandoleParked(
            count=1,
            reason=reason,
            error="RuntimeError: planted",
            topic=source.topic,
            offset=source.offset,
            since=self.clock,
        )
        self.row(f"{service}-parked", source.partition, saga, row)
        return letter

    def outcome(
        self, service: str, source: Where, outcome: str, saga: str = "", number: int = 0, left: int = 0
    ) -> Where:
        """What became of an operation on a dead letter."""
        row = events.FarandoleOutcome(
            operation=0,
            action="discard" if outcome == "discarded" else "redrive",
            saga=saga,
            number=number,
            topic=source.topic,
            offset=source.offset,
            outcome=outcome,
            reason="",
            error="",
            left=left,
            edited=False,
            who="anna",
            why="a test",
        )
        return self.row_in(f"{service}.operations", source.partition, saga, row)

    def wait(self, service: str, saga: str, outside: str, operation: str) -> None:
        """An outside call has no answer yet."""
        row = events.FarandoleCall(
            saga=saga, outside=outside, operation=operation, body=b"{}", answer="x", meta=b"", deadline=0.0
        )
        self.row(f"{service}-calls", 0, f"{saga}/{operation}", row)

    # ---- finding

    def at(self, where: Where) -> LogRecord:
        record = self.records[where.topic, where.partition][where.offset]
        assert record is not None
        return record

    def meta(self, where: Where) -> Meta:
        return codec().decode(self.at(where).value)[0]

    def all(self, *kinds: type[Any], saga: str = "") -> list[Where]:
        """Where the events of these kinds lie, of one saga or of all, topic by topic."""
        found = []
        for place, records in self.records.items():
            if topics().topics[place[0]].events:
                for record in filter(None, records):
                    event = self.event(record.where)
                    if (not kinds or isinstance(event, kinds)) and saga in ("", saga_of(event) if event else ""):
                        found.append(record.where)
        return found

    def one(self, kind: type[Any], saga: str = "") -> Where:
        return self.all(kind, saga=saga)[0]

    def event(self, where: Where) -> Any:
        value = self.at(where).value
        try:
            return codec().decode(value)[1]
        except Exception:  # what cannot be read is no event
            return None

    # ---- damaging

    def drop(self, where: Where) -> None:
        self.records[where.topic, where.partition][where.offset] = None

    def put(self, where: Where, **changes: Any) -> None:
        """Change the record itself: key, value, time."""
        self.records[where.topic, where.partition][where.offset] = self.at(where)._replace(**changes)

    def change(self, where: Where, **fields: Any) -> None:
        """Change fields of the event."""
        meta, event = codec().decode(self.at(where).value)
        self.put(where, value=codec().encode(replace(event, **fields), meta))

    def remeta(self, where: Where, **fields: Any) -> None:
        """Change id, saga, flow or cause, and the key with the saga."""
        meta, event = codec().decode(self.at(where).value)
        changed = meta._replace(**fields)
        field = topics().topics[where.topic].key
        key = changed.saga.encode() if field == "saga" else self.at(where).key
        self.put(where, value=codec().encode(replace(event, saga=changed.saga), changed), key=key)

    def again(self, where: Where) -> Where:
        """The same bytes once more, at the end of the partition."""
        record = self.at(where)
        return self.append(where.topic, where.partition, record.key, record.value)


def encode(meta: Meta) -> bytes:
    from farandole.codec import encode_meta

    return encode_meta(meta)


class Recording(World):
    """A world that writes a log."""

    log: Log
    _cause: Where | None = None
    _number: str = ""

    def begin(self) -> None:
        self.log = Log()
        self._at: dict[int, Where] = {}
        self._promised: dict[tuple[str, ...], tuple[Where | None, str]] = {}

    def send(self, event: Event, saga: str, flow: str = "order/1") -> None:
        where = self.log.publish(event, saga, self._cause, self._number, flow)
        before = self.number
        super().send(event, saga, flow)
        self._at.update(dict.fromkeys(range(before + 1, self.number + 1), where))

    def deliver(self, message: Message) -> None:
        self._cause, self._numbers = self._at[message.number], itertools.count()
        super().deliver(message)
        self._cause = None

    def _carry_out(self, effect: Any, message: Message, decision: Decision) -> None:
        # One record has effects in several services.
        self._number = f"{message.service}.{next(self._numbers)}"
        here = (self._cause, self._number)
        if isinstance(effect, Call):
            self._promised[message.service, effect.key] = here
        elif isinstance(effect, Timer):
            self._promised[message.service, saga_of(message.event), type(effect.event).__name__] = here
        super()._carry_out(effect, message, decision)

    def answer(self, pending: PendingCall, outcome: str, reference: str = "", reason: str = "") -> None:
        with self._as_promised(pending.service, pending.call.key):
            super().answer(pending, outcome, reference, reason)

    def fire(self, timer: tuple[str, str, str]) -> None:
        with self._as_promised(*timer):
            super().fire(timer)

    @contextmanager
    def _as_promised(self, *name: str) -> Iterator[None]:
        self._cause, self._number = self._promised[name]
        yield
        self._cause = None

    def finish(self) -> Log:
        """Write what services keep: the stock table, and that they have taken everything."""
        heard: defaultdict[str, set[str]] = defaultdict(set)
        for flow in self.flows.values():
            for service, kind in flow.bindings:
                heard[codec().type_of(kind).topic].add(service)
        for (topic, partition), records in self.log.records.items():
            for service in heard[topic] if records else ():
                self.log.journal(service, topic, partition, 0, len(records) - 1)
        for sku, row in self.rows("inventory")["levels"].items():
            self.log.row("inventory-levels", partition_of(sku, 6), sku, row)
        for name, row in self.rows("accounts")["balances"].items():
            self.log.row("accounts-balances", partition_of(name, 6), name, row)
        for key, row in self.rows("accounts")["movements"].items():
            self.log.row("accounts-movements", 0, key, row)
        return self.log


@contextmanager
def recording() -> Iterator[Recording]:
    with world() as plain:
        recorded = Recording(plain.flows, plain.apps)
        recorded.begin()
        yield recorded
