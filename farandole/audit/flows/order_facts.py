"""What can happen to an order, as facts that are counted, and the rules that hold between them.

A fact is an event's full name, with the value of one field behind a colon where that matters:
`payment.voided:undone`. A rule that names `payment.voided` means all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import events

_TYPES: Final[dict[str, tuple[type[Any], str, tuple[str, ...]]]] = {
    "order.commands.place_order": (events.PlaceOrder, "", ()),
    "order.commands.cancel_order": (events.CancelOrder, "", ()),
    "payment.commands.write_off": (events.WriteOff, "", ()),
    "order.placed": (events.OrderPlaced, "", ()),
    "order.refused": (events.OrderRefused, "", ()),
    "order.cancel_requested": (events.OrderCancelRequested, "", ()),
    "order.completed": (events.OrderCompleted, "", ()),
    "order.cancelled": (events.OrderCancelled, "", ()),
    "inventory.reserved": (events.InventoryReserved, "", ()),
    "inventory.rejected": (events.InventoryRejected, "", ()),
    "inventory.released": (events.InventoryReleased, "outcome", ("undone", "nothing_to_undo")),
    "inventory.committed": (events.InventoryCommitted, "", ()),
    "inventory.expiry_requested": (events.InventoryExpiryRequested, "", ()),
    "inventory.timers.reservation_expired": (events.ReservationExpired, "", ()),
    "payment.authorised": (events.PaymentAuthorised, "", ()),
    "payment.declined": (events.PaymentDeclined, "", ()),
    "payment.failed": (events.PaymentFailed, "", ()),
    "payment.voided": (events.PaymentVoided, "outcome", ("undone", "nothing_to_undo")),
    "payment.captured": (events.PaymentCaptured, "", ()),
    "payment.written_off": (events.PaymentWrittenOff, "what", ("capture", "void")),
    "payment.stuck": (events.PaymentStuck, "", ()),
    "payment.calls.authorise_answered": (events.AuthoriseAnswered, "outcome", ("accepted", "refused", "unknown")),
    "payment.calls.void_answered": (events.VoidAnswered, "outcome", ("accepted", "refused", "unknown")),
    "payment.calls.capture_answered": (events.CaptureAnswered, "outcome", ("accepted", "refused", "unknown")),
    "payment.ledger.posted": (
        events.Posted,
        "memo",
        ("authorise", "void", "capture", "write_off_void", "write_off_capture", "recover"),
    ),
    "shipping.dispatched": (events.ShippingDispatched, "", ()),
    "shipping.failed": (events.ShippingFailed, "", ()),
    "shipping.cancelled": (events.ShippingCancelled, "asked_by", ("customer", "clock")),
    "shipping.cancel_refused": (events.ShippingCancelRefused, "asked_by", ("customer", "clock")),
    "shipping.calls.book_answered": (events.BookAnswered, "outcome", ("accepted", "refused", "unknown")),
    "shipping.calls.cancel_answered": (events.CancelAnswered, "outcome", ("accepted", "refused", "unknown")),
    "notification.sent": (events.NotificationSent, "template", ("completed", "cancelled", "refused")),
    "notification.calls.mail_answered": (events.MailAnswered, "", ()),
}

ASKED_OFTEN: Final = ("order.commands.place_order", "order.commands.cancel_order", "payment.commands.write_off")
"""What clients may say as often as they like; everything else is said once."""

EACH_ONCE: Final = ("shipping.cancel_refused", "payment.ledger.posted")
"""Said once for each value: once per asker, once per memo."""

ENDINGS: Final = ("order.completed", "order.cancelled")

FACTS: Final[tuple[str, ...]] = tuple(
    fact for name, (_, _, values) in _TYPES.items() for fact in ([f"{name}:{value}" for value in values] or [name])
)
_BITS: Final = {fact: 1 << number for number, fact in enumerate(FACTS)}

Facts = int
"""A set of facts, as bits: an order's whole history is one number, and a rule is a handful of `&`."""


def any_of(*names: str) -> Facts:
    """The facts with these names, those of all values if none is named."""
    found = [bit for name in names for fact, bit in _BITS.items() if fact == name or fact.startswith(f"{name}:")]
    assert len(found) >= len(names), names
    return sum(set(found))


def names_of(facts: Facts) -> list[str]:
    return [fact for fact, bit in _BITS.items() if facts & bit]


class Kind(NamedTuple):
    """How an event class becomes a fact.

    fact: event → its fact, 0 if the value is not known here
    once: fact → those that together may happen once; nothing: as often as it likes
    """

    name: str
    fact: Callable[[Any], Facts]
    once: dict[Facts, Facts]


def _kind(name: str, cls: type[Any], field: str, values: tuple[str, ...]) -> Kind:
    bits = {value: _BITS[f"{name}:{value}"] for value in values} or {"": _BITS[name]}
    once: dict[Facts, Facts] = {}
    if name not in ASKED_OFTEN:
        alike = any_of(*ENDINGS) if name in ENDINGS else any_of(name)
        once = {bit: bit if name in EACH_ONCE else alike for bit in bits.values()}
    if field:
        return Kind(name, lambda event: bits.get(getattr(event, field), 0), once)
    return Kind(name, lambda event: bits[""], once)


KINDS: Final[dict[type[Any], Kind]] = {cls: _kind(name, cls, *rest) for name, (cls, *rest) in _TYPES.items()}  # type: ignore[arg-type]

CAUSES: Final = (
    "inventory.rejected",
    "payment.declined",
    "payment.failed",
    "shipping.failed",
    "shipping.cancelled",
)
"""What stops an order."""


