"""The payment service: takes the customers' money at the payment gateway, gives it back, and keeps the ledger.

An order's card is either authorised, and charged when the order has left (`charges`: authorise, capture, void), or
charged before anything else is done (`prepayments`: charge, refund). Which of the two is the flow's to say.

Invariants:
- A card is charged once or not at all; a capture only after shipping.dispatched.
- What was authorised, or may have been, is captured, voided, or written off by an operator. What was charged, or may
  have been, is earned when the order leaves, refunded, or written off.
- An order that owes a void gets one payment.voided, or payment.written_off in its place, however early it is asked for;
  one that owes a refund gets one payment.refunded, or payment.refund_written_off.
- Every posting of the ledger adds up to zero; docs/ledger.md says which accounts there are.

A deadline does not mean "not done". After an authorisation or a charge of unknown fate the same key is voided or
refunded until the gateway confirms, and the gateway refuses a step whose compensation it has seen.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from events import (
    AuthoriseAnswered,
    AuthorisePayment,
    CaptureAnswered,
    CapturePayment,
    Charge,
    ChargeAnswered,
    InventoryRejected,
    InventoryReserved,
    LedgerEntry,
    OrderPlaced,
    PaymentAuthorised,
    PaymentCaptured,
    PaymentCharged,
    PaymentDeclined,
    PaymentFailed,
    PaymentOpenStep,
    PaymentRefunded,
    PaymentRefundStuck,
    PaymentRefundWrittenOff,
    PaymentStuck,
    PaymentVoided,
    PaymentWrittenOff,
    Posted,
    Prepayment,
    RefundAnswered,
    ShippingCancelled,
    ShippingDispatched,
    ShippingFailed,
    VoidAnswered,
    VoidPayment,
    WriteOff,
)
from farandole import App, Call, Withdraw
from farandole.values import MAX_AMOUNT

app = App("payment")
charges = app.Table(
    "charges",
    value=Charge,
    ended=lambda charge: charge.phase in ("declined", "voided", "captured", "void_written_off", "capture_written_off"),
    help="The payment of each order, by its id.",
)
prepayments = app.Table(
    "prepayments",
    value=Prepayment,
    ended=lambda prepayment: prepayment.phase in ("declined", "refunded", "earned", "refund_written_off"),
    help="The payment of each order that is charged first, by its id.",
)
gateway = app.outside("gateway", "PAYMENT_GATEWAY_URL")

OPEN: Final = "authorisations.open"
CUSTOMERS: Final = "authorisations.customers"
RECEIVABLE: Final = "gateway.receivable"
SALES: Final = "sales"
LOSSES: Final = "losses.written_off"
PREPAID: Final = "customers.prepaid"
UNREFUNDED: Final = "customers.unrefunded"

POSTINGS: Final = {
    "authorise": {OPEN: +1, CUSTOMERS: -1},
    "void": {OPEN: -1, CUSTOMERS: +1},
    "capture": {OPEN: -1, CUSTOMERS: +1, RECEIVABLE: +1, SALES: -1},
    "write_off_void": {OPEN: -1, CUSTOMERS: +1},
    "write_off_capture": {OPEN: -1, CUSTOMERS: +1, LOSSES: +1, SALES: -1},
    "recover": {RECEIVABLE: +1, LOSSES: -1},
    "charge": {RECEIVABLE: +1, PREPAID: -1},
    "earn": {PREPAID: +1, SALES: -1},
    "refund": {RECEIVABLE: -1, PREPAID: +1},
    "write_off_refund": {PREPAID: +1, UNREFUNDED: -1},
    "refund_after_all": {RECEIVABLE: -1, UNREFUNDED: +1},
}
"""What each kind of posting does to the accounts, times the amount: debit +, credit -. A row adds up to zero."""

AUTHORISE_WITHIN: Final = 10.0
CHARGE_WITHIN: Final = 10.0
"""Seconds. Voids, captures and refunds have no deadline: they are tried until the gateway confirms or an operator gives
up."""


# ---- authorise


def authorise(order: InventoryReserved | AuthorisePayment, flow: str = "") -> Call[AuthoriseAnswered] | None:
    """Authorise the order's amount. An order that was stopped before it was heard of is not."""
    if order.saga in charges:
        return None
    assert 0 <= order.amount <= MAX_AMOUNT, f"an amount is 0 to {MAX_AMOUNT} minor units"
    charges[order.saga] = Charge(
        phase="authorising", amount=order.amount, currency=order.currency, ship_to=order.ship_to, flow=flow
    )
    return Call(
        outside=gateway,
        operation="authorise",
        key=_authorisation_key(order.saga),
        body=_payment_of(order),
        answer=AuthoriseAnswered,
        deadline=AUTHORISE_WITHIN,
    )


