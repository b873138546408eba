"""The orchestrator: takes an order through its steps by commands, and back again when something stops it.

Invariants:
- An order that was placed is completed or abandoned, once, and abandoned only when every step that was asked for is
  confirmed to be taken back, the last one first.
- Before the point of no return every answer has a deadline. A deadline does not mean "not done": the step is stopped by
  its compensation, whose confirmation always comes, `undone` or `nothing_to_undo`.
- Shipping alone decides whether an order that it was asked to ship may still be stopped.
- The row is the audit trail: every command with its cause, its answer, and the record times of both.

    reserving → authorising → dispatching → finishing → closing → telling → ended
        └────────────┴── or ──────┴→ stopping: shipping is asked to stop, and finishes or is taken back
        └────────────┴───────────────→ voiding → releasing → closing → telling → ended
                     └→ confirmed: from here on the others hear one another; taken back, if shipping says so
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

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
    OrchestrationPhase,
    OrchestrationStep,
    OrchestratorConfirmed,
    OrderCancelled,
    OrderCancelRequested,
    OrderCompleted,
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
    ShippingAsker,
    ShippingCancelled,
    ShippingCancelRefused,
    ShippingDispatched,
    ShippingFailed,
    VoidPayment,
)
from farandole import App, CancelTimer, Timer

app = App("orchestrator")
orchestrations = app.Table(
    "orchestrations",
    value=Orchestration,
    ended=lambda run: run.phase == "ended",
    help="How far each order has come, and what was asked and answered, by the order's id.",
)

ANSWER_WITHIN: Final = 60
"""Seconds, or as long as the stock stays reserved if that is less. Behind the point of no return, and on the way back,
nothing has a deadline."""

UNHEARD_OF: Final = Orchestration(phase="reserving")
FORWARD: Final = ("reserving", "authorising", "dispatching")
STOPPABLE: Final = (*FORWARD, "stopping", "confirmed")
"""Before the point of no return, or not known to be behind it."""


# ---- the way through


def begin(order: OrderPlaced, at: int) -> tuple[ReserveStock | Timer[AnswerOverdue], ...] | None:
    if order.saga in orchestrations:
        return None
    run = Orchestration(phase="reserving", answer_within=min(ANSWER_WITHIN, order.reserve_for))
    _ask(order.saga, run, "reserve-stock", "order.placed", at)
    reserve = ReserveStock(
        lines=order.lines,
        amount=order.amount,
        currency=order.currency,
        ship_to=order.ship_to,
        card_token=order.card_token,
        reserve_for=order.reserve_for,
    )
    return reserve, _deadline(run, "reserve-stock")


def reserved(answer: InventoryReserved, at: int) -> tuple[AuthorisePayment | Timer[AnswerOverdue], ...] | None:
    run = _answered(answer.saga, "inventory.reserved", at, "reserve-stock")
    if run.phase != "reserving":
        return None
    _ask(answer.saga, replace(run, phase="authorising"), "authorise-payment", "inventory.reserved", at)
    authorise = AuthorisePayment(
        amount=answer.amount, currency=answer.currency, card_token=answer.card_token, ship_to=answer.ship_to
    )
    return authorise, _deadline(run, "authorise-payment")


def authorised(answer: PaymentAuthorised, at: int) -> tuple[DispatchShipment | Timer[AnswerOverdue], ...] | None:
    run = _answered(answer.saga, "payment.authorised", at, "authorise-payment")
    if run.phase != "authorising":
        return None
    _ask(answer.saga, replace(run, phase="dispatching"), "dispatch-shipment", "payment.authorised", at)
    return DispatchShipment(ship_to=answer.ship_to), _deadline(run, "dispatch-shipment")


def confirm(answer: PaymentAuthorised, at: int) -> tuple[OrchestratorConfirmed | CancelTimer, ...] | None:
    """Tell everybody, and ask nobody: whoever ships, charges and sells hears it, and one another."""
    run = _answered(answer.saga, "payment.authorised", at, "authorise-payment")
    if run.phase != "authorising":
        return None
    _ask(answer.saga, replace(run, phase="confirmed"), "confirm", "payment.authorised", at)
    return OrchestratorConfirmed(ship_to=answer.ship_to), CancelTimer(AnswerOverdue)


def dispatched(answer: ShippingDispatched, at: int) -> tuple[CapturePayment | CommitStock | CancelTimer, ...] | None:
    """The order has left, whoever may have asked for it to be stopped."""
    run = _answered(answer.saga, "shipping.dispatched", at, "dispatch-shipment")
    if run.phase not in ("dispatching", "stopping"):
        return None
    run = replace(run, phase="finishing", reason="")
    _ask(answer.saga, run, "capture-payment", "shipping.dispatched", at)
    _ask(answer.saga, orchestrations[answer.saga], "commit-stock", "shipping.dispatched", at)
    return CapturePayment(), CommitStock(), CancelTimer(AnswerOverdue)


def captured(answer: PaymentCaptured, at: int) -> CompleteOrder | None:
    run = _answered(answer.saga, "payment.captured", at, "capture-payment")
    return _complete(answer.saga, replace(run, paid="captured"), "payment.captured", at)


def committed(answer: InventoryCommitted, at: int) -> CompleteOrder | None:
    run = _answered(answer.saga, "inventory.committed", at, "commit-stock")
    return _complete(answer.saga, replace(run, committed=True), "inventory.committed", at)


def _complete(saga: str, run: Orchestration, because: str, at: int) -> CompleteOrder | None:
    if run.phase != "finishing":
        return None
    if run.paid == "pending" or not run.committed:
        orchestrations[saga] = run
        return None
    _ask(saga, replace(run, phase="closing"), "complete-order", because, at)
    return CompleteOrder(written_off=run.paid == "written_off")


# ---- asked to stop, by the customer, the clock of the reservation, or a deadline

Stop = tuple[CancelShipment | CancelTimer, ...]


def stop_for_customer(request: OrderCancelRequested, at: int) -> Stop | None:
    return _stop(request.saga, "customer", "order.cancel_requested", "the customer asked for it", at)


def stop_for_clock(request: InventoryExpiryRequested, at: int) -> Stop | None:
    return _stop(request.saga, "clock", "inventory.expiry_requested", "the reservation ran out", at)


def _stop(saga: str, asker: ShippingAsker, because: str, reason: str, at: int) -> Stop | None:
    """Ask shipping, whether it has heard of the order or not. One that is being taken back needs no stop."""
    run = orchestrations[saga]
    if asker in run.stops or run.cause:
        return None
    run = replace(run, stops=(*run.stops, asker))
    if run.phase in FORWARD:
        run = replace(run, phase="stopping", reason=reason)
    _ask(saga, run, "cancel-shipment", because, at)
    return CancelShipment(asked_by=asker), CancelTimer(AnswerOverdue)


def cancel_refused(answer: ShippingCancelRefused, at: int) -> None:
    """Too late: the order has left, which is said in its own event."""
    run = orchestrations[answer.saga]
    steps = tuple(
        replace(step, answer="shipping.cancel_refused", answered=at)
        if step.command == "cancel-shipment" and not step.answer and _asker(step) == answer.asked_by
        else step
        for step in run.steps
    )
    orchestrations[answer.saga] = replace(run, steps=steps)


def _asker(step: OrchestrationStep) -> ShippingAsker:
    return "customer" if step.because == "order.cancel_requested" else "clock"


# ---- taken back

SHIPPING: Final = ("dispatch-shipment", "cancel-shipment", "confirm")
VOIDED: Final = ("authorise-payment", "void-payment")
RELEASED: Final = ("reserve-stock", "release-stock")
"""What a compensation's confirmation answers: the step, too, if that was stopped before it had an answer."""

