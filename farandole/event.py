"""What travels between services, and what a decision may return.

An event is an immutable record; a decision turns one into effects. Nothing here touches Kafka, the clock or the
network, so decisions can be called, simulated and replayed without them.

    Event        a fact, a command, an answer or a fired timer: published to its type's topic
    Row          a value in a table: published to the table's changelog
    Call         an outside call, performed after the batch has committed; its answer is an Event
    Withdraw     stop performing that call, no answer will come
    Timer        an Event that comes later, by record time
    CancelTimer  that Event shall not come
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

JSON = str | int | float | bool | None | Sequence["JSON"] | Mapping[str, "JSON"]


class Meta(NamedTuple):
    """The metadata that every event carries in its first field, with CloudEvents' meanings.

    id:    where the cause lies, who acted, and a number: `order/3/1542.inventory.0` is the first effect that offset
           1542 in partition 3 of topic `order` had in service inventory
    saga:  the process this event belongs to (for an order, the order's id)
    flow:  name and version of the flow, `order/1`
    cause: the id of the event that caused this one
    """

    id: str
    saga: str
    flow: str
    cause: str


class Event(msgspec.Struct, frozen=True):
    """Base of all generated event classes. Each has a last field `saga`, filled in when the event is read.

    A decision never names the saga of what it publishes: it is the saga of what it heard.
    """

    def __repr__(self) -> str:
        return _masked(self)


class Row(msgspec.Struct, frozen=True):
    """Base of all generated table values. Frozen, so that a change is an assignment that the table can undo."""

    def __repr__(self) -> str:
        return _masked(self)


def _masked(record: msgspec.Struct) -> str:
    """A repr in which fields whose schema says `sensitive` show no value: reprs end up in logs and on pages."""
    hidden: frozenset[str] = getattr(type(record), "__sensitive__", frozenset())
    fields = (f"{name}={'***' if name in hidden else repr(getattr(record, name))}" for name in record.__struct_fields__)
    return f"{type(record).__name__}({', '.join(fields)})"


EventT = TypeVar("EventT", bound=Event, covariant=True)


class Call(msgspec.Struct, Generic[EventT], frozen=True):
    """An outside call: `POST {URL of outside}/{operation}`, JSON body, header Idempotency-Key.

    outside:   the system, as the App declared it with `app.outside(name, env)`
    operation: the last part of the path
    key:       idempotency key, unique within the service; the same key again while the call is under way is the same
               call
    body:      what is sent; may hold secrets, so it is never shown
    answer:    class of the answering event; has the fields outcome ("accepted", "refused", "unknown"), reference,
               reason
    deadline:  seconds until the outcome is "unknown"; None: retried with capped backoff until there is an answer
    """

    outside: str
    operation: str
    key: str
    body: Mapping[str, JSON]
    answer: type[EventT]
    deadline: float | None

    def __repr__(self) -> str:
        return f"Call({self.outside}/{self.operation}, key={self.key!r}, deadline={self.deadline})"


class Withdraw(msgspec.Struct, frozen=True):
    """Stop performing the call with this key; no answer will come."""

    key: str


class Timer(msgspec.Struct, Generic[EventT], frozen=True):
    """`event` comes back `after` seconds of record time. One per saga and event class: setting it again replaces it."""

    event: EventT
    after: float


class CancelTimer(msgspec.Struct, frozen=True):
    """The timer of this saga that would fire as `event` shall not fire. Cancelling one that is not there is fine."""

    event: type[Event]


Effect = Event | Call[Any] | Withdraw | Timer[Any] | CancelTimer