Authorised = tuple[PaymentAuthorised | PaymentFailed | Posted | Call[VoidAnswered], ...]


def authorise_answered(answer: AuthoriseAnswered) -> Authorised | PaymentDeclined | PaymentVoided | None:
    charge = charges[answer.saga]
    if charge.phase == "authorising":
        return _wanted(charge, answer)
    if charge.phase == "unwanted":
        return _unwanted(charge, answer)
    return None


def _wanted(charge: Charge, answer: AuthoriseAnswered) -> Authorised | PaymentDeclined:
    if answer.outcome == "accepted":
        charges[answer.saga] = replace(charge, phase="authorised", ship_to="")
        authorised = PaymentAuthorised(ship_to=charge.ship_to, reference=answer.reference)
        return authorised, _post("authorise", charge)
    if answer.outcome == "refused":
        charges[answer.saga] = Charge(phase="declined")
        return PaymentDeclined(reason=answer.reason)
    charges[answer.saga] = replace(charge, phase="clearing", ship_to="")
    return PaymentFailed(outcome="unknown", reason=answer.reason), _void_call(answer.saga)


def _unwanted(charge: Charge, answer: AuthoriseAnswered) -> Authorised | PaymentVoided:
    """The order was stopped while the gateway was asked: whatever came of it is voided at once."""
    if answer.outcome == "refused":
        charges[answer.saga] = Charge(phase="voided")
        return PaymentVoided(outcome="nothing_to_undo")
    if answer.outcome == "accepted":
        charges[answer.saga] = replace(charge, phase="voiding")
        return _post("authorise", charge), _void_call(answer.saga)
    charges[answer.saga] = replace(charge, phase="clearing")
    return (_void_call(answer.saga),)


# ---- take it back


def void(cause: ShippingFailed | ShippingCancelled | VoidPayment) -> Call[VoidAnswered] | PaymentVoided | None:
    """The order was stopped: void what is authorised, or see to it that nothing will be."""
    charge = charges.get(cause.saga)
    if charge is None or charge.phase == "declined":
        charges[cause.saga] = Charge(phase="voided")
        return PaymentVoided(outcome="nothing_to_undo")
    if charge.phase == "authorising":
        charges[cause.saga] = replace(charge, phase="unwanted", ship_to="")
        return None
    if charge.phase == "authorised":
        charges[cause.saga] = replace(charge, phase="voiding")
        return _void_call(cause.saga)
    assert charge.phase not in ("capturing", "captured", "capture_written_off"), "a void after a capture"
    return None


def void_answered(answer: VoidAnswered) -> tuple[PaymentVoided | Posted, ...] | PaymentVoided | PaymentStuck | None:
    charge = charges[answer.saga]
    if charge.phase not in ("voiding", "clearing"):
        return None
    if answer.outcome != "accepted":
        return _stuck("void", charge, answer)
    charges[answer.saga] = Charge(phase="voided")
    if charge.phase == "clearing":
        return PaymentVoided(outcome="undone")
    return PaymentVoided(outcome="undone"), _post("void", charge)


# ---- charge


def capture(event: ShippingDispatched | CapturePayment) -> Call[CaptureAnswered] | None:
    """The order has left: charge the card."""
    charge = charges[event.saga]
    if charge.phase in ("capturing", "captured", "capture_written_off"):
        return None
    assert charge.phase == "authorised", f"it was dispatched, but its payment is {charge.phase}"
    charges[event.saga] = replace(charge, phase="capturing")
    return Call(
        outside=gateway,
        operation="capture",
        key=_capture_key(event.saga),
        body={"authorisation": _authorisation_key(event.saga), "amount": charge.amount},
        answer=CaptureAnswered,
        deadline=None,
    )


def capture_answered(answer: CaptureAnswered) -> tuple[PaymentCaptured | Posted, ...] | Posted | PaymentStuck | None:
    """The card is charged. If an operator had given up by then, the loss is none after all."""
    charge = charges[answer.saga]
    if charge.phase not in ("capturing", "capture_written_off"):
        return None
    if answer.outcome != "accepted":
        return _stuck("capture", charge, answer)
    charges[answer.saga] = replace(charge, phase="captured")
    if charge.phase == "capture_written_off":
        return _post("recover", charge)
    captured = PaymentCaptured(amount=charge.amount, currency=charge.currency, reference=answer.reference)
    return captured, _post("capture", charge)


