"""One interface to two Kafkas: the model, and a real one. What a test says, it says of both."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, Producer, TopicPartition

from farandole.clients import KafkaClients
from farandole.simulation.clients import ModelClients
from farandole.simulation.kafka import Cluster

Place = tuple[str, int]


class Stage:
    """clients: as a worker has them; topic: make one; append: write outside any transaction; sleep: let time pass."""

    def __init__(self) -> None:
        self.group = f"g{secrets.token_hex(4)}"
        self.opened: list[KafkaClients] = []

    def clients(self, instance: str = "i", timed: bool = False) -> KafkaClients:
        made = self._clients(instance, timed)
        self.opened.append(made)
        return made

    def member(self, topics: Iterable[str], instance: str = "i", timed: bool = False) -> Worker:
        return Worker(self, self.clients(instance, timed), list(topics))

    def close(self) -> None:
        for clients in self.opened:
            clients.close()

    def until(self, condition: Callable[[], Any], *members: Worker, seconds: float = 20.0) -> None:
        """Members consume in turn until the condition holds."""
        turns = 0
        while not condition():
            turns += 1
            assert turns * 0.05 < seconds, "it did not happen"
            for member in members:
                member.poll(0.05)
            self.sleep(0.05 if not members else 0.0)

    def _clients(self, instance: str, timed: bool) -> KafkaClients:
        raise NotImplementedError

    def topic(self, partitions: int = 1, largest: int | None = None) -> str:
        raise NotImplementedError

    def append(self, topic: str, value: bytes | None, key: bytes | None = None, partition: int = -1) -> None:
        raise NotImplementedError

    def sleep(self, seconds: float) -> None:
        raise NotImplementedError


class Worker:
    """A member of the group that remembers what it was told and given."""

    def __init__(self, stage: Stage, clients: KafkaClients, topics: list[str]) -> None:
        self.stage, self.kafka = stage, clients
        self.told: list[tuple[str, list[Place]]] = []
        self.messages: list[Any] = []
        self.notices: list[Any] = []
        clients.open_consumer(topics, self._assigned, self._told("revoked"), self._told("lost"))

    def _assigned(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self.told.append(("assigned", places(partitions)))
        for tp in partitions:
            tp.offset = OFFSET_BEGINNING
        consumer.assign(partitions)

    def _told(self, what: str) -> Callable[[Any, list[TopicPartition]], None]:
        return lambda consumer, partitions: self.told.append((what, places(partitions)))

    @property
    def consumer(self) -> Any:
        return self.kafka.consumer

    def poll(self, seconds: float = 0.05, most: int = 100) -> list[Any]:
        found = self.consumer.consume(most, seconds)
        if isinstance(self.stage, OnModel):
            self.stage.sleep(seconds)
        self.messages += [m for m in found if m.error() is None]
        self.notices += [m for m in found if m.error() is not None]
        return [m for m in found if m.error() is None]

    def poll_for(self, seconds: float) -> list[Any]:
        return [message for _ in range(round(seconds / 0.05)) for message in self.poll(0.05)]

    def start(self) -> Worker:
        self.stage.until(lambda: self.told, self)
        return self

    def values(self) -> list[bytes]:
        return [message.value() for message in self.messages]

    def ends(self) -> list[int]:
        """Offsets of the ends of partitions that were reported."""
        return [n.offset() for n in self.notices if n.error().code() == KafkaError._PARTITION_EOF]

    def metadata(self) -> Any:
        return self.consumer.consumer_group_metadata()


class OnModel(Stage):
    """The model, with a clock that moves when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1_700_000_000_000
        self.cluster = Cluster({}, lambda: self.time, advance=self._advance)

    def _advance(self, until: int) -> None:
        self.time = max(self.time, until)

    def _clients(self, instance: str, timed: bool) -> KafkaClients:
        return ModelClients(self.cluster, self.group, instance, timed=timed)

    def topic(self, partitions: int = 1, largest: int | None = None) -> str:
        name = f"t{len(self.cluster.topics)}"
        self.cluster.add_topic(name, partitions, largest)
        return name

    def append(self, topic: str, value: bytes | None, key: bytes | None = None, partition: int = -1) -> None:
        self.cluster.append(topic, key, value, partition=None if partition < 0 else partition)

    def sleep(self, seconds: float) -> None:
        self.time += round(seconds * 1000)
        self.cluster.tick()


class OnKafka(Stage):
    """A real cluster."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self._plain = Producer({**config, "partitioner": "murmur2_random", "linger.ms": 0})

    def _clients(self, instance: str, timed: bool) -> KafkaClients:
        return KafkaClients(self.config, self.group, instance, timed=timed)

    def topic(self, partitions: int = 1, largest: int | None = None) -> str:
        from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

        name = f"t{secrets.token_hex(6)}"
        config = {"message.timestamp.type": "LogAppendTime"}
        if largest is not None:
            config["max.message.bytes"] = str(largest)
        admin = AdminClient(self.config)
        admin.create_topics([NewTopic(name, partitions, 1, config=config)])[name].result(10)
        self.until(lambda: name in (topics := admin.list_topics(timeout=5).topics) and topics[name].error is None)
        return name

    def append(self, topic: str, value: bytes | None, key: bytes | None = None, partition: int = -1) -> None:
        self._plain.produce(topic, value, key, partition)
        self._plain.flush(10)

    def sleep(self, seconds: float) -> None:
        import time

        time.sleep(seconds)


def places(partitions: Iterable[TopicPartition]) -> list[Place]:
    return sorted((tp.topic, tp.partition) for tp in partitions)


def error_of(call: Callable[..., Any], *arguments: Any) -> KafkaError:
    """The KafkaError that the call fails with."""
    try:
        call(*arguments)
    except KafkaException as error:
        found: KafkaError = error.args[0]
        return found
    raise AssertionError("it did not fail")
