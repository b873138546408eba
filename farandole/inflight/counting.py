"""Counts the sagas that are in flight, by flow.

Invariants:
- No saga that is in flight at the moment of the count is missed. Committed positions are taken first, the topics' ends
  afterwards: whatever a service did in between begins with a record that is unread by those positions. So one that
  ended a moment ago may still be counted, and one that moves is not lost between two topics.
- The flow of a saga is read from its records, never guessed. Where they are past retention, that is what is said.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from events import FarandoleCall, FarandoleTimer
from farandole.audit.reading import Offsets, Progress
from farandole.audit.records import LogRecord, Place
from farandole.codec import Codec
from farandole.errors import CodecError
from farandole.event import Event
from farandole.flow import Flow

WINDOW: Final = 20_000
"""Offsets of one partition that are searched first for the records of a saga, from its end. Those in flight are mostly
of late; each further search is four times as far."""

TABLES: Final = ("calls", "timers", "parked")
"""The engine's tables that hold something of sagas in flight."""

META_OF_A_CALL: Final = b"\0" * 5
"""The metadata of an answer is kept without the prefix that a record has."""

REASONS: Final = 8
"""Of one saga that are told. A service that stands still leaves millions of records unread."""

Ended = Callable[[Any], bool]


class Source(Protocol):
    """Topics that can be read; farandole.audit.reading.Reader is one."""

    @property
    def partitions(self) -> Mapping[str, int]: ...
    @property
    def starts(self) -> Offsets: ...
    def ends(self) -> dict[Place, int]: ...
    def read(
        self, first: Offsets, end: Offsets, take: Callable[[LogRecord], None], progress: Progress, what: str
    ) -> int: ...


Positions = Mapping[str, Offsets]
"""Service → place → offset of the next record that it has not committed; where it never committed there is none."""


@dataclass(frozen=True)
class Told:
    """What the code says. ended: service → table → whether a row has ended; topics: those that hold events"""

    codec: Codec
    flows: Mapping[str, Flow]
    ended: Mapping[str, Mapping[str, Ended]]
    topics: frozenset[str]

    def changelogs(self) -> dict[str, tuple[str, str]]:
        """Topic → service and table, of the tables that tell about sagas in flight."""
        named = {(service, table) for service, tables in self.ended.items() for table in (*tables, *TABLES)}
        return {f"{service}-{table}-changelog": (service, table) for service, table in named}


@dataclass
class Standing:
    """The sagas of one flow that are in flight, each with what it waits for.

    left:    saga → why it has not ended, in words
    waiting: those of them that nothing but a row holds: only a client or an operator can move them
    parked:  sagas that a service has stopped handling: those are not in `left`
    """

    left: dict[str, list[str]] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)
    parked: dict[str, list[str]] = field(default_factory=dict)

    @property
    def open(self) -> int:
        return len(self.left) + len(self.parked)


@dataclass
class Count:
    """
    flows:   flow → how it stands; those of the checkout, and whatever others have sagas in flight
    gone:    keys of rows that have not ended, of which no record is there any more that would name the saga's flow
    notes:   what could not be read
    records, rows: that were read
    """

    flows: dict[str, Standing]
    gone: Standing = field(default_factory=Standing)
    notes: list[str] = field(default_factory=list)
    records: int = 0
    rows: int = 0


def count(source: Source, told: Told, positions: Positions, progress: Progress) -> Count:
    """positions: taken before this is called."""
    return _Counting(source, told, positions, progress).run()


