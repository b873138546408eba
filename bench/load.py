"""Placing orders: all at once, or open loop at a given pace."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from confluent_kafka import Producer

from bench.orders import Placed
from farandole.config import ClientConfig

CLIENT = {"partitioner": "murmur2_random", "queue.buffering.max.messages": 1_000_000}


def send(kafka: ClientConfig, topic: str, records: Iterable[Placed]) -> None:
    """At once, and acknowledged when this returns."""
    producer = Producer({**kafka, **CLIENT})
    for record in records:
        producer.produce(topic, record.value, record.key)
    producer.flush()


class Backlog:
    """Orders that lie on the broker and that no read-committed consumer sees until `release`: one transaction.

    So a worker that has been ready for long meets them all in one moment, and its start is not part of the figure.
    """

    def __init__(self, kafka: ClientConfig, topic: str, records: Iterable[Placed]) -> None:
        self._producer = Producer({**kafka, **CLIENT, "transactional.id": f"{topic}-backlog", "linger.ms": 20})
        self._producer.init_transactions(30.0)
        self._producer.begin_transaction()
        for record in records:
            self._producer.produce(topic, record.value, record.key)
        self._producer.flush()

    def release(self) -> None:
        self._producer.commit_transaction(30.0)


def pace(kafka: ClientConfig, topic: str, records: Sequence[Placed], rate: float) -> dict[str, float]:
    """One after the other, `rate` a second. Returns when each was meant to be placed, by time.monotonic.

    Late is late: the next ones are not put off, and what is late counts from when it was meant to be.
    """
    producer = Producer({**kafka, **CLIENT, "linger.ms": 0})
    producer.list_topics(topic, timeout=10)
    begin = time.monotonic() + 0.2
    meant = {}
    for number, record in enumerate(records):
        due = meant[record.key] = begin + number / rate
        while (left := due - time.monotonic()) > 0:
            time.sleep(left)
        producer.produce(topic, record.value, record.key)
        producer.poll(0)
    producer.flush()
    return meant
