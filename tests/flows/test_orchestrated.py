"""`order-orchestrated/1` and `order-hybrid/1`, one story at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from events import (
    AbandonOrder,
    AuthorisePayment,
    CancelOrder,
    CancelShipment,
    CapturePayment,
    CommitStock,
    CompleteOrder,
    DispatchShipment,
    InventoryReleased,
    InventoryReserved,
    Notify,
    Orchestration,
    OrchestratorConfirmed,
    OrderCancelled,
    OrderCompleted,
    OrderStep,
    PaymentAuthorised,
    PaymentVoided,
    ReleaseStock,
    ReserveStock,
    ShippingCancelRefused,
    StockReceived,
    VoidPayment,
)
from farandole import Event
from tests.flows.invariants import check
from tests.flows.outside import Plan
from tests.flows.scenarios import an_order, saga_of
from tests.flows.world import World, world

ORCHESTRATED, HYBRID = "order-orchestrated/1", "order-hybrid/1"
ORDER = an_order("1", ("apple", 1), ("apple", 2))
SAGA = saga_of(ORDER)
DEADLINE = ("orchestrator", SAGA, "AnswerOverdue")
COMMANDS = (
    *(ReserveStock, AuthorisePayment, DispatchShipment, CapturePayment, CommitStock, CompleteOrder, Notify),
    *(CancelShipment, VoidPayment, ReleaseStock, AbandonOrder, OrchestratorConfirmed),
)
HELD = OrderStep(step="hold", undone_by="inventory.released")
AUTHORISED = OrderStep(step="authorise", undone_by="payment.voided")


@pytest.fixture
def it() -> Iterator[World]:
    with world(careful=True) as a_world:
        a_world.send(StockReceived(sku="apple", quantity=3), "d-1", "restock/1")
        a_world.run()
        yield a_world


def place(it: World, flow: str = ORCHESTRATED, plan: Plan | None = None, gate: str = "") -> None:
    it.outside.plans[SAGA] = plan or Plan()
    it.gates = {gate} if gate else set()
    it.send(ORDER, SAGA, flow)
    it.run()


def open_gates(it: World) -> None:
    it.gates.clear()
    it.run()


def overdue(it: World) -> None:
    it.fire(DEADLINE)
    it.run()


def end_of(it: World) -> Event:
    check(it, {"apple": 3})
    end: Event
    [end] = it.events(SAGA, OrderCompleted, OrderCancelled)
    return end


def cancelled(it: World) -> OrderCancelled:
    end = end_of(it)
    assert isinstance(end, OrderCancelled)
    return end


def commands(it: World) -> list[str]:
    return [type(event).__name__ for event in it.events(SAGA, *COMMANDS)]


def trail(it: World) -> list[tuple[str, str, str]]:
    row = it.row("orchestrator", "orchestrations", SAGA)
    assert isinstance(row, Orchestration)
    return [(step.because, step.command, step.answer) for step in row.steps]


def test_every_step_is_commanded_and_answered(it: World) -> None:
    place(it)
    assert isinstance(end_of(it), OrderCompleted)
    assert (
        trail(it)
        == [
            ("order.placed", "reserve-stock", "inventory.reserved"),
            ("inventory.reserved", "authorise-payment", "payment.authorised"),
            ("payment.authorised", "dispatch-shipment", "shipping.dispatched"),
            ("shipping.dispatched", "capture-payment", "payment.captured"),
            ("shipping.dispatched", "commit-stock", "inventory.committed"),
            ("payment.captured", "complete-order", "order.completed"),
            ("order.completed", "notify", "notification.sent"),
        ]
        or trail(it)[5][0] == "inventory.committed"
    )
    times = [step.sent for step in it.row("orchestrator", "orchestrations", SAGA).steps]
    assert times == sorted(times)
    assert len(commands(it)) == 7


def test_what_failed_at_the_carrier_is_taken_back_last_step_first_each_after_the_others_confirmation(
    it: World,
) -> None:
    place(it, plan=Plan(books=False))
    end = cancelled(it)
    assert (end.cause, end.reason) == ("shipping.failed", "undeliverable address")
    assert list(end.steps) == [HELD, AUTHORISED]
    happened = [type(event).__name__ for event in it.events(SAGA)]
    back = ["VoidPayment", "PaymentVoided", "ReleaseStock", "InventoryReleased", "AbandonOrder", "OrderCancelled"]
    assert [name for name in happened if name in back] == back


@pytest.mark.parametrize(
    ("plan", "cause", "back"),
    [
        (Plan(declines=True), "payment.declined", ["ReleaseStock", "AbandonOrder"]),
        (Plan(books=False), "shipping.failed", ["VoidPayment", "ReleaseStock", "AbandonOrder"]),
    ],
)
@pytest.mark.parametrize("flow", [ORCHESTRATED, HYBRID])
def test_only_what_was_done_is_taken_back(it: World, flow: str, plan: Plan, cause: str, back: list[str]) -> None:
    place(it, flow, plan)
    assert cancelled(it).cause == cause
    assert [name for name in commands(it) if name in ("VoidPayment", "ReleaseStock", "AbandonOrder")] == back


# ---- a deadline does not mean "not done"


@pytest.mark.parametrize("flow", [ORCHESTRATED, HYBRID])
def test_a_reservation_that_comes_after_its_deadline_is_released(it: World, flow: str) -> None:
    place(it, flow, gate="InventoryReserved@orchestrator")
    overdue(it)
    assert not it.events(SAGA, OrderCancelled), "not before the release is confirmed, which lies behind the answer"
    open_gates(it)
    end = cancelled(it)
    assert (end.cause, list(end.steps)) == ("orchestrator.timers.answer_overdue", [HELD])
    assert end.reason == "reserve-stock was not answered in time"
    assert it.events(SAGA, InventoryReserved)
    assert "AuthorisePayment" not in commands(it)


@pytest.mark.parametrize("flow", [ORCHESTRATED, HYBRID])
def test_a_reservation_that_was_never_heard_of_is_confirmed_as_nothing_to_undo(it: World, flow: str) -> None:
    place(it, flow, gate="ReserveStock@inventory")
    overdue(it)
    assert commands(it) == ["ReserveStock", "ReleaseStock"], "both wait, in this order"
    open_gates(it)
    assert cancelled(it).steps == (HELD,)


@pytest.mark.parametrize("flow", [ORCHESTRATED, HYBRID])
def test_an_authorisation_that_comes_after_its_deadline_is_voided(it: World, flow: str) -> None:
    place(it, flow, gate="PaymentAuthorised@orchestrator")
    overdue(it)
    open_gates(it)
    end = cancelled(it)
    assert (end.cause, list(end.steps)) == ("orchestrator.timers.answer_overdue", [HELD, AUTHORISED])
    assert it.events(SAGA, PaymentAuthorised)
    assert it.outside.voided == {f"{SAGA}/authorise"}
    assert not {"DispatchShipment", "OrchestratorConfirmed"} & set(commands(it))


def test_a_booking_in_flight_at_its_deadline_is_the_carriers_to_decide(it: World) -> None:
    place(it, gate="book@shipping")
    overdue(it)
    assert commands(it)[-1] == "CancelShipment"
    open_gates(it)
    assert isinstance(end_of(it), OrderCompleted)
    [refused] = it.events(SAGA, ShippingCancelRefused)
    assert refused.asked_by == "clock"


def test_a_booking_that_was_never_heard_of_is_stopped_at_its_deadline(it: World) -> None:
    place(it, gate="DispatchShipment@shipping")
    overdue(it)
    it.queues["shipping", "shipping.commands", SAGA].rotate()  # what no broker does: the stop overtakes the step
    open_gates(it)
    end = cancelled(it)
    assert (end.cause, end.reason) == ("shipping.cancelled", "shipping did not answer in time")
    assert not it.outside.booked


def test_behind_the_point_of_no_return_there_is_no_deadline(it: World) -> None:
    place(it, gate="capture@payment")
    assert not [timer for timer in it.timers if timer[0] == "orchestrator"]
    open_gates(it)
    assert isinstance(end_of(it), OrderCompleted)


# ---- customers


@pytest.mark.parametrize("gate", ["InventoryReserved@orchestrator", "PaymentAuthorised@orchestrator"])
def test_a_customer_who_changes_his_mind_before_shipping_was_asked_gets_his_way(it: World, gate: str) -> None:
    place(it, gate=gate)
    it.send(CancelOrder(), SAGA, ORCHESTRATED)
    it.run()
    open_gates(it)
    end = cancelled(it)
    assert (end.cause, end.reason) == ("shipping.cancelled", "the customer asked for it")
    assert "DispatchShipment" not in commands(it)


def test_a_customer_who_is_too_late_is_told(it: World) -> None:
    place(it, gate="capture@payment")
    it.send(CancelOrder(), SAGA, ORCHESTRATED)
    open_gates(it)
    assert isinstance(end_of(it), OrderCompleted)
    assert [event.asked_by for event in it.events(SAGA, ShippingCancelRefused)] == ["customer"]


def test_a_cancellation_of_an_order_that_is_being_taken_back_asks_nobody_anything(it: World) -> None:
    place(it, plan=Plan(declines=True), gate="ReleaseStock@inventory")
    it.send(CancelOrder(), SAGA, ORCHESTRATED)
    open_gates(it)
    assert cancelled(it).cause == "payment.declined"
    assert "CancelShipment" not in commands(it)


# ---- the hybrid


def test_from_its_confirmation_on_a_hybrid_order_needs_no_commands(it: World) -> None:
    place(it, HYBRID)
    assert isinstance(end_of(it), OrderCompleted)
    assert commands(it) == ["ReserveStock", "AuthorisePayment", "OrchestratorConfirmed"]
    assert trail(it)[-1] == ("payment.authorised", "confirm", "order.completed")


def test_a_stop_that_is_heard_before_the_order_itself_ends_it_before_it_began(it: World) -> None:
    place(it, HYBRID, gate="OrderPlaced@orchestrator")
    it.send(CancelOrder(), SAGA, HYBRID)
    it.run()
    end = cancelled_with_gate(it)
    assert (end.cause, end.steps) == ("shipping.cancelled", ())
    open_gates(it)
    assert cancelled(it) == end
    assert commands(it) == ["ReleaseStock", "AbandonOrder"]
    assert [event.outcome for event in it.events(SAGA, InventoryReleased)] == ["nothing_to_undo"]
    assert not it.events(SAGA, PaymentVoided)


def cancelled_with_gate(it: World) -> OrderCancelled:
    [end] = it.events(SAGA, OrderCancelled)
    return end


@pytest.mark.parametrize("flow", [ORCHESTRATED, HYBRID])
def test_a_stop_after_the_confirmation_is_taken_back_by_the_orchestrator(it: World, flow: str) -> None:
    place(it, flow, gate="InventoryReserved@orchestrator")
    it.gates.add("DispatchShipment@shipping" if flow == ORCHESTRATED else "OrchestratorConfirmed@shipping")
    it.gates.discard("InventoryReserved@orchestrator")
    it.run()
    it.fire(("inventory", SAGA, "ReservationExpired"))
    it.run()
    if flow == ORCHESTRATED:
        it.queues["shipping", "shipping.commands", SAGA].rotate()
    open_gates(it)
    end = cancelled(it)
    assert (end.cause, end.reason) == ("shipping.cancelled", "the reservation ran out")
    assert list(end.steps) == [HELD, AUTHORISED]