class Exclusive(NamedTuple):
    """Facts of which an order has at most one."""

    check: str
    alternatives: tuple[Facts, ...]


def _exclusive(*names: str, check: str = "contradiction") -> Exclusive:
    return Exclusive(check, tuple(any_of(name) for name in names))


EXCLUSIVE: Final = (
    _exclusive("order.placed", "order.refused"),
    _exclusive("inventory.reserved", "inventory.rejected"),
    _exclusive("inventory.released", "inventory.committed"),
    _exclusive("inventory.released", "shipping.dispatched"),
    _exclusive("payment.authorised", "payment.declined", "payment.failed"),
    _exclusive("payment.captured", "payment.written_off:capture"),
    _exclusive("payment.voided", "payment.written_off:void"),
    _exclusive("payment.voided", "payment.captured"),
    _exclusive("payment.voided", "shipping.dispatched"),
    _exclusive("shipping.dispatched", "shipping.failed", "shipping.cancelled"),
    _exclusive("order.cancelled", "shipping.dispatched", check="cancelled-but-dispatched"),
    _exclusive("order.cancelled", "payment.captured", check="cancelled-but-charged"),
)


class RestsOn(NamedTuple):
    """A fact, and what it rests on: one of each group."""

    check: str
    fact: Facts
    groups: tuple[Facts, ...]


def _rests(fact: str, *groups: str | tuple[str, ...], check: str = "unfounded") -> RestsOn:
    named = ((group,) if isinstance(group, str) else group for group in groups)
    return RestsOn(check, any_of(fact), tuple(any_of(*group) for group in named))


RESTS_ON: Final = (
    _rests("order.placed", "order.commands.place_order"),
    _rests("order.refused", "order.commands.place_order"),
    _rests("order.cancel_requested", "order.commands.cancel_order", "order.placed"),
    _rests("order.cancelled", "order.placed", CAUSES),
    _rests(
        "order.completed",
        "inventory.committed",
        ("payment.captured", "payment.written_off:capture"),
        check="completed-unfinished",
    ),
    _rests("inventory.reserved", "order.placed"),
    _rests("inventory.rejected", "order.placed"),
    _rests("inventory.timers.reservation_expired", "order.placed"),
    _rests("inventory.expiry_requested", "inventory.timers.reservation_expired", "inventory.reserved"),
    _rests("inventory.released", CAUSES),
    _rests("inventory.committed", "shipping.dispatched"),
    _rests("payment.calls.authorise_answered", "inventory.reserved"),
    _rests("payment.authorised", "payment.calls.authorise_answered:accepted"),
    _rests("payment.declined", "payment.calls.authorise_answered:refused"),
    _rests("payment.failed", "payment.calls.authorise_answered:unknown"),
    _rests("payment.voided", ("payment.failed", "shipping.failed", "shipping.cancelled")),
    _rests("payment.voided:undone", "payment.calls.void_answered:accepted"),
    _rests("payment.calls.capture_answered", "shipping.dispatched", check="charged-without-dispatch"),
    _rests("payment.captured", "shipping.dispatched", check="charged-without-dispatch"),
    _rests("payment.captured", "payment.calls.capture_answered:accepted"),
    _rests("payment.written_off", "payment.commands.write_off"),
    _rests("payment.written_off:capture", "shipping.dispatched"),
    _rests("payment.written_off:void", ("payment.failed", "shipping.failed", "shipping.cancelled")),
    _rests(
        "payment.stuck",
        tuple(
            f"payment.calls.{call}_answered:{said}" for call in ("capture", "void") for said in ("refused", "unknown")
        ),
    ),
    _rests("shipping.calls.book_answered", "payment.authorised"),
    _rests("shipping.dispatched", "shipping.calls.book_answered:accepted"),
    _rests("shipping.failed", ("shipping.calls.book_answered:refused", "shipping.calls.cancel_answered:accepted")),
    _rests("shipping.cancelled:customer", "order.cancel_requested"),
    _rests("shipping.cancelled:clock", "inventory.expiry_requested"),
    _rests("shipping.cancel_refused:customer", "order.cancel_requested", "shipping.dispatched"),
    _rests("shipping.cancel_refused:clock", "inventory.expiry_requested", "shipping.dispatched"),
    _rests("notification.sent:completed", "order.completed", check="told-wrong"),
    _rests("notification.sent:cancelled", "order.cancelled", check="told-wrong"),
    _rests("notification.sent:refused", "order.refused", check="told-wrong"),
)


class Owes(NamedTuple):
    """Once one of `because` is there, one of `owed` has to come, sooner or later."""

    check: str
    because: Facts
    owed: Facts


def _owes(because: tuple[str, ...], owed: tuple[str, ...], check: str = "confirmation-missing") -> Owes:
    return Owes(check, any_of(*because), any_of(*owed))


OWES: Final = (
    _owes(("order.commands.place_order",), ("order.placed", "order.refused"), "unanswered"),
    _owes(("payment.failed", "shipping.failed", "shipping.cancelled"), ("payment.voided", "payment.written_off:void")),
    _owes(CAUSES, ("inventory.released",)),
    _owes(("order.cancel_requested",), ("shipping.cancelled", "shipping.failed", "shipping.cancel_refused:customer")),
    _owes(("inventory.expiry_requested",), ("shipping.cancelled", "shipping.failed", "shipping.cancel_refused:clock")),
    _owes((*ENDINGS, "order.refused"), ("notification.sent",), "mail-missing"),
)