Rollback = tuple[VoidPayment | ReleaseStock | AbandonOrder | CancelTimer, ...]
OVERDUE: Final = "orchestrator.timers.answer_overdue"


def overdue(timer: AnswerOverdue, at: int) -> Rollback | Stop | None:
    """No answer in time. What shipping was asked for, it alone can stop; everything else is taken back."""
    run = orchestrations[timer.saga]
    if run.phase == "dispatching" and timer.step == "dispatch-shipment":
        return _stop(timer.saga, "clock", OVERDUE, "shipping did not answer in time", at)
    return give_up(timer, at)


def give_up(timer: AnswerOverdue, at: int) -> Rollback | None:
    run = orchestrations[timer.saga]
    if (run.phase, timer.step) not in (("reserving", "reserve-stock"), ("authorising", "authorise-payment")):
        return None
    return _stopped(timer.saga, run, OVERDUE, f"{timer.step} was not answered in time", at)


def stopped_by_shortage(answer: InventoryRejected, at: int) -> Rollback | None:
    run = _answered(answer.saga, "inventory.rejected", at, "reserve-stock", said=answer.reason)
    return _stopped(answer.saga, run, "inventory.rejected", answer.reason, at)


def stopped_by_decline(answer: PaymentDeclined, at: int) -> Rollback | None:
    run = _answered(answer.saga, "payment.declined", at, "authorise-payment", said=answer.reason)
    return _stopped(answer.saga, run, "payment.declined", answer.reason, at)


