"""The clients of a worker, on the model of Kafka.

What the real KafkaClients do with a reader and its ends is inherited: restoring and looking for history are the very
same code.

Invariant: a worker touches the model only through these; each touch is announced to `hook` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import TopicPartition

from farandole.clients import KafkaClients
from farandole.processor import Processor
from farandole.simulation.kafka import Cluster
from farandole.simulation.kafka_consumer import Consumer
from farandole.simulation.kafka_errors import timed_out
from farandole.simulation.kafka_fetch import Reader
from farandole.simulation.kafka_producer import Producer

POINTS = (
    "join",  # about to join the group, inside consume
    "consume",
    "committed",
    "restore",
    "ends",
    "init",  # about to call init_transactions, for the worker's own id or one that it fences
    "begin",
    "produce",  # before the first record of a transaction is produced; nothing of it is written yet
    "flush",  # before the records are written; the chooser may have sent them already
    "flushed",  # they are written, the transaction is open
    "offsets",  # before the offsets are added to the transaction
    "commit.before",  # the request is not sent yet
    "commit.after",  # done on the broker, the answer not seen yet
    "abort",
    "close",
)
"""Every point at which a worker's hook is called.

The hook may raise (the worker is killed at that point: its heartbeats end, nothing else is said to Kafka); run other
workers (this one is frozen meanwhile: no heartbeats either, so a session may run out); or return the name of a fault:

    "fail"     flush, offsets, commit.before: the transaction fails with an error that requires an abort.
               init, committed, ends, abort: a time-out. consume: a transport error among the messages.
    "unknown"  offsets, commit.before, commit.after, abort, init: a time-out; the model asks `choose(2, …)` whether it
               happened all the same (commit.after: it did)

At other points a fault is ignored.
"""


class ModelClients(KafkaClients):
    """One life of one worker's clients. A worker that was killed comes back with new ones.

    Args:
        cluster:  the model
        group:    consumer group
        instance: static membership id
        hook:     called at each of POINTS
        timed:    report ends of partitions (the service has timers)
    """

    consumer: Consumer | None

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        instance: str,
        hook: Callable[[str], str | None] = lambda point: None,
        timed: bool = False,
    ) -> None:
        super().__init__({}, group, instance, timed=timed)
        self.cluster, self.hook = cluster, hook
        self.killed = False
        self._frozen = 0

    # ---- what the engine asks for

    def open_consumer(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        callbacks = (on_assign, on_revoke, on_lost)
        self.consumer = Consumer(
            self.cluster, self._group, self._instance, topics, callbacks, self._touch, ends=self._timed
        )

    def producer(self, transactional_id: str) -> Any:
        producer = Producer(self.cluster, transactional_id, self._touch)
        producer.init_transactions(30.0)
        return producer

    def fence(self, transactional_ids: list[str]) -> None:
        for transactional_id in transactional_ids:
            self.producer(transactional_id).close()

    def count_partitions(self, topic: str) -> int:
        return self.cluster.topics[topic]

    def first_offsets(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return dict.fromkeys(partitions, 0)

    def end_offsets(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        if self._touch("ends") == "fail":
            raise timed_out("list_offsets", retriable=True)
        logs = self.cluster.logs
        return {(topic, p): len(logs[topic][p].records) for topic, p in partitions}

    def restore(self, processor: Processor, partitions: set[int], producer: Any) -> int:
        self._touch("restore")
        return super().restore(processor, partitions, producer)

    def _unique(self, producer: Any) -> str:
        return f"{producer.id}/{producer.epoch}"  # the same when a seed is played again

    @contextmanager
    def _reader(self, partitions: Iterable[tuple[str, int]]) -> Iterator[Any]:
        reader = Reader(self.cluster)
        reader.assign([TopicPartition(topic, p, 0) for topic, p in partitions])
        yield reader

    def close(self) -> None:
        """Leave the group."""
        if self.consumer is None:
            return
        fault = self._touch("close")
        consumer, self.consumer = self.consumer, None
        member = consumer.member
        consumer.close()
        if member is not None and fault is None:
            self.cluster.remove(consumer.group, member)

    # ---- what happens to a worker

    def kill(self) -> None:
        """kill -9: no heartbeat any more, and nothing else. Called by itself when the hook raises."""
        self.killed = True
        self._silence()

    def freeze(self) -> None:
        """SIGSTOP between two steps: heartbeats pause. Inside a hook this happens by itself."""
        self._frozen += 1
        self._silence()

    def thaw(self) -> None:
        """SIGCONT: heartbeats go on, if the group still has the member."""
        self._frozen -= 1
        if not self._frozen and not self.killed and self.consumer is not None and self.consumer.member is not None:
            self.cluster.speak(self.consumer.member)

    def _silence(self) -> None:
        if self.consumer is not None and self.consumer.member is not None:
            self.cluster.silence(self.consumer.group, self.consumer.member)

    def _touch(self, point: str) -> str | None:
        """Announce a point. The worker is silent meanwhile: the hook may let time pass for others."""
        assert not self.killed, "a killed worker touches Kafka"
        consumer = self.consumer
        member = consumer.member if consumer is not None and not self._frozen else None
        if consumer is not None and member is not None:
            self.cluster.silence(consumer.group, member)
        try:
            fault = self.hook(point)
        except BaseException:
            self.kill()
            raise
        if member is not None and not self._frozen:
            self.cluster.speak(member)
        return fault
