"""The matrix of tests/flows/test_matrix.py, in `order-pay-first/1`: cancellation and expiry × shipping's states × every
message, in both arrival orders. The clock begins when the card is charged.
"""

from __future__ import annotations

import pytest

from tests.flows.outside import Plan
from tests.flows.test_matrix import (
    BOOKS,
    COMES_OF_THE_STOP,
    COMES_TOO_LATE,
    NO_BOOKING,
    STOPS,
    UNDELIVERABLE,
    Asker,
    State,
    cell,
    upstream,
)
from tests.flows.world import world

FLOW = "order-pay-first/1"
DECLINES = Plan(declines=True)
NO_CHARGE = frozenset({"charge@payment"})
THINKS, CHARGED, HEARS = "ChargeAnswered@payment", "PaymentCharged@inventory", "InventoryReserved@shipping"

STATES = {
    "nothing heard": State(None, "cancelled", CHARGED, otherwise="completed", clock=False, flow=FLOW),
    # The clock's word lies behind this in inventory's topic.
    "nothing heard, the stock is reserved": State(
        None, "cancelled", HEARS, otherwise="completed", clock=False, flow=FLOW
    ),
    "nothing heard, a line will be short": State(None, "cancelled", "InventoryLineShort@inventory", stock=2, flow=FLOW),
    "nothing heard, all lines will be short": State(
        None, "cancelled", "InventoryLineShort@inventory", stock=0, flow=FLOW
    ),
    "nothing heard, a line was short": State(None, "cancelled", stock=2, clock=False, flow=FLOW),
    "nothing heard, the gateway thinks and will accept": State(
        None, "cancelled", THINKS, otherwise="completed", clock=False, flow=FLOW
    ),
    "nothing heard, the gateway thinks and will decline": State(
        None, "cancelled", THINKS, plan=DECLINES, clock=False, flow=FLOW
    ),
    "nothing heard, the gateway will not answer": State(
        None, "cancelled", THINKS, deadlines=NO_CHARGE, clock=False, flow=FLOW
    ),
    "nothing heard, the card is declined": State(None, "cancelled", plan=DECLINES, clock=False, flow=FLOW),
    "nothing heard, the gateway has not answered": State(
        None, "cancelled", deadlines=NO_CHARGE, clock=False, flow=FLOW
    ),
    "booking, the carrier takes it": State("booking", "completed", BOOKS, flow=FLOW),
    "booking, the carrier refuses": State("booking", "shipping.failed", BOOKS, plan=UNDELIVERABLE, flow=FLOW),
    "booking, the carrier is silent": State(
        "booking", "shipping.cancelled", BOOKS, otherwise="shipping.failed", deadlines=NO_BOOKING, flow=FLOW
    ),
    "cancelling": State(
        "cancelling",
        "shipping.cancelled",
        "CancelAnswered@shipping",
        otherwise="shipping.failed",
        deadlines=NO_BOOKING,
        flow=FLOW,
    ),
    "dispatched": State("dispatched", "completed", flow=FLOW),
    "failed": State("failed", "shipping.failed", plan=UNDELIVERABLE, flow=FLOW),
    "cancelled for the customer": State(
        "cancelled", "shipping.cancelled", CHARGED, before=("customer",), clock=False, flow=FLOW
    ),
}
CASES: list[tuple[str, tuple[Asker, ...]]] = [
    (name, askers)
    for name, state in STATES.items()
    for askers in STOPS
    if (state.clock or "clock" not in askers) and not set(state.before) & set(askers)
]
ENDS_IT = {"PaymentDeclined@order", "PaymentFailed@order", "ShippingDispatched@inventory"}
"""Once these have been heard nothing is left to wait for, but what the matrix does not hold back."""

# The stop of an order whose customer has asked already could only be the clock's, which has not begun.
CASES.append(("cancelled for the customer", ()))


@pytest.mark.parametrize("stop_first", [True, False], ids=["stop, event", "event, stop"])
@pytest.mark.parametrize(("name", "askers"), CASES, ids=lambda each: each if isinstance(each, str) else "+".join(each))
def test_whoever_stops_an_order_gets_what_shippings_state_allows(
    name: str, askers: tuple[Asker, ...], stop_first: bool
) -> None:
    cells = 0
    for message in upstream(FLOW):
        try:
            with world() as it:
                cells += cell(it, STATES[name], askers, message, stop_first)
        except Exception as error:
            error.add_note(f"held back: {message}")
            raise
    assert cells, "nothing was tested"


def test_the_matrix_meets_every_event_in_both_orders() -> None:
    met: dict[bool, set[str]] = {True: set(), False: set()}
    cells = 0
    for stop_first in met:
        for message in upstream(FLOW):
            for name, askers in CASES:
                with world() as it:
                    if cell(it, STATES[name], askers, message, stop_first):
                        met[stop_first].add(message)
                        cells += 1
    assert cells > 500
    assert set(upstream(FLOW)) == met[True]
    assert set(upstream(FLOW)) - met[False] == COMES_OF_THE_STOP | COMES_TOO_LATE | ENDS_IT
