"""Cancellation and expiry × every state of shipping × every upstream event, in both arrival orders.

A cell: bring shipping into a state, with one kind of message to one service held back all the while. Then either the
stop comes first and the message afterwards, or the message first and then the stop. Then let everything else happen,
and see that what shipping's table promises has come true, along with all that must hold anyway.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Literal

import pytest

from events import (
    CancelOrder,
    OrderCancelled,
    OrderCompleted,
    ShippingCancelled,
    ShippingCancelRefused,
    ShippingFailed,
    StockReceived,
)
from farandole.flow import load_flows
from tests.flows.invariants import CAUSES, check
from tests.flows.outside import Plan
from tests.flows.scenarios import an_order, saga_of
from tests.flows.world import World, world

ORDER = an_order("1", ("apple", 1), ("apple", 2))
SAGA = saga_of(ORDER)

Asker = Literal["customer", "clock"]
Ending = Literal["completed", "shipping.failed", "shipping.cancelled", "cancelled"]


@dataclass(frozen=True)
class State:
    """How shipping gets into one of its states, and what has to become of an order that somebody then wants to stop.

    phase:     of the shipment; None: nothing heard yet
    ending:    `cancelled` is for whatever reason
    gate:      the message that would get it out of this state
    otherwise: the ending if that message comes before the stop
    before:    who has asked for a stop already
    clock:     whether the reservation's clock still runs
    flow:      in which the order is placed
    """

    phase: str | None
    ending: Ending
    gate: str = ""
    otherwise: Ending | None = None
    plan: Plan = field(default_factory=Plan)
    deadlines: frozenset[str] = frozenset()
    stock: int = 3
    before: tuple[Asker, ...] = ()
    clock: bool = True
    flow: str = "order/1"


DECLINES, UNDELIVERABLE = Plan(declines=True), Plan(books=False)
NO_AUTHORISATION, NO_BOOKING = frozenset({"authorise@payment"}), frozenset({"book@shipping"})
THINKS, BOOKS = "AuthoriseAnswered@payment", "BookAnswered@shipping"

STATES = {
    "nothing heard": State(None, "cancelled", "PaymentAuthorised@shipping", otherwise="completed"),
    "nothing heard, a line will be short": State(None, "cancelled", "InventoryLineShort@inventory", stock=2),
    "nothing heard, all lines will be short": State(None, "cancelled", "InventoryLineShort@inventory", stock=0),
    "nothing heard, a line was short": State(None, "cancelled", stock=2, clock=False),
    "nothing heard, the gateway thinks and will accept": State(None, "cancelled", THINKS, otherwise="completed"),
    "nothing heard, the gateway thinks and will decline": State(None, "cancelled", THINKS, plan=DECLINES),
    "nothing heard, the gateway will not answer": State(None, "cancelled", THINKS, deadlines=NO_AUTHORISATION),
    "nothing heard, the card is declined": State(None, "cancelled", plan=DECLINES),
    "nothing heard, the gateway has not answered": State(None, "cancelled", deadlines=NO_AUTHORISATION),
    "booking, the carrier takes it": State("booking", "completed", BOOKS),
    "booking, the carrier refuses": State("booking", "shipping.failed", BOOKS, plan=UNDELIVERABLE),
    "booking, the carrier is silent": State(
        "booking", "shipping.cancelled", BOOKS, otherwise="shipping.failed", deadlines=NO_BOOKING
    ),
    "cancelling": State(
        "cancelling",
        "shipping.cancelled",
        "CancelAnswered@shipping",
        otherwise="shipping.failed",
        deadlines=NO_BOOKING,
    ),
    "dispatched": State("dispatched", "completed"),
    "dispatched, not yet charged": State("dispatched", "completed", "CaptureAnswered@payment"),
    "failed": State("failed", "shipping.failed", plan=UNDELIVERABLE),
    "cancelled for the customer": State(
        "cancelled", "shipping.cancelled", "PaymentAuthorised@shipping", before=("customer",)
    ),
    "cancelled for the clock": State(
        "cancelled", "shipping.cancelled", "PaymentAuthorised@shipping", before=("clock",)
    ),
}

OPEN = {
    *(f"{kind.__name__}@{service}" for kind in CAUSES for service in ("order", "inventory")),
    "ShippingDispatched@inventory",
} - {"InventoryRejected@inventory"}
"""Held back in every cell until both the stop and the event have come: as long as these have not, a customer's command
is heard, and the clock of the reservation runs."""

STOPS: list[tuple[Asker, ...]] = [("customer",), ("clock",), ("customer", "clock"), ("clock", "customer")]
CASES = [
    (name, askers)
    for name, state in STATES.items()
    for askers in STOPS
    if (state.clock or "clock" not in askers) and not set(state.before) & set(askers)
]
TIMER = ("inventory", SAGA, "ReservationExpired")

WRITTEN_OFF = {"WriteOff@payment", "PaymentWrittenOff@order", "PaymentRefundWrittenOff@order"}
ELSEWHERE = WRITTEN_OFF | {"OrderRefused@notification"}
"""What no order of this matrix comes across: operators' work and invalid requests."""


