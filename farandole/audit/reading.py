"""Reading the topics as an outsider: partitions assigned by hand, read-committed, nothing committed, no group joined.

Invariant: a stretch is read from its first offset to its end, every record that is committed there, none twice, or
the audit says that it could not be carried out. The ends are the read-uncommitted ones at the moment of asking: a
transaction that was open then is waited for, because a reader that stops before it has seen half of what services
did.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from farandole.audit.records import LogRecord, Place
from farandole.config import ClientConfig
from farandole.errors import AuditError

log = logging.getLogger(__name__)

Offsets = Mapping[Place, int]
Progress = Callable[[str, int, int], None]
"""What is done, how much of it, of how much; 0 when that is not known."""

BATCH: Final = 5_000
"""Messages taken from librdkafka at once."""

ANSWER_SECONDS: Final = 30.0
"""For one answer of the cluster to an administrative question."""

PATIENCE: Final = 60.0
"""Seconds without a record after which the reading is given up. Transactions are aborted by the broker after 10 s here,
and after 15 minutes at most by Kafka's own limit."""

_SETTINGS: Final = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    # Records that retention deletes while they are being read must not be missed in silence.
    "auto.offset.reset": "error",
    "fetch.wait.max.ms": 100,
    # What waits in memory for all partitions together; larger answers only make the reader larger, not quicker.
    "fetch.message.max.bytes": 262_144,
    "fetch.max.bytes": 8_388_608,
    "queued.min.messages": 200_000,
    "queued.max.messages.kbytes": 32_768,
    "check.crcs": True,
}

_TRANSIENT: Final = (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._RESOLVE)
"""The client goes on by itself; if it cannot, patience ends."""

_MOVING: Final = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.OFFSET_NOT_AVAILABLE,
)
"""A partition that was just made, or whose leader just moved: a new client is told where it is in a moment."""

_GONE: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)
_DENIED: Final = (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED)


class Source(Protocol):
    """What is read: a Reader, or a log in memory."""

    @property
    def partitions(self) -> Mapping[str, int]: ...
    @property
    def starts(self) -> Offsets: ...
    def ends(self) -> dict[Place, int]: ...
    def read(
        self, first: Offsets, end: Offsets, take: Callable[[LogRecord], None], progress: Progress, what: str
    ) -> int: ...