def stopped_by_silence(answer: PaymentFailed, at: int) -> Rollback | None:
    run = _answered(answer.saga, "payment.failed", at, "authorise-payment", said=answer.reason)
    return _stopped(answer.saga, run, "payment.failed", answer.reason, at)


def stopped_by_carrier(answer: ShippingFailed, at: int) -> Rollback | None:
    run = _answered(answer.saga, "shipping.failed", at, *SHIPPING, said=answer.reason)
    return _stopped(answer.saga, run, "shipping.failed", answer.reason, at)


def stopped_on_request(answer: ShippingCancelled, at: int) -> Rollback | None:
    """Where shipping hears its customers itself, its word may come before order.placed: then nothing begins."""
    if answer.saga not in orchestrations:
        orchestrations[answer.saga] = UNHEARD_OF
    run = _answered(answer.saga, "shipping.cancelled", at, *SHIPPING, said=answer.asked_by)
    asked = "the customer asked for it" if answer.asked_by == "customer" else "the reservation ran out"
    return _stopped(answer.saga, run, "shipping.cancelled", run.reason or asked, at)


def _stopped(saga: str, run: Orchestration, cause: str, reason: str, at: int) -> Rollback | None:
    """The first cause counts. While shipping is asked to stop, only its word does."""
    if run.cause or run.phase not in STOPPABLE:
        return None
    if run.phase == "stopping" and not cause.startswith("shipping."):
        return None
    return CancelTimer(AnswerOverdue), *_take_back(saga, replace(run, cause=cause, reason=reason), cause, at)


def voided(answer: PaymentVoided, at: int) -> Rollback | None:
    run = _answered(answer.saga, "payment.voided", at, *VOIDED, said=answer.outcome)
    return _taken_back(answer.saga, replace(run, voided=answer.outcome), "voiding", "payment.voided", at)


def released(answer: InventoryReleased, at: int) -> Rollback | None:
    run = _answered(answer.saga, "inventory.released", at, *RELEASED, said=answer.outcome)
    return _taken_back(answer.saga, replace(run, released=answer.outcome), "releasing", "inventory.released", at)


def written_off(answer: PaymentWrittenOff, at: int) -> CompleteOrder | Rollback | None:
    """What an operator has given up counts as confirmed."""
    if answer.what == "void":
        return void_written_off(answer, at)
    run = _answered(answer.saga, "payment.written_off", at, "capture-payment", said=answer.reason)
    return _complete(answer.saga, replace(run, paid="written_off"), "payment.written_off", at)


def void_written_off(answer: PaymentWrittenOff, at: int) -> Rollback | None:
    """Captures are somebody else's here."""
    if answer.what != "void":
        return None
    run = _answered(answer.saga, "payment.written_off", at, *VOIDED, said=answer.reason)
    return _taken_back(answer.saga, replace(run, voided="written_off"), "voiding", "payment.written_off", at)


