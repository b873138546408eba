"""The dead letters of services, and how they stand: folded from queues, tables and operations.

Invariants:
- A letter is outstanding as its service sees it: the parked row counts which of a saga's letters is due, and a letter
  without a saga is open until the service's table says that it was dealt with.
- The bytes of letters that are dealt with are not kept: a queue is kept for ever.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from events import FarandoleHandled, FarandoleOperation, FarandoleOutcome, FarandoleParked
from farandole.audit.reading import Offsets, Progress, Reader
from farandole.audit.records import LogRecord, Place, Where
from farandole.codec import Codec
from farandole.errors import CodecError
from farandole.operations import DONE

PARKED, OPEN, WAITING, REDRIVEN, DISCARDED = "parked", "open", "waiting", "redriven", "discarded"
STATES: Final = (PARKED, OPEN, WAITING, REDRIVEN, DISCARDED)
"""Of a letter. parked: of a parked saga; open: it parks none, and nobody has dealt with it; waiting: an operation was
written, and the service has not taken it yet.
"""

NOT_ITS_SAGAS: Final = ("wrong-key", "wrong-partition", "bad-saga")
"""Reasons of letters that name a saga and park none."""

Key = tuple[str, int, str]
"""Service, partition and saga: one saga may be parked in two partitions of a service."""


@dataclass(eq=False, slots=True)
class Letter:
    """One dead letter. value: only while it is outstanding; truncated: the queue could not take its bytes.

    time: record time of the message, milliseconds since 1970; saga: empty if it parks none
    """

    service: str
    where: Where
    source: Where
    saga: str
    reason: str
    error: str
    time: int
    key: bytes | None
    size: int
    truncated: bool
    headers: list[tuple[str, bytes]] = field(repr=False)
    value: bytes | None = field(repr=False, default=None)


class Done(NamedTuple):
    """What became of a letter: the outcome of an operation, and when it was, milliseconds since 1970."""

    outcome: FarandoleOutcome
    at: int


class Sequence(NamedTuple):
    """What is outstanding together: the letters of a parked saga, in order, or one letter that parks none.

    first: source of the letter that parked the saga, as operations name it; number: of the first of `letters`
    """

    key: Key
    first: str
    number: int
    letters: list[Letter]
    row: FarandoleParked | None

    @property
    def saga(self) -> str:
        return self.key[2]

    @property
    def service(self) -> str:
        return self.key[0]

    @property
    def reason(self) -> str:
        """The newest one of the letter that is due: a row that was written before its first try is not about it."""
        return self.row.reason if self.row and self.row.tries else self.letters[0].reason

    @property
    def error(self) -> str:
        return (self.row.error if self.row and self.row.tries else "") or self.letters[0].error


class Book:
    """Everything that is known of the dead letters of these services.

    kept: which letters' bytes are kept although they are dealt with
    """

    def __init__(
        self, codec: Codec, services: Iterable[str], kept: Callable[[Letter], bool] = lambda letter: False
    ) -> None:
        self.codec, self._kept = codec, kept
        self.letters: dict[tuple[str, Place], list[Letter]] = defaultdict(list)
        self.done: dict[tuple[str, Where], Done] = {}
        self.tries: dict[tuple[str, Where], list[Done]] = defaultdict(list)
        self.outcomes: dict[tuple[str, int, int], FarandoleOutcome] = {}
        """Service, partition and offset of an operation → what became of it."""
        self.asked: dict[tuple[str, Where], set[int]] = defaultdict(set)
        """Letter → offsets of the operations about it that have no outcome yet."""
        self._edits: dict[tuple[str, int, int], bytes] = {}
        """Service, partition and offset of an edit → a hash of its bytes, which are as many as the letter's."""
        self._of_saga: dict[Key, list[Letter]] = defaultdict(list)
        self._loose: dict[tuple[str, Where], Letter] = {}
        self._rows: dict[Key, FarandoleParked] = {}
        self._handled: set[tuple[str, int, str]] = set()
        self._takes: dict[str, Callable[[LogRecord], None]] = {}
        for service in services:
            self._takes[f"{service}.dlq"] = self._letter
            self._takes[f"{service}.operations"] = self._operation
            self._takes[f"{service}-parked-changelog"] = self._parked
            self._takes[f"{service}-handled-changelog"] = self._dealt_with

    @property
    def topics(self) -> list[str]:
        return sorted(self._takes)

    def take(self, record: LogRecord) -> None:
        self._takes[record.topic](record)

    # ---- folding

    def _row(self, record: LogRecord, cls: type[Any]) -> Any:
        """The record's row; None if it is another one's, or cannot be read: farandole audit says so."""
        try:
            decoder = self.codec.decoder_for(record.value)
            return decoder.decode(record.value or b"") if decoder.type.cls is cls else None
        except CodecError:
            return None

    def _parked(self, record: LogRecord) -> None:
        key = (record.topic.removesuffix("-parked-changelog"), record.partition, _text(record.key))
        row = self._row(record, FarandoleParked)
        if row is None:
            self._rows.pop(key, None)
        else:
            self._rows[key] = row

    def _dealt_with(self, record: LogRecord) -> None:
        if isinstance(self._row(record, FarandoleHandled), FarandoleHandled):
            self._handled.add((record.topic.removesuffix("-handled-changelog"), record.partition, _text(record.key)))

    def _operation(self, record: LogRecord) -> None:
        service = record.topic.removesuffix(".operations")
        asked = self._row(record, FarandoleOperation)
        if asked is not None:
            self.asked[service, Where(asked.topic, record.partition, asked.offset)].add(record.offset)
            if asked.edited:
                self._edits[service, record.partition, record.offset] = _hash(asked.value)
            return
        outcome = self._row(record, FarandoleOutcome)
        if outcome is not None:
            letter = (service, Where(outcome.topic, record.partition, outcome.offset))
            self.outcomes[service, record.partition, outcome.operation] = outcome
            self.asked[letter].discard(outcome.operation)
            self.tries[letter].append(Done(outcome, record.time))
            if outcome.outcome in DONE:
                self.done[letter] = Done(outcome, record.time)

    def _letter(self, record: LogRecord) -> None:
        letter = _letter_of(self.codec, record)
        if letter is None:
            return
        self.letters[letter.service, (record.topic, record.partition)].append(letter)
        key = (letter.service, record.partition, letter.saga)
        if letter.saga:
            self._of_saga[key].append(letter)
            outstanding = key in self._rows
        else:
            self._loose[letter.service, letter.source] = letter
            outstanding = not self._is_handled(letter)
        if not outstanding and not self._kept(letter):
            letter.value = None

    # ---- how they stand

    def state(self, letter: Letter) -> str:
        if not self._outstanding(letter):
            done = self.done.get((letter.service, letter.source))
            return done.outcome.outcome if done else REDRIVEN
        if self.asked.get((letter.service, letter.source)):
            return WAITING
        return PARKED if letter.saga else OPEN

    def redriven_as(self, letter: Letter, value: bytes) -> bool:
        """Whether a letter whose bytes are kept was redriven with these."""
        done = self.done.get((letter.service, letter.source))
        if done is None or not done.outcome.edited:
            return letter.value == value
        return self._edits.get((letter.service, letter.source.partition, done.outcome.operation)) == _hash(value)

    def _outstanding(self, letter: Letter) -> bool:
        if not letter.saga:
            return not self._is_handled(letter)
        found = self.sequence((letter.service, letter.source.partition, letter.saga))
        if found is None:
            # Between the queue's end and the table's may lie a commit: a letter of now is outstanding all the same.
            return (letter.service, letter.source) not in self.done
        return any(each is letter for each in found.letters)

    def _is_handled(self, letter: Letter) -> bool:
        source = letter.source
        return (letter.service, source.partition, f"{source.topic}/{source.offset}") in self._handled

    def row(self, key: Key) -> FarandoleParked | None:
        return self._rows.get(key)

    def sequence(self, key: Key) -> Sequence | None:
        """What is outstanding of a saga; None if it is not parked."""
        row = self._rows.get(key)
        if row is None:
            return None
        first = Where(row.topic, key[1], row.offset)
        letters = self._of_saga.get(key, [])
        begin = next((n for n in range(len(letters) - 1, -1, -1) if letters[n].source == first), None)
        outstanding = [] if begin is None else letters[begin + row.done :]
        return Sequence(key, str(first), row.done, outstanding, row)

    def newest(self, letter: Letter) -> tuple[str, str]:
        """Reason and error of a letter: of the one that is due, those of its last try."""
        found = self.sequence((letter.service, letter.source.partition, letter.saga)) if letter.saga else None
        is_due = found is not None and found.letters and found.letters[0] is letter
        return (found.reason, found.error) if found is not None and is_due else (letter.reason, letter.error)

    def sequences(self) -> Iterator[Sequence]:
        """All that is outstanding: sagas in the order in which they were parked, then letters that park none."""
        for key in sorted(self._rows, key=lambda each: (each[0], self._rows[each].since, each)):
            found = self.sequence(key)
            if found is not None and found.letters:
                yield found
        for letter in self._loose.values():
            if not self._is_handled(letter):
                yield alone(letter)