# ---- when the gateway does not confirm


def write_off(command: WriteOff, flow: str = "") -> tuple[PaymentWrittenOff | Posted | Withdraw, ...] | None:
    """An operator gives up a capture or a void that is not confirmed. Anything else is not theirs to end.

    What they end in another flow than the payment's would not be heard where the order is: it changes nothing.
    """
    charge = charges.get(command.saga)
    if charge is None or (charge.flow and charge.flow != flow):
        return None
    if charge.phase not in ("capturing", "voiding", "clearing"):
        return None
    what: PaymentOpenStep = "capture" if charge.phase == "capturing" else "void"
    charges[command.saga] = replace(charge, phase="capture_written_off" if what == "capture" else "void_written_off")
    call = _capture_key(command.saga) if what == "capture" else _void_key(command.saga)
    given_up = PaymentWrittenOff(what=what, amount=charge.amount, currency=charge.currency, reason=command.reason)
    if charge.phase == "clearing":
        return Withdraw(call), given_up
    return Withdraw(call), given_up, _post(f"write_off_{what}", charge)


def _stuck(what: PaymentOpenStep, charge: Charge, answer: CaptureAnswered | VoidAnswered) -> PaymentStuck | None:
    """The gateway says no to what it cannot refuse. It is said once, and an operator ends it."""
    if charge.stuck or charge.phase == "capture_written_off":
        return None
    charges[answer.saga] = replace(charge, stuck=True)
    return PaymentStuck(what=what, reason=answer.reason)


# ---- charged first


def charge(order: OrderPlaced, flow: str = "") -> Call[ChargeAnswered] | None:
    """Charge the order's amount. An order that was stopped before it was heard of is not."""
    if order.saga in prepayments:
        return None
    assert 0 <= order.amount <= MAX_AMOUNT, f"an amount is 0 to {MAX_AMOUNT} minor units"
    prepayments[order.saga] = Prepayment(
        phase="charging",
        amount=order.amount,
        currency=order.currency,
        lines=order.lines,
        ship_to=order.ship_to,
        reserve_for=order.reserve_for,
        flow=flow,
    )
    return Call(
        outside=gateway,
        operation="charge",
        key=_charge_key(order.saga),
        body=_payment_of(order),
        answer=ChargeAnswered,
        deadline=CHARGE_WITHIN,
    )


Charged = tuple[PaymentCharged | PaymentFailed | Posted | Call[RefundAnswered], ...]


def charge_answered(answer: ChargeAnswered) -> Charged | PaymentDeclined | PaymentRefunded | None:
    """The order was wanted, and is told of; or it was stopped meanwhile, and what came of it is refunded at once."""
    before = prepayments[answer.saga]
    if before.phase not in ("charging", "unwanted"):
        return None
    wanted = before.phase == "charging"
    paid = replace(_paid(before), phase="charged" if wanted else "refunding")
    if answer.outcome == "refused":
        prepayments[answer.saga] = Prepayment(phase="declined" if wanted else "refunded")
        return PaymentDeclined(reason=answer.reason) if wanted else PaymentRefunded(outcome="nothing_to_undo")
    if answer.outcome == "unknown":
        prepayments[answer.saga] = replace(paid, phase="clearing")
        refund_call = _refund_call(answer.saga, paid)
        return (PaymentFailed(outcome="unknown", reason=answer.reason), refund_call) if wanted else (refund_call,)
    prepayments[answer.saga] = paid
    if not wanted:
        return _post("charge", paid), _refund_call(answer.saga, paid)
    told = PaymentCharged(
        amount=before.amount,
        currency=before.currency,
        reference=answer.reference,
        lines=before.lines,
        ship_to=before.ship_to,
        reserve_for=before.reserve_for,
    )
    return told, _post("charge", paid)


def refund(
    cause: InventoryRejected | ShippingFailed | ShippingCancelled,
) -> Call[RefundAnswered] | PaymentRefunded | None:
    """The order was stopped: give back what is charged, or see to it that nothing will be."""
    before = prepayments.get(cause.saga)
    if before is None or before.phase == "declined":
        prepayments[cause.saga] = Prepayment(phase="refunded")
        return PaymentRefunded(outcome="nothing_to_undo")
    if before.phase == "charging":
        prepayments[cause.saga] = replace(_paid(before), phase="unwanted")
        return None
    if before.phase == "charged":
        prepayments[cause.saga] = replace(before, phase="refunding")
        return _refund_call(cause.saga, before)
    assert before.phase != "earned", "a refund of what has left"
    return None


