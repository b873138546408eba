"""Timers: events that come later, kept in a changelogged table, found by a heap that can be thrown away and made anew.

Invariant: for every row of the table there is a heap entry with its due time; entries without a matching row are stale
and are skipped. So setting, replacing, cancelling and undoing only ever write the table.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from events import FarandoleTimer
from farandole.table import Partitioned, UndoLog

STALE_SLACK = 1_000
"""Stale heap entries that are tolerated beyond as many as there are rows, before the heap is rebuilt."""


AT_ONCE = 1_000
"""Timers of one partition that fire in one transaction at the most; the others follow in the next."""


class Timers:
    """The timers of one service, by partition. Times are milliseconds of record time."""

    def __init__(self, log: UndoLog) -> None:
        self.table: Partitioned[FarandoleTimer] = Partitioned("timers", FarandoleTimer, log)
        self._heaps: dict[int, list[tuple[int, str]]] = {}
        self._touched: set[int] = set()

    def set(self, saga: str, event: str, due: int, key: str, encoded: bytes) -> None:
        name = f"{saga} {event}"
        self.table.put(name, FarandoleTimer(due=due, key=key, event=encoded))
        self._touched.add(self.table.part.partition)
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
        """When the earliest timer of the partition is due, or None. To be asked between batches."""
        heap, part = self._heaps.get(partition), self.table.parts.get(partition)
        while heap and part is not None:
            due, name = heap[0]
            row = part.rows.get(name)
            if row is not None and row.due == due:
                return due
            heappop(heap)
            self._touched.add(partition)
        return None

    def take_due(self, partition: int, until: int) -> list[tuple[str, FarandoleTimer]]:
        """Remove timers due at or before `until`, AT_ONCE at the most, in order of their due time."""
        heap = self._heaps.get(partition, [])
        due: list[tuple[str, FarandoleTimer]] = []
        self._touched.add(partition)
        while heap and heap[0][0] <= until and len(due) < AT_ONCE:
            at, name = heappop(heap)
            row = self.table.get(name)
            if row is not None and row.due == at:
                due.append((name, self.table.remove(name)))
        return due

    def rebuild(self, partition: int) -> None:
        heap = [(row.due, name) for name, row in self.table.parts[partition].rows.items()]
        heapify(heap)
        self._heaps[partition] = heap

    def forget(self, partition: int) -> None:
        self._heaps.pop(partition, None)

    def committed(self) -> None:
        self._touched.clear()

    def rolled_back(self) -> None:
        """The rows are as before the batch: so must be the entries that lead to them."""
        for partition in self._touched & self.table.parts.keys():
            self.rebuild(partition)
        self._touched.clear()
