"""The order service: accepts orders, and says how each of them ended.

Invariant: an accepted order ends exactly once. It is completed when it is paid and committed. It is cancelled when
everything that its first cause owes has been confirmed; causes that come later are noted and change nothing. Where an
orchestrator takes the order through its steps, it is the orchestrator who knows that; the same two events say so.

Confirmations may be heard before their cause, because they lie in other topics: they are remembered.
"""

from __future__ import annotations

import re
from typing import Any, Final

from msgspec.structs import replace

from events import (
    AbandonOrder,
    CancelOrder,
    CompleteOrder,
    InventoryCommitted,
    InventoryRejected,
    InventoryReleased,
    Order,
    OrderCancelled,
    OrderCancelRequested,
    OrderCompleted,
    OrderLine,
    OrderPlaced,
    OrderRefused,
    OrderStep,
    PaymentCaptured,
    PaymentCharged,
    PaymentDeclined,
    PaymentFailed,
    PaymentRefunded,
    PaymentRefundWrittenOff,
    PaymentVoided,
    PaymentWrittenOff,
    PlaceOrder,
    ShippingCancelled,
    ShippingFailed,
)
from farandole import App
from farandole.values import MAX_AMOUNT, fingerprint_of, is_currency, is_printable, saga_id

app = App("order", views="web.orders", intake="order.commands")
orders = app.Table("orders", value=Order, ended=lambda order: order.phase != "placed", help="Every order, by its id.")

OWED: Final[dict[str, list[str]]] = {
    "inventory.rejected": ["released"],
    "payment.declined": ["released"],
    "payment.failed": ["voided", "released"],
    "shipping.failed": ["voided", "released"],
    "shipping.cancelled": ["voided", "released"],
}
"""What has to be confirmed before an order that was stopped by this event is cancelled."""

OWED_IF_CHARGED_FIRST: Final[dict[str, list[str]]] = {
    "inventory.rejected": ["refunded", "released"],
    "payment.declined": [],
    "payment.failed": ["refunded"],
    "shipping.failed": ["refunded", "released"],
    "shipping.cancelled": ["refunded", "released"],
}
"""The same for an order that is charged first. Where payment stops it, nothing has been asked of inventory."""

MAX_LINES: Final = 100
MAX_LINE_NUMBER: Final = 10_000
MAX_QUANTITY: Final = 1_000_000
MAX_RESERVE_FOR: Final = 86_400
MAX_REASON: Final = 1_000

_SKU = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}")
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,189}")


# ---- a request


def order_id(customer: str, idempotency_key: str) -> str:
    """The id of an order, which is its saga: the same for the same customer and key, and fit for a URL."""
    return saga_id("o", customer, idempotency_key)


def fingerprint(command: PlaceOrder) -> str:
    """Digest of everything that a valid request asks for: equal for the same one sent twice, different for another."""
    asked = [command.currency, command.email, command.ship_to, command.card_token, str(command.reserve_for)]
    for line in command.lines:
        asked += (str(line.line), line.sku, str(line.quantity), str(line.price))
    return fingerprint_of(asked)


def validate(command: PlaceOrder) -> list[str]:
    """Everything that is wrong with a request, for people; an empty list if nothing is. Never shows the card token."""
    problems = []
    for name, text, longest in (
        ("customer", command.customer, 128),
        ("idempotency_key", command.idempotency_key, 128),
        ("ship_to", command.ship_to.replace("\n", " "), 1_000),  # an address has line breaks
        ("card_token", command.card_token, 256),
    ):
        if not is_printable(text, longest):
            problems.append(f"{name}: 1 to {longest} printable characters, no space at either end")
    if not is_currency(command.currency):
        problems.append("currency: three capital letters, such as EUR")
    if not _usable_email(command.email):
        problems.append("email: an address such as anna@example.org, at most 254 characters")
    if not 1 <= command.reserve_for <= MAX_RESERVE_FOR:
        problems.append(f"reserve_for: 1 to {MAX_RESERVE_FOR} seconds")
    if command.asked_at is not None and not 0 <= command.asked_at <= MAX_AMOUNT:
        problems.append("asked_at: milliseconds since 1970")
    return problems + _line_problems(command.lines)