def _paid(before: Prepayment) -> Prepayment:
    """What is kept of it once the order itself is told, or not wanted any more."""
    return replace(before, lines=(), ship_to="", reserve_for=0)


Refunded = tuple[PaymentRefunded | Posted, ...]


def refund_answered(answer: RefundAnswered) -> Refunded | PaymentRefunded | Posted | PaymentRefundStuck | None:
    """The customer has the money back. If an operator had given up by then, it is not owed in another way any more."""
    before = prepayments[answer.saga]
    if before.phase not in ("refunding", "clearing", "refund_written_off"):
        return None
    if answer.outcome != "accepted":
        if before.stuck or before.phase == "refund_written_off":
            return None
        prepayments[answer.saga] = replace(before, stuck=True)
        return PaymentRefundStuck(reason=answer.reason)
    prepayments[answer.saga] = Prepayment(phase="refunded")
    if before.phase == "refund_written_off":
        return _post("refund_after_all", before)
    if before.phase == "clearing":
        return PaymentRefunded(outcome="undone")
    return PaymentRefunded(outcome="undone"), _post("refund", before)


def earn(event: ShippingDispatched) -> Posted | None:
    """The order has left: what was prepaid is a sale, and is not refunded any more."""
    before = prepayments[event.saga]
    if before.phase == "earned":
        return None
    assert before.phase == "charged", f"it was dispatched, but its payment is {before.phase}"
    prepayments[event.saga] = Prepayment(phase="earned")
    return _post("earn", before)


def write_off_refund(
    command: WriteOff, flow: str = ""
) -> tuple[PaymentRefundWrittenOff | Posted | Withdraw, ...] | None:
    """An operator gives up a refund that is not confirmed. Of a charge of unknown fate nothing is known to be owed.

    In another flow than the charge's it changes nothing, as `write_off` says.
    """
    before = prepayments.get(command.saga)
    if before is None or (before.flow and before.flow != flow):
        return None
    if before.phase not in ("refunding", "clearing"):
        return None
    known = before.phase == "refunding"
    prepayments[command.saga] = replace(before, phase="refund_written_off") if known else Prepayment(phase="refunded")
    given_up = PaymentRefundWrittenOff(amount=before.amount, currency=before.currency, reason=command.reason)
    withdrawn = Withdraw(_refund_key(command.saga))
    return (withdrawn, given_up, _post("write_off_refund", before)) if known else (withdrawn, given_up)


# ---- the gateway's keys, the ledger


def _payment_of(order: InventoryReserved | AuthorisePayment | OrderPlaced) -> dict[str, str | int]:
    return {
        "amount": order.amount,
        "currency": order.currency,
        "card_token": order.card_token,
        "order": order.saga,
    }


def _authorisation_key(saga: str) -> str:
    return f"{saga}/authorise"


def _capture_key(saga: str) -> str:
    return f"{saga}/capture"


def _void_key(saga: str) -> str:
    return f"{saga}/void"


def _void_call(saga: str) -> Call[VoidAnswered]:
    return Call(
        outside=gateway,
        operation="void",
        key=_void_key(saga),
        body={"authorisation": _authorisation_key(saga)},
        answer=VoidAnswered,
        deadline=None,
    )


def _charge_key(saga: str) -> str:
    return f"{saga}/charge"


def _refund_key(saga: str) -> str:
    return f"{saga}/refund"


def _refund_call(saga: str, paid: Prepayment) -> Call[RefundAnswered]:
    return Call(
        outside=gateway,
        operation="refund",
        key=_refund_key(saga),
        body={"charge": _charge_key(saga), "amount": paid.amount},
        answer=RefundAnswered,
        deadline=None,
    )


def _post(memo: str, paid: Charge | Prepayment) -> Posted:
    entries = (LedgerEntry(account=name, amount=sign * paid.amount) for name, sign in POSTINGS[memo].items())
    return Posted(memo=memo, currency=paid.currency, entries=tuple(entries))


@app.agent(app.inbox)
async def payment(batches: Any) -> None:
    """Takes the customers' money, gives it back, and keeps the ledger."""
    async for batch in batches:
        batch.decide()
