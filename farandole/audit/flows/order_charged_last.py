"""The rules of order flows that authorise the card, and charge it when the order has left."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from farandole.audit.books import Charge
from farandole.audit.flows import order_ruling as shared
from farandole.audit.flows.order_facts import CAUSES, COMMANDED, ENDINGS, any_of
from farandole.audit.flows.order_ruling import Rules, exclusive, owes, rests
from farandole.audit.flows.order_state import Order

EXCLUSIVE: Final = (
    *shared.EXCLUSIVE,
    exclusive("payment.authorised", "payment.declined", "payment.failed"),
    exclusive("payment.captured", "payment.written_off:capture"),
    exclusive("payment.voided", "payment.written_off:void"),
    exclusive("payment.voided", "payment.captured"),
    exclusive("payment.voided", "shipping.dispatched"),
    exclusive("order.cancelled", "payment.captured", check="cancelled-but-charged"),
)

RESTS_ON: Final = (
    *shared.RESTS_ON,
    rests(
        "order.completed",
        "inventory.committed",
        ("payment.captured", "payment.written_off:capture"),
        check="completed-unfinished",
    ),
    rests("inventory.reserved", "order.placed"),
    rests("inventory.rejected", "order.placed"),
    rests("inventory.timers.reservation_expired", "order.placed"),
    rests("inventory.released", CAUSES),
    rests("payment.calls.authorise_answered", "inventory.reserved"),
    rests("payment.authorised", "payment.calls.authorise_answered:accepted"),
    rests("payment.declined", "payment.calls.authorise_answered:refused"),
    rests("payment.failed", "payment.calls.authorise_answered:unknown"),
    rests("payment.voided", ("payment.failed", "shipping.failed", "shipping.cancelled")),
    rests("payment.voided:undone", "payment.calls.void_answered:accepted"),
    rests("payment.calls.capture_answered", "shipping.dispatched", check="charged-without-dispatch"),
    rests("payment.captured", "shipping.dispatched", check="charged-without-dispatch"),
    rests("payment.captured", "payment.calls.capture_answered:accepted"),
    rests("payment.written_off", "payment.commands.write_off"),
    rests("payment.written_off:capture", "shipping.dispatched"),
    rests("payment.written_off:void", ("payment.failed", "shipping.failed", "shipping.cancelled")),
    rests(
        "payment.stuck",
        tuple(
            f"payment.calls.{call}_answered:{said}" for call in ("capture", "void") for said in ("refused", "unknown")
        ),
    ),
    rests("shipping.calls.book_answered", "payment.authorised"),
)

OWES: Final = (
    *shared.OWES,
    owes(("payment.failed", "shipping.failed", "shipping.cancelled"), ("payment.voided", "payment.written_off:void")),
    owes(CAUSES, ("inventory.released",)),
)

FOREIGN: Final = COMMANDED | any_of(
    "payment.charged",
    "payment.refunded",
    "payment.refund_written_off",
    "payment.refund_stuck",
    "payment.calls.charge_answered",
    "payment.calls.refund_answered",
)

_CANCELLED, _ENDED = any_of("order.cancelled"), any_of(*ENDINGS)
_RELEASED = any_of("inventory.released")
_VOIDED_UNDONE = any_of("payment.voided:undone")
_VOIDED = any_of("payment.voided")
_CAPTURED = any_of("payment.captured")
_AUTHORISED = any_of("payment.authorised")
_WRITTEN_OFF_VOID = any_of("payment.written_off:void")
_WRITTEN_OFF_CAPTURE = any_of("payment.written_off:capture")
_AUTHORISE_ACCEPTED = any_of("payment.calls.authorise_answered:accepted")
_AUTHORISE_UNKNOWN = any_of("payment.calls.authorise_answered:unknown")
_CAPTURE_ACCEPTED = any_of("payment.calls.capture_answered:accepted")


class ChargedLast:
    def standing(self, order: Order) -> list[str]:
        standing = [] if order.has(_RELEASED) else ["the reservation: no inventory.released"]
        if order.has(_AUTHORISE_ACCEPTED | _AUTHORISE_UNKNOWN | _AUTHORISED):
            if not order.has(_VOIDED | _WRITTEN_OFF_VOID):
                standing.append("the authorisation: neither payment.voided nor written off")
            elif order.has(_AUTHORISE_ACCEPTED) and not order.has(_VOIDED_UNDONE | _WRITTEN_OFF_VOID):
                standing.append("the authorisation: payment.voided says that there was none")
        return standing

    def steps(self, order: Order) -> tuple[str, ...]:
        steps = []
        if order.has(_VOIDED_UNDONE):
            steps.append("authorise=payment.voided")
        if order.has(_WRITTEN_OFF_VOID):
            steps.append("authorise=payment.written_off")
        return tuple(steps)

    def implied(self, order: Order, posted: Set[str], held: bool, late: bool) -> set[str]:
        """An authorisation that came when the order had been stopped is posted in silence, together with the call that
        voids it. So between the gateway's answer and the service's reading of it both are right: posted, and not yet
        posted.
        """
        implied = set()
        if order.has(_AUTHORISED) or (
            order.has(_AUTHORISE_ACCEPTED) and (order.has(_VOIDED_UNDONE) or "authorise" in posted)
        ):
            implied.add("authorise")
        if order.has(_CAPTURED):
            implied.add("capture")
        if order.has(_VOIDED_UNDONE) and "authorise" in implied:
            implied.add("void")
        if order.has(_WRITTEN_OFF_VOID) and ("authorise" in implied or order.has(_AUTHORISE_ACCEPTED)):
            implied |= {"authorise", "write_off_void"}
        if order.has(_WRITTEN_OFF_CAPTURE):
            implied.add("write_off_capture")
            # The gateway's answer crossed the operator's command: no loss after all, once payment has read it.
            if order.has(_CAPTURE_ACCEPTED) and not (held and "recover" not in posted):
                implied.add("recover")
        return implied

    def charge(self, order: Order, at_rest: bool) -> Charge:
        return Charge(
            amount=order.amount,
            currency=order.currency,
            captured=order.has(_CAPTURED),
            cancelled=order.has(_CANCELLED),
            given_up=order.has(_WRITTEN_OFF_CAPTURE | _WRITTEN_OFF_VOID),
            under_way=not at_rest and not order.has(_ENDED),
        )


CHARGED_LAST: Final = Rules(EXCLUSIVE, RESTS_ON, OWES, FOREIGN, ChargedLast())
