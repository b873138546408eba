"""When partitions moved, seen from outside: the committed records of journals, calls and dead letter queues.

Every transaction of a service writes a line into its journal, in each partition that it touched. So a partition moves
again when its journal has a committed line whose record time, the broker's, is later than the fault.

Invariant: only committed records count, and times are the broker's append times: when the harness gets to read a record
changes no figure.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from farandole.config import ClientConfig
from farandole.errors import BrokerError
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
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)
        self._error: BaseException | None = None

    def start(self) -> None:
        admin = AdminClient({**self._config, "log_level": 0})
        latest: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        wanted = {TopicPartition(self._namespace + topic, partition): latest for topic, partition in self._places}
        found = admin.list_offsets(wanted, request_timeout=ANSWER_WITHIN)
        self._consumer = Consumer(
            {
                **self._config,
                "group.id": f"{self._namespace}chaos-monitor",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 100,
                "log_level": 0,
            }
        )
        self._consumer.assign(
            [TopicPartition(tp.topic, tp.partition, future.result().offset) for tp, future in found.items()]
        )
        self._thread.start()

    def stop(self) -> None:
        self._halt.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        if self._error is not None:
            raise BrokerError(f"the journals cannot be read any more: {self._error}") from self._error

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

    def _run(self) -> None:
        try:
            while not self._halt.is_set():
                for message in self._consumer.consume(5_000, 0.1):
                    self._take(message)
        except BaseException as error:
            self._error = error
        finally:
            self._consumer.close()

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise KafkaException(error)
            return  # a broker that is away: the client asks again by itself
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
