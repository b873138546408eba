"""Dead letters that keep order: one queue per service, bytes and headers verbatim, and the saga parked behind its
first one.

Header names are KIP-1191's; `__dlq.reason` is a class that scripts can filter by, `__dlq.errors.message` says what
was wrong.
"""

from __future__ import annotations

from operator import methodcaller

import msgspec

from events import FarandoleParked
from farandole.message import DeadLetter, Message, Undecidable, Unfetched, UnknownType, Unreadable
from farandole.table import Partitioned, UndoLog

BEHIND = "behind"
"""Nothing is wrong with it: it follows an earlier dead letter of its saga."""

UNREADABLE = "unreadable"
DECISION_FAILED = "decision-failed"

MAX_ERROR = 500
"""Characters of an error that are kept: a dead letter must not be refused for its explanation."""

MAX_LETTER = 2_000_000
"""Bytes of a message, headers and all, that are kept: the queues take 2,097,152 with the letter's own headers."""

MAX_KEY = 1_000
"""Bytes of a key that are kept where the message is not."""

EXPLAINED = 10_000
"""Parked sagas of a partition whose rows keep the error's text; beyond, only the dead letter has it. None is forgotten:
its next message would be decided ahead of those in the queue.
"""


def reason_of(error: Exception | None, *, decided: bool) -> str:
    """The reason class of a dead letter. `decided`: the message was read, so what failed is its decision."""
    if error is None:
        return BEHIND
    if isinstance(error, Undecidable):
        return error.reason
    return DECISION_FAILED if decided else UNREADABLE


def of_no_known_type(message: Message) -> Undecidable:
    """Why a message begins like no event of its topic, in words."""
    value = message.value()
    if isinstance(message, Unfetched):
        return Unreadable(f"the client cannot unpack it: {message.why}")
    if value is None:
        return Unreadable("the record has no value: a topic of events takes no tombstones")
    if len(value) < 5 or value[0] != 0:
        return Unreadable(f"{len(value)} bytes that are not in Confluent's wire format: byte 0, then a schema id")
    return UnknownType(f"schema id {int.from_bytes(value[1:5], 'big')} is no event of this topic that is known here")


def describe(error: Exception | None) -> str:
    """Type and text, shortened. Events mask their sensitive fields in their repr, so a text made of them does too."""
    text = "" if error is None else f"{type(error).__name__}: {error}"[:MAX_ERROR]
    return text.encode("utf-8", "replace").decode()


def record(
    queue: str,
    group: str,
    message: Message,
    source: str,
    reason: str,
    error: Exception | None,
    with_value: bool = True,
    saga: str | None = None,
) -> DeadLetter:
    """The dead letter: same key, value, headers and partition as the message, its origin and the reason in headers.

    saga:       the one that is parked behind it; None: it parks none
    with_value: False where not even the letter is taken; then the source's offset is all that leads to the bytes.
    """
    theirs = _headers_of(message)
    ours = [
        ("__dlq.errors.topic", source.encode()),
        ("__dlq.errors.partition", b"%d" % message.partition()),
        ("__dlq.errors.offset", b"%d" % message.offset()),
        ("__dlq.errors.group", group.encode()),
        ("__dlq.errors.delivery.count", b"1"),
        ("__dlq.errors.message", describe(error).encode()),
        ("__dlq.reason", reason.encode()),
        ("__dlq.timestamp", b"%d" % message.timestamp()[1]),
        ("__dlq.saga", (saga or "").encode()),
    ]
    value, key = message.value(), message.key()
    size = len(value or b"") + len(key or b"") + sum(len(name) + len(said or b"") + 20 for name, said in theirs)
    if with_value and size <= MAX_LETTER:
        return DeadLetter(queue, value, key, message.partition(), [*theirs, *ours])
    return DeadLetter(queue, b"", (key or b"")[:MAX_KEY], message.partition(), [*ours, ("__dlq.truncated", b"true")])


_headers = methodcaller("headers")


def _headers_of(message: Message) -> list[tuple[str, bytes]]:
    """The message's headers; in place of what the client cannot hand out, a note.

    At a header's name that is not UTF-8 confluent-kafka leaves an exception set and returns a broken list all the same.
    `methodcaller` looks for that; a plain call of a method does not once the interpreter has specialised it, and then
    whatever is called next fails.
    """
    try:
        return list(_headers(message) or [])
    except Exception:
        return [("__dlq.headers.unreadable", b"true")]


class ParkedSagas:
    """Which sagas this service has stopped handling, by partition."""

    def __init__(self, log: UndoLog) -> None:
        self.table: Partitioned[FarandoleParked] = Partitioned("parked", FarandoleParked, log)
        self._told = EXPLAINED

    def newly_many(self) -> int:
        """How many there are, if that is more than EXPLAINED, and twice what was told last; else 0."""
        many = sum(len(part.rows) for part in self.table.parts.values())
        if many < self._told:
            return 0
        self._told = 2 * many
        return many

    def add(self, saga: str, reason: str, error: Exception | None, topic: str, offset: int, since: int) -> None:
        """One more message of the saga in the queue; the first one's reason is kept."""
        row = self.table.get(saga)
        if row is None:
            explained = describe(error) if len(self.table.rows) < EXPLAINED else ""
            row = FarandoleParked(count=1, reason=reason, error=explained, topic=topic, offset=offset, since=since)
        else:
            row = msgspec.structs.replace(row, count=row.count + 1)
        self.table.put(saga, row)

    def go_on(self, saga: str, at: int) -> None:
        """The letter that is due is dealt with, `at` (ms): the next one is due, or the saga is not parked any more."""
        row = self.table.rows[saga]
        if row.done + 1 >= row.count:
            self.table.remove(saga)
        else:
            due = msgspec.structs.replace(row, done=row.done + 1, tries=0, updated=at, reason=BEHIND, error="")
            self.table.put(saga, due)

    def failed_again(self, saga: str, reason: str, error: str, at: int) -> None:
        """The letter that is due stays due. A row that keeps no explanation gets none."""
        row = self.table.rows[saga]
        error = error if row.error or len(self.table.rows) < EXPLAINED else ""
        changed = msgspec.structs.replace(row, reason=reason, error=error, tries=row.tries + 1, updated=at)
        self.table.put(saga, changed)
