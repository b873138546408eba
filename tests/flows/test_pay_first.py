"""`order-pay-first/1`, one story at a time: charged before anything else, and refunded whatever stops it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from events import (
    CancelOrder,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    NotificationSent,
    OrderCancelled,
    OrderCompleted,
    OrderRefused,
    OrderStep,
    PaymentCharged,
    PaymentDeclined,
    PaymentFailed,
    PaymentRefunded,
    PaymentRefundStuck,
    PaymentRefundWrittenOff,
    PlaceOrder,
    Posted,
    ShippingCancelled,
    ShippingCancelRefused,
    StockHoldRequested,
    StockReceived,
    WriteOff,
)
from farandole import Event
from farandole.flow import load_flows
from tests.flows.invariants import check
from tests.flows.outside import Plan
from tests.flows.scenarios import an_order, saga_of
from tests.flows.world import World, world

FLOW = "order-pay-first/1"
ORDER = an_order("1", ("apple", 1), ("apple", 2))
SAGA = saga_of(ORDER)
TIMER = ("inventory", SAGA, "ReservationExpired")

HELD = OrderStep(step="hold", undone_by="inventory.released")
CHARGED = OrderStep(step="charge", undone_by="payment.refunded")


@pytest.fixture
def it() -> Iterator[World]:
    with world(careful=True) as a_world:
        a_world.send(StockReceived(sku="apple", quantity=3), "d-1", "restock/1")
        a_world.run()
        yield a_world


def place(it: World, plan: Plan | None = None, order: PlaceOrder = ORDER) -> None:
    it.outside.plans[saga_of(order)] = plan or Plan()
    it.send(order, saga_of(order), FLOW)
    it.run()


def ask(it: World, command: Event) -> None:
    it.send(command, SAGA, FLOW)
    it.run()


def open_gates(it: World) -> None:
    it.gates.clear()
    it.run()


def end_of(it: World) -> OrderCancelled:
    check(it, {"apple": 3})
    [end] = it.events(SAGA, OrderCompleted, OrderCancelled)
    assert isinstance(end, OrderCancelled)
    return end


def memos(it: World) -> list[str]:
    return [event.memo for event in it.events(SAGA, Posted)]


def test_an_order_is_charged_reserved_dispatched_and_sold(it: World) -> None:
    place(it)
    check(it, {"apple": 3})
    kinds = [type(event).__name__ for event in it.events(SAGA)]
    assert kinds.index("PaymentCharged") < kinds.index("StockHoldRequested")
    assert kinds[-2:] == ["OrderCompleted", "NotificationSent"]
    assert memos(it) == ["charge", "earn"]
    assert it.outside.charged == {f"{SAGA}/charge": 250 + 2 * 500}
    assert it.row("inventory", "levels", "apple").sold == 3


def test_inventory_gets_the_lines_with_the_charge_and_needs_nothing_else(it: World) -> None:
    """It holds what payment.charged says, in the order in which that comes, whatever else it has heard."""
    place(it)
    [charged] = it.events(SAGA, PaymentCharged)
    assert charged.lines == ORDER.lines
    assert "inventory" not in {
        service for service, kind in load_flows()[FLOW].bindings if kind.__name__ == "OrderPlaced"
    }
    row = it.row("payment", "prepayments", SAGA)
    assert (row.lines, row.ship_to, row.reserve_for) == ((), "", 0), "what was told on is not kept"


def test_no_card_token_goes_further_than_payment(it: World) -> None:
    place(it)
    [reserved] = it.events(SAGA, InventoryReserved)
    assert reserved.card_token == ""
    assert not hasattr(it.events(SAGA, PaymentCharged)[0], "card_token")


def test_a_bad_request_is_refused_once_and_nobody_is_charged(it: World) -> None:
    it.send(replace(ORDER, lines=()), SAGA, FLOW)
    ask(it, ORDER)
    check(it, {"apple": 3})
    assert [type(event) for event in it.events(SAGA)] == [OrderRefused, NotificationSent]
    assert not it.outside.charged


# ---- every way back


def test_a_shortage_is_refunded_before_the_order_is_cancelled(it: World) -> None:
    place(it, order=an_order("0"))
    it.gates = {"refund@payment"}
    place(it)
    assert it.events(SAGA, InventoryRejected, InventoryReleased)
    assert not it.events(SAGA, OrderCancelled)
    open_gates(it)
    end = end_of(it)
    assert (end.cause, end.steps) == ("inventory.rejected", (HELD, CHARGED))
    assert memos(it) == ["charge", "refund"]


def test_a_declined_card_ends_the_order_and_nobody_else_hears_of_it(it: World) -> None:
    place(it, Plan(declines=True))
    end = end_of(it)
    assert (end.cause, end.reason, end.steps) == ("payment.declined", "card declined", ())
    assert not it.events(SAGA, InventoryReleased, PaymentRefunded, StockHoldRequested, Posted)


def test_a_silent_gateway_is_asked_to_refund_by_the_same_key_until_it_confirms(it: World) -> None:
    it.deadlines, it.gates = {"charge@payment"}, {"refund@payment"}
    place(it)
    assert it.events(SAGA, PaymentFailed)
    assert not it.events(SAGA, OrderCancelled), "it may be charged"
    [refund] = it.calls.values()
    assert (refund.call.body["charge"], refund.call.deadline) == (f"{SAGA}/charge", None)
    open_gates(it)
    end = end_of(it)
    assert (end.cause, end.steps) == ("payment.failed", (CHARGED,))
    assert memos(it) == [], "nobody knows that anything was charged"


def test_a_charge_that_arrives_after_its_refund_has_no_effect(it: World) -> None:
    it.gates = {"charge@payment"}
    place(it)
    [call] = it.calls.values()
    it.gates, it.deadlines = set(), {"charge@payment"}
    it.run()
    assert it.perform(call)[0] == "refused"
    assert end_of(it).cause == "payment.failed"
    assert not it.outside.charged


def test_a_carrier_that_refuses_rolls_back_both(it: World) -> None:
    place(it, Plan(books=False))
    assert end_of(it).steps == (HELD, CHARGED)
    assert memos(it) == ["charge", "refund"]


def test_a_reservation_that_runs_out_is_refunded(it: World) -> None:
    """The booking lies before the expiry in inventory's topic: only a silent carrier leaves anything to stop."""
    it.deadlines, it.gates = {"book@shipping"}, {"BookAnswered@shipping"}
    place(it)
    it.fire(TIMER)
    it.run()
    open_gates(it)
    end = end_of(it)
    assert (end.cause, end.reason, end.steps) == ("shipping.cancelled", "the reservation ran out", (HELD, CHARGED))


