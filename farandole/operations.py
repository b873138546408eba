"""What operators ask of a service about its dead letters, carried out where the saga's messages are decided.

An operation is a record of `<service>.operations`, in the partition of the letter, and carries the letter's bytes. The
service takes it like any other message, in the batch's transaction, and answers with an outcome in the same topic: so
the topic tells who did what, when, why, and what became of it, and a replay meets the operation where it happened.

Invariants:
- An operation counts only if it is about the letter that is due: the saga's first one that is outstanding, since it was
  parked this time; or one without a saga that nobody has dealt with. Else it is `ignored`: whoever repeats a command
  that was interrupted does nothing twice.
- A redriven letter is decided as the message that it was: same topic, partition, offset, time, so its effects have the
  ids that they would have had. If it fails again it leaves nothing, no second letter either, and stays due.
- When the last outstanding letter is done, the saga is not parked any more, in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from events import FarandoleHandled, FarandoleOperation, FarandoleOutcome
from farandole.codec import Codec
from farandole.deadletters import MAX_ERROR, ParkedSagas, describe, reason_of
from farandole.errors import CodecError
from farandole.message import MAX_SAGA, BadSaga, Message, Record, TooLarge, Undecidable
from farandole.table import Partitioned

REDRIVE, DISCARD = "redrive", "discard"
"""What may be asked."""

REDRIVEN, FAILED_AGAIN, DISCARDED, IGNORED = "redriven", "failed-again", "discarded", "ignored"
"""What may become of it."""

DONE = frozenset((REDRIVEN, DISCARDED))
"""The letter is dealt with, for good."""


class Redriven:
    """The message that a dead letter was. Has the methods of a Message."""

    def __init__(self, topic: str, partition: int, asked: FarandoleOperation) -> None:
        self._topic, self._partition, self._asked = topic, partition, asked

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._asked.offset

    def key(self) -> bytes | None:
        return self._asked.key

    def value(self) -> bytes | None:
        return self._asked.value

    def headers(self) -> list[tuple[str, bytes]] | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 0, self._asked.time


class Failure(NamedTuple):
    """Why a message could not be decided. decided: it was read, so what failed is its decision."""

    error: Exception
    decided: bool


class _Ending(NamedTuple):
    outcome: str
    reason: str = ""
    error: str = ""


Decide = Callable[[Redriven], Failure | None]


class Operations:
    """The operations of one service.

    heard: topics that the service hears, with the namespace
    """

    def __init__(self, service: str, namespace: str, codec: Codec, parked: ParkedSagas, heard: Collection[str]) -> None:
        self.topic = f"{namespace}{service}.operations"
        self.handled: Partitioned[FarandoleHandled] = Partitioned("handled", FarandoleHandled, parked.table.log)
        self._namespace, self._codec, self._parked, self._heard = namespace, codec, parked, heard
        own = (FarandoleOperation, FarandoleOutcome)
        kinds = {prefix: decoder for prefix, decoder in codec.decoders.items() if decoder.type.cls in own}
        self.prefixes = frozenset(kinds)
        """How records of the topic begin."""
        self._operations = {p: decoder.decode for p, decoder in kinds.items() if decoder.type.cls is own[0]}
        self._encode = codec.type_of(FarandoleOutcome).encode_row

    def carry_out(self, message: Message, decide: Decide) -> Record | None:
        """The outcome of an operation; None: the message is an outcome itself. CodecError if it cannot be read."""
        value = message.value() or b""
        decode = self._operations.get(value[:5])
        if decode is None:
            return None
        asked: FarandoleOperation = decode(value)
        ending = self._end(asked, message, decide)
        row = self._parked.table.get(asked.saga)
        outcome = FarandoleOutcome(
            operation=message.offset(),
            action=asked.action[:MAX_ERROR],
            saga=asked.saga[:MAX_SAGA],
            number=asked.number,
            topic=asked.topic[:MAX_ERROR],
            offset=asked.offset,
            outcome=ending.outcome,
            reason=ending.reason,
            error=ending.error,
            left=0 if row is None else row.count - row.done,
            edited=asked.edited,
            who=asked.who[:MAX_ERROR],
            why=asked.why[:MAX_ERROR],
        )
        return self.topic, self._encode(outcome), asked.saga[:MAX_SAGA], message.partition()

    def _end(self, asked: FarandoleOperation, message: Message, decide: Decide) -> _Ending:
        at = message.timestamp()[1]
        ignored = self._why_ignored(asked, message.partition())
        if ignored:
            return _Ending(IGNORED, error=ignored)
        if asked.action == REDRIVE:
            failure = self._redrive(asked, message.partition(), decide)
            if failure is not None:
                reason, error = reason_of(failure.error, decided=failure.decided), describe(failure.error)
                if asked.saga:
                    self._parked.failed_again(asked.saga, reason, error, at)
                return _Ending(FAILED_AGAIN, reason, error)
        outcome = REDRIVEN if asked.action == REDRIVE else DISCARDED
        if asked.saga:
            self._parked.go_on(asked.saga, at)
        else:
            self.handled.put(_name(asked), FarandoleHandled(outcome=outcome, at=at))
        return _Ending(outcome)

    def _why_ignored(self, asked: FarandoleOperation, partition: int) -> str:
        """Empty if it is about the letter that is due."""
        if asked.action not in (REDRIVE, DISCARD):
            return "no such operation is known"
        if not asked.saga:
            handled = self.handled.get(_name(asked))
            return f"it was {handled.outcome} before" if handled else ""
        row = self._parked.table.get(asked.saga)
        if row is None:
            return "the saga is not parked any more"
        first = f"{row.topic}/{partition}/{row.offset}"
        if asked.first != first:
            return f"the saga is parked because of {first}: this is about another time"
        if asked.number < row.done:
            return "the letter was dealt with before"
        if asked.number >= row.count:
            return f"the saga has {row.count} letters"
        return f"letter {row.done} is due first" if asked.number > row.done else ""

    def _redrive(self, asked: FarandoleOperation, partition: int, decide: Decide) -> Failure | None:
        topic = self._namespace + asked.topic
        if topic not in self._heard or topic == self.topic:
            return Failure(Undecidable(f"the service does not hear {asked.topic}"), False)
        try:
            saga = self._codec.meta_of(asked.value or b"").saga
        except CodecError:
            saga = asked.saga  # it will be found to be unreadable where everything is
        if asked.saga and saga != asked.saga:
            return Failure(BadSaga("it was edited into a message of another saga"), False)
        if not asked.saga and saga in self._parked.table.rows:
            return Failure(Undecidable("its saga is parked here, and its letters come first"), False)
        return decide(Redriven(topic, partition, asked))


def refused() -> Failure:
    """The broker has refused what the letter causes."""
    return Failure(TooLarge("the broker refuses what this message causes"), True)


def _name(asked: FarandoleOperation) -> str:
    return f"{asked.topic}/{asked.offset}"
