"""When partitions moved, seen from outside: the committed records of journals, calls and dead letter queues.

Every transaction of a service writes a line into its journal, in each partition that it touched. So a partition moves
again when its journal has a committed line whose record time, the broker's, is later than the fault.

Invariant: only committed records count, and times are the broker's append times: when the harness gets to read a record
changes no figure.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from confluent_kafka import Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from farandole.config import ClientConfig
from farandole.demo.following import Follower
from farandole.topics import Topics

APART_MS: Final = 10
"""Lines closer together are one: an hour of them is a few megabytes."""

ANSWER_WITHIN: Final = 30.0

JOURNAL, CALLS, LETTERS = ".journal", ".calls", ".dlq"

Source = tuple[str, int, int]
"""Topic, partition and offset of a record."""


class Monitor:
    """Reads in a thread of its own, from the present ends on."""

    def __init__(self, client_config: ClientConfig, namespace: str, topics: Topics) -> None:
        self._config, self._namespace = client_config, namespace
        self._places = [
            (topic.name, partition)
            for topic in topics.topics.values()
            if topic.name.endswith((JOURNAL, CALLS, LETTERS))
            for partition in range(topic.partitions)
        ]
        self._times: defaultdict[tuple[str, int], array[int]] = defaultdict(lambda: array("q"))
        self._letters: set[tuple[str, Source]] = set()
        self._follower = Follower(client_config, namespace, "chaos-monitor", "the journals", self._take)

    def start(self) -> None:
        admin = AdminClient({**self._config, "log_level": 0})
        latest: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(self._namespace + topic, partition): latest for topic, partition in self._places}
        found = admin.list_offsets(wanted, request_timeout=ANSWER_WITHIN)
        self._follower.start({(tp.topic, tp.partition): future.result().offset for tp, future in found.items()})

    def stop(self) -> None:
        self._follower.stop()

    def check(self) -> None:
        self._follower.check()

    # ---- what was seen

    def first_after(self, topic: str, partition: int, since_ms: int) -> int | None:
        """Record time of the first record later than `since_ms`; None: there was none yet."""
        times = self._times[topic, partition]
        at = bisect_right(times, since_ms)
        return times[at] if at < len(times) else None

    def moved(self, service: str, partitions: Iterable[int], since_ms: int) -> int | None:
        """Record time at which the last of these partitions of a service moved again; None: not all of them have."""
        times = [self.first_after(service + JOURNAL, partition, since_ms) for partition in partitions]
        return None if None in times else max((time for time in times if time is not None), default=since_ms)

    def has_letter(self, service: str, source: Source) -> bool:
        """Whether the service has put this record into its dead letter queue."""
        return (service, source) in self._letters

    # ---- in the thread

    def _take(self, message: Message) -> None:
        topic = (message.topic() or "")[len(self._namespace) :]
        partition = message.partition() or 0
        time = message.timestamp()[1]
        times = self._times[topic, partition]
        if not times or time - times[-1] >= APART_MS:
            times.append(time)
        if topic.endswith(LETTERS):
            self._letter(topic.removesuffix(LETTERS), dict(message.headers() or []))

    def _letter(self, service: str, headers: Mapping[str, Any]) -> None:
        def number(name: str) -> int:
            text = headers.get(f"__dlq.errors.{name}") or b""
            return int(text) if text.isdigit() else -1

        topic = (headers.get("__dlq.errors.topic") or b"").decode(errors="replace")
        self._letters.add((service, (topic, number("partition"), number("offset"))))
