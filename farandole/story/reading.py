"""A saga's records, from as few partitions as its keys allow.

Topics that are keyed by saga have them in one partition. Of the others (`stock`, by sku) whatever text the saga's own
events hold may be a key, under whatever name, and the ids of what came of them name places; from the time of its first
record on. Only if a saga has no record in any topic that is keyed by saga are the others read whole.

Invariant: no record of the saga that is still there is missed, but for one under a key that none of its events holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from events import FarandoleCall, FarandoleTimer
from farandole.audit.reading import Offsets, Progress
from farandole.audit.records import LogRecord, Place
from farandole.codec import Codec
from farandole.errors import CodecError
from farandole.event import Event, Meta
from farandole.partitioner import partition_of
from farandole.redrive.queue import Book
from farandole.replay.origins import origin_of
from farandole.topics import Topics

SLACK_MS: Final = 10_000
"""How much earlier than the saga's first record the others' may be, by the brokers' clocks."""

LONGEST: Final = 256
"""Characters of a key."""

PREFIX: Final = b"\0" * 5
"""The metadata of an answer is kept without the prefix that a record has."""


class Source(Protocol):
    """As farandole.audit.reading.Reader is one."""

    @property
    def partitions(self) -> Mapping[str, int]: ...
    @property
    def starts(self) -> Offsets: ...
    def ends(self) -> dict[Place, int]: ...
    def at_time(self, time: int) -> dict[Place, int]: ...
    def read(
        self, first: Offsets, end: Offsets, take: Callable[[LogRecord], None], progress: Progress, what: str
    ) -> int: ...


@dataclass(frozen=True)
class Happened:
    """An event of the saga. service: that published it, by its id; empty: a client. source: the place of its cause."""

    record: LogRecord
    type: str
    meta: Meta
    event: Event
    service: str


@dataclass
class Kept:
    """A call or a timer, as its table had it. since: when it was asked for or set; until: when its row went.

    what: `gateway/void`, or the event that the timer brings; due: of a timer, milliseconds since 1970
    """

    service: str
    what: str
    meta: Meta
    since: int
    due: int = 0
    until: int | None = None


@dataclass
class Records:
    """
    happened: in the order of time; calls, timers: by service and key
    book:     dead letters in the partitions that were read
    places:   that were read; gone: those of them whose beginning is past retention
    """

    saga: str
    book: Book
    happened: list[Happened] = field(default_factory=list)
    calls: dict[tuple[str, str], Kept] = field(default_factory=dict)
    timers: dict[tuple[str, str], Kept] = field(default_factory=dict)
    places: set[Place] = field(default_factory=set)
    gone: list[Place] = field(default_factory=list)
    unreadable: int = 0

    @property
    def partitions(self) -> set[int]:
        return {partition for _, partition in self.places}


def records_of(saga: str, source: Source, codec: Codec, topics: Topics, progress: Progress) -> Records:
    return _Reading(saga, source, codec, topics, progress).run()


