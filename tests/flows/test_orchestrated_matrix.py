"""Orders with an orchestrator: every message held back × every failure × stops by customer, clock and deadline, before
that message and right after it.

A cell: hold one kind of message to one service back, and let everything else happen. Then somebody wants the order
stopped, and either that is seen through before the message is heard, or the message is heard first and nothing else.
Then let everything happen, and see that all that must hold does.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest

from events import CancelOrder, OrderCancelled, OrderCompleted, StockReceived
from farandole.flow import load_flows
from tests.flows.invariants import check
from tests.flows.outside import Plan
from tests.flows.scenarios import an_order, saga_of
from tests.flows.world import World, world

FLOWS = ("order-orchestrated/1", "order-hybrid/1")
ORDER = an_order("1", ("apple", 1), ("apple", 2))
SAGA = saga_of(ORDER)

FAILURES: dict[str, tuple[Plan, int, frozenset[str]]] = {
    "none": (Plan(), 3, frozenset()),
    "a line is short": (Plan(), 2, frozenset()),
    "the card is declined": (Plan(declines=True), 3, frozenset()),
    "the gateway does not answer": (Plan(), 3, frozenset({"authorise@payment"})),
    "the carrier refuses": (Plan(books=False), 3, frozenset()),
    "the carrier does not answer": (Plan(), 3, frozenset({"book@shipping"})),
    "no mail arrives": (Plan(mails=False), 3, frozenset()),
}

CLOCK = ("inventory", SAGA, "ReservationExpired")
DEADLINE = ("orchestrator", SAGA, "AnswerOverdue")
STOPS = [
    ("customer",),
    ("clock",),
    ("deadline",),
    ("customer", "deadline"),
    ("deadline", "customer"),
    ("clock", "deadline"),
    ("deadline", "clock"),
    ("customer", "clock"),
]

UNHEARD = {"WriteOff@payment", "PaymentWrittenOff@orchestrator", "PaymentWrittenOff@order", "PlaceOrder@order"}
"""What no order of this matrix comes across, or waits for in vain: operators' work, and its own beginning."""
REFUSED = {"OrderRefused@orchestrator", "OrderRefused@notification"}
STOPPING = {
    "CancelOrder@order",
    "OrderCancelRequested@orchestrator",
    "OrderCancelRequested@shipping",
    "CancelShipment@shipping",
    "ShippingCancelRefused@orchestrator",
    "ReservationExpired@inventory",
    "InventoryExpiryRequested@orchestrator",
    "InventoryExpiryRequested@shipping",
    "ShippingCancelled@orchestrator",
    "AnswerOverdue@orchestrator",
}
"""What comes of a stop alone."""

STANDS_AT = (
    "InventoryReserved@orchestrator",
    "PaymentAuthorised@orchestrator",
    "BookAnswered@shipping",
    "CaptureAnswered@payment",
)
"""Where an order waits for its stop, and what comes of that waits, too."""


@functools.cache
def messages(flow: str) -> list[str]:
    bindings = load_flows()[flow].bindings
    return sorted({f"{event.__name__}@{service}" for service, event in bindings} - UNHEARD - REFUSED)


def stop(it: World, flow: str, stops: tuple[str, ...]) -> bool:
    """False if one of them cannot ask, or cannot any more."""
    for who in stops:
        timer = CLOCK if who == "clock" else DEADLINE
        if who == "customer":
            row = it.row("order", "orders", SAGA)
            if row is None or row.phase != "placed":
                return False
            it.send(CancelOrder(), SAGA, flow)
        elif timer in it.timers:
            it.fire(timer)
        else:
            return False
    return True


def cell(flow: str, failure: str, stops: tuple[str, ...], message: str, stop_first: bool) -> bool:
    """Play one. False if there is no such cell."""
    plan, stock, deadlines = FAILURES[failure]
    with world() as it:
        it.outside.plans[SAGA] = plan
        it.deadlines |= deadlines
        it.send(StockReceived(sku="apple", quantity=stock), "d-1", "restock/1")
        it.gates = {message}
        it.send(ORDER, SAGA, flow)
        it.run()
        if message not in it.waiting():
            return False
        if not stop_first:
            held = next(queue for queue in it.queues.values() if queue and queue[0].name == message)
            it.deliver(held.popleft())
        if not stop(it, flow, stops):
            return False
        it.run()
        it.gates.clear()
        it.run()
        check(it, {"apple": stock})
        [end] = it.events(SAGA, OrderCompleted, OrderCancelled)
        assert isinstance(end, OrderCancelled) or failure in ("none", "no mail arrives")
    return True


def cells(flow: str, failure: str) -> Iterator[tuple[str, bool]]:
    for stops in STOPS:
        for stop_first in (True, False):
            for message in messages(flow):
                try:
                    if cell(flow, failure, stops, message, stop_first):
                        yield message, stop_first
                except Exception as error:
                    error.add_note(f"{flow}, {failure}, {'+'.join(stops)}, {message}, {stop_first=}")
                    raise


@pytest.mark.parametrize("flow", FLOWS)
def test_whatever_fails_and_whoever_stops_it_wherever_it_is_an_order_ends_once_and_nothing_is_owed(flow: str) -> None:
    met = [each for failure in FAILURES for each in cells(flow, failure)]
    never = AFTER_THE_END[flow] | STOPPING
    assert {message for message, stop_first in met if stop_first} == set(messages(flow)) - never
    assert len(met) > 800


def late_stop(flow: str, failure: str, stops: tuple[str, ...], message: str, stands_at: str, late: bool) -> bool:
    """Hold back what comes of a stop, until the order has gone on as far as it gets; or else let it go first."""
    plan, stock, deadlines = FAILURES[failure]
    with world() as it:
        it.outside.plans[SAGA] = plan
        it.deadlines |= deadlines
        it.send(StockReceived(sku="apple", quantity=stock), "d-1", "restock/1")
        it.gates = {stands_at, message}
        it.send(ORDER, SAGA, flow)
        it.run()
        if stands_at not in it.waiting() or not stop(it, flow, stops):
            return False
        it.run()
        if message not in it.waiting():
            return False
        it.gates = {message} if late else {stands_at}
        it.run()
        it.gates.clear()
        it.run()
        check(it, {"apple": stock})
    return True


@pytest.mark.parametrize("flow", FLOWS)
def test_what_comes_of_a_stop_may_be_heard_at_any_time(flow: str) -> None:
    met = set()
    for failure in FAILURES:
        for stops in STOPS:
            for message in STOPPING & set(messages(flow)):
                for stands_at in STANDS_AT:
                    for late in (True, False):
                        try:
                            if late_stop(flow, failure, stops, message, stands_at, late):
                                met.add((message, late))
                        except Exception as error:
                            error.add_note(f"{flow}, {failure}, {'+'.join(stops)}, {message}, {stands_at}, {late=}")
                            raise
    assert met == {(message, late) for message in STOPPING & set(messages(flow)) for late in (True, False)}


AFTER_THE_END = {
    "order-orchestrated/1": {
        "MailAnswered@notification",
        "NotificationSent@orchestrator",
        "Notify@notification",
        "OrderCancelled@orchestrator",
        "OrderCompleted@orchestrator",
    },
    "order-hybrid/1": {
        "MailAnswered@notification",
        "OrderCancelled@notification",
        "OrderCancelled@orchestrator",
        "OrderCompleted@notification",
        "OrderCompleted@orchestrator",
    },
}
"""Once these wait, the order has ended: nobody can stop it any more."""
