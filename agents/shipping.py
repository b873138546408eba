"""The shipping service: books the carrier, and alone decides whether an order may still be stopped.

Invariants:
- An order is dispatched, failed or cancelled: one of them, once. Dispatched is the point of no return.
- It is failed or cancelled only when the carrier has no booking and will take none.
- Whoever asks for an order to be stopped gets what became of it: stopped, or, once per asker, shipping.cancel_refused.

The customer and the clock of the reservation are treated alike:

    nothing heard yet   shipping.cancelled, and a booking that is wanted later is refused
    booking in flight   waits for the carrier, because only the carrier knows
    dispatched          shipping.cancel_refused
    failed, cancelled   nothing more
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from events import (
    BookAnswered,
    CancelAnswered,
    CancelShipment,
    DispatchShipment,
    InventoryExpiryRequested,
    InventoryReserved,
    OrchestratorConfirmed,
    OrderCancelRequested,
    PaymentAuthorised,
    Shipment,
    ShippingAsker,
    ShippingCancelled,
    ShippingCancelRefused,
    ShippingDispatched,
    ShippingFailed,
)
from farandole import App, Call

app = App("shipping")
shipments = app.Table(
    "shipments",
    value=Shipment,
    ended=lambda shipment: shipment.phase in ("dispatched", "failed", "cancelled"),
    help="The shipment of each order, by its id.",
)
carrier = app.outside("carrier", "CARRIER_URL")

BOOK_WITHIN: Final = 10.0
"""Seconds. The cancellation of a booking has no deadline: it is tried until the carrier confirms."""


def book(
    order: PaymentAuthorised | DispatchShipment | OrchestratorConfirmed | InventoryReserved,
) -> Call[BookAnswered] | None:
    """Book the carrier. An order that was stopped before it was heard of is not booked."""
    if order.saga in shipments:
        return None
    shipments[order.saga] = Shipment(phase="booking")
    return Call(
        outside=carrier,
        operation="book",
        key=_booking_key(order.saga),
        body={"order": order.saga, "ship_to": order.ship_to},
        answer=BookAnswered,
        deadline=BOOK_WITHIN,
    )


def stop_for_customer(request: OrderCancelRequested) -> ShippingCancelled | ShippingCancelRefused | None:
    return _stop(request.saga, "customer")


def stop_for_clock(request: InventoryExpiryRequested) -> ShippingCancelled | ShippingCancelRefused | None:
    return _stop(request.saga, "clock")


def stop(command: CancelShipment) -> ShippingCancelled | ShippingCancelRefused | None:
    return _stop(command.saga, command.asked_by)


def _stop(saga: str, asker: ShippingAsker) -> ShippingCancelled | ShippingCancelRefused | None:
    shipment = shipments.get(saga)
    if shipment is None:
        shipments[saga] = Shipment(phase="cancelled", stops=(asker,))
        return ShippingCancelled(asked_by=asker)
    if asker in shipment.stops or shipment.phase in ("failed", "cancelled"):
        return None
    shipments[saga] = replace(shipment, stops=(*shipment.stops, asker))
    return ShippingCancelRefused(asked_by=asker) if shipment.phase == "dispatched" else None


Booked = tuple[ShippingDispatched | ShippingCancelRefused, ...]


def book_answered(answer: BookAnswered) -> Booked | ShippingDispatched | ShippingFailed | Call[CancelAnswered] | None:
    """The carrier has spoken; or it has not, and the booking is cancelled by its key before anybody is told."""
    shipment = shipments[answer.saga]
    if shipment.phase != "booking":
        return None
    if answer.outcome == "accepted":
        shipments[answer.saga] = replace(shipment, phase="dispatched")
        dispatched = ShippingDispatched(tracking=answer.reference)
        return dispatched, *(ShippingCancelRefused(asked_by=asker) for asker in shipment.stops)
    if answer.outcome == "refused":
        shipments[answer.saga] = replace(shipment, phase="failed")
        return ShippingFailed(reason=answer.reason)
    shipments[answer.saga] = replace(shipment, phase="cancelling")
    return Call(
        outside=carrier,
        operation="cancel",
        key=f"{answer.saga}/cancel",
        body={"booking": _booking_key(answer.saga)},
        answer=CancelAnswered,
        deadline=None,
    )


def cancel_answered(answer: CancelAnswered) -> ShippingCancelled | ShippingFailed | None:
    """The carrier has no booking, and will take none under this key."""
    shipment = shipments[answer.saga]
    if shipment.phase != "cancelling":
        return None
    assert answer.outcome == "accepted", f"the carrier will not cancel what it never answered: {answer.reason}"
    if shipment.stops:
        shipments[answer.saga] = replace(shipment, phase="cancelled")
        return ShippingCancelled(asked_by=shipment.stops[0])
    shipments[answer.saga] = replace(shipment, phase="failed")
    return ShippingFailed(reason="the carrier did not answer in time")


def _booking_key(saga: str) -> str:
    return f"{saga}/book"


@app.agent(app.inbox)
async def shipping(batches: Any) -> None:
    """Books the carrier, and decides whether an order may still be stopped."""
    async for batch in batches:
        batch.decide()
