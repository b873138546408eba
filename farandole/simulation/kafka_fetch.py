"""Reading partitions: what a consumer has in common with a reader of changelogs.

Invariants: each partition is delivered in its order, from the position on, committed records alone; the end of a
partition is reported once at each offset where the position meets it. How partitions interleave and where a batch is
cut, the cluster's chooser decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import OFFSET_INVALID, KafkaError, TopicPartition

from farandole.simulation.kafka import Cluster
from farandole.simulation.kafka_errors import END_OF_PARTITION, failure
from farandole.simulation.kafka_log import COMMITTED, Notice, PartitionLog

Place = tuple[str, int]


class Cursor:
    """Where one partition is being read."""

    __slots__ = ("log", "paused", "position", "reported")

    def __init__(self, log: PartitionLog, position: int) -> None:
        self.log, self.position = log, position
        self.paused = False
        self.reported = -1
        """The offset at which the end was reported last."""

    def take(self, most: int, into: list[Any]) -> None:
        """Deliver at most so many records; the position goes behind what no reader ever sees, too."""
        records, end = self.log.records, self.log.stable_end
        position, room = self.position, most
        while position < end:
            record = records[position]
            if record.state == COMMITTED:
                if not room:
                    break
                room -= 1
                into.append(record.message)
            position += 1
        self.position = position

    def waiting(self) -> int:
        """How many offsets lie before it; some of them may hold nothing to deliver."""
        return self.log.stable_end - self.position


class Fetcher:
    """Assigned partitions and the reading of them. `shuffled`: the chooser decides on order and cuts."""

    def __init__(self, cluster: Cluster, ends: bool, shuffled: bool) -> None:
        self._cluster, self._ends, self._shuffled = cluster, ends, shuffled
        self._cursors: dict[Place, Cursor] = {}
        self._idle_since = -1
        """The cluster's version at which nothing more was to be found."""

    # ---- what is read

    def assign(self, partitions: list[TopicPartition]) -> None:
        logs = self._cluster.logs
        self._cursors = {
            (tp.topic, tp.partition): Cursor(logs[tp.topic][tp.partition], max(0, tp.offset)) for tp in partitions
        }
        self._idle_since = -1

    def unassign(self) -> None:
        self._cursors = {}

    def assignment(self) -> list[TopicPartition]:
        return [TopicPartition(topic, partition) for topic, partition in self._cursors]

    def seek(self, partition: TopicPartition) -> None:
        cursor = self._cursor(partition)
        cursor.position, cursor.reported = partition.offset, -1
        self._idle_since = -1

    def position(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        found = ((tp.topic, tp.partition, self._cursors.get((tp.topic, tp.partition))) for tp in partitions)
        return [TopicPartition(t, p, cursor.position if cursor else OFFSET_INVALID) for t, p, cursor in found]

    def pause(self, partitions: Iterable[TopicPartition]) -> None:
        for tp in partitions:
            self._cursor(tp).paused = True

    def resume(self, partitions: Iterable[TopicPartition]) -> None:
        for tp in partitions:
            self._cursor(tp).paused = False
        self._idle_since = -1

    def _cursor(self, tp: TopicPartition) -> Cursor:
        cursor = self._cursors.get((tp.topic, tp.partition))
        if cursor is None:
            raise failure(KafkaError._STATE, f"{tp.topic}[{tp.partition}] is not assigned")
        return cursor

    # ---- reading

    def _fetch(self, most: int) -> list[Any]:
        version = self._cluster.version
        if self._idle_since == version:
            return []
        found: list[Any] = []
        ready = [c for c in self._cursors.values() if c.position < c.log.stable_end and not c.paused]
        if self._ends:
            self._report_ends(found, most)
        if not ready:
            if len(found) < most:
                self._idle_since = version
            return found
        if self._shuffled and (how := self._cluster.choose(3, "how a batch is fetched")):
            self._fetch_some(found, ready, most, interleaved=how == 2)
        else:
            for cursor in ready:
                cursor.take(most - len(found), found)
        return found

    def _report_ends(self, found: list[Any], most: int) -> None:
        for (topic, partition), cursor in self._cursors.items():
            if not self.has_end_to_tell(cursor):
                continue
            if len(found) == most:
                return
            cursor.reported = cursor.position
            found.append(Notice(END_OF_PARTITION, topic, partition, cursor.position))

    def has_end_to_tell(self, cursor: Cursor) -> bool:
        """Whether it has come to the end of the partition, and has not said so."""
        told = cursor.reported == cursor.position or not self._ends
        return not (told or cursor.paused or cursor.position < cursor.log.stable_end)

    def _fetch_some(self, found: list[Any], ready: list[Cursor], most: int, interleaved: bool) -> None:
        """Stretches of partitions in any order, until the chooser has had enough."""
        choose = self._cluster.choose
        while ready and len(found) < most:
            number = choose(len(ready), "which partition comes next") if len(ready) > 1 else 0
            cursor = ready[number]
            left = cursor.waiting()
            fewer = choose(left, "how many messages fewer") if left > 1 else 0
            cursor.take(min(left - fewer, most - len(found)), found)
            if not interleaved:
                return
            if cursor.waiting() <= 0:
                del ready[number]
            if ready and choose(4, "whether the batch ends here") == 3:
                return


class Reader(Fetcher):
    """A consumer outside any group that reads given partitions, as it is used for changelogs."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, ends=True, shuffled=False)

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Any]:
        # Twice: a first look may only have passed what no reader sees, and the end is told by the next one.
        found = self._fetch(num_messages) or self._fetch(num_messages)
        if found:
            return found
        cluster = self._cluster
        if not cluster.wait(cluster.now() + round(timeout * 1000)) and cluster.next_deadline() is None:
            raise RuntimeError("a reader waits for what nothing in this cluster will ever bring")
        return self._fetch(num_messages)

    def close(self) -> None:
        self.unassign()
