"""The orchestrator's decisions, one by one: what it notes, what it asks for, and what it does not do twice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agents import orchestrator
from events import (
    AbandonOrder,
    AnswerOverdue,
    AuthorisePayment,
    CancelShipment,
    CapturePayment,
    CommitStock,
    CompleteOrder,
    DispatchShipment,
    InventoryCommitted,
    InventoryExpiryRequested,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    NotificationSent,
    Notify,
    Orchestration,
    OrderCancelRequested,
    OrderCompleted,
    OrderLine,
    OrderPlaced,
    OrderRefused,
    PaymentAuthorised,
    PaymentCaptured,
    PaymentDeclined,
    PaymentFailed,
    PaymentVoided,
    PaymentWrittenOff,
    ReleaseStock,
    ReserveStock,
    ShippingCancelled,
    ShippingCancelRefused,
    ShippingDispatched,
    ShippingFailed,
    VoidPayment,
)
from farandole import CancelTimer, Timer
from farandole.testing import tables

SAGA = "o-1"
STOP_TIMER = CancelTimer(AnswerOverdue)


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    with tables(orchestrator.app):
        yield


def placed(reserve_for: int = 900) -> OrderPlaced:
    return OrderPlaced(
        customer="anna",
        lines=(OrderLine(line=1, sku="apple", quantity=2, price=500),),
        amount=1_000,
        currency="EUR",
        ship_to="1 Main Street",
        card_token="tok_good",
        reserve_for=reserve_for,
        saga=SAGA,
    )


RESERVED = InventoryReserved(amount=1_000, currency="EUR", card_token="tok_good", ship_to="1 Main Street", saga=SAGA)
AUTHORISED = PaymentAuthorised(ship_to="1 Main Street", reference="r", saga=SAGA)
DISPATCHED = ShippingDispatched(tracking="t", saga=SAGA)


def at(phase: str) -> None:
    """Take an order to this phase, a second for each step."""
    steps: list[tuple[str, Any, Any]] = [
        ("reserving", orchestrator.begin, placed()),
        ("authorising", orchestrator.reserved, RESERVED),
        ("dispatching", orchestrator.authorised, AUTHORISED),
        ("finishing", orchestrator.dispatched, DISPATCHED),
    ]
    for number, (reached, decide, event) in enumerate(steps, 1):
        decide(event, number * 1_000)
        if reached == phase:
            return
    raise AssertionError(phase)


def row() -> Orchestration:
    return orchestrator.orchestrations[SAGA]


def deadline(step: str, after: int = 60) -> Timer[AnswerOverdue]:
    return Timer(AnswerOverdue(step=step), after=after)


def test_an_order_begins_with_its_stock_and_a_deadline() -> None:
    reserve = ReserveStock(
        lines=placed().lines,
        amount=1_000,
        currency="EUR",
        ship_to="1 Main Street",
        card_token="tok_good",
        reserve_for=900,
    )
    assert orchestrator.begin(placed(), 5) == (reserve, deadline("reserve-stock"))
    assert orchestrator.begin(placed(), 6) is None
    [step] = row().steps
    assert (step.command, step.because, step.sent, step.answer) == ("reserve-stock", "order.placed", 5, "")


def test_no_answer_is_waited_for_longer_than_the_stock_stays_reserved() -> None:
    answer = orchestrator.begin(placed(reserve_for=7), 5)
    assert answer is not None
    assert answer[1] == deadline("reserve-stock", 7)


def test_each_answer_is_noted_and_the_next_step_asked_for() -> None:
    at("reserving")
    authorise = AuthorisePayment(amount=1_000, currency="EUR", card_token="tok_good", ship_to="1 Main Street")
    assert orchestrator.reserved(RESERVED, 2_000) == (authorise, deadline("authorise-payment"))
    dispatch = DispatchShipment(ship_to="1 Main Street")
    assert orchestrator.authorised(AUTHORISED, 3_500) == (dispatch, deadline("dispatch-shipment"))
    assert orchestrator.dispatched(DISPATCHED, 4_000) == (CapturePayment(), CommitStock(), STOP_TIMER)
    assert orchestrator.committed(InventoryCommitted(saga=SAGA), 5_000) is None
    captured = PaymentCaptured(amount=1_000, currency="EUR", reference="r", saga=SAGA)
    assert orchestrator.captured(captured, 6_000) == CompleteOrder(written_off=False)
    steps = [(step.command, step.sent, step.answer, step.answered) for step in row().steps]
    assert steps == [
        ("reserve-stock", 1_000, "inventory.reserved", 2_000),
        ("authorise-payment", 2_000, "payment.authorised", 3_500),
        ("dispatch-shipment", 3_500, "shipping.dispatched", 4_000),
        ("capture-payment", 4_000, "payment.captured", 6_000),
        ("commit-stock", 4_000, "inventory.committed", 5_000),
        ("complete-order", 6_000, "", 0),
    ]


def test_no_answer_counts_twice() -> None:
    at("finishing")
    assert orchestrator.reserved(RESERVED, 9_000) is None
    assert orchestrator.authorised(AUTHORISED, 9_000) is None
    assert orchestrator.confirm(AUTHORISED, 9_000) is None
    assert orchestrator.dispatched(DISPATCHED, 9_000) is None
    assert [step.answered for step in row().steps if step.answer] == [2_000, 3_000, 4_000]


def test_a_capture_that_was_written_off_completes_the_order_and_says_so() -> None:
    at("finishing")
    orchestrator.committed(InventoryCommitted(saga=SAGA), 5_000)
    event = PaymentWrittenOff(what="capture", amount=1_000, currency="EUR", reason="gone", saga=SAGA)
    assert orchestrator.void_written_off(event, 6_000) is None
    assert orchestrator.written_off(event, 6_000) == CompleteOrder(written_off=True)


@pytest.mark.parametrize("phase", ["reserving", "authorising", "dispatching"])
def test_before_the_point_of_no_return_a_stop_is_shippings_to_decide(phase: str) -> None:
    at(phase)
    request = OrderCancelRequested(saga=SAGA)
    assert orchestrator.stop_for_customer(request, 9_000) == (CancelShipment(asked_by="customer"), STOP_TIMER)
    assert orchestrator.stop_for_customer(request, 9_500) is None
    clock = orchestrator.stop_for_clock(InventoryExpiryRequested(saga=SAGA), 9_700)
    assert clock == (CancelShipment(asked_by="clock"), STOP_TIMER)
    assert (row().phase, row().reason) == ("stopping", "the customer asked for it")
    assert orchestrator.reserved(RESERVED, 9_800) is None
    assert orchestrator.authorised(AUTHORISED, 9_900) is None


def test_while_shipping_is_asked_nothing_else_stops_the_order() -> None:
    at("authorising")
    orchestrator.stop_for_customer(OrderCancelRequested(saga=SAGA), 3_000)
    assert orchestrator.stopped_by_decline(PaymentDeclined(reason="no", saga=SAGA), 4_000) is None
    assert orchestrator.overdue(AnswerOverdue(step="authorise-payment", saga=SAGA), 5_000) is None
    stopped = orchestrator.stopped_on_request(ShippingCancelled(asked_by="customer", saga=SAGA), 6_000)
    assert stopped == (STOP_TIMER, VoidPayment())


def test_who_comes_too_late_is_shippings_to_tell_and_noted() -> None:
    at("finishing")
    asked = orchestrator.stop_for_clock(InventoryExpiryRequested(saga=SAGA), 5_000)
    assert asked == (CancelShipment(asked_by="clock"), STOP_TIMER)
    assert row().phase == "finishing"
    orchestrator.cancel_refused(ShippingCancelRefused(asked_by="customer", saga=SAGA), 6_000)
    assert row().steps[-1].answer == ""
    orchestrator.cancel_refused(ShippingCancelRefused(asked_by="clock", saga=SAGA), 7_000)
    assert (row().steps[-1].answer, row().steps[-1].answered) == ("shipping.cancel_refused", 7_000)


@pytest.mark.parametrize(
    ("phase", "step", "asked"),
    [
        ("reserving", "reserve-stock", (STOP_TIMER, ReleaseStock())),
        ("authorising", "authorise-payment", (STOP_TIMER, VoidPayment())),
        ("dispatching", "dispatch-shipment", (CancelShipment(asked_by="clock"), STOP_TIMER)),
    ],
)
def test_an_overdue_step_is_stopped_and_its_confirmation_waited_for(phase: str, step: str, asked: object) -> None:
    at(phase)
    for other in {"reserve-stock", "authorise-payment", "dispatch-shipment"} - {step}:
        assert orchestrator.overdue(AnswerOverdue(step=other, saga=SAGA), 8_000) is None, "it was answered"
    assert orchestrator.overdue(AnswerOverdue(step=step, saga=SAGA), 9_000) == asked
    assert orchestrator.overdue(AnswerOverdue(step=step, saga=SAGA), 9_500) is None


def test_where_others_ship_only_what_was_commanded_can_be_overdue() -> None:
    at("dispatching")
    assert orchestrator.give_up(AnswerOverdue(step="dispatch-shipment", saga=SAGA), 9_000) is None


def test_the_last_step_is_taken_back_first_and_each_one_waits_for_the_other() -> None:
    at("dispatching")
    failed = ShippingFailed(reason="nowhere", saga=SAGA)
    assert orchestrator.stopped_by_carrier(failed, 5_000) == (STOP_TIMER, VoidPayment())
    assert orchestrator.released(InventoryReleased(outcome="undone", saga=SAGA), 5_500) is None, "not asked for yet"
    end = orchestrator.voided(PaymentVoided(outcome="undone", saga=SAGA), 6_000)
    assert end == (AbandonOrder(cause="shipping.failed", reason="nowhere", released="undone", voided="undone"),)


def test_a_void_that_was_written_off_counts_as_confirmed() -> None:
    at("authorising")
    assert orchestrator.stopped_by_silence(PaymentFailed(outcome="unknown", reason="", saga=SAGA), 5_000)
    event = PaymentWrittenOff(what="void", amount=1_000, currency="EUR", reason="gone", saga=SAGA)
    assert orchestrator.written_off(event, 6_000) == (ReleaseStock(),)
    assert row().voided == "written_off"


def test_a_declined_card_needs_no_void_and_a_shortage_none_either() -> None:
    at("authorising")
    declined = PaymentDeclined(reason="no", saga=SAGA)
    assert orchestrator.stopped_by_decline(declined, 5_000) == (STOP_TIMER, ReleaseStock())
    assert orchestrator.stopped_by_shortage(InventoryRejected(reason="late", saga=SAGA), 6_000) is None
    assert row().cause == "payment.declined", "the first cause counts"


def test_a_stop_that_is_heard_before_the_order_leaves_nothing_to_begin() -> None:
    stopped = orchestrator.stopped_on_request(ShippingCancelled(asked_by="customer", saga=SAGA), 1_000)
    assert stopped == (STOP_TIMER, ReleaseStock())
    assert orchestrator.begin(placed(), 2_000) is None


def test_the_customer_is_told_once_and_that_is_the_end() -> None:
    at("finishing")
    orchestrator.committed(InventoryCommitted(saga=SAGA), 5_000)
    orchestrator.captured(PaymentCaptured(amount=1_000, currency="EUR", reference="r", saga=SAGA), 6_000)
    end = OrderCompleted(
        customer="anna", email="a@example.org", amount=1_000, currency="EUR", written_off=False, saga=SAGA
    )
    assert orchestrator.completed(end, 7_000) == Notify(email="a@example.org", template="completed")
    assert orchestrator.completed(end, 7_500) is None
    orchestrator.told(NotificationSent(template="completed", outcome="delivered", reason="", saga=SAGA), 8_000)
    assert row().phase == "ended"


def test_a_refused_customer_is_told_too() -> None:
    event = OrderRefused(customer="anna", email="", reason="no lines", saga=SAGA)
    assert orchestrator.refused(event, 1_000) == Notify(email="", template="refused")
    assert orchestrator.refused(event, 2_000) is None