def _line_problems(lines: tuple[OrderLine, ...]) -> list[str]:
    if not 1 <= len(lines) <= MAX_LINES:
        return [f"lines: 1 to {MAX_LINES} of them"]
    problems = []
    if len({line.line for line in lines}) < len(lines):
        problems.append("lines: two of them have the same line number")
    for place, line in enumerate(lines):
        if not 1 <= line.line <= MAX_LINE_NUMBER:
            problems.append(f"lines[{place}].line: 1 to {MAX_LINE_NUMBER}")
        if not _SKU.fullmatch(line.sku):
            problems.append(f"lines[{place}].sku: 1 to 64 letters, digits and ._/-, a letter or digit first")
        if not 1 <= line.quantity <= MAX_QUANTITY:
            problems.append(f"lines[{place}].quantity: 1 to {MAX_QUANTITY}")
        if line.price < 0:
            problems.append(f"lines[{place}].price: from 0, in minor units")
    if _total(lines) > MAX_AMOUNT:
        problems.append(f"lines: together at most {MAX_AMOUNT} minor units")
    return problems


def _usable_email(text: str) -> bool:
    return _EMAIL.fullmatch(text) is not None and text.isprintable()


def _total(lines: tuple[OrderLine, ...]) -> int:
    return sum(line.quantity * line.price for line in lines)


# ---- how an order begins


def place(command: PlaceOrder, flow: str = "") -> OrderPlaced | OrderRefused | None:
    """Accept the order, or refuse it. It is authorised first, and charged when it has left.

    Whatever comes for an order that is known changes nothing: the same request again is the same order, and another
    body under the same key, or another flow, must not touch it (over HTTP it is answered with 409).
    """
    return _place(command, flow, charged_first=False)


def place_charged_first(command: PlaceOrder, flow: str = "") -> OrderPlaced | OrderRefused | None:
    """Accept the order, or refuse it. It is charged before anything else, so whatever stops it owes a refund."""
    return _place(command, flow, charged_first=True)


def _place(command: PlaceOrder, flow: str, charged_first: bool) -> OrderPlaced | OrderRefused | None:
    if command.saga in orders:
        return None
    problems = validate(command)
    if command.saga != order_id(command.customer, command.idempotency_key):
        problems.append("the order's id is not the one of its customer and idempotency key")
    if problems:
        return _refuse(command, "; ".join(problems), flow)
    amount = _total(command.lines)
    orders[command.saga] = Order(
        phase="placed",
        fingerprint=fingerprint(command),
        customer=command.customer,
        email=command.email,
        amount=amount,
        currency=command.currency,
        flow=flow,
        charged_first=charged_first,
    )
    return OrderPlaced(
        customer=command.customer,
        lines=command.lines,
        amount=amount,
        currency=command.currency,
        ship_to=command.ship_to,
        card_token=command.card_token,
        reserve_for=command.reserve_for,
    )


def _refuse(command: PlaceOrder, reason: str, flow: str = "") -> OrderRefused:
    """Refused for good: the same id stays refused. What is kept and published is cut to size, as it may be anything."""
    customer, email, reason = command.customer[:128], command.email, reason[:MAX_REASON]
    if not _usable_email(email):
        email = ""
    orders[command.saga] = Order(
        phase="refused",
        fingerprint=fingerprint(command),
        customer=customer,
        email=email,
        amount=0,
        currency="",
        reason=reason,
        flow=flow,
    )
    return OrderRefused(customer=customer, email=email, reason=reason)


def cancel(command: CancelOrder, flow: str = "") -> OrderCancelRequested | None:
    """Ask for the order to be stopped, once, unless it has ended or is being stopped already. A command that names
    another flow than the order's is nobody's: what it caused would not be heard where the order is.
    """
    order = orders.get(command.saga)
    if order is None or (order.flow and order.flow != flow):
        return None
    if order.phase != "placed" or order.cancel_requested or order.causes:
        return None
    orders[command.saga] = replace(order, cancel_requested=True)
    return OrderCancelRequested()


# ---- how it is completed


def captured(event: PaymentCaptured) -> OrderCompleted | None:
    return _progress(event.saga, paid="captured")


def charged(event: PaymentCharged) -> OrderCompleted | None:
    """Paid before the point of no return: it may be stopped all the same, and is refunded then."""
    return None if orders[event.saga].causes else _progress(event.saga, paid="captured")


def committed(event: InventoryCommitted) -> OrderCompleted | None:
    return _progress(event.saga, committed=True)


def complete(command: CompleteOrder) -> OrderCompleted | None:
    return _progress(command.saga, paid="written_off" if command.written_off else "captured", committed=True)


