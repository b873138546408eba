"""One service's engine on a real Kafka, turned by hand: the test decides when it takes a step, and what goes wrong."""

from __future__ import annotations

import dataclasses
import importlib
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

import events
from farandole import config
from farandole.agent import AgentSteps
from farandole.assembly import assemble
from farandole.clients import MARK, KafkaClients
from farandole.engine import Engine
from farandole.event import Event, Meta
from farandole.ports import Answer
from farandole.topics import Topics

PATIENCE = 20.0
"""Seconds after which something that should have happened will not happen any more."""


class Calls:
    """Performs no outside call: remembers what it was asked to, and the test answers."""

    def __init__(self) -> None:
        self.started: dict[str, tuple[int, Any]] = {}
        self.stopped: list[str] = []

    def start(self, partition: int, key: str, call: Any) -> None:
        self.started[key] = (partition, call)

    def stop(self, partition: int, key: str) -> None:
        self.started.pop(key, None)
        self.stopped.append(key)

    def forget(self, partition: int) -> None:
        self.started = {key: each for key, each in self.started.items() if each[0] != partition}

    def under_way(self) -> int:
        return len(self.started)


class Rig:
    """Topics of one service in a namespace of its own, and its engine.

    send: write an event as a client or another service would; step: one turn of the engine; read: a topic as an
          outsider
    """

    def __init__(self, service: str, kafka: Any, namespace: str) -> None:
        self.kafka, self.namespace, self.service = kafka, namespace, service
        self.app = importlib.import_module(f"agents.{service}").app
        self.processor, self.pausable = assemble(self.app)
        self.most_open = config.OPEN_SAGAS
        self.codec = self.processor.codec
        self._make_topics()
        self.calls = Calls()
        self.commits = 0
        self.now: Callable[[], int] = lambda: time.time_ns() // 1_000_000
        self._producer = Producer({**kafka.config, "partitioner": "murmur2_random", "linger.ms": 0})
        self.engine = self._new_engine()

    def _make_topics(self) -> None:
        topics = Topics.load(config.project_root() / "topics.yaml")
        heard = {topic.removeprefix(self.namespace) for topic in self.processor.topics}
        wanted = {name: t for name, t in topics.topics.items() if t.owner == self.service or name in heard}
        dataclasses.replace(topics, topics=wanted).apply(self.kafka.config, self.namespace)

    def _new_engine(self) -> Engine:
        clients = KafkaClients(
            self.kafka.config,
            self.processor.group,
            f"{self.processor.group}-rig",
            timed=self.processor.reads_ends,
        )
        agent = self.app.batch_agent()
        return Engine(
            processor=self.processor,
            agent=AgentSteps(agent.name, agent.fun),
            clients=clients,
            performer=self.calls,
            now=lambda: self.now(),
            pausable=self.pausable,
            most_open=self.most_open,
        )

    # ---- turning it

    def start(self) -> Rig:
        self.engine.open()
        self.step_until(lambda: self.engine.assigned)
        return self

    def crash(self) -> Rig:
        """As kill -9 would: nothing is said to Kafka but what it finds out by itself; then a new engine, not yet
        started.
        """
        clients: Any = self.engine.clients
        clients.consumer.close()
        clients.consumer = None
        self.processor.rollback()
        for partition in set(self.processor.partitions):
            self.processor.drop_partition(partition)
        self.calls.started.clear()
        self.engine = self._new_engine()
        return self

    def step_until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, "it did not happen"
            self.engine.step()

    def step_for(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.engine.step()

    def settle(self, messages: int) -> None:
        """Step until this many messages more have been taken and committed."""
        target = self.engine.counts["messages"] + messages
        self.step_until(lambda: self.engine.counts["messages"] >= target)
        self.step_for(0.3)

    # ---- the outside

    def encode(self, event: Event, saga: str, flow: str = "order/1") -> bytes:
        return self.codec.encode(event, Meta(id=f"test/{uuid.uuid4()}", saga=saga, flow=flow, cause=""))

    def send(self, event: Event, saga: str, flow: str = "order/1", key: str | None = None) -> None:
        kind = self.codec.type_of(type(event))
        field = config_key(self, kind.topic)
        key = key or (saga if field == "saga" else getattr(event, field))
        self.send_bytes(kind.topic, self.encode(event, saga, flow), key)

    def send_bytes(
        self, topic: str, value: bytes | None, key: str | bytes | None, headers: list[Any] | None = None
    ) -> None:
        self._producer.produce(self.namespace + topic, value, key, headers=headers or [])
        self._producer.flush(10)

    def answer(self, key: str, outcome: str = "accepted", reference: str = "r", reason: str = "") -> None:
        partition, _ = self.calls.started[key]
        self.engine.answers.append(Answer(partition, key, outcome, reference, reason))

    def records(self, topic: str) -> list[Any]:
        """Every committed record of a topic, partition by partition; of a changelog, but for marks."""
        found = read_all(self.kafka.config, self.namespace + topic)
        return [message for message in found if not (message.key() or b"").startswith(MARK)]

    def read(self, topic: str) -> list[tuple[Meta, Any]]:
        return [self.codec.decode(message.value()) for message in self.records(topic)]

    def events(self, *topics: str) -> list[str]:
        """Names of the events in these topics, sorted."""
        return sorted(type(event).__name__ for topic in topics for _, event in self.read(topic))

    def rows(self, table: str) -> dict[str, Any]:
        """A table as its changelog has it."""
        kind = self.codec.type_of(self.processor.tables[table].row)
        rows: dict[str, Any] = {}
        for message in self.records(f"{self.service}-{table}-changelog"):
            if message.value() is None:
                rows.pop(message.key().decode(), None)
            else:
                rows[message.key().decode()] = kind.decode_row(message.value())
        return rows

    def live_rows(self, table: str) -> dict[str, Any]:
        """The same table as the engine has it in memory."""
        return {k: row for part in self.processor.tables[table].parts.values() for k, row in part.rows.items()}


def config_key(rig: Rig, topic: str) -> str:
    return rig.processor.key_of[topic]


def read_all(kafka_config: Any, topic: str) -> list[Any]:
    consumer = Consumer(
        {
            **kafka_config,
            "group.id": "test-reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "enable.partition.eof": True,
        }
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
        left, found = len(partitions), []
        while left:
            for message in consumer.consume(1000, 1.0):
                if (error := message.error()) is None:
                    found.append(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    left -= 1
        return sorted(found, key=lambda m: (m.partition(), m.offset()))
    finally:
        consumer.close()


def received(quantity: int = 1, sku: str = "sku-1") -> events.StockReceived:
    return events.StockReceived(sku=sku, quantity=quantity)


def saga_names(dead: Iterable[Any]) -> list[str]:
    return [message.key().decode() for message in dead]
