"""Dead letters that keep order: one queue per service, bytes and headers verbatim, and the saga parked behind its
first one.

Header names are KIP-1191's; `__dlq.reason` is a class that scripts can filter by, `__dlq.errors.message` says what
was wrong.
"""

from __future__ import annotations

from events import FarandoleParked
from farandole.message import DeadLetter, Message, Undecidable
from farandole.table import Partitioned, UndoLog

BEHIND = "behind"
"""Nothing is wrong with it: it follows an earlier dead letter of its saga."""

UNREADABLE = "unreadable"
UNKNOWN_TYPE = "unknown-type"
DECISION_FAILED = "decision-failed"

MAX_ERROR = 500
"""Characters of an error that are kept: a dead letter must not be refused for its explanation."""


def reason_of(error: Exception | None, value: bytes | None, *, decided: bool) -> str:
    """The reason class of a dead letter. `decided`: the message was read, so what failed is its decision."""
    if error is None:
        return BEHIND
    if isinstance(error, Undecidable):
        return error.reason
    if decided:
        return DECISION_FAILED
    if isinstance(error, KeyError) and value is not None and len(value) >= 5 and value[0] == 0:
        return UNKNOWN_TYPE
    return UNREADABLE


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
) -> DeadLetter:
    """The dead letter: same key, value, headers and partition as the message, its origin and the reason in headers.

    with_value: False where not even the letter is taken; then the source's offset is all that leads to the bytes.
    """
    headers = [
        *(message.headers() or []),
        ("__dlq.errors.topic", source.encode()),
        ("__dlq.errors.partition", b"%d" % message.partition()),
        ("__dlq.errors.offset", b"%d" % message.offset()),
        ("__dlq.errors.group", group.encode()),
        ("__dlq.errors.delivery.count", b"1"),
        ("__dlq.errors.message", describe(error).encode()),
        ("__dlq.reason", reason.encode()),
        ("__dlq.timestamp", b"%d" % message.timestamp()[1]),
    ]
    if not with_value:
        headers = [*headers[len(message.headers() or []) :], ("__dlq.truncated", b"true")]
    value = message.value() if with_value else b""
    return DeadLetter(queue, value, message.key(), message.partition(), headers)


class ParkedSagas:
    """Which sagas this service has stopped handling, by partition."""

    def __init__(self, log: UndoLog) -> None:
        self.table: Partitioned[FarandoleParked] = Partitioned("parked", FarandoleParked, log)

    def add(self, saga: str, reason: str, error: Exception | None, topic: str, offset: int, since: int) -> None:
        """One more message of the saga in the queue; the first one's reason is kept."""
        row = self.table.get(saga)
        if row is None:
            row = FarandoleParked(
                count=1, reason=reason, error=describe(error), topic=topic, offset=offset, since=since
            )
        else:
            row = FarandoleParked(
                count=row.count + 1,
                reason=row.reason,
                error=row.error,
                topic=row.topic,
                offset=row.offset,
                since=row.since,
            )
        self.table.put(saga, row)
