"""Dead letters of the past: which messages a service put aside, and why.

A message that failed then may not fail today: the decision was mended, the flow is known by now. What the tables are
rests on what happened; so a replay that recomputes them puts aside what was put aside, with the words of then.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final, NamedTuple

from farandole.audit.records import LogRecord, Place
from farandole.deadletters import BEHIND, DECISION_FAILED
from farandole.errors import CodecError
from farandole.message import BadSaga, Message, TooLarge, Undecidable, WrongKey, WrongPartition
from farandole.processor import Processor

DECIDED: Final = frozenset((DECISION_FAILED, TooLarge.reason))
"""Reasons of messages that were read: their saga is the one that they name, under whatever key they lie."""

_BASES: Final = {each.reason: each for each in (WrongKey, WrongPartition, BadSaga, TooLarge)}


class Letter(NamedTuple):
    """Why a message was put aside: the reason class, and the error in words."""

    reason: str
    error: str

    @property
    def condemned(self) -> bool:
        """The broker refused what the message caused: nothing that a decision could know."""
        return self.reason == TooLarge.reason and self.error.endswith("the broker refuses what this message causes")


class Letters:
    """The messages that one service put aside for a fault of their own, by place and offset."""

    def __init__(self) -> None:
        self.by_place: dict[Place, dict[int, Letter]] = {}

    def take(self, record: LogRecord) -> None:
        """A record of the service's dead letter queue."""
        said = {name: value or b"" for name, value in record.headers if name.startswith("__dlq.")}
        reason = said.get("__dlq.reason", b"").decode("utf-8", "replace")
        if not reason or reason == BEHIND:
            return
        try:
            place = said["__dlq.errors.topic"].decode(), int(said["__dlq.errors.partition"])
            offset = int(said["__dlq.errors.offset"])
        except (KeyError, ValueError):
            return
        letter = Letter(reason, said.get("__dlq.errors.message", b"").decode("utf-8", "replace"))
        self.by_place.setdefault(place, {}).setdefault(offset, letter)

    def condemned(self) -> Iterable[tuple[str, int, int]]:
        for (topic, partition), letters in self.by_place.items():
            for offset, letter in letters.items():
                if letter.condemned:
                    yield topic, partition, offset


class Recorded(Exception):
    """Base of the errors of then."""


def put_aside(processor: Processor, message: Message, letter: Letter) -> None:
    """Make it a dead letter, as it was one: the saga is parked behind it."""
    error = error_of(letter)
    processor._enter(message.topic(), message.partition())
    saga = None
    if letter.reason in DECIDED:
        try:
            saga = processor.codec.meta_of(message.value() or b"").saga
        except CodecError:
            saga = None
    if saga is not None and saga in processor.parked.table.rows:
        processor._park(message, saga, None)
    else:
        processor._park(message, saga, error)


def error_of(letter: Letter) -> Exception:
    """An exception that says what was said then."""
    name, _, text = letter.error.partition(": ")
    return _kind(name or "Exception", letter.reason)(text)


@cache
def _kind(name: str, reason: str) -> type[Exception]:
    """An exception that is called as the one of then, and means the same to the processor."""
    return type(name, (_BASES.get(reason, Undecidable), Recorded), {"reason": reason})
