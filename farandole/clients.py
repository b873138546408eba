"""librdkafka as the engine uses it: every setting with its reason, and the reading of changelogs.

Invariant: a changelog is read, read-committed, until a mark that this worker has just committed there. Not to an end
that a broker tells: a leader that has slept through the election of another one tells, for a moment after it wakes up,
where the log ended when it fell asleep; and it gives no more than that to read.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from farandole.errors import BrokerError
from farandole.processor import Processor

log = logging.getLogger(__name__)

SESSION_TIMEOUT_MS = 6_000
"""After this long without a heartbeat a worker's partitions go to another one. 6 s is the least that Kafka allows by
default.
"""

TRANSACTION_TIMEOUT_MS = 10_000
"""A dead worker's open transaction stops the readers of its partitions at the most this long; usually it is fenced
before.
"""

MAX_POLL_INTERVAL_MS = 300_000
"""A rebalance callback may restore tables for this long; heartbeats go on meanwhile."""

REQUEST_TIMEOUT = 10.0
"""Seconds for one answer of the cluster to an administrative question."""

MARK = b"farandole.restored/"
"""How the keys of marks in changelogs begin."""

MARKED_WITHIN = 30.0
"""Seconds for marks to be committed."""

RECOVERY_PATIENCE = 120.0
"""Seconds without a record after which a recovery is given up; the worker ends and says why."""

TOLD_EVERY = 5.0
"""Seconds between two lines about a recovery that takes long."""

ANSWERS_WITHIN = 1.0
"""Seconds for a broker to answer whether it is there."""

LEADER_MOVES = frozenset(
    (
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.KAFKA_STORAGE_ERROR,
    )
)
"""Errors that asking again in a moment mends."""

_CONSUMER = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    # A committed position outside the log is an error that a person decides about, never a silent skip.
    "auto.offset.reset": "error",
    # Range assignment keeps equal partitions of a service's topics together; cooperative-sticky does not.
    "partition.assignment.strategy": "range",
    "session.timeout.ms": SESSION_TIMEOUT_MS,
    "heartbeat.interval.ms": SESSION_TIMEOUT_MS // 4,
    "max.poll.interval.ms": MAX_POLL_INTERVAL_MS,
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 5,
    # What may wait in memory, for all partitions together: the bound of an engine's input buffer.
    "queued.min.messages": 50_000,
    "queued.max.messages.kbytes": 65_536,
}

RETRY_BACKOFF_MS = 500
"""Before a request is repeated that got no answer; a fifth less, at the least. See transactions.SLOW_MS."""

_PRODUCER = {
    "retry.backoff.ms": RETRY_BACKOFF_MS,
    "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
    # The partitioner of the Java clients: a key lies where everybody looks for it.
    "partitioner": "murmur2_random",
    # A third less CPU here and several times less on the broker than 0; flush() does not wait for it.
    "linger.ms": 5,
    "batch.num.messages": 10_000,
    # A dead letter is a record as large as the broker takes, and its headers.
    "message.max.bytes": 2_097_152,
    "queue.buffering.max.messages": 1_000_000,
    "queue.buffering.max.kbytes": 1_048_576,
}


GRACE = 2.0
"""Seconds beyond its time-out that a call of librdkafka may take before it is given up."""


class TransactionalProducer(Producer):
    """librdkafka's producer, whose adding of offsets keeps its time-out.

    librdkafka ignores it, and waits for ever if the group's coordinator was away for a moment (librdkafka issues 5456
    and 5511, seen with 2.16 whenever a broker restarts). So the call is made in a thread of its own, and left behind
    there, with its producer, if it does not come back.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._asked: SimpleQueue[tuple[Any, ...]] | None = None
        super().__init__(*args, **options)

    def send_offsets_to_transaction(self, positions: Any, metadata: Any, timeout: float) -> None:  # type: ignore[override]
        if self._asked is None:
            self._asked, self._said = SimpleQueue(), SimpleQueue[Exception | None]()
            # It is given the queues alone: a thread that knew the producer would keep it for ever.
            threading.Thread(target=_call, args=(self._asked, self._said), name="offsets", daemon=True).start()
        self._asked.put((super().send_offsets_to_transaction, positions, metadata, timeout))
        try:
            error = self._said.get(timeout=timeout + GRACE)
        except Empty:
            self._leave_behind()
            text = f"adding offsets to the transaction took longer than {timeout + GRACE:g} s"
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, text)) from None
        if error is not None:
            raise error

    def _leave_behind(self) -> None:
        """The thread ends when its call comes back. What it says then is for nobody: the next transaction, which may be
        this producer's if aborting worked, would take it for its own answer, and commit without its offsets.
        """
        if self._asked is not None:
            self._asked.put(())
            self._asked = None

    def __del__(self) -> None:
        self._leave_behind()


