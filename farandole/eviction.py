"""Rows that may go: those of which their table says that their saga has ended, a retention or more after their last
change.

Invariants:
- A row goes only if it is still the row that was noted: whoever changed it since has noted it anew, or it is not ended.
- A row whose saga is parked stays: its messages are still to come.
- A row goes when all that was written to its partition until its time has been read; the engine sees to that. It may be
  a bar: a step that was stopped before it was heard of must find it, however late the step is read.
- What an aborted transaction has taken is due again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from farandole.table import Changes, Part

AT_ONCE = 2_000
"""Rows of one partition that go in one transaction at the most; the others follow in the next."""

AGAIN_AFTER = 3_600_000
"""Milliseconds until a row that has to stay, because its saga is parked, is looked at again."""

Ended = Callable[[Any], bool]
Entry = tuple[int, Part, str, Any]
Queue = deque[Entry]


class Evictions:
    """The ended rows of one service, by partition, oldest first.

    ended: table → whether a row's saga has ended
    stays: table → milliseconds for which an ended row stays
    """

    def __init__(self, ended: Mapping[str, Ended], stays: Mapping[str, int]) -> None:
        self._ended, self._stays = ended, stays
        self._waiting: dict[int, dict[int, Queue]] = {}
        """Partition → how long rows stay → those that do."""
        self._taken: list[Entry] = []
        self._times: dict[int, dict[tuple[str, str], int]] = {}

    # ---- what has ended

    def note(self, changed: Changes, at: int) -> None:
        """A commit at `at` (ms) has changed these rows."""
        for part, rows in changed.items():
            ended = self._ended.get(part.table)
            if ended is not None:
                waiting = self._queue(part)
                waiting.extend((at, part, key, row) for key, row in rows.items() if row is not None and ended(row))

    def _queue(self, part: Part) -> Queue:
        return self._waiting.setdefault(part.partition, {}).setdefault(self._stays[part.table], deque())

    def times(self, table: str, partition: int) -> Callable[[str, int], None] | None:
        """Takes key and time of each row that is restored, if rows of this table ever go."""
        if table not in self._ended:
            return None
        times = self._times.setdefault(partition, {})

        def at(key: str, time: int) -> None:
            times[table, key] = time

        return at

    def restored(self, partition: int, parts: Collection[Part]) -> None:
        times = self._times.pop(partition, {})
        found = [
            (times[part.table, key], part, key, row)
            for part in parts
            if (ended := self._ended.get(part.table)) is not None
            for key, row in part.rows.items()
            if ended(row)
        ]
        self._waiting[partition] = {}
        for entry in sorted(found, key=lambda each: each[0]):
            self._queue(entry[1]).append(entry)

    def forget(self, partition: int) -> None:
        self._waiting.pop(partition, None)
        self._times.pop(partition, None)
        self._taken = [each for each in self._taken if each[1].partition != partition]

    # ---- what may go

    def due(self, now: int) -> list[int]:
        """Partitions with rows whose time has come."""
        return [partition for partition in self._waiting if self.is_due(partition, now)]

    def is_due(self, partition: int, now: int) -> bool:
        queues = self._waiting.get(partition, {})
        return any(waiting and waiting[0][0] <= now - stay for stay, waiting in queues.items())

    def take(self, partition: int, until: int, parked: Mapping[str, Any]) -> Iterator[tuple[Part, str]]:
        """The rows to remove that were due at `until`, AT_ONCE at the most."""
        looked_at = 0
        for stay, waiting in self._waiting.get(partition, {}).items():
            while looked_at < AT_ONCE and waiting and waiting[0][0] <= until - stay:
                looked_at += 1
                entry = waiting.popleft()
                _, part, key, row = entry
                there = part.rows.get(key) is row
                if there and parked and (key in parked or key.rpartition("/")[0] in parked):
                    waiting.append((until - stay + AGAIN_AFTER, part, key, row))
                    continue
                self._taken.append(entry)  # also one that is another row now: if that is undone, it is this one again
                if there:
                    yield part, key

    def committed(self) -> None:
        self._taken.clear()

    def rolled_back(self) -> None:
        for entry in reversed(self._taken):
            if entry[1].partition in self._waiting:
                self._queue(entry[1]).appendleft(entry)
        self._taken.clear()
