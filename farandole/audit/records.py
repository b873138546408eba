"""A record as it lies in Kafka, and where: what the reading hands to the folding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

Place = tuple[str, int]
"""A topic, without the namespace of the installation, and a partition."""


class Where(NamedTuple):
    """The place of one record, written as ids write it: `order/3/1542`."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class LogRecord(NamedTuple):
    """One record. topic: without the namespace; time: the record's, milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    time: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] = ()

    @property
    def where(self) -> Where:
        return Where(self.topic, self.partition, self.offset)