def _call(asked: SimpleQueue[tuple[Any, ...]], said: SimpleQueue[Exception | None]) -> None:
    """Make each call that is asked for, until there is nobody to ask."""
    while asking := asked.get():
        call, *arguments = asking
        try:
            call(*arguments)
            error: Exception | None = None
        except Exception as failure:
            error = failure
        del call, arguments, asking
        said.put(error)


class GroupConsumer(Consumer):
    """librdkafka's consumer, whose `consume` raises what a rebalance callback has raised.

    confluent-kafka 2.15 raises the KafkaError out of a KafkaException there, which is no exception: no `except` catches
    it, and the thread ends in silence while librdkafka goes on to send heartbeats for it.
    """

    _failure: Exception | None = None

    def subscribe(self, topics: list[str], **callbacks: Callable[[Any, list[TopicPartition]], None]) -> None:  # type: ignore[override]
        super().subscribe(topics, **{name: self._guarded(callback) for name, callback in callbacks.items()})

    def _guarded(self, callback: Callable[[Any, list[TopicPartition]], None]) -> Callable[..., None]:
        def guarded(consumer: Any, partitions: list[TopicPartition]) -> None:
            try:
                callback(consumer, partitions)
            except Exception as failure:
                self._failure = failure

        return guarded

    def consume(self, *arguments: Any) -> list[Any]:
        messages = super().consume(*arguments)
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return messages


