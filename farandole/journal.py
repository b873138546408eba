"""The journal: what one transaction did to each partition, in the order in which it did it, so that it can be replayed.

Invariant: a line is no larger than a record may be; what would be is several lines that follow each other. A line that
the broker refuses would be no message's fault, so nobody could be parked for it, and its batch would abort for ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from events import FarandoleJournal, FarandoleStretch
from farandole.codec import EventType
from farandole.message import MAX_RECORD


class Line:
    """What is known so far of one partition: stretches of input, then answers, fired timers and rows that went."""

    __slots__ = ("answered", "evicted", "fired", "took")

    def __init__(self) -> None:
        self.took: list[FarandoleStretch] = []
        self.answered: list[str] = []
        self.fired: list[str] = []
        self.evicted: list[str] = []


class Journal:
    """The lines of the transaction under way, by partition."""

    def __init__(self, kind: EventType) -> None:
        self._encode = kind.encode_row
        self._lines: dict[int, Line] = {}

    def of(self, partition: int) -> Line:
        line = self._lines.get(partition)
        if line is None:
            line = self._lines[partition] = Line()
        return line

    def took(self, topic: str, partition: int, first: int, last: int) -> None:
        took = self.of(partition).took
        if took and took[-1].topic == topic:
            first = took.pop().first
        took.append(FarandoleStretch(topic=topic, first=first, last=last))

    def partitions(self) -> set[int]:
        return set(self._lines)

    def records(self) -> Iterator[tuple[int, bytes]]:
        """(partition, encoded line), in order."""
        for partition, line in self._lines.items():
            for encoded in self._cut(line.took, line.answered, line.fired, line.evicted):
                yield partition, encoded

    def _cut(self, *parts: Sequence[Any]) -> Iterator[bytes]:
        """One line, or, if that were too large, those of its halves."""
        took, answered, fired, evicted = (tuple(part) for part in parts)
        encoded = self._encode(FarandoleJournal(took=took, answered=answered, fired=fired, evicted=evicted))
        entries = sum(len(part) for part in parts)
        if len(encoded) <= MAX_RECORD or entries == 1:
            yield encoded
            return
        first, second = [], []
        left = entries // 2
        for part in parts:
            first.append(part[:left])
            second.append(part[left:])
            left = max(0, left - len(part))
        yield from self._cut(*first)
        yield from self._cut(*second)

    def clear(self) -> None:
        self._lines = {}
