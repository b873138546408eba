"""The payment service: authorises, captures and voids at the payment gateway, and keeps the ledger.

Invariants:
- A card is charged once or not at all, and only after shipping.dispatched.
- What was authorised, or may have been, is captured, voided, or written off by an operator.
- An order that owes a void gets one payment.voided, or payment.written_off in its place, however early it is asked for.
- Every posting of the ledger adds up to zero; docs/ledger.md says which accounts there are.

A deadline does not mean "not done". After an authorisation of unknown fate the same key is voided until the gateway
confirms, and the gateway refuses an authorisation whose void it has seen.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from events import (
    AuthoriseAnswered,
    CaptureAnswered,
    Charge,
    InventoryReserved,
    LedgerEntry,
    PaymentAuthorised,
    PaymentCaptured,
    PaymentDeclined,
    PaymentFailed,
    PaymentOpenStep,
    PaymentStuck,
    PaymentVoided,
    PaymentWrittenOff,
    Posted,
    ShippingCancelled,
    ShippingDispatched,
    ShippingFailed,
    VoidAnswered,
    WriteOff,
)
from farandole import App, Call, Withdraw

app = App("payment")
charges = app.Table(
    "charges",
    value=Charge,
    ended=lambda charge: charge.phase in ("declined", "voided", "captured", "void_written_off", "capture_written_off"),
    help="The payment of each order, by its id.",
)
gateway = app.outside("gateway", "PAYMENT_GATEWAY_URL")

OPEN: Final = "authorisations.open"
CUSTOMERS: Final = "authorisations.customers"
RECEIVABLE: Final = "gateway.receivable"
SALES: Final = "sales"
LOSSES: Final = "losses.written_off"

POSTINGS: Final = {
    "authorise": {OPEN: +1, CUSTOMERS: -1},
    "void": {OPEN: -1, CUSTOMERS: +1},
    "capture": {OPEN: -1, CUSTOMERS: +1, RECEIVABLE: +1, SALES: -1},
    "write_off_void": {OPEN: -1, CUSTOMERS: +1},
    "write_off_capture": {OPEN: -1, CUSTOMERS: +1, LOSSES: +1, SALES: -1},
    "recover": {RECEIVABLE: +1, LOSSES: -1},
}
"""What each kind of posting does to the accounts, times the amount: debit +, credit -. A row adds up to zero."""

MAX_AMOUNT: Final = 1 << 53
"""What an order may come to; beyond it the ledger's sums would not be exact in every language."""

AUTHORISE_WITHIN: Final = 10.0
"""Seconds. Voids and captures have no deadline: they are tried until the gateway confirms or an operator gives up."""


# ---- authorise


def authorise(order: InventoryReserved) -> Call[AuthoriseAnswered] | None:
    """Authorise the order's amount. An order that was stopped before it was heard of is not."""
    if order.saga in charges:
        return None
    assert 0 <= order.amount <= MAX_AMOUNT, f"an amount is 0 to {MAX_AMOUNT} minor units"
    charges[order.saga] = Charge(
        phase="authorising", amount=order.amount, currency=order.currency, ship_to=order.ship_to
    )
    return Call(
        outside=gateway,
        operation="authorise",
        key=_authorisation_key(order.saga),
        body={
            "amount": order.amount,
            "currency": order.currency,
            "card_token": order.card_token,
            "order": order.saga,
        },
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


def void(cause: ShippingFailed | ShippingCancelled) -> Call[VoidAnswered] | PaymentVoided | None:
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


def capture(event: ShippingDispatched) -> Call[CaptureAnswered] | None:
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


def write_off(command: WriteOff) -> tuple[PaymentWrittenOff | Posted | Withdraw, ...] | None:
    """An operator gives up a capture or a void that is not confirmed. Anything else is not theirs to end."""
    charge = charges.get(command.saga)
    if charge is None or charge.phase not in ("capturing", "voiding", "clearing"):
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


# ---- the gateway's keys, the ledger


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


def _post(memo: str, charge: Charge) -> Posted:
    entries = (LedgerEntry(account=name, amount=sign * charge.amount) for name, sign in POSTINGS[memo].items())
    return Posted(memo=memo, currency=charge.currency, entries=tuple(entries))


@app.agent(app.inbox)
async def payment(batches: Any) -> None:
    """Authorises, captures and voids, and keeps the ledger."""
    async for batch in batches:
        batch.decide()
