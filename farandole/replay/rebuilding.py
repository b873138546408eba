"""*rebuild*: a service's tables recomputed from its journal and what it took, and compared with the live ones.

Invariants:
- What the journal or a line of it rests on and is past retention stops it, in words: nothing stands in for it.
- The comparison is byte by byte, of rows as the changelog has them, and only of partitions that stood still between
  the two readings; the others are named.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from events import FarandoleJournal
from farandole.audit.reading import Offsets, Progress, Source
from farandole.audit.records import LogRecord, Place
from farandole.clients import MARK
from farandole.codec import Codec
from farandole.errors import ReplayError
from farandole.replay.history import History, Log
from farandole.replay.letters import Letters
from farandole.replay.moments import Moments
from farandole.replay.pace import Pace
from farandole.replay.player import Notes, Player
from farandole.replay.redriven import Outcomes
from farandole.replay.replica import Replica
from farandole.replay.snapshot import Snapshot

ROUNDS: Final = 5
"""Times that a service is looked at until a partition of it stands still for a moment."""

PAUSE: Final = 0.5
"""Seconds between them."""

SAMPLES: Final = 20
"""Differing keys of a table that are named."""

AT_A_SNAPSHOT: Final = (
    "begin at a snapshot that is not older than that: --from-snapshot FILE (`farandole replay snapshot`)"
)


Rows = dict[tuple[str, int], dict[bytes, bytes]]
"""(table, partition) → key → encoded row."""


@dataclass
class Rebuilt:
    """Tables as history makes them.

    position: partition → the offset after the last journal line that was played
    """

    service: str
    rows: Rows
    position: dict[int, int]
    messages: int = 0
    transactions: int = 0
    records: int = 0
    seconds: float = 0.0
    notes: Notes = field(default_factory=Notes)


class Rebuilder:
    """Reads the history of one service and plays it.

    snapshot: where to begin; None: at the beginning of history
    """

    def __init__(
        self,
        source: Source,
        replica: Replica,
        snapshot: Snapshot | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._source, self._replica, self._snapshot = source, replica, snapshot
        self._pace = pace or Pace()
        self._service, self._codec = replica.service, replica.project.codec
        self.journal = f"{self._service}.journal"
        self.rebuilt = Rebuilt(self._service, {}, {})
        self._moments = Moments()
        self.interrupt = self._moments.interrupt
        """Not between a line that was played and the note that it was. For signal handlers."""

    def run(self, until: Mapping[int, int] | None, progress: Progress) -> Rebuilt:
        """Play everything before these positions in the journal (partition → offset); None: up to its end."""
        begun = time.monotonic()
        ends = self._source.ends()
        places = [(self.journal, partition) for partition in range(self._replica.partitions)]
        last = {place: ends[place] if until is None else until[place[1]] for place in places}
        letters = read_letters(self._source, self._service, progress)
        outcomes = read_outcomes(self._source, self._service, self._codec, progress)
        with History(self._source, self._pace) as history, self._replica.entered():
            first = self._first_lines(places)
            history.read(first, last, progress, f"reading {self.journal}")
            bounds = taken(self._source.starts, self._service, self._codec, history)
            history.read(
                {place: begin for place, (begin, _) in bounds.items()},
                {place: end for place, (_, end) in bounds.items()},
                progress,
                f"reading what {self._service} took",
            )
            total = sum(len(history.log(place)) for place in places)
            for place in places:
                self._play(history, place, letters, outcomes, partial(progress, f"playing {self._service}"), total)
                self.rebuilt.position[place[1]] = max(first[place], last[place])
            self.rebuilt.records += history.records
        self.rebuilt.seconds = time.monotonic() - begun
        return self.rebuilt

    def so_far(self) -> Snapshot:
        """What is rebuilt, wherever it was interrupted: partitions that are done, the one under way as of the last line
        that was played to its end, and the others as they began.
        """
        position = {p: self._begin(p) for p in range(self._replica.partitions)} | self.rebuilt.position
        rows: dict[tuple[str, int], Mapping[bytes, bytes]] = dict(self._snapshot.rows) if self._snapshot else {}
        rows = {where: each for where, each in rows.items() if where[1] not in self.rebuilt.position}
        return Snapshot(self._service, position, rows | dict(self.rebuilt.rows), self._snapshot_times())

    def _snapshot_times(self) -> Mapping[tuple[str, int], Mapping[bytes, int]]:
        return self._snapshot.times if self._snapshot else {}

    def _begin(self, partition: int) -> int:
        return 0 if self._snapshot is None else self._snapshot.position[partition]

    def _first_lines(self, places: list[Place]) -> dict[Place, int]:
        """Where the journal is read from."""
        first = {}
        for place in places:
            start = self._source.starts[place]
            wanted = self._begin(place[1])
            if wanted < start:
                raise past_retention(self._service, place, wanted, start)
            first[place] = wanted
        return first

    def _play(
        self,
        history: History,
        place: Place,
        letters: Letters,
        outcomes: Outcomes,
        progress: Callable[[int, int], None],
        total: int,
    ) -> None:
        partition, rebuilt = place[1], self.rebuilt
        player = Player(self._replica, partition, history.logs, letters, outcomes, rebuilt.notes)
        player.begin(self._snapshot.rows_of(partition) if self._snapshot else ())
        log, decode = history.log(place), line_decoder(self._codec)
        done = self._begin(partition)
        try:
            for index, value in enumerate(log.values()):
                with self._moments.whole():
                    player.play(decode(value, log), log.times[index])
                    done = log.offsets[index] + 1
                if index % 200 == 0:
                    progress(rebuilt.transactions + index, total)
        finally:
            with self._moments.whole():
                self._replica.processor.rollback()  # of what a line that failed has written; else of nothing
                for table in self._replica.processor.tables:
                    rebuilt.rows[table, partition] = self._replica.encoded(table, partition)
                rebuilt.position[partition] = done
                player.end()
        rebuilt.messages += player.messages
        rebuilt.transactions += player.transactions


def taken(
    starts: Offsets, service: str, codec: Codec, history: History, mend: str = AT_A_SNAPSHOT
) -> dict[Place, tuple[int, int]]:
    """Which stretch of each place the lines of the service's journal rest on. ReplayError if one is not there.

    starts: first offsets that there are
    """
    journal, decode = f"{service}.journal", line_decoder(codec)
    bounds: dict[Place, tuple[int, int]] = {}
    for log in history.of_topics([journal]):
        for value in log.values():
            for stretch in decode(value, log).took:
                place = (stretch.topic, log.partition)
                begin, end = bounds.get(place, (stretch.first, 0))
                bounds[place] = min(begin, stretch.first), max(end, stretch.last + 1)
    for place, (begin, _) in sorted(bounds.items()):
        if place not in starts:
            raise ReplayError(
                f"{journal} names {place[0]}, which is no topic of this system any more",
                where=f"{journal}/{place[1]}",
                mend="declare it in topics.yaml; what was taken from it is part of the history",
            )
        if begin < starts[place]:
            raise past_retention(service, place, begin, starts[place], mend)
    return bounds


def past_retention(service: str, place: Place, wanted: int, start: int, mend: str = AT_A_SNAPSHOT) -> ReplayError:
    topic, partition = place
    return ReplayError(
        f"{start - wanted:,} offsets that {service}'s history rests on are past retention",
        where=f"{topic}/{partition}: needed from {wanted}, there from {start}",
        mend=mend,
    )


def line_decoder(codec: Codec) -> Callable[[bytes | None, Log], FarandoleJournal]:
    decode = codec.type_of(FarandoleJournal).decode_row

    def decoded(value: bytes | None, log: Log) -> FarandoleJournal:
        line = decode(value or b"")
        assert isinstance(line, FarandoleJournal), f"{log.topic}/{log.partition} holds something else"
        return line

    return decoded


def read_letters(source: Source, service: str, progress: Progress) -> Letters:
    """All that the service ever put aside and whose letter is kept."""
    letters, queue = Letters(), f"{service}.dlq"
    ends = {place: end for place, end in source.ends().items() if place[0] == queue}
    source.read({place: source.starts[place] for place in ends}, ends, letters.take, progress, f"reading {queue}")
    return letters


def read_outcomes(source: Source, service: str, codec: Codec, progress: Progress) -> Outcomes:
    """Of all operations on its letters that are kept."""
    outcomes, topic = Outcomes(codec), f"{service}.operations"
    ends = {place: end for place, end in source.ends().items() if place[0] == topic}
    source.read({place: source.starts[place] for place in ends}, ends, outcomes.take, progress, f"reading {topic}")
    return outcomes


# ---- the live tables


@dataclass
class Live:
    """Tables as the changelogs have them.

    position: partition → the offset after the journal's last line of that moment
    moving:   partitions that did not stand still
    times:    of each row's last change, milliseconds since 1970
    """

    rows: Rows
    position: dict[int, int]
    moving: list[int]
    times: dict[tuple[str, int], dict[bytes, int]]


def read_live(
    source: Source, replica: Replica, progress: Progress, sleep: Callable[[float], None] = time.sleep
) -> Live:
    """The service's tables at a moment that its journal tells, partition by partition.

    A transaction writes its journal lines last. So where the journal ends where it ended before the changelogs were
    read, no transaction of that partition was committed meanwhile.
    """
    tables = replica.processor.changelog_topics()
    journal, partitions = f"{replica.service}.journal", range(replica.partitions)
    rows: Rows = {(table, p): {} for table in tables.values() for p in partitions}
    times: dict[tuple[str, int], dict[bytes, int]] = {where: {} for where in rows}

    def take(record: LogRecord) -> None:
        if record.key is None or record.key.startswith(MARK):
            return
        where = tables[record.topic], record.partition
        if record.value is None:
            rows[where].pop(record.key, None)
        else:
            rows[where][record.key] = record.value
            times[where][record.key] = record.time

    read = {(topic, p): source.starts[topic, p] for topic in tables for p in partitions}
    position: dict[int, int] = {}
    moving = list(partitions)
    for attempt in range(ROUNDS):
        if attempt:
            sleep(PAUSE)
        before = source.ends()
        now = source.ends()  # the changelogs' ends are asked for after the journal's, or a whole transaction may hide
        wanted = {place: now[place] for place in read if place[1] in moving}
        source.read(read, wanted, take, progress, f"reading the tables of {replica.service}")
        read.update(wanted)
        after = source.ends()
        for p in list(moving):
            if before[journal, p] == after[journal, p]:
                moving.remove(p)
                position[p] = after[journal, p]
        if not moving:
            break
    return Live(rows, position, moving, times)


# ---- what differs


@dataclass
class TableDifference:
    """One table, all partitions: keys that are only here or only there, or whose rows differ.

    older: rows that say the same, written with an older version of their schema
    """

    table: str
    rows: int = 0
    only_live: int = 0
    only_rebuilt: int = 0
    differing: int = 0
    older: int = 0
    samples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return self.only_live + self.only_rebuilt + self.differing

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__}


def compare(live: Live, rebuilt: Rebuilt, replica: Replica) -> list[TableDifference]:
    """Table by table, of the partitions that stood still."""
    found = {name: TableDifference(name) for name in replica.processor.tables}
    for (table, partition), theirs in live.rows.items():
        if partition in live.moving:
            continue
        ours, difference = rebuilt.rows[table, partition], found[table]
        decode = replica.processor._row_types[table].decode_row
        difference.rows += len(ours)
        for key in sorted(ours.keys() | theirs.keys()):
            mine, their = ours.get(key), theirs.get(key)
            if mine == their:
                continue
            if mine is not None and their is not None and decode(mine) == decode(their):
                difference.older += 1
                continue
            difference.only_live += mine is None
            difference.only_rebuilt += their is None
            difference.differing += mine is not None and their is not None
            if len(difference.samples) < SAMPLES:
                shown = [None if each is None else repr(decode(each)) for each in (their, mine)]
                name = key.decode("utf-8", "replace")
                difference.samples.append(
                    {"partition": partition, "key": name, "live": shown[0], "rebuilt": shown[1]}
                )  # fmt: skip
    return list(found.values())