def alone(letter: Letter) -> Sequence:
    """A letter that parks no saga."""
    return Sequence((letter.service, letter.source.partition, ""), "", 0, [letter], None)


class Desk:
    """A book that is kept up to date from a cluster. `read` as often as news are wanted; then `close`."""

    def __init__(self, reader: Reader, book: Book) -> None:
        self._reader, self.book = reader, book
        self._at: dict[Place, int] = dict(reader.starts)

    def read(self, progress: Progress, what: str) -> None:
        """Everything up to now: tables before queues, so that only outstanding letters keep their bytes."""
        ends = self._reader.ends()
        for queues in (False, True):
            here: Offsets = {place: end for place, end in ends.items() if place[0].endswith(".dlq") is queues}
            self._reader.read(self._at, here, self.book.take, progress, what)
        self._at = dict(ends)

    def close(self) -> None:
        self._reader.close()


def _letter_of(codec: Codec, record: LogRecord) -> Letter | None:
    """None: somebody else's record, without the headers of a dead letter."""
    said = {name: value or b"" for name, value in record.headers if name.startswith("__dlq.")}
    try:
        source = Where(
            said["__dlq.errors.topic"].decode(),
            int(said["__dlq.errors.partition"]),
            int(said["__dlq.errors.offset"]),
        )
        time = int(said["__dlq.timestamp"])
    except (KeyError, ValueError):
        return None
    reason = said.get("__dlq.reason", b"").decode(errors="replace")
    truncated = "__dlq.truncated" in said
    saga = said.get("__dlq.saga")
    return Letter(
        service=record.topic.removesuffix(".dlq"),
        where=record.where,
        source=source,
        saga=_saga_in(codec, record, reason) if saga is None else saga.decode(errors="replace"),
        reason=reason,
        error=said.get("__dlq.errors.message", b"").decode(errors="replace"),
        time=time,
        key=record.key,
        size=len(record.value or b""),
        truncated=truncated,
        headers=[(name, value or b"") for name, value in record.headers if not name.startswith("__dlq.")],
        value=None if truncated else record.value,
    )


def _saga_in(codec: Codec, record: LogRecord, reason: str) -> str:
    """Of a letter that was written before letters said it."""
    if reason in NOT_ITS_SAGAS:
        return ""
    try:
        saga = codec.meta_of(record.value or b"").saga
    except CodecError:
        return ""
    readable = reason not in ("unreadable", "unknown-type", "unknown-flow")
    return saga if readable or saga.encode() == record.key else ""


def _hash(value: bytes | None) -> bytes:
    return hashlib.blake2b(value or b"", digest_size=16).digest()


def _text(key: bytes | None) -> str:
    return (key or b"").decode(errors="replace")