class KafkaClients:
    """The clients of one engine.

    Args:
        config:       bootstrap servers and security, for librdkafka
        group:        consumer group
        instance:     static membership id: a restarted worker gets its partitions back without a rebalance
        address:      URL under which this worker answers HTTP; travels as client id, so others find the owner of a
                      partition
        timed:        report ends of partitions (`Processor.reads_ends`)
        stays:        whether a member of the same name comes back at once, so that the group need not be left
    """

    def __init__(
        self,
        config: dict[str, Any],
        group: str,
        instance: str,
        address: str = "",
        timed: bool = False,
        stays: Callable[[], bool] = lambda: False,
    ) -> None:
        self._config, self._group, self._instance, self._timed = config, group, instance, timed
        self._address, self._stays = address, stays
        self._admin: AdminClient | None = None
        self._observer: AdminClient | None = None
        self.consumer: Any = None

    @property
    def admin(self) -> AdminClient:
        if self._admin is None:
            self._admin = AdminClient(self._config)
        return self._admin

    def open_consumer(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        self.consumer = GroupConsumer(
            {
                **self._config,
                **_CONSUMER,
                "group.id": self._group,
                "group.instance.id": self._instance,
                "enable.partition.eof": self._timed,
                **({"client.id": self._address} if self._address else {}),
            },
            logger=log,
        )
        self.consumer.subscribe(topics, on_assign=on_assign, on_revoke=on_revoke, on_lost=on_lost)

    def producer(self, transactional_id: str) -> TransactionalProducer:
        # No delivery callback: confluent-kafka would run it with a fenced producer's exception already set. A record
        # that is refused makes the transaction fail with the record's own error.
        config = {**self._config, **_PRODUCER, "transactional.id": transactional_id}
        producer = TransactionalProducer(config, logger=log)
        producer.init_transactions(30.0)
        return producer

    def fence(self, transactional_ids: list[str]) -> None:
        """Whatever a former owner left open under these ids is decided when this returns."""
        if transactional_ids:
            with ThreadPoolExecutor(min(8, len(transactional_ids))) as pool:
                for producer in pool.map(self.producer, transactional_ids):
                    producer.close()  # type: ignore[attr-defined]  # 2.15 has it, its stubs forget it

    def reachable(self) -> bool:
        """Whether a broker answers within a moment. From any thread but the engine's."""
        if self._observer is None:
            self._observer = AdminClient({**self._config, "log_level": 0})
        try:
            self._observer.list_topics("", timeout=ANSWERS_WITHIN)
        except KafkaException:
            return False
        return True

    def count_partitions(self, topic: str) -> int:
        return len(self.admin.list_topics(topic, timeout=REQUEST_TIMEOUT).topics[topic].partitions)

    def first_offsets(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        return self._offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]

    def end_offsets(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Read-uncommitted ends: what an open transaction has written counts as lying there."""
        return self._offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def _offsets(self, partitions: Iterable[tuple[str, int]], spec: Any) -> dict[tuple[str, int], int]:
        wanted = {TopicPartition(topic, partition): spec for topic, partition in partitions}
        end = time.monotonic() + REQUEST_TIMEOUT
        while wanted:
            try:
                return self._ask_offsets(wanted)
            except KafkaException as error:
                # A topic that was just created, a leader that just moved: the answer is there in a moment.
                if error.args[0].code() not in LEADER_MOVES or time.monotonic() > end:
                    raise
                self._admin = None  # it keeps the old leader's epoch after a broker has restarted
                time.sleep(0.05)
        return {}

    def _ask_offsets(self, wanted: dict[TopicPartition, Any]) -> dict[tuple[str, int], int]:
        found = self.admin.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=REQUEST_TIMEOUT
        )
        try:
            return {(tp.topic, tp.partition): future.result().offset for tp, future in found.items()}
        except KafkaException as error:
            if error.args[0].code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION):
                raise BrokerError(
                    f"a topic of {self._group} is missing: {error.args[0].str()}",
                    where=", ".join(sorted({tp.topic for tp in wanted})),
                    mend="farandole topics apply",
                ) from error
            raise

    def has_history(self, topic: str, partition: int) -> bool:
        """Whether anything was ever committed to the partition. What a transaction left behind that was aborted is
        not.
        """
        end = self.end_offsets([(topic, partition)])
        if end[topic, partition] == 0:
            return False
        with self._reader(end) as reader:
            return _read_until(reader, set(end), dict.fromkeys(end, lambda key, value, at: None), end, most=1) > 0

    @contextmanager
    def _reader(self, partitions: Iterable[tuple[str, int]]) -> Iterator[Any]:
        """A consumer of these partitions from their beginning, read-committed, outside any group."""
        reader = Consumer(
            {
                **self._config,
                "group.id": f"{self._group}-recovery",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 10,
                "queued.min.messages": 1_000_000,
                "queued.max.messages.kbytes": 262_144,
                "fetch.message.max.bytes": 8_388_608,
            },
            logger=log,
        )
        try:
            reader.assign([TopicPartition(topic, p, 0) for topic, p in partitions])
            yield reader
        finally:
            reader.close()

    def restore(self, processor: Processor, partitions: set[int], producer: Any) -> int:
        """Read the changelogs of these partitions into the processor's tables. Returns the number of records.

        producer: this worker's, with no transaction open
        """
        tables = processor.changelog_topics()
        left = {(topic, p) for topic in tables for p in partitions}
        if not left:
            return 0
        take = {(topic, p): processor.restore(tables[topic], p) for topic, p in left}
        mark = self._mark(producer, left)
        with self._reader(left) as reader:
            return _read_until(reader, left, take, mark=mark)

    def _mark(self, producer: Any, places: Iterable[tuple[str, int]]) -> bytes:
        """Commit a mark to each of these changelogs, behind whatever was committed there; all in-sync replicas have it
        then. Returns its key.

        It says that a row went that never was, so whoever else reads the changelog need not know of marks, and
        compaction removes it.
        """
        mark = MARK + self._unique(producer).encode()
        producer.begin_transaction()
        for topic, partition in sorted(places):
            producer.produce(topic, None, mark, partition)
        producer.commit_transaction(MARKED_WITHIN)
        return mark

    def _unique(self, producer: Any) -> str:
        return uuid.uuid4().hex

    def close(self) -> None:
        """Leave the group, so that others take over at once and not after the session time-out."""
        if self.consumer is None:
            return
        consumer, self.consumer = self.consumer, None
        member = consumer.memberid()
        consumer.close()
        if member and not self._stays():
            try:
                leave_group(self._config, self._group, member)
            except Exception as error:
                log.warning("%s: partitions move after the session time-out only: %s", self._group, error)


def _read_until(
    reader: Any,
    left: set[tuple[str, int]],
    take: dict[tuple[str, int], Callable[[bytes, bytes | None, int], None]],
    ends: dict[tuple[str, int], int] | None = None,
    mark: bytes | None = None,
    most: int | None = None,
) -> int:
    """Give every committed record to `take`, until all of `left` have been read to their `mark`, or their `ends`.
    Returns how many.

    Not until the last record before an end: markers of transactions and compaction leave gaps.
    """
    count, whole = 0, len(left)
    heard = told = time.monotonic()
    while left and (most is None or count < most):
        messages = reader.consume(20_000, 0.1)
        now = time.monotonic()
        heard = now if messages else heard
        if now - heard > RECOVERY_PATIENCE:
            raise BrokerError(
                f"nothing came from a changelog for {RECOVERY_PATIENCE:.0f} s, {len(left)} of {whole} are not read yet",
                where=", ".join(f"{topic}[{partition}]" for topic, partition in sorted(left)[:5]),
                mend="is the cluster well? an open transaction there ends after its time-out",
            )
        if now - told > TOLD_EVERY:
            told = now
            log.info("recovery: %d records, %d of %d changelog partitions to go", count, len(left), whole)
        for message in messages:
            error = message.error()
            where = (message.topic(), message.partition())
            if error is None:
                key, value = message.key(), message.value()
                if value is None and key == mark:
                    left.discard(where)
                    continue
                take[where](key, value, message.timestamp()[1])
                count += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                if ends is not None and message.offset() >= ends[where]:
                    left.discard(where)
            elif not error.retriable() and error.code() != KafkaError._ALL_BROKERS_DOWN:
                raise KafkaException(error)
    return count


def leave_group(config: dict[str, Any], group: str, member: str) -> None:
    """Take a static member out of its group: librdkafka leaves that to the session time-out, handing over cleanly
    cannot.
    """
    asyncio.run(asyncio.wait_for(_leave_group(config, group, member), REQUEST_TIMEOUT))


async def _leave_group(config: dict[str, Any], group: str, member: str) -> None:
    from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
    from aiokafka.helpers import create_ssl_context
    from aiokafka.protocol.group import LeaveGroupRequest

    protocol = str(config.get("security.protocol", "PLAINTEXT")).upper()
    client = AIOKafkaClient(
        bootstrap_servers=config["bootstrap.servers"].split(","),
        security_protocol=protocol,
        ssl_context=create_ssl_context(cafile=config.get("ssl.ca.location")) if "SSL" in protocol else None,
        sasl_mechanism=str(config.get("sasl.mechanism", "PLAIN")),
        sasl_plain_username=config.get("sasl.username"),
        sasl_plain_password=config.get("sasl.password"),
    )
    await client.bootstrap()
    try:
        node = await client.coordinator_lookup(CoordinationType.GROUP, group)
        await client.ready(node, group=ConnectionGroup.COORDINATION)
        await client.send(node, LeaveGroupRequest(group, member), group=ConnectionGroup.COORDINATION)
    finally:
        await client.close()
