"""What lies in the topics afterwards: whether both sides did the same, and how long each hop took.

Invariant: a run counts only if every order came to its end once, on both sides.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from bench.errors import BenchError
from bench.orders import FLOW
from bench.stage import Stage
from farandole.codec import Codec
from farandole.event import Event
from farandole.flow import load_flows


def every_record(stage: Stage, namespace: str, topics: Iterable[str]) -> Iterator[Any]:
    """All committed records of these topics, from the first to the last."""
    consumer = Consumer(
        {
            **stage.kafka,
            "group.id": f"{namespace}reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": 8_388_608,
        }
    )
    where = [
        TopicPartition(namespace + name, p, 0) for name in topics for p in range(stage.topics.topics[name].partitions)
    ]
    consumer.assign(where)
    left = len(where)
    try:
        while left:
            for message in consumer.consume(10_000, 0.2):
                error = message.error()
                if error is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:
                    left -= 1
                elif not error.retriable():
                    raise KafkaException(error)
    finally:
        consumer.close()


@dataclass
class Census:
    """What one run wrote.

    types:  records of each event type
    rows:   changelog records; journal: lines of the journals, which Farandole alone writes
    size:   bytes of keys and values, without the journals'
    times:  event type → order → when the broker wrote it (milliseconds), for the orders asked for
    """

    types: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    journal: int = 0
    dead: int = 0
    size: int = 0
    times: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def records(self) -> int:
        return self.types.total() + self.rows

    def check(self, side: str, orders: int) -> None:
        """BenchError unless so many orders were completed, and everything that happened to one happened to all."""
        for name in ("order.placed", "order.completed", "notification.sent"):
            if self.types[name] != orders:
                raise BenchError(f"{side}: {orders} orders were placed, but there are {self.types[name]} {name}")
        odd = {name: count for name, count in self.types.items() if count % orders and name != "stock.received"}
        if odd or self.dead:
            raise BenchError(f"{side}: not every order took the same way: {odd}, {self.dead} dead letters")


def census(
    stage: Stage, namespace: str, codec: Codec, saga_of: Callable[[bytes], str], timed: set[str], since_ms: int
) -> Census:
    """Read everything.

    saga_of:  the saga of an event whose key is another
    timed:    orders whose times are wanted, all of them placed after `since_ms`
    """
    names = {decoder.prefix: decoder.type.name for decoder in codec.decoders.values()}
    by_saga = {name: topic.key == "saga" for name, topic in stage.topics.topics.items()}
    found = Census()
    for message in every_record(stage, namespace, stage.topics.topics):
        topic, value = message.topic().removeprefix(namespace), message.value()
        if topic.endswith(".journal"):
            found.journal += 1
            continue
        found.size += len(message.key() or b"") + len(value or b"")
        if topic.endswith("-changelog"):
            found.rows += 1
        elif topic.endswith(".dlq"):
            found.dead += 1
        else:
            name = names[value[:5]]
            found.types[name] += 1
            at = message.timestamp()[1]
            if at >= since_ms:
                saga = message.key().decode() if by_saga[topic] else saga_of(value)
                if saga in timed:
                    found.times.setdefault(name, {})[saga] = at
    return found


# ---- hops


def causes(codec: Codec) -> dict[str, set[str]]:
    """Event type → the types that can cause it, as the benchmark's flow binds them; of an answer, what starts the call.

    In another flow the same event has another cause, which none of these orders ever hears.
    """
    found: dict[str, set[str]] = {}
    for (_, heard), decision in load_flows()[FLOW].bindings.items():
        for caused in decision.publishes | decision.calls:
            found.setdefault(_name(codec, caused), set()).add(_name(codec, heard))
    return found


def _name(codec: Codec, cls: type[Event]) -> str:
    return str(codec.type_of(cls).name)


def hops(times: dict[str, dict[str, int]], causes: dict[str, set[str]]) -> dict[str, list[int]]:
    """Event type → for each order, the milliseconds since the latest of its causes; types in the order of time."""
    taken: dict[str, list[int]] = {}
    for name in sorted(times, key=lambda name: _median_time(times[name], times)):
        before = [times[cause] for cause in causes.get(name, ()) if cause in times]
        if before:
            taken[name] = [
                at - max(earlier[saga] for earlier in before if saga in earlier)
                for saga, at in times[name].items()
                if any(saga in earlier for earlier in before)
            ]
    return taken


def _median_time(of: dict[str, int], times: dict[str, dict[str, int]]) -> float:
    """How long after its order's first record an event typically comes."""
    first = {saga: min(each[saga] for each in times.values() if saga in each) for saga in of}
    after = sorted(at - first[saga] for saga, at in of.items())
    return after[len(after) // 2]
