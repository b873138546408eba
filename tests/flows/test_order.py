"""`order/1`, one story at a time: the way through, every way back, each compensation before its step."""

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
    OrderPlaced,
    OrderRefused,
    OrderStep,
    PaymentAuthorised,
    PaymentDeclined,
    PaymentFailed,
    PaymentStuck,
    PaymentVoided,
    PaymentWrittenOff,
    Posted,
    ShippingCancelled,
    ShippingFailed,
    StockHoldRequested,
    StockReceived,
    WriteOff,
)
from farandole import Event
from tests.flows.invariants import check
from tests.flows.outside import Plan
from tests.flows.scenarios import an_order, saga_of
from tests.flows.world import World, world

ORDER = an_order("1", ("apple", 1), ("apple", 2))
SAGA = saga_of(ORDER)
TIMER = ("inventory", SAGA, "ReservationExpired")

HELD = OrderStep(step="hold", undone_by="inventory.released")
AUTHORISED = OrderStep(step="authorise", undone_by="payment.voided")


@pytest.fixture
def it() -> Iterator[World]:
    with world(careful=True) as a_world:
        a_world.send(StockReceived(sku="apple", quantity=3), "d-1", "restock/1")
        a_world.run()
        yield a_world


def place(it: World, plan: Plan | None = None) -> None:
    it.outside.plans[SAGA] = plan or Plan()
    it.send(ORDER, SAGA)
    it.run()


def open_gates(it: World, *gates: str) -> None:
    it.gates -= set(gates) or it.gates
    it.run()


def end_of(it: World) -> OrderCancelled:
    check(it, {"apple": 3})
    [end] = it.events(SAGA, OrderCompleted, OrderCancelled)
    assert isinstance(end, OrderCancelled)
    return end


def kinds(it: World, *of: type[Event]) -> list[str]:
    return [type(event).__name__ for event in it.events(SAGA, *of)]


def test_an_order_is_reserved_authorised_dispatched_charged_and_sold(it: World) -> None:
    place(it)
    check(it, {"apple": 3})
    assert kinds(it) == [
        "OrderPlaced",
        "StockHoldRequested",
        "StockHoldRequested",
        "InventoryLineHeld",
        "InventoryLineHeld",
        "InventoryReserved",
        "PaymentAuthorised",
        "Posted",
        "ShippingDispatched",
        "StockCommitRequested",
        "StockCommitRequested",
        "InventoryLineCommitted",
        "InventoryLineCommitted",
        "InventoryCommitted",
        "PaymentCaptured",
        "Posted",
        "OrderCompleted",
        "NotificationSent",
    ]
    assert it.row("inventory", "levels", "apple").sold == 3
    assert it.outside.captured == {f"{SAGA}/authorise": 250 + 2 * 500}


def test_the_same_request_again_is_the_same_order_and_another_one_under_its_key_changes_nothing(it: World) -> None:
    it.send(ORDER, SAGA)
    it.send(ORDER, SAGA)
    it.send(replace(ORDER, ship_to="elsewhere"), SAGA)
    it.run()
    check(it, {"apple": 3})
    assert kinds(it, OrderPlaced, OrderRefused) == ["OrderPlaced"]


def test_a_bad_request_is_refused_once_and_the_customer_told(it: World) -> None:
    it.send(replace(ORDER, lines=()), SAGA)
    it.send(ORDER, SAGA)
    it.run()
    check(it, {"apple": 3})
    assert kinds(it) == ["OrderRefused", "NotificationSent"]


# ---- every way back


def test_a_short_line_rejects_the_order_and_releases_the_other(it: World) -> None:
    it.send(an_order("0"), saga_of(an_order("0")))
    it.run()
    place(it)
    end = end_of(it)
    assert (end.cause, end.steps) == ("inventory.rejected", (HELD,))
    assert kinds(it, InventoryRejected, InventoryReleased, OrderCancelled)[-1] == "OrderCancelled"


def test_a_declined_card_releases_the_stock(it: World) -> None:
    place(it, Plan(declines=True))
    end = end_of(it)
    assert (end.cause, end.reason, end.steps) == ("payment.declined", "card declined", (HELD,))