class _Counting:
    def __init__(self, source: Source, told: Told, positions: Positions, progress: Progress) -> None:
        self._source, self._told, self._positions, self._progress = source, told, positions, progress
        self._ends = source.ends()
        self._why: defaultdict[str, list[str]] = defaultdict(list)
        """Saga → why it has not ended."""
        self._moving: set[str] = set()
        """Sagas of which something is unread, asked for or set."""
        self._parked: defaultdict[str, list[str]] = defaultdict(list)
        self._flow_of: dict[str, str] = {}
        self._rows: dict[tuple[str, str, int], dict[str, Any]] = defaultdict(dict)
        """Service, table and partition → key → row, of those that have not ended."""
        self._unreadable = 0
        self._result = Count({key: Standing() for key in told.flows})

    def run(self) -> Count:
        self._read_rows()
        self._read_unread()
        wanted = self._gather()
        self._search(wanted)
        return self._judged()

    # ---- what services keep

    def _read_rows(self) -> None:
        changelogs = self._told.changelogs()
        end = {place: offset for place, offset in self._ends.items() if place[0] in changelogs}

        def take(record: LogRecord) -> None:
            service, table = changelogs[record.topic]
            rows, key = self._rows[service, table, record.partition], _text(record.key)
            if record.value is None:
                rows.pop(key, None)
                return
            row = self._row(record)
            ended = self._told.ended[service].get(table)
            if row is not None and ended is not None and ended(row):
                rows.pop(key, None)
            else:
                rows[key] = row

        self._result.rows = self._source.read(self._source.starts, end, take, self._progress, "reading tables")

    def _row(self, record: LogRecord) -> Any:
        """None: it cannot be read, and so nobody knows whether it has ended."""
        try:
            return self._told.codec.decoder_for(record.value).decode(record.value or b"")
        except CodecError:
            return None

    # ---- what services have not read

    def _read_unread(self) -> None:
        readers = self._readers()
        first = {place: min(at for _, at in each) for place, each in readers.items()}

        def take(record: LogRecord) -> None:
            place = (record.topic, record.partition)
            named = self._named(record)
            if named is None:
                self._unreadable += 1
                return
            saga, flow, kind = named
            services = [
                service
                for service, at in readers[place]
                if record.offset >= at and self._hears(service, flow, kind, place)
            ]
            if services:
                self._flow_of.setdefault(saga, flow)
                self._moving.add(saga)
                for service in services:
                    self._note(saga, f"{service} has not read {record.where}")

        end = {place: self._ends[place] for place in readers}
        self._result.records = self._source.read(first, end, take, self._progress, "reading what is under way")

    def _readers(self) -> dict[Place, list[tuple[str, int]]]:
        """Place → who reads it, and from where. Whoever never committed anything there has everything to read."""
        starts = self._source.starts
        heard = {
            (service, self._told.codec.type_of(event).topic)
            for flow in self._told.flows.values()
            for service, event in flow.bindings
        }
        found: dict[Place, list[tuple[str, int]]] = {}
        for place, start in starts.items():
            if place[0] not in self._told.topics:
                continue
            reading = [
                (service, max(start, at.get(place, start)))
                for service, at in self._positions.items()
                if place in at or (service, place[0]) in heard
            ]
            if reading:
                found[place] = reading
        return found

    def _hears(self, service: str, flow: str, kind: type[Event] | None, place: Place) -> bool:
        """In a flow, or of a type, that this checkout does not have, whoever reads the topic may."""
        known = self._told.flows.get(flow)
        if known is None or kind is None:
            return place in self._positions.get(service, {})
        return (service, kind) in known.bindings

    def _named(self, record: LogRecord) -> tuple[str, str, type[Event] | None] | None:
        """Saga, flow and class; None: not even the metadata can be read, so it parks nobody and begins nothing."""
        value, codec = record.value or b"", self._told.codec
        try:
            decoder = codec.decoder_for(value)
            if decoder.type.is_row:
                return None
            _, _, flow, event = decoder.decode(value)
            return event.saga, flow.decode(), decoder.type.cls
        except CodecError:
            return self._named_by_metadata(value)

    def _named_by_metadata(self, value: bytes) -> tuple[str, str, None] | None:
        try:
            meta = self._told.codec.meta_of(value)
        except CodecError:
            return None
        return meta.saga, meta.flow, None

    # ---- put together

    def _gather(self) -> dict[int, dict[str, list[tuple[str, str]]]]:
        """What rows say. Returns those whose flow nobody has named yet: partition → saga or key → service and table."""
        wanted: dict[int, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
        for (service, table, partition), rows in self._rows.items():
            for key, row in rows.items():
                if isinstance(row, FarandoleCall):
                    self._found(
                        row.saga, META_OF_A_CALL + row.meta, f"{service} waits for {row.outside}/{row.operation}"
                    )
                elif isinstance(row, FarandoleTimer):
                    saga, _, event = key.rpartition(" ")
                    self._found(saga, row.event, f"{service} has set the timer {event}")
                else:
                    wanted[partition][key].append((service, table))
        return wanted

    def _note(self, saga: str, why: str) -> None:
        if len(self._why[saga]) < REASONS:
            self._why[saga].append(why)

    def _found(self, saga: str, value: bytes, why: str) -> None:
        self._note(saga, why)
        self._moving.add(saga)
        named = self._named_by_metadata(value)
        if named is not None:
            self._flow_of.setdefault(named[0], named[1])

    def _search(self, wanted: Mapping[int, Mapping[str, list[tuple[str, str]]]]) -> None:
        """Whose are these rows, and of which flow? A row is keyed by its saga, or by that and a part of it with a slash
        between; and it lies in the partition of the records that changed it.
        """
        left = {p: set(keys) for p, keys in wanted.items()}
        for p, keys in wanted.items():
            for key, tables in keys.items():
                for saga in candidates(key):
                    if saga in self._flow_of:
                        self._belongs(key, saga, tables)
                        left[p].discard(key)
                        break
        sagas = {p: {saga: key for key in sorted(keys) for saga in candidates(key)} for p, keys in left.items() if keys}

        def take(record: LogRecord) -> None:
            here = sagas.get(record.partition)
            named = self._named(record) if here else None
            if here and named and named[0] in here:
                self._flow_of.setdefault(named[0], named[1])

        self._look_back(sagas, left, take)
        for p, missing in left.items():
            for key in missing:
                whose = next((each for each in candidates(key) if each in self._flow_of), None)
                self._belongs(key, whose, wanted[p][key])

    def _look_back(
        self, sagas: Mapping[int, Mapping[str, str]], left: Mapping[int, set[str]], take: Callable[[LogRecord], None]
    ) -> None:
        """From the ends of the topics backwards, until every key has its saga or there is nothing left to read."""
        starts, window = self._source.starts, WINDOW
        upper = {place: self._ends[place] for place in starts if place[0] in self._told.topics and place[1] in sagas}
        while True:
            open_ = {p for p, keys in left.items() if any(not self._is_known(key) for key in keys)}
            upper = {place: end for place, end in upper.items() if place[1] in open_ and end > starts[place]}
            if not upper:
                return
            lower = {place: max(starts[place], end - window) for place, end in upper.items()}
            self._result.records += self._source.read(lower, upper, take, self._progress, "reading whose rows are open")
            upper, window = lower, window * 4

    def _is_known(self, key: str) -> bool:
        return any(saga in self._flow_of for saga in candidates(key))

    def _belongs(self, key: str, saga: str | None, tables: Iterable[tuple[str, str]]) -> None:
        for service, table in tables:
            if table == "parked":
                (self._parked[saga] if saga else self._result.gone.parked.setdefault(key, [])).append(service)
            else:
                why = f"a row of {service}'s table {table} has not ended"
                if saga:
                    self._note(saga, why)
                else:
                    self._result.gone.left.setdefault(key, []).append(why)

    def _judged(self) -> Count:
        flows = self._result.flows
        for saga in self._why.keys() | self._parked.keys():
            flow = self._flow_of.get(saga)
            standing = self._result.gone if flow is None else flows.setdefault(flow, Standing())
            if saga in self._parked:
                standing.parked[saga] = [f"parked in {service}" for service in self._parked[saga]] + self._why[saga]
            else:
                standing.left[saga] = self._why[saga]
                if saga not in self._moving:
                    standing.waiting.add(saga)
        if self._unreadable:
            self._result.notes.append(f"{self._unreadable:,} unread records cannot be read, and are of no flow")
        return self._result


def candidates(key: str) -> tuple[str, ...]:
    """Whose a row may be: `o-1/2` is of o-1, if not of a saga of that very name."""
    saga = key.rpartition("/")[0]
    return (key, saga) if saga else (key,)


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
