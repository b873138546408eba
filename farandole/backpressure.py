"""Inputs wait on the broker, not in memory: topics are paused while too much of what they begin is under way.

Two things are counted: outside calls, for topics that start them; and sagas that have begun and not ended, for the
topic with which clients begin them (the App's `intake`). Without the second, a backlog of a million orders would
become a million open orders before the first of them is shipped.

Invariants:
- What is paused is resumed at half of the bound.
- A pause ends with the assignment; librdkafka would keep it.
- A parked saga does not count as open: it waits for an operator, and the others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import TopicPartition

from farandole.table import Changes, Part

log = logging.getLogger(__name__)

CALLS_AT_ONCE = 10_000
"""Outside calls under way above which inputs that start more of them are paused."""


class Pausable(NamedTuple):
    """Topics of a service that may be paused.

    starts_calls: while too many outside calls are under way; nothing waits in them that makes none
    begins_sagas: while too many sagas are open
    """

    starts_calls: frozenset[str] = frozenset()
    begins_sagas: frozenset[str] = frozenset()


NOTHING = Pausable()

PARKED = "parked"
"""The table of parked sagas."""


class OpenSagas:
    """The rows of which their table does not say that their saga has ended, and whose saga is not parked.

    ended: table → whether a row's saga has ended; empty if nobody wants to know
    """

    def __init__(self, ended: Mapping[str, Callable[[Any], bool]]) -> None:
        self._ended = ended
        self._open: dict[int, set[tuple[str, str]]] = {}
        self._parts: dict[int, dict[str, Part]] = {}

    def restored(self, partition: int, parts: Collection[Part]) -> None:
        self._open[partition] = set()
        self._parts[partition] = {part.table: part for part in parts if part.table in (*self._ended, PARKED)}
        for part in parts:
            if part.table in self._ended:
                self._sort(part, part.rows)

    def note(self, changed: Changes) -> None:
        """A commit has changed these rows."""
        for part, rows in changed.items():
            if part.table in self._ended:
                self._sort(part, rows)
            elif part.table == PARKED and self._ended:
                for other in self._parts[part.partition].values():
                    if other is not part:
                        self._sort(other, [key for key in rows if key in other.rows])

    def _sort(self, part: Part, keys: Iterable[str]) -> None:
        ended, table, rows = self._ended[part.table], part.table, part.rows
        found, parked = self._open[part.partition], self._parts[part.partition][PARKED].rows
        for key in keys:
            row = rows.get(key)
            if row is None or ended(row) or key in parked:
                found.discard((table, key))
            else:
                found.add((table, key))

    def forget(self, partition: int) -> None:
        self._open.pop(partition, None)
        self._parts.pop(partition, None)

    def count(self, partition: int) -> int:
        return len(self._open.get(partition, ()))


class BackPressure:
    """Pauses and resumes one engine's inputs.

    name:      of the consumer group, for the log
    most_open: sagas of a partition that may be open
    """

    def __init__(self, name: str, pausable: Pausable, most_open: int) -> None:
        self._name, self._pausable, self._most_open = name, pausable, most_open
        self._calling = False
        self._full: set[int] = set()
        self._paused: set[tuple[str, int]] = set()

    @property
    def paused(self) -> bool:
        return bool(self._paused)

    @property
    def intake_paused(self) -> set[tuple[str, int]]:
        """(topic, partition) of what begins sagas and waits."""
        return {(topic, p) for topic in self._pausable.begins_sagas for p in self._full}

    def waits(self, topic: str, partition: int) -> bool:
        """Whether what begins sagas there is paused. Any thread may ask."""
        return partition in self._full and topic in self._pausable.begins_sagas

    def begin_anew(self, consumer: Any, assignment: list[TopicPartition]) -> None:
        """Partitions were assigned: nothing of them is paused."""
        if assignment:
            consumer.resume(assignment)
        self._calling = False
        self._full.clear()
        self._paused.clear()

    def adjust(self, consumer: Any, owned: Collection[int], calls: int, open_sagas: Callable[[int], int]) -> None:
        """Pause what has to wait, resume what has not. calls: under way; open_sagas: of a partition."""
        if not self._changed(owned, calls, open_sagas):
            return
        wanted = {(topic, p) for topic in self._pausable.starts_calls for p in owned} if self._calling else set()
        wanted |= self.intake_paused
        if pause := wanted - self._paused:
            consumer.pause([TopicPartition(*where) for where in sorted(pause)])
        if resume := self._paused - wanted:
            consumer.resume([TopicPartition(*where) for where in sorted(resume)])
        self._paused = wanted

    def _changed(self, owned: Collection[int], calls: int, open_sagas: Callable[[int], int]) -> bool:
        changed = False
        if not self._calling and calls > CALLS_AT_ONCE:
            self._calling = changed = True
            topics = sorted(self._pausable.starts_calls)
            log.warning("%s: %d outside calls under way, pausing %s", self._name, calls, topics)
        elif self._calling and calls < CALLS_AT_ONCE // 2:
            self._calling, changed = False, True
        if self._pausable.begins_sagas:
            for partition in owned:
                count = open_sagas(partition)
                if partition not in self._full and count > self._most_open:
                    self._full.add(partition)
                    changed = True
                    topics = sorted(self._pausable.begins_sagas)
                    log.warning("%s: %d sagas open in partition %d, pausing %s", self._name, count, partition, topics)
                elif partition in self._full and count <= self._most_open // 2:
                    self._full.discard(partition)
                    changed = True
        return changed
