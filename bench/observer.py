"""Who sees what the system has done, and when: an outsider that reads committed records only.

Both sides are watched by the same code: it looks at keys and at the five bytes that name a schema.
"""

from __future__ import annotations

import threading
import time
from typing import Self

from confluent_kafka import Consumer, TopicPartition

from bench.children import Child
from bench.errors import BenchError
from farandole.codec import Codec
from farandole.config import ClientConfig

PATIENCE = 60.0
"""Seconds without any order coming to its end after which a side is given up."""


class Observer:
    """Notes the end of every order.

    completed: order → when its `order.completed` was seen, by time.monotonic
    last:      when the last `notification.sent` was seen, with which all that an order causes has happened
    """

    def __init__(self, kafka: ClientConfig, namespace: str, partitions: int, codec: Codec) -> None:
        self._completed_prefix = codec.type_named("order.completed").prefix
        self._sent_prefix = codec.type_named("notification.sent").prefix
        self.completed: dict[str, float] = {}
        self.endings = self.sent = 0
        self.last = 0.0
        self._halt = threading.Event()
        self._consumer = Consumer(
            {
                **kafka,
                "group.id": f"{namespace}observer",
                "isolation.level": "read_committed",
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 5,
            }
        )
        topics = (namespace + "order", namespace + "notification")
        self._consumer.assign([TopicPartition(topic, p, 0) for topic in topics for p in range(partitions)])
        self._thread = threading.Thread(target=self._watch, name="observer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._halt.set()
        self._thread.join()
        self._consumer.close()

    def _watch(self) -> None:
        consume = self._consumer.consume
        while not self._halt.is_set():
            messages = consume(1_000, 0) or consume(1, 0.05)
            now = time.monotonic()
            for message in messages:
                key, value = message.key(), message.value()
                if message.error() is not None or key is None or value is None:
                    continue
                if value[:5] == self._completed_prefix:
                    self.endings += 1
                    self.completed.setdefault(key.decode(), now)
                elif value[:5] == self._sent_prefix:
                    self.sent += 1
                    self.last = now

    def wait(self, sent: int, child: Child) -> None:
        """Until so many orders have come to their end. BenchError if they do not."""
        before, since = self.sent, time.monotonic()
        while self.sent < sent:
            child.check()
            if self.sent != before:
                before, since = self.sent, time.monotonic()
            if time.monotonic() - since > PATIENCE:
                raise BenchError(
                    f"{child.name}: {self.sent} of {sent} orders ended, and no other for {PATIENCE:.0f} s:\n"
                    f"{child.last_words()}"
                )
            time.sleep(0.005)
