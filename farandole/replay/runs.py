"""Reading quickly: run by run of one partition's records, as librdkafka hands them out, not record by record.

Invariant: what is handed out is what `farandole.audit.reading.Reader.read` would hand out, in the same order.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import groupby
from typing import Any

from farandole.audit.reading import ANSWER_SECONDS, BATCH, Offsets, Progress, Reader, _Stretch
from farandole.audit.records import Place

Take = Callable[[Place, list[Any], list[int]], None]
"""A place, messages of it, and their offsets."""


class QuickReader(Reader):
    """A reader whose records may be taken in runs."""

    def cluster(self) -> str:
        """What the cluster calls itself; empty if it has no name."""
        topic = self._namespace + next(iter(self.partitions))
        answer = self._ask(lambda: self._admin.list_topics(topic, ANSWER_SECONDS))
        return answer.cluster_id or ""

    def read_runs(self, first: Offsets, end: Offsets, take: Take, progress: Progress, what: str) -> int:
        """As `read`, but a run at a time."""
        from confluent_kafka import TopicPartition

        left = {place: end[place] for place in end if first[place] < end[place]}
        total = sum(end[place] - first[place] for place in left)
        self._consumer.assign([TopicPartition(self._namespace + t, p, first[t, p]) for t, p in left])
        try:
            return _Runs(self, left, dict(first), take).read(lambda done: progress(what, done, total))
        finally:
            self._consumer.unassign()


class _Runs(_Stretch):
    """One reading: where each partition stands, and which are not yet done."""

    def __init__(self, reader: Reader, left: dict[Place, int], position: dict[Place, int], take: Take) -> None:
        super().__init__(reader, left, position, lambda record: None)
        self._take_run, self._prefix = take, len(reader._namespace)

    def read(self, progress: Callable[[int], None]) -> int:
        count, moved = 0, time.monotonic()
        consumer: Any = self._reader._consumer
        while self._left:
            before = self._done
            messages = consumer.consume(BATCH, 0.2)
            for where, found in groupby(messages, _where):
                count += self._run(where, list(found))
            if self._done > before:
                moved = time.monotonic()
                progress(self._done)
            elif time.monotonic() - moved > self._reader._patience:
                raise self._stalled()
        if self._paused:
            consumer.resume(self._paused)
        return count

    def _run(self, where: tuple[str | None, int | None, bool], messages: list[Any]) -> int:
        """Records of one partition, or errors that stand in the place of some."""
        topic, partition, wrong = where
        if wrong or topic is None or partition is None:
            for message in messages:
                self._one(message)
            return 0
        place = (topic[self._prefix :], partition)
        end = self._left.get(place)
        if end is None:
            self._one(messages[0])  # which pauses it
            return 0
        offsets = [message.offset() for message in messages]
        first = self._position[place]
        if offsets[0] < first or offsets[-1] >= end:
            inside = [(o, m) for o, m in zip(offsets, messages, strict=True) if first <= o < end]
            reached = min(offsets[-1] + 1, end)
            offsets, messages = [o for o, _ in inside], [m for _, m in inside]
        else:
            reached = offsets[-1] + 1
        if messages:
            self._take_run(place, messages, offsets)
        self._reached(place, max(first, reached))
        return len(messages)


def _where(message: Any) -> tuple[str | None, int | None, bool]:
    return message.topic(), message.partition(), message.error() is not None