def test_a_reservation_that_runs_out_before_it_is_complete_is_refunded(it: World) -> None:
    it.gates = {"StockHoldRequested@inventory"}
    place(it)
    it.fire(TIMER)
    it.run()
    open_gates(it)
    end = end_of(it)
    assert (end.cause, end.steps) == ("inventory.rejected", (HELD, CHARGED))


def test_a_stop_that_comes_too_late_is_refused_and_nothing_is_refunded(it: World) -> None:
    it.gates = {"InventoryCommitted@order"}
    place(it)
    ask(it, CancelOrder())
    open_gates(it)
    check(it, {"apple": 3})
    assert it.events(SAGA, ShippingCancelRefused)
    assert it.events(SAGA, OrderCompleted)


# ---- each compensation before its step


def test_an_order_that_is_stopped_before_payment_hears_of_it_is_not_charged(it: World) -> None:
    it.gates = {"OrderPlaced@payment"}
    place(it)
    ask(it, CancelOrder())
    assert [event.outcome for event in it.events(SAGA, PaymentRefunded)] == ["nothing_to_undo"]
    assert it.events(SAGA, OrderCancelled), "nobody waits for what has not been heard"
    open_gates(it)
    assert end_of(it).steps == ()
    assert not it.outside.charged


def test_an_order_that_is_stopped_before_inventory_hears_of_its_charge_gets_no_stock(it: World) -> None:
    it.gates = {"PaymentCharged@inventory"}
    place(it)
    ask(it, CancelOrder())
    open_gates(it)
    assert end_of(it).steps == (CHARGED,)
    assert not it.events(SAGA, StockHoldRequested)


def test_a_charge_that_is_heard_after_the_stop_is_refunded_all_the_same(it: World) -> None:
    it.gates = {"PaymentCharged@order"}
    place(it, Plan(books=False))
    assert not it.events(SAGA, OrderCancelled), "payment's topic is read in order: the refund lies behind the charge"
    open_gates(it)
    assert end_of(it).steps == (HELD, CHARGED)


@pytest.mark.parametrize("fate", ["accepted", "declined", "unknown"])
def test_an_order_that_is_stopped_while_the_gateway_thinks_is_refunded_once(it: World, fate: str) -> None:
    it.gates = {"charge@payment"}
    it.deadlines = {"charge@payment"} if fate == "unknown" else set()
    place(it, Plan(declines=fate == "declined"))
    ask(it, CancelOrder())
    assert not it.events(SAGA, PaymentRefunded)
    open_gates(it)
    assert end_of(it).steps == (() if fate == "declined" else (CHARGED,))
    assert not it.events(SAGA, PaymentCharged, PaymentDeclined, PaymentFailed)
    assert memos(it) == (["charge", "refund"] if fate == "accepted" else [])


