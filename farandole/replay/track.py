"""One partition of a topic in a shadow replay: what was recorded there, and what there is of it this time.

What a service publishes now takes the place of the record with the same id, for an id says which cause had which
effect. So offsets and times, and with them all ids that follow, are those of then wherever the same thing happens; and
what was never recorded gets an offset beyond all of them.

Invariant: a record is delivered to whoever hears the topic only after it was published this time.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from farandole.replay.history import Log, Replayed

NOT_YET, SAME, OTHER, MISSED = 0, 1, 2, 3
"""Of a record: not published yet; as then; under its id, but another; looked for by whoever took it then, in vain."""

NEW: Final = 1 << 50
"""Offsets from here on are those of records that there were not."""

SLACK_MS: Final = 10_000
"""How much later than a transaction's journal line its records may be, by the brokers' clocks."""


class Track:
    """replaced: index → key and value that there are instead; news: (index of the record before it, record)

    missed: index → chains that took the stretch in which it lay, before it was there
    """

    __slots__ = ("_next", "_skipped", "frontier", "log", "missed", "news", "replaced", "state")

    def __init__(self, log: Log) -> None:
        self.log = log
        self.state = bytearray(len(log))
        self.replaced: dict[int, tuple[bytes, bytes]] = {}
        self.news: list[tuple[int, Replayed]] = []
        self.missed: defaultdict[int, list[Any]] = defaultdict(list)
        self.frontier = -1
        self._next = 0
        self._skipped: dict[bytes, int] = {}

    def publish(self, value: bytes, key: str | None, at: int) -> int | None:
        """Something is published in a transaction of this time (ms). Returns the index of the record of then whose
        place it takes; None: there was none.
        """
        index = self._find(value, at + SLACK_MS)
        if index is None:
            log = self.log
            offset = NEW + len(self.news)
            message = Replayed(log.topic, log.partition, offset, at, (key or "").encode(), value)
            self.news.append((self.frontier, message))
            return None
        if index > self.frontier:
            self.frontier = index
        if self.log.value(index) == value:
            self.state[index] = SAME
        else:
            self.state[index] = OTHER
            self.replaced[index] = (key or "").encode(), value
        return index

    def _find(self, value: bytes, until: int) -> int | None:
        log, index = self.log, self._next
        if index < len(log) and log.value(index) == value:
            self._next = index + 1
            return index
        wanted = ident(value)
        found = self._skipped.pop(wanted, None)
        if found is not None:
            return found
        while self._next < len(log) and log.times[self._next] <= until:
            index = self._next
            self._next += 1
            other = ident(log.value(index))
            if other == wanted:
                return index
            self._skipped[other] = index
        return None

    def message(self, index: int) -> Replayed:
        """The record as there is one this time."""
        if self.state[index] == OTHER:
            key, value = self.replaced[index]
            log = self.log
            return Replayed(log.topic, log.partition, log.offsets[index], log.times[index], key, value)
        return self.log.message(index)

    def is_there(self, index: int) -> bool:
        return self.state[index] in (SAME, OTHER)


# ---- the beginning of a value: five bytes, then the strings id, saga, flow, cause


def ident(value: bytes | None) -> bytes:
    """The id; nothing if there is none to be read."""
    return b"" if value is None else _string(value, 5)[0]


def saga_of(value: bytes | None) -> str:
    """The saga; empty if there is none to be read."""
    if value is None:
        return ""
    return _string(value, _string(value, 5)[1])[0].decode("utf-8", "replace")


def body_of(value: bytes) -> bytes:
    """The fields, without the metadata; and what type they are of."""
    at = 5
    for _ in range(4):
        at = _string(value, at)[1]
    return value[:5] + value[at:]


def _string(value: bytes, at: int) -> tuple[bytes, int]:
    """An Avro string, and where the next one begins. What is no string is empty."""
    length, shift = 0, 0
    while at < len(value) and shift < 35:
        byte = value[at]
        at += 1
        length |= (byte & 127) << shift
        if byte < 128:
            length >>= 1
            return value[at : at + length], at + length
        shift += 7
    return b"", len(value)
