"""One partition of one service in a shadow replay: its journal lines, and how far it is in them and in what it hears.

A row is reachable from messages of its own partition only, so this is all that acts on these rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from events import FarandoleJournal
from farandole.replay.history import Log, Replayed
from farandole.replay.replica import Replica
from farandole.replay.track import NOT_YET, SAME, Track, saga_of

Outcome = tuple[str, str, str]
"""Of an outside call: outcome, reference, reason."""


class Chain:
    """replica: entered; journal: its lines; tracks: of the topics that it hears, by topic

    floor:    topic → first offset that any line takes; what lies before it was there when history begins
    answers:  keys of recorded answers that are still to come, and of what they were; unused: came when nobody asked
    ahead:    timers that are still to fire, as recorded
    """

    def __init__(
        self,
        replica: Replica,
        partition: int,
        journal: Log,
        tracks: Mapping[str, Track],
        decode: Callable[[bytes | None, Log], FarandoleJournal],
    ) -> None:
        self.service, self.replica, self.partition = replica.service, replica, partition
        self.processor = replica.processor
        self.tracks = tracks
        self.busy = False
        self.pending: list[Replayed] = []
        self.answers: dict[str, Outcome] = {}
        self.unused: dict[str, Outcome] = {}
        self.due: list[tuple[str, Outcome]] = []
        self.ahead: Counter[str] = Counter()
        self.timers: dict[str, int] = {}
        self.floor: dict[str, int] = {}
        self.cursor = dict.fromkeys(tracks, 0)
        self.news_at = dict.fromkeys(tracks, 0)
        self._journal, self._decode, self._line = journal, decode, 0
        self.taken: dict[str, int] = {}
        """topic → the offset after the last record that a line took"""

    @property
    def name(self) -> str:
        return f"{self.service}/{self.partition}"

    # ---- its lines

    @property
    def exhausted(self) -> bool:
        return self._line >= len(self._journal)

    @property
    def lines(self) -> int:
        return len(self._journal)

    @property
    def last_time(self) -> int:
        """Of the last line; 0 if there is none."""
        return self._journal.times[-1] if self.lines else 0

    @property
    def next_time(self) -> int:
        return self._journal.times[self._line]

    @property
    def line(self) -> FarandoleJournal:
        """The next one."""
        return self._decode(self._journal.value(self._line), self._journal)

    @property
    def played(self) -> int:
        """Lines that were played."""
        return self._line

    def step(self) -> None:
        self._line += 1

    def skip(self, lines: int) -> None:
        """So many lines were played before this began: what is to come, and was taken, is what they left."""
        if not 0 <= lines <= len(self._journal):
            raise ValueError(f"{self.name}: {lines} lines were played, there are {len(self._journal)}")
        while self._line < lines:
            line = self.line
            for stretch in line.took:
                self.taken[stretch.topic] = stretch.last + 1
            for key in line.answered:
                self.answers.pop(key, None)
            self.ahead.subtract(line.fired)
            self._line += 1

    # ---- what it takes

    def news(self) -> list[Replayed]:
        """What came too late for its stretch, and records that there were not, as far as what lay before them has been
        taken.
        """
        found, self.pending = self.pending, []
        for topic, track in self.tracks.items():
            if self.news_at[topic] < len(track.news):
                self._news_before(topic, track, self.cursor[topic], found)
        return found

    def _news_before(self, topic: str, track: Track, index: int, out: list[Replayed]) -> None:
        at = self.news_at[topic]
        while at < len(track.news) and track.news[at][0] < index:
            out.append(track.news[at][1])
            at += 1
        self.news_at[topic] = at

    def take(self, topic: str, begin: int, end: int, out: list[Replayed], wanted: set[str] | None = None) -> None:
        """The stretch of records from index `begin` to before `end`, with what is new among them."""
        track = self.tracks[topic]
        if self.news_at[topic] >= len(track.news) and track.state.count(SAME, begin, end) == end - begin:
            out.extend(map(track.log.message, range(begin, end)))
        else:
            for index in range(begin, end):
                self._news_before(topic, track, index, out)
                if track.is_there(index):
                    out.append(track.message(index))
                else:
                    track.missed[index].append(self)
            self._news_before(topic, track, end, out)
        self.cursor[topic] = max(end, self.cursor[topic])

    def rest(self, topic: str, end: int, out: list[Replayed], sagas: set[str]) -> None:
        """What no line took, of these sagas alone: of the others it was not taken then either."""
        track = self.tracks[topic]
        for index in range(self.cursor[topic], end):
            self._news_before(topic, track, index, out)
            if not track.is_there(index):
                track.missed[index].append(self)
            elif saga_of(track.message(index).value()) in sagas:
                out.append(track.message(index))
        self._news_before(topic, track, end, out)
        self.cursor[topic] = max(end, self.cursor[topic])

    def absent(self, topic: str, begin: int, end: int) -> list[int]:
        """Indexes of records in the stretch that were not published yet."""
        state, found = self.tracks[topic].state, []
        index = state.find(NOT_YET, begin, end)
        while index >= 0:
            found.append(index)
            index = state.find(NOT_YET, index + 1, end)
        return found

    # ---- its rows

    def row(self, table: str, key: str) -> Any:
        found = self.processor.tables.get(table)
        return None if found is None else found.parts[self.partition].rows.get(key)

    def rows(self, table: str) -> list[tuple[str, Any]]:
        found = self.processor.tables.get(table)
        return [] if found is None else list(found.parts[self.partition].rows.items())

    def remove(self, table: str, key: str) -> Any:
        found = self.processor.tables[table]
        found.switch(self.partition)
        return found.remove(key)