COMES_OF_THE_STOP = {
    "CancelOrder@order",
    "OrderCancelRequested@shipping",
    "ReservationExpired@inventory",
    "InventoryExpiryRequested@shipping",
}
COMES_TOO_LATE = {
    "StockCommitRequested@inventory",
    "InventoryLineCommitted@inventory",
    "InventoryCommitted@order",
    "InventoryRejected@order",
    "InventoryReleased@order",
    "OrderCompleted@notification",
    "OrderCancelled@notification",
    "MailAnswered@notification",
}
"""Once these have been heard, nobody can ask for a stop any more."""


@functools.cache
def upstream(flow: str = "order/1") -> list[str]:
    """Every message that some service hears, such as `OrderPlaced@inventory`."""
    bindings = load_flows()[flow].bindings
    return sorted({f"{event.__name__}@{service}" for service, event in bindings} - ELSEWHERE)


def stop(it: World, askers: tuple[Asker, ...]) -> bool:
    """False if one of them cannot ask (yet, or any more). Two come at the same time, the first of them first."""
    order = it.row("order", "orders", SAGA)
    for asker in askers:
        if asker == "customer" and (order is None or (order.phase == "placed" and not order.causes)):
            it.send(CancelOrder(), SAGA, it.flow_of[SAGA])
        elif asker == "clock" and TIMER in it.timers:
            it.fire(TIMER)
        else:
            return False
    it.run()
    return True


def begin(it: World, state: State, held: str) -> bool:
    """Bring shipping into the state while a message is held back. False if it cannot get there without that message."""
    it.outside.plans[SAGA] = state.plan
    it.deadlines |= state.deadlines
    if state.stock:
        it.send(StockReceived(sku="apple", quantity=state.stock), "d-1", "restock/1")
    it.gates = {*OPEN, state.gate, held}
    it.send(ORDER, SAGA, state.flow)
    it.run()
    if not stop(it, state.before):
        return False
    row = it.row("shipping", "shipments", SAGA)
    return (row.phase if row else None) == state.phase


def cell(it: World, state: State, askers: tuple[Asker, ...], message: str, stop_first: bool) -> bool:
    """Play one. False if there is no such cell: the message never comes in that state, or nobody can ask for a stop."""
    if not begin(it, state, message):
        return False
    if stop_first:
        if not stop(it, askers):
            return False
        if message not in it.waiting():
            it.gates = {message}
            it.run()
    if message not in it.waiting():
        return False
    it.gates.discard(message)
    it.run()
    if not stop_first and not stop(it, askers):
        return False
    it.gates.clear()
    it.run()
    check(it, {"apple": state.stock} if state.stock else {})
    check_ending(it, state, askers, state.otherwise if message == state.gate and not stop_first else None)
    return True


def check_ending(it: World, state: State, askers: tuple[Asker, ...], otherwise: Ending | None) -> None:
    ending = otherwise or state.ending
    [end] = it.events(SAGA, OrderCompleted, OrderCancelled)
    told = {event.asked_by for event in it.events(SAGA, ShippingCancelRefused)}
    if ending == "completed":
        assert isinstance(end, OrderCompleted)
        assert told == set(askers)
        return
    assert isinstance(end, OrderCancelled)
    assert not told
    assert ending in ("cancelled", end.cause)
    if ending == "shipping.cancelled":
        assert not it.events(SAGA, ShippingFailed)
        [cancelled] = it.events(SAGA, ShippingCancelled)
        assert cancelled.asked_by in (state.before or askers)


@pytest.mark.parametrize("stop_first", [True, False], ids=["stop, event", "event, stop"])
@pytest.mark.parametrize(("name", "askers"), CASES, ids=lambda each: each if isinstance(each, str) else "+".join(each))
def test_whoever_stops_an_order_gets_what_shippings_state_allows(
    name: str, askers: tuple[Asker, ...], stop_first: bool
) -> None:
    cells = 0
    for message in upstream():
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
        for message in upstream():
            for name, askers in CASES:
                with world() as it:
                    if cell(it, STATES[name], askers, message, stop_first):
                        met[stop_first].add(message)
                        cells += 1
    assert cells > 1_200
    assert set(upstream()) == met[True]
    assert set(upstream()) - met[False] == COMES_OF_THE_STOP | COMES_TOO_LATE