def _taken_back(saga: str, run: Orchestration, phase: OrchestrationPhase, because: str, at: int) -> Rollback | None:
    """A confirmation. It may come before it is asked for: services take back by themselves what they have refused."""
    if run.phase != phase:
        orchestrations[saga] = run
        return None
    return _take_back(saga, run, because, at)


def _take_back(saga: str, run: Orchestration, because: str, at: int) -> Rollback:
    """Ask for the last step that is not taken back; if none is left, for the end."""
    asked = {step.command for step in run.steps}
    if run.voided == "pending" and "authorise-payment" in asked and run.cause != "payment.declined":
        _ask(saga, replace(run, phase="voiding"), "void-payment", because, at)
        return (VoidPayment(),)
    if run.released == "pending":
        _ask(saga, replace(run, phase="releasing"), "release-stock", because, at)
        return (ReleaseStock(),)
    _ask(saga, replace(run, phase="closing"), "abandon-order", because, at)
    return (AbandonOrder(cause=run.cause, reason=run.reason, released=run.released, voided=run.voided),)


# ---- how it ended


def completed(end: OrderCompleted, at: int) -> Notify | None:
    _answered(end.saga, "order.completed", at, "complete-order")
    return _tell(end, "order.completed", at)


def cancelled(end: OrderCancelled, at: int) -> Notify | None:
    _answered(end.saga, "order.cancelled", at, "abandon-order", said=end.reason)
    return _tell(end, "order.cancelled", at)


def refused(end: OrderRefused, at: int) -> Notify | None:
    """It never began, but its customer is told."""
    if end.saga in orchestrations:
        return None
    orchestrations[end.saga] = Orchestration(phase="closing", cause="order.refused", reason=end.reason)
    return _tell(end, "order.refused", at)


def _tell(end: OrderCompleted | OrderCancelled | OrderRefused, because: str, at: int) -> Notify | None:
    run = orchestrations[end.saga]
    if run.phase != "closing":
        return None
    _ask(end.saga, replace(run, phase="telling"), "notify", because, at)
    match end:
        case OrderCompleted():
            return Notify(email=end.email, template="completed")
        case OrderCancelled():
            return Notify(email=end.email, template="cancelled")
        case OrderRefused():
            return Notify(email=end.email, template="refused")


def told(answer: NotificationSent, at: int) -> None:
    run = _answered(answer.saga, "notification.sent", at, "notify", said=answer.outcome)
    if run.phase == "telling":
        orchestrations[answer.saga] = replace(run, phase="ended")


def end_completed(end: OrderCompleted, at: int) -> None:
    """For flows in which others take it to its end."""
    run = _answered(end.saga, "order.completed", at, "confirm")
    orchestrations[end.saga] = replace(run, phase="ended")


def end_cancelled(end: OrderCancelled, at: int) -> None:
    run = _answered(end.saga, "order.cancelled", at, "abandon-order", said=end.reason)
    orchestrations[end.saga] = replace(run, phase="ended")


# ---- the trail


def _ask(saga: str, run: Orchestration, command: str, because: str, at: int) -> None:
    step = OrchestrationStep(command=command, because=because, sent=at)
    orchestrations[saga] = replace(run, steps=(*run.steps, step))


def _answered(saga: str, answer: str, at: int, *commands: str, said: str = "") -> Orchestration:
    """Note an event as the answer to those commands that have none yet."""
    run = orchestrations[saga]
    steps = tuple(
        replace(step, answer=answer, said=said, answered=at) if step.command in commands and not step.answer else step
        for step in run.steps
    )
    run = orchestrations[saga] = replace(run, steps=steps)
    return run


def _deadline(run: Orchestration, command: str) -> Timer[AnswerOverdue]:
    return Timer(AnswerOverdue(step=command), after=run.answer_within)


@app.agent(app.inbox)
async def orchestrator(batches: Any) -> None:
    """Takes orders through their steps, and back."""
    async for batch in batches:
        batch.decide()