class _Reading:
    def __init__(self, saga: str, source: Source, codec: Codec, topics: Topics, progress: Progress) -> None:
        self._saga, self._name, self._source, self._codec = saga, saga.encode(), source, codec
        self._topics, self._progress, self._ends = topics, progress, source.ends()
        self._found = Records(saga, Book(codec, topics.services))

    def run(self) -> Records:
        found, counts = self._found, self._source.partitions
        keys = {name: key for name, key in self._topics.keys().items() if name in counts}
        home = {(name, partition_of(self._saga, counts[name])) for name, key in keys.items() if key == "saga"}
        self._read(home, self._source.starts, self._event, "reading the saga's partition")
        others = [name for name, key in keys.items() if key != "saga"]
        if found.happened:
            since = self._source.at_time(min(each.record.time for each in found.happened) - SLACK_MS)
            self._read(set(self._named(others)), since, self._event, "reading what it touches")
        else:
            everywhere = {(name, p) for name in others for p in range(counts[name])}
            self._read(everywhere, self._source.starts, self._event, "reading all that is not keyed by saga")
        found.happened.sort(key=lambda each: (each.record.time, each.record.where))
        self._read_kept()
        return found

    def _read(self, places: set[Place], first: Offsets, take: Callable[[LogRecord], None], what: str) -> None:
        starts = self._source.starts
        end = {place: self._ends[place] for place in sorted(places)}
        self._source.read(first, end, take, self._progress, what)
        self._found.places |= places
        self._found.gone += sorted(place for place in places if 0 < starts[place] == first[place])

    # ---- events

    def _event(self, record: LogRecord) -> None:
        value = record.value
        if value is None or self._name not in value:
            return
        try:
            meta = self._codec.meta_of(value)
            if meta.saga != self._saga:
                return
            decoder = self._codec.decoder_for(value)
            event = decoder.decode(value)[3]
        except CodecError:
            self._found.unreadable += 1
            return
        origin = origin_of(value) if meta.cause else None
        self._found.happened.append(Happened(record, decoder.type.name, meta, event, origin[3] if origin else ""))

    def _named(self, others: Collection[str]) -> Iterator[Place]:
        """Where more of it may lie: by what its events hold, and by places that their ids name."""
        for happened in self._found.happened:
            for topic in others:
                for value in texts_of(happened.event):
                    yield topic, partition_of(value, self._source.partitions[topic])
            origin = origin_of(happened.record.value)
            if happened.meta.cause and origin and origin[0] in others:
                yield origin[0], origin[1]

    # ---- what services keep

    def _read_kept(self) -> None:
        services, partitions = self._topics.services, {each.record.partition for each in self._found.happened}
        book = self._found.book
        takes: dict[str, Callable[[LogRecord], None]] = dict.fromkeys(book.topics, book.take)
        for service in services:
            takes[f"{service}-calls-changelog"] = self._call
            takes[f"{service}-timers-changelog"] = self._timer
        there = {place for place in self._source.starts if place[0] in takes and place[1] in partitions}
        # Tables before queues, so that the book knows which letters are outstanding.
        for queues in (False, True):
            end = {place: self._ends[place] for place in there if place[0].endswith(".dlq") is queues}
            self._source.read(
                self._source.starts, end, lambda record: takes[record.topic](record), self._progress, "reading tables"
            )

    def _call(self, record: LogRecord) -> None:
        key = (record.topic.removesuffix("-calls-changelog"), _text(record.key))
        if record.value is None:
            if key in self._found.calls:
                self._found.calls[key].until = record.time
        elif self._name in record.value:
            row = self._row(record)
            if isinstance(row, FarandoleCall) and row.saga == self._saga:
                meta = self._codec.meta_of(PREFIX + row.meta)
                self._found.calls[key] = Kept(key[0], f"{row.outside}/{row.operation}", meta, record.time)

    def _timer(self, record: LogRecord) -> None:
        key = (record.topic.removesuffix("-timers-changelog"), _text(record.key))
        saga, _, event = key[1].rpartition(" ")
        if saga != self._saga:
            return
        if record.value is None:
            if key in self._found.timers:
                self._found.timers[key].until = record.time
            return
        row = self._row(record)
        if isinstance(row, FarandoleTimer):
            self._found.timers[key] = Kept(key[0], event, self._codec.meta_of(row.event), record.time, row.due)

    def _row(self, record: LogRecord) -> Any:
        try:
            return self._codec.decoder_for(record.value).decode(record.value or b"")
        except CodecError:
            return None


def texts_of(event: Any) -> set[str]:
    """All text in it that could be a key, however deep."""
    if isinstance(event, str):
        return {event} if len(event) <= LONGEST else set()
    if isinstance(event, msgspec.Struct):
        return set().union(*(texts_of(getattr(event, name)) for name in event.__struct_fields__))
    if isinstance(event, (list, tuple)):
        return set().union(*(texts_of(each) for each in event))
    return set()


class Narrow:
    """What lies in these partitions and names the saga, as a source of its own."""

    def __init__(self, source: Source, partitions: set[int], saga: str) -> None:
        self._source, self._saga = source, saga.encode()
        self.partitions = source.partitions
        self.starts = {place: at for place, at in source.starts.items() if place[1] in partitions}

    def ends(self) -> dict[Place, int]:
        return {place: at for place, at in self._source.ends().items() if place in self.starts}

    def read(
        self, first: Offsets, end: Offsets, take: Callable[[LogRecord], None], progress: Progress, what: str
    ) -> int:
        name = self._saga

        def narrowed(record: LogRecord) -> None:
            if record.value is None or name in record.value or name in (record.key or b""):
                take(record)

        return self._source.read(first, end, narrowed, progress, what)


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
