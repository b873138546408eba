"""Partitions: records at their offsets, and which of them a read-committed reader may see.

Invariant: offsets are dense with control records among them; a read-committed reader never passes the first open
           transaction (the last stable offset) and sees no aborted record.
"""

from __future__ import annotations

from collections.abc import Sequence

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError

COMMITTED, OPEN, ABORTED, CONTROL = range(4)
"""The state of a record. One outside any transaction is committed."""


class Stored:
    """A record as it lies in a partition."""

    __slots__ = (
        "_message",
        "headers",
        "key",
        "offset",
        "partition",
        "producer",
        "state",
        "timestamp",
        "topic",
        "value",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        producer: tuple[str, int] | None,
        state: int,
    ) -> None:
        self.topic, self.partition, self.offset, self.timestamp = topic, partition, offset, timestamp
        self.key, self.value, self.headers = key, value, headers
        self.producer = producer
        """Transactional id and epoch; None outside any transaction."""
        self.state = state
        self._message: Message | None = None

    @property
    def message(self) -> Message:
        """The record as a consumer gets it."""
        if self._message is None:
            self._message = Message(self)
        return self._message


class Message:
    """What a consumer's `consume` returns; the same methods as confluent_kafka.Message."""

    __slots__ = ("_stored",)

    def __init__(self, stored: Stored) -> None:
        self._stored = stored

    def topic(self) -> str:
        return self._stored.topic

    def partition(self) -> int:
        return self._stored.partition

    def offset(self) -> int:
        return self._stored.offset

    def key(self) -> bytes | None:
        return self._stored.key

    def value(self) -> bytes | None:
        return self._stored.value

    def headers(self) -> list[tuple[str, bytes | None]] | None:
        return list(self._stored.headers) or None

    def timestamp(self) -> tuple[int, int]:
        return TIMESTAMP_LOG_APPEND_TIME, self._stored.timestamp

    def error(self) -> None:
        return None


class Notice:
    """An error or the end of a partition, among the messages."""

    __slots__ = ("_error", "_offset", "_partition", "_topic")

    def __init__(self, error: KafkaError, topic: str | None = None, partition: int = -1, offset: int = -1001) -> None:
        self._error, self._topic, self._partition, self._offset = error, topic, partition, offset

    def topic(self) -> str | None:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError:
        return self._error


class PartitionLog:
    """One partition."""

    __slots__ = ("first_open", "largest", "partition", "records", "topic")

    def __init__(self, topic: str, partition: int, largest: int) -> None:
        self.topic, self.partition, self.largest = topic, partition, largest
        self.records: list[Stored] = []
        self.first_open: dict[str, int] = {}
        """Transactional id → offset of the first record of its open transaction here."""

    @property
    def end(self) -> int:
        return len(self.records)

    @property
    def stable_end(self) -> int:
        """The last stable offset: where the first open transaction begins, or the end."""
        return min(self.first_open.values()) if self.first_open else len(self.records)

    def append(
        self,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        producer: tuple[str, int] | None = None,
        state: int = COMMITTED,
    ) -> Stored:
        records = self.records
        stored = Stored(self.topic, self.partition, len(records), timestamp, key, value, headers, producer, state)
        records.append(stored)
        return stored

    def read(self, committed: bool) -> list[Stored]:
        if committed:
            return [r for r in self.records[: self.stable_end] if r.state == COMMITTED]
        return [r for r in self.records if r.state != CONTROL]