def test_a_silent_gateway_is_voided_before_the_order_is_cancelled(it: World) -> None:
    it.deadlines = {"authorise@payment"}
    it.gates = {"void@payment"}
    place(it)
    assert kinds(it, PaymentFailed, InventoryReleased) == ["PaymentFailed", "InventoryReleased"]
    assert not it.events(SAGA, OrderCancelled), "it may be authorised"
    open_gates(it)
    end = end_of(it)
    assert (end.cause, end.steps) == ("payment.failed", (HELD, AUTHORISED))
    assert not it.events(SAGA, Posted), "nobody knows that anything was authorised"


def test_an_authorisation_that_arrives_after_its_void_has_no_effect(it: World) -> None:
    it.gates = {"authorise@payment"}
    place(it)
    [call] = it.calls.values()
    it.gates, it.deadlines = set(), {"authorise@payment"}
    it.run()
    assert it.perform(call)[0] == "refused"
    assert end_of(it).cause == "payment.failed"


def test_a_carrier_that_refuses_rolls_back_both(it: World) -> None:
    place(it, Plan(books=False))
    end = end_of(it)
    assert (end.cause, end.reason, end.steps) == ("shipping.failed", "undeliverable address", (HELD, AUTHORISED))


def test_a_carrier_that_does_not_answer_is_cancelled_before_anybody_is_told(it: World) -> None:
    it.deadlines, it.gates = {"book@shipping"}, {"cancel@shipping"}
    place(it)
    assert not it.events(SAGA, ShippingFailed)
    open_gates(it)
    assert end_of(it).cause == "shipping.failed"


def test_the_first_cause_counts_and_later_ones_are_noted(it: World) -> None:
    it.gates = {"PaymentDeclined@order", "PaymentAuthorised@shipping", "InventoryReleased@order", "PaymentVoided@order"}
    place(it, Plan(declines=True))
    it.send(CancelOrder(), SAGA)
    it.run()
    open_gates(it)
    assert end_of(it).cause == "shipping.cancelled"
    assert it.row("order", "orders", SAGA).causes == ("shipping.cancelled", "payment.declined")


def test_confirmations_may_be_heard_before_their_cause(it: World) -> None:
    it.gates = {"ShippingFailed@order"}
    place(it, Plan(books=False))
    assert kinds(it, InventoryReleased, PaymentVoided, OrderCancelled) == ["InventoryReleased", "PaymentVoided"]
    open_gates(it)
    assert end_of(it).steps == (HELD, AUTHORISED)


def test_a_reservation_that_runs_out_before_it_is_complete_is_released_answered_or_not(it: World) -> None:
    it.gates = {"StockHoldRequested@inventory"}
    place(it)
    it.fire(TIMER)
    it.run()
    assert kinds(it, InventoryRejected, InventoryReleased) == ["InventoryRejected"]
    open_gates(it)
    end = end_of(it)
    assert (end.cause, end.steps) == ("inventory.rejected", (HELD,))


# ---- each compensation before its step


def test_an_order_that_is_stopped_before_inventory_hears_of_it_gets_no_stock(it: World) -> None:
    it.gates = {"OrderPlaced@inventory"}
    place(it)
    it.send(CancelOrder(), SAGA)
    it.run()
    assert kinds(it, InventoryReleased)
    assert kinds(it, PaymentVoided)
    assert kinds(it, OrderCancelled), "nobody waits for what has not been heard"
    open_gates(it)
    assert end_of(it).steps == ()
    assert not it.events(SAGA, StockHoldRequested)


def test_an_order_that_is_stopped_before_payment_hears_of_it_is_not_authorised(it: World) -> None:
    it.gates = {"InventoryReserved@payment"}
    place(it)
    it.send(CancelOrder(), SAGA)
    it.run()
    open_gates(it)
    assert end_of(it).steps == (HELD,)
    assert kinds(it, InventoryReserved)
    assert not it.outside.authorised


def test_an_order_that_is_stopped_before_shipping_hears_of_it_is_not_booked(it: World) -> None:
    it.gates = {"PaymentAuthorised@shipping"}
    place(it)
    it.send(CancelOrder(), SAGA)
    it.run()
    open_gates(it)
    assert end_of(it).steps == (HELD, AUTHORISED)
    assert kinds(it, PaymentAuthorised)
    assert not it.outside.booked


