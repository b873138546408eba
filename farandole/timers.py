"""Timers: events that come later, kept in a changelogged table, found by a heap that can be thrown away and made anew.

Invariant: for every row of the table there is a heap entry with its due time; entries without a matching row are
           stale and are
skipped. So setting, replacing, cancelling and undoing only ever write the table.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from events import FarandoleTimer
from farandole.table import Partitioned, UndoLog

STALE_SLACK = 1_000
"""Stale heap entries that are tolerated beyond as many as there are rows, before the heap is rebuilt."""


class Timers:
    """The timers of one service, by partition. Times are milliseconds of record time."""

    def __init__(self, log: UndoLog) -> None:
        self.table: Partitioned[FarandoleTimer] = Partitioned("timers", FarandoleTimer, log)
        self._heaps: dict[int, list[tuple[int, str]]] = {}
        self._taken: list[tuple[int, tuple[int, str]]] = []

    def set(self, saga: str, event: str, due: int, key: str, encoded: bytes) -> None:
        name = f"{saga} {event}"
        self.table.put(name, FarandoleTimer(due=due, key=key, event=encoded))
        heap = self._heaps.setdefault(self.table.part.partition, [])
        if len(heap) > 2 * len(self.table.rows) + STALE_SLACK:
            self.rebuild(self.table.part.partition)
        else:
            heappush(heap, (due, name))

    def cancel(self, saga: str, event: str) -> None:
        name = f"{saga} {event}"
        if name in self.table.rows:
            self.table.remove(name)

    def next_due(self, partition: int) -> int | None:
        """When the earliest timer of the partition is due, or None. May name a stale one; firing finds out."""
        heap = self._heaps.get(partition)
        return heap[0][0] if heap else None

    def take_due(self, partition: int, until: int) -> list[tuple[str, FarandoleTimer]]:
        """Remove the timers due at or before `until` from table and heap, in order of their due time."""
        heap = self._heaps.get(partition, [])
        due = []
        while heap and heap[0][0] <= until:
            entry = heappop(heap)
            row = self.table.get(entry[1])
            if row is not None and row.due == entry[0]:
                self._taken.append((partition, entry))
                due.append((entry[1], self.table.remove(entry[1])))
        return due

    def rebuild(self, partition: int) -> None:
        heap = [(row.due, name) for name, row in self.table.parts[partition].rows.items()]
        heapify(heap)
        self._heaps[partition] = heap

    def forget(self, partition: int) -> None:
        self._heaps.pop(partition, None)

    def committed(self) -> None:
        self._taken.clear()

    def rolled_back(self) -> None:
        """The rows are back: so must be the entries that led to them."""
        for partition, entry in self._taken:
            heappush(self._heaps.setdefault(partition, []), entry)
        self._taken.clear()
