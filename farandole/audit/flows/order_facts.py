"""What can happen to an order, in whatever flow, as facts that are counted.

A fact is an event's full name, with the value of one field behind a colon where that matters:
`payment.voided:undone`. A rule that names `payment.voided` means all of them.
"""

from __future__ import annotations

import functools
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
    "payment.charged": (events.PaymentCharged, "", ()),
    "payment.refunded": (events.PaymentRefunded, "outcome", ("undone", "nothing_to_undo")),
    "payment.refund_written_off": (events.PaymentRefundWrittenOff, "", ()),
    "payment.refund_stuck": (events.PaymentRefundStuck, "", ()),
    "payment.calls.charge_answered": (events.ChargeAnswered, "outcome", ("accepted", "refused", "unknown")),
    "payment.calls.refund_answered": (events.RefundAnswered, "outcome", ("accepted", "refused", "unknown")),
    "payment.calls.authorise_answered": (events.AuthoriseAnswered, "outcome", ("accepted", "refused", "unknown")),
    "payment.calls.void_answered": (events.VoidAnswered, "outcome", ("accepted", "refused", "unknown")),
    "payment.calls.capture_answered": (events.CaptureAnswered, "outcome", ("accepted", "refused", "unknown")),
    "payment.ledger.posted": (
        events.Posted,
        "memo",
        (
            *("authorise", "void", "capture", "write_off_void", "write_off_capture", "recover"),
            *("charge", "earn", "refund", "write_off_refund", "refund_after_all"),
        ),
    ),
    "shipping.dispatched": (events.ShippingDispatched, "", ()),
    "shipping.failed": (events.ShippingFailed, "", ()),
    "shipping.cancelled": (events.ShippingCancelled, "asked_by", ("customer", "clock")),
    "shipping.cancel_refused": (events.ShippingCancelRefused, "asked_by", ("customer", "clock")),
    "shipping.calls.book_answered": (events.BookAnswered, "outcome", ("accepted", "refused", "unknown")),
    "shipping.calls.cancel_answered": (events.CancelAnswered, "outcome", ("accepted", "refused", "unknown")),
    "notification.sent": (events.NotificationSent, "template", ("completed", "cancelled", "refused")),
    "notification.calls.mail_answered": (events.MailAnswered, "", ()),
    "order.commands.complete_order": (events.CompleteOrder, "", ()),
    "order.commands.abandon_order": (events.AbandonOrder, "", ()),
    "inventory.commands.reserve_stock": (events.ReserveStock, "", ()),
    "inventory.commands.commit_stock": (events.CommitStock, "", ()),
    "inventory.commands.release_stock": (events.ReleaseStock, "", ()),
    "payment.commands.authorise_payment": (events.AuthorisePayment, "", ()),
    "payment.commands.capture_payment": (events.CapturePayment, "", ()),
    "payment.commands.void_payment": (events.VoidPayment, "", ()),
    "shipping.commands.dispatch_shipment": (events.DispatchShipment, "", ()),
    "shipping.commands.cancel_shipment": (events.CancelShipment, "asked_by", ("customer", "clock")),
    "notification.commands.notify": (events.Notify, "template", ("completed", "cancelled", "refused")),
    "orchestrator.confirmed": (events.OrchestratorConfirmed, "", ()),
    "orchestrator.timers.answer_overdue": (
        events.AnswerOverdue,
        "step",
        ("reserve-stock", "authorise-payment", "dispatch-shipment"),
    ),
}

ASKED_OFTEN: Final = ("order.commands.place_order", "order.commands.cancel_order", "payment.commands.write_off")
"""What clients may say as often as they like; everything else is said once."""

EACH_ONCE: Final = (
    "shipping.cancel_refused",
    "shipping.commands.cancel_shipment",
    "payment.ledger.posted",
    "orchestrator.timers.answer_overdue",
)
"""Said once for each value: once per asker, once per memo, once per step."""

ENDINGS: Final = ("order.completed", "order.cancelled")

FACTS: Final[tuple[str, ...]] = tuple(
    fact for name, (_, _, values) in _TYPES.items() for fact in ([f"{name}:{value}" for value in values] or [name])
)
_BITS: Final = {fact: 1 << number for number, fact in enumerate(FACTS)}

Facts = int
"""A set of facts, as bits: an order's whole history is one number, and a rule is a handful of `&`."""


@functools.cache
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

COMMANDED: Final = any_of(
    "order.commands.complete_order",
    "order.commands.abandon_order",
    "inventory.commands.reserve_stock",
    "inventory.commands.commit_stock",
    "inventory.commands.release_stock",
    "payment.commands.authorise_payment",
    "payment.commands.capture_payment",
    "payment.commands.void_payment",
    "shipping.commands.dispatch_shipment",
    "shipping.commands.cancel_shipment",
    "notification.commands.notify",
    "orchestrator.confirmed",
    "orchestrator.timers.answer_overdue",
)
"""What happens in an order's flow only if it has an orchestrator."""