def test_a_decline_confirms_the_refund_that_somebody_else_owes(it: World) -> None:
    it.gates = {"PaymentDeclined@order"}
    place(it, Plan(declines=True))
    ask(it, CancelOrder())
    open_gates(it)
    assert end_of(it).cause == "shipping.cancelled"
    assert [event.outcome for event in it.events(SAGA, PaymentRefunded)] == ["nothing_to_undo"]


# ---- what an operator ends


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "silent"])
def test_a_refund_that_never_succeeds_is_said_and_written_off(it: World, refused: bool) -> None:
    it.gates = set() if refused else {"refund@payment"}
    place(it, Plan(books=False, insists=frozenset({"refund"}) if refused else frozenset()))
    assert not it.events(SAGA, OrderCancelled)
    assert len(it.events(SAGA, PaymentRefundStuck)) == int(refused)
    ask(it, WriteOff(reason="paid back by hand"))
    it.gates.clear()
    assert end_of(it).steps == (HELD, OrderStep(step="charge", undone_by="payment.refund_written_off"))
    assert memos(it) == ["charge", "write_off_refund"]


def test_a_refund_that_succeeds_after_it_was_written_off_is_owed_no_more(it: World) -> None:
    it.gates = {"RefundAnswered@payment"}
    place(it, Plan(books=False))
    ask(it, WriteOff(reason="too early"))
    open_gates(it)
    end_of(it)
    assert memos(it) == ["charge", "write_off_refund", "refund_after_all"]


def test_a_charge_of_unknown_fate_may_be_given_up_and_nothing_is_posted(it: World) -> None:
    it.deadlines, it.gates = {"charge@payment"}, {"refund@payment"}
    place(it)
    ask(it, WriteOff(reason="the gateway is gone"))
    assert [event.amount for event in it.events(SAGA, PaymentRefundWrittenOff)] == [1250]
    assert end_of(it).cause == "payment.failed"
    assert memos(it) == []


def test_there_is_nothing_to_write_off_while_nothing_is_stuck(it: World) -> None:
    ask(it, WriteOff(reason="what for?"))
    it.gates = {"charge@payment"}
    place(it)
    ask(it, WriteOff(reason="what for?"))
    open_gates(it)
    ask(it, WriteOff(reason="what for?"))
    check(it, {"apple": 3})
    assert not it.events(SAGA, PaymentRefundWrittenOff)


# ---- beside other flows


@pytest.mark.parametrize("command", [ORDER, CancelOrder(), WriteOff(reason="x")], ids=lambda each: type(each).__name__)
def test_what_is_asked_in_another_flow_changes_nothing(it: World, command: Event) -> None:
    it.gates = {"refund@payment"}
    place(it, Plan(books=False))
    before = len(it.published)
    it.send(command, SAGA, "order/1")
    it.run()
    assert len(it.published) == before
    open_gates(it)
    assert end_of(it).cause == "shipping.failed"


def test_orders_of_two_flows_compete_for_the_last_piece(it: World) -> None:
    it.send(an_order("a", ("apple", 3)), saga_of(an_order("a")), "order/1")
    it.send(an_order("b", ("apple", 3)), saga_of(an_order("b")), FLOW)
    it.run()
    check(it, {"apple": 3})
    ends = sorted(
        type(event).__name__ for _, event in it.published if isinstance(event, OrderCompleted | OrderCancelled)
    )
    assert ends == ["OrderCancelled", "OrderCompleted"]


# ---- what is bound


def test_every_event_is_heard_or_told_to_the_world_and_comes_from_somewhere() -> None:
    flow = load_flows()[FLOW]
    decisions = flow.bindings.values()
    heard = {event for _, event in flow.bindings}
    published = {event for decision in decisions for event in decision.publishes}
    sources = {event for each in decisions for event in each.publishes | each.calls | each.timers}
    told = {"NotificationSent", "PaymentRefundStuck", "Posted", "ShippingCancelRefused"}
    assert {event.__name__ for event in published - heard} == told
    assert {event.__name__ for event in heard - sources} == {"PlaceOrder", "CancelOrder", "WriteOff"}


def test_every_step_that_can_be_taken_back_names_its_compensation() -> None:
    flow = load_flows()[FLOW]
    assert {step.name: undo.name for step, undo in flow.compensations.items()} == {
        "payment.charge": "payment.refund",
        "inventory.request_holds": "inventory.request_releases",
        "inventory.hold": "inventory.release",
    }
    assert {undo.name for undo in flow.compensations.values()} <= {each.name for each in flow.bindings.values()}


def test_a_stop_by_the_customer_is_shippings_to_grant(it: World) -> None:
    it.gates = {"InventoryLineHeld@inventory"}
    place(it)
    ask(it, CancelOrder())
    open_gates(it)
    assert it.events(SAGA, ShippingCancelled)
    assert not it.events(SAGA, PaymentDeclined)
    assert end_of(it).steps == (HELD, CHARGED)