class Reader:
    """One installation's topics on one cluster. Closed by `close`.

    config:     bootstrap servers and security, for librdkafka
    topics:     names without the namespace; all of them must be there
    patience:   seconds without a record before giving up
    partitions: of each topic; starts: first offset there is, by topic and partition
    """

    def __init__(self, config: ClientConfig, namespace: str, topics: Iterable[str], patience: float = PATIENCE) -> None:
        self._config, self._namespace, self._patience = config, namespace, patience
        self._admin = AdminClient({**config}, logger=log)
        self.partitions = self._find(set(topics))
        places = [(topic, n) for topic, count in self.partitions.items() for n in range(count)]
        self.starts = self._offsets(places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        # A client cannot be made without a group; assigning by hand and committing nothing, it never joins it.
        group = f"{namespace}audit-{secrets.token_hex(4)}"
        self._consumer = Consumer({**config, **_SETTINGS, "group.id": group}, logger=log)

    def close(self) -> None:
        self._consumer.close()

    def ends(self) -> dict[Place, int]:
        """The read-uncommitted ends of all partitions, now."""
        return self._offsets(list(self.starts), OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def at_time(self, time: int) -> dict[Place, int]:
        """Of each partition the first offset whose record is of `time` (ms since 1970) or later; its end if none is."""
        found = self._offsets(list(self.starts), OffsetSpec.for_timestamp(time))
        late = [place for place, offset in found.items() if offset < 0]
        return found | self._offsets(late, OffsetSpec.latest()) if late else found  # type: ignore[no-untyped-call]

    def read(
        self, first: Offsets, end: Offsets, take: Callable[[LogRecord], None], progress: Progress, what: str
    ) -> int:
        """Hand every committed record from `first` up to, not including, `end` to `take`. Returns how many.

        Within a partition they come in order, between partitions in any.
        """
        left = {place: end[place] for place in end if first[place] < end[place]}
        total = sum(end[place] - first[place] for place in left)
        self._consumer.assign([TopicPartition(self._namespace + t, p, first[t, p]) for t, p in left])
        try:
            return _Stretch(self, left, dict(first), take).read(lambda done: progress(what, done, total))
        finally:
            self._consumer.unassign()

    # ---- what the cluster knows

    def _find(self, wanted: set[str]) -> dict[str, int]:
        there = self._ask(lambda: self._admin.list_topics(timeout=ANSWER_SECONDS).topics)
        found = {
            topic: len(there[self._namespace + topic].partitions)
            for topic in wanted
            if self._namespace + topic in there
        }
        where = str(self._config.get("bootstrap.servers"))
        if not found:
            begins = f"that begin with {self._namespace!r}" if self._namespace else "of this system"
            raise AuditError(
                f"there are no topics {begins}",
                where=where,
                mend="check FARANDOLE_NAMESPACE and KAFKA_BOOTSTRAP_SERVERS",
            )
        if missing := sorted(wanted - found.keys()):
            raise AuditError(
                f"{len(missing)} of {len(wanted)} topics are missing: {', '.join(missing[:5])}",
                where=where,
                mend="`farandole topics plan` shows what is missing, `farandole topics apply` creates it",
            )
        return {topic: found[topic] for topic in sorted(found)}

    def _offsets(self, places: Iterable[Place], spec: Any) -> dict[Place, int]:
        wanted = {TopicPartition(self._namespace + topic, partition): spec for topic, partition in places}

        def ask() -> dict[Place, int]:
            answers = self._admin.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=ANSWER_SECONDS
            )
            return {
                (tp.topic[len(self._namespace) :], tp.partition): future.result().offset
                for tp, future in answers.items()
            }

        found: dict[Place, int] = self._ask(ask)
        return found

    def _ask(self, question: Callable[[], Any]) -> Any:
        until = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return question()
            except KafkaException as error:
                if error.args[0].code() not in _MOVING or time.monotonic() > until:
                    raise self.failure(error.args[0]) from error
            time.sleep(0.1)
            self._admin = AdminClient({**self._config}, logger=log)  # the old one keeps the old leader's epoch

    def failure(self, error: KafkaError, topic: str = "") -> AuditError:
        where = topic or str(self._config.get("bootstrap.servers"))
        if error.code() in _GONE:
            return AuditError(
                f"records were deleted while they were being read: {error.str()}",
                where=where,
                mend="run it again",
            )
        if error.code() in _DENIED:
            mend = "give this principal the rights Describe and Read on the topics; it needs none on groups"
            return AuditError(f"Kafka does not let this principal read: {error.str()}", where=where, mend=mend)
        return AuditError(
            f"Kafka does not answer: {error.str()}", where=where, mend="check KAFKA_BOOTSTRAP_SERVERS and the broker"
        )


class _Stretch:
    """One reading: where each partition stands, and which are not yet done."""

    def __init__(
        self, reader: Reader, left: dict[Place, int], position: dict[Place, int], take: Callable[[LogRecord], None]
    ) -> None:
        self._reader, self._left, self._position, self._take = reader, left, position, take
        self._paused: list[TopicPartition] = []
        self._done = 0

    def read(self, progress: Callable[[int], None]) -> int:
        count, moved = 0, time.monotonic()
        reader = self._reader
        while self._left:
            before = self._done
            for message in reader._consumer.consume(BATCH, 0.2):
                count += self._one(message)
            if self._done > before:
                moved = time.monotonic()
                progress(self._done)
            elif time.monotonic() - moved > reader._patience:
                raise self._stalled()
        if self._paused:
            reader._consumer.resume(self._paused)  # it would outlive the assignment
        return count

    def _one(self, message: Any) -> bool:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        error = message.error()
        if error is not None:
            self._not_a_record(error, topic, partition, offset)
            return False
        place = (topic[len(self._reader._namespace) :], partition)
        end = self._left.get(place)
        if end is None:
            self._pause(TopicPartition(topic, partition))
            return False
        inside = self._position[place] <= offset < end
        if inside:
            self._take(
                LogRecord(
                    place[0],
                    partition,
                    offset,
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    message.headers() or (),
                )
            )
        self._reached(place, min(offset + 1, end))
        return bool(inside)

    def _pause(self, beyond: TopicPartition) -> None:
        """What was written after the end was asked for is not wanted. A busy topic would go on with it for ever."""
        self._reader._consumer.pause([beyond])
        self._paused.append(beyond)

    def _not_a_record(self, error: KafkaError, topic: str | None, partition: int, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF and topic:
            place = (topic[len(self._reader._namespace) :], partition)
            if place in self._left:
                self._reached(place, min(offset, self._left[place]))
        elif error.code() not in _TRANSIENT and not error.retriable():
            raise self._reader.failure(error, topic or "")

    def _reached(self, place: Place, offset: int) -> None:
        self._done += offset - self._position[place]
        self._position[place] = offset
        if offset >= self._left[place]:
            del self._left[place]

    def _stalled(self) -> AuditError:
        (topic, partition), end = next(iter(self._left.items()))
        at = self._position[topic, partition]
        return AuditError(
            f"nothing came for {self._reader._patience:.0f} s; {len(self._left)} partitions are not read to their end",
            where=f"{topic}/{partition}: at {at} of {end}",
            mend="an open transaction holds its readers back (kafka-transactions.sh find-hanging), or a broker is away",
        )
