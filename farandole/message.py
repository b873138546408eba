"""What is read from Kafka and what is written to it, as the deterministic parts of the engine see it."""

from __future__ import annotations

from typing import NamedTuple, Protocol

MAX_RECORD = 1_000_000 - 2_000
"""Bytes of an encoded event or row. Kafka's default limit is 1,048,588 for a batch with its overhead, the client's is
1,000,000.
"""

MAX_SAGA = 500
"""Characters of the name of a saga that a client begins: it is a key of tables, and copied into every effect."""


class Message(Protocol):
    """What is read of a `confluent_kafka.Message`. Timestamps are (type, milliseconds since 1970)."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes]] | None: ...
    def timestamp(self) -> tuple[int, int]: ...


Record = tuple[str, bytes | None, str | None, int]
"""Topic, value, key and partition of a changelog record, journal line, answer or fired timer: what `produce` takes. A
plain tuple, because it is made for every record that is written. Events are (topic, value, key): their partition
follows from their key.
"""


class DeadLetter(NamedTuple):
    """A message as it came, with headers that say where it was and why it could not be handled."""

    topic: str
    value: bytes | None
    key: bytes | None
    partition: int
    headers: list[tuple[str, bytes]]


class Unfetched:
    """Stands for a record that the client cannot unpack: its place is known, and nothing else.

    Has the methods of a Message. why: what the client said.
    """

    def __init__(self, topic: str, partition: int, offset: int, why: str) -> None:
        self._where, self.why = (topic, partition, offset), why

    def topic(self) -> str:
        return self._where[0]

    def partition(self) -> int:
        return self._where[1]

    def offset(self) -> int:
        return self._where[2]

    def key(self) -> bytes | None:
        return None

    def value(self) -> bytes | None:
        return None

    def headers(self) -> list[tuple[str, bytes]] | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 0, -1


class Undecidable(Exception):
    """A message that no decision is asked about, or whose effects cannot be published: a dead letter."""

    reason = "undecidable"


class Unreadable(Undecidable):
    """Bytes that are no record of any kind, or no bytes at all."""

    reason = "unreadable"


class UnknownType(Undecidable):
    """A record in the wire format whose schema is no event of its topic, as far as this worker knows."""

    reason = "unknown-type"


class UnknownFlow(Undecidable):
    """An event of a flow that this worker has never heard of: consumers are deployed before producers."""

    reason = "unknown-flow"


class WrongKey(Undecidable):
    """A record whose key is not what its content says: it lies on a partition where its saga does not live."""

    reason = "wrong-key"


class WrongPartition(Undecidable):
    """A client's record that lies where its key does not belong: its saga would never meet its answers."""

    reason = "wrong-partition"


class BadSaga(Undecidable):
    """A client's record whose saga has no name, or one too long to be a key of tables for ever."""

    reason = "bad-saga"


class TooLarge(Undecidable):
    """An effect that the broker would refuse: its cause is parked, or the batch would abort for ever."""

    reason = "output-too-large"