@pytest.mark.parametrize("fate", ["accepted", "declined", "unknown"])
def test_an_order_that_is_stopped_while_the_gateway_thinks_is_voided_once(it: World, fate: str) -> None:
    it.gates = {"authorise@payment"}
    it.deadlines = {"authorise@payment"} if fate == "unknown" else set()
    place(it, Plan(declines=fate == "declined"))
    it.send(CancelOrder(), SAGA)
    it.run()
    assert not it.events(SAGA, PaymentVoided)
    open_gates(it)
    assert end_of(it).steps == ((HELD,) if fate == "declined" else (HELD, AUTHORISED))
    assert not it.events(SAGA, PaymentAuthorised, PaymentDeclined, PaymentFailed)


def test_a_decline_confirms_the_void_that_somebody_else_owes(it: World) -> None:
    it.gates = {"PaymentDeclined@order", "PaymentDeclined@inventory"}
    place(it, Plan(declines=True))
    it.send(CancelOrder(), SAGA)
    it.run()
    open_gates(it)
    assert end_of(it).cause == "shipping.cancelled"
    assert [event.outcome for event in it.events(SAGA, PaymentVoided)] == ["nothing_to_undo"]


# ---- what an operator ends


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "silent"])
def test_a_capture_that_never_succeeds_is_written_off_and_the_order_completed(it: World, refused: bool) -> None:
    it.gates = set() if refused else {"capture@payment"}
    place(it, Plan(insists=frozenset({"capture"}) if refused else frozenset()))
    assert not it.events(SAGA, OrderCompleted)
    assert bool(it.events(SAGA, PaymentStuck)) == refused
    it.send(WriteOff(reason="the gateway went out of business"), SAGA)
    it.run()
    check(it, {"apple": 3})
    [end] = it.events(SAGA, OrderCompleted)
    assert end.written_off


@pytest.mark.parametrize("refused", [True, False], ids=["refused", "silent"])
def test_a_void_that_never_succeeds_is_written_off_and_the_order_cancelled(it: World, refused: bool) -> None:
    it.gates = set() if refused else {"void@payment"}
    place(it, Plan(books=False, insists=frozenset({"void"}) if refused else frozenset()))
    assert not it.events(SAGA, OrderCancelled)
    it.send(WriteOff(reason="it will lapse"), SAGA)
    it.run()
    assert end_of(it).steps == (HELD, OrderStep(step="authorise", undone_by="payment.written_off"))


def test_a_capture_that_succeeds_after_it_was_written_off_is_no_loss(it: World) -> None:
    it.gates = {"CaptureAnswered@payment"}
    place(it)
    it.send(WriteOff(reason="too early"), SAGA)
    it.run()
    open_gates(it)
    check(it, {"apple": 3})
    assert [event.memo for event in it.events(SAGA, Posted)] == ["authorise", "write_off_capture", "recover"]
    assert kinds(it, PaymentWrittenOff)


def test_there_is_nothing_to_write_off_while_nothing_is_stuck(it: World) -> None:
    it.send(WriteOff(reason="what for?"), SAGA)
    it.gates = {"authorise@payment"}
    place(it)
    it.send(WriteOff(reason="what for?"), SAGA)
    it.run()
    open_gates(it)
    it.send(WriteOff(reason="what for?"), SAGA)
    it.run()
    check(it, {"apple": 3})
    assert not it.events(SAGA, PaymentWrittenOff)


def test_a_mail_that_fails_rolls_nothing_back(it: World) -> None:
    place(it, Plan(mails=False))
    check(it, {"apple": 3})
    assert kinds(it, OrderCompleted)
    assert [event.outcome for event in it.events(SAGA, NotificationSent)] == ["gave_up"]


# ---- many orders


def test_two_orders_for_the_last_piece_end_differently(it: World) -> None:
    orders = [an_order(key, ("apple", 3)) for key in ("a", "b")]
    for order in orders:
        it.send(order, saga_of(order))
    it.run()
    check(it, {"apple": 3})
    ends = sorted(
        type(event).__name__ for _, event in it.published if isinstance(event, OrderCompleted | OrderCancelled)
    )
    assert ends == ["OrderCancelled", "OrderCompleted"]


def test_a_stop_that_comes_with_the_first_line_held_stops_the_order(it: World) -> None:
    it.gates = {"InventoryLineHeld@inventory"}
    place(it)
    it.send(CancelOrder(), SAGA)
    it.run()
    open_gates(it)
    assert end_of(it).cause == "shipping.cancelled"
    assert kinds(it, ShippingCancelled)