def _progress(saga: str, **heard: Any) -> OrderCompleted | None:
    order = orders[saga]
    assert not order.causes, "behind the point of no return nothing stops an order"
    if order.phase != "placed":
        return None
    order = replace(order, **heard)
    if order.paid == "pending" or not order.committed:
        orders[saga] = order
        return None
    orders[saga] = replace(order, phase="completed")
    return OrderCompleted(
        customer=order.customer,
        email=order.email,
        amount=order.amount,
        currency=order.currency,
        written_off=order.paid == "written_off",
    )


# ---- how it is cancelled


def stopped_by_shortage(event: InventoryRejected) -> OrderCancelled | None:
    return _stopped(event.saga, "inventory.rejected", event.reason)


def stopped_by_decline(event: PaymentDeclined) -> OrderCancelled | None:
    return _stopped(event.saga, "payment.declined", event.reason)


def stopped_by_silence(event: PaymentFailed) -> OrderCancelled | None:
    return _stopped(event.saga, "payment.failed", event.reason)


def stopped_by_carrier(event: ShippingFailed) -> OrderCancelled | None:
    return _stopped(event.saga, "shipping.failed", event.reason)


def stopped_on_request(event: ShippingCancelled) -> OrderCancelled | None:
    reason = "the customer asked for it" if event.asked_by == "customer" else "the reservation ran out"
    return _stopped(event.saga, "shipping.cancelled", reason)


def released(event: InventoryReleased) -> OrderCancelled | None:
    return _confirmed(event.saga, released=event.outcome)


def voided(event: PaymentVoided) -> OrderCancelled | None:
    return _confirmed(event.saga, voided=event.outcome)


def refunded(event: PaymentRefunded) -> OrderCancelled | None:
    return _confirmed(event.saga, refunded=event.outcome)


def refund_written_off(event: PaymentRefundWrittenOff) -> OrderCancelled | None:
    return _confirmed(event.saga, refunded="written_off")


def written_off(event: PaymentWrittenOff) -> OrderCompleted | OrderCancelled | None:
    """What an operator has given up counts as confirmed."""
    if event.what == "void":
        return _confirmed(event.saga, voided="written_off")
    return capture_written_off(event)


def capture_written_off(event: PaymentWrittenOff) -> OrderCompleted | None:
    """Voids are somebody else's here."""
    return _progress(event.saga, paid="written_off") if event.what == "capture" else None


def abandon(command: AbandonOrder) -> OrderCancelled | None:
    """The orchestrator has taken back whatever there was to take back."""
    order = orders[command.saga]
    assert order.phase != "completed", f"{command.cause} after the order was completed"
    if order.phase != "placed":
        return None
    taken_back = replace(order, released=command.released, voided=command.voided)
    return _cancelled(command.saga, replace(taken_back, causes=(command.cause,), reason=command.reason))


def _stopped(saga: str, cause: str, reason: str) -> OrderCancelled | None:
    order = orders[saga]
    assert order.phase != "completed", f"{cause} after the order was completed"
    if cause in order.causes:
        return None
    order = replace(order, causes=(*order.causes, cause), reason=order.reason if order.causes else reason)
    return _cancel_if_undone(saga, order)


def _confirmed(saga: str, **heard: Any) -> OrderCancelled | None:
    order = orders[saga]
    assert order.phase != "completed", f"{heard} after the order was completed"
    return _cancel_if_undone(saga, replace(order, **heard))


def _cancel_if_undone(saga: str, order: Order) -> OrderCancelled | None:
    if order.phase != "placed" or not order.causes or _owes(order):
        orders[saga] = order
        return None
    return _cancelled(saga, order)


def _cancelled(saga: str, order: Order) -> OrderCancelled:
    orders[saga] = replace(order, phase="cancelled")
    return OrderCancelled(
        customer=order.customer,
        email=order.email,
        cause=order.causes[0],
        reason=order.reason,
        steps=_steps_taken_back(order),
    )


def _owes(order: Order) -> bool:
    owed = OWED_IF_CHARGED_FIRST if order.charged_first else OWED
    return any(getattr(order, confirmation) == "pending" for confirmation in owed[order.causes[0]])


def _steps_taken_back(order: Order) -> tuple[OrderStep, ...]:
    undone_by = {
        "hold": {"undone": "inventory.released"}.get(order.released),
        "authorise": {"undone": "payment.voided", "written_off": "payment.written_off"}.get(order.voided),
        "charge": {"undone": "payment.refunded", "written_off": "payment.refund_written_off"}.get(order.refunded),
    }
    return tuple(OrderStep(step=step, undone_by=event) for step, event in undone_by.items() if event)


@app.agent(app.inbox)
async def order(batches: Any) -> None:
    """Accepts orders, and says how each of them ended."""
    async for batch in batches:
        batch.decide()
