"""The rules of order flows that charge the card before anything else, and refund it if the order is stopped."""

from __future__ import annotations

from collections.abc import Set
from typing import Final

from farandole.audit.books import Charge
from farandole.audit.flows import order_ruling as shared
from farandole.audit.flows.order_facts import COMMANDED, ENDINGS, any_of
from farandole.audit.flows.order_ruling import Rules, exclusive, owes, rests
from farandole.audit.flows.order_state import ASKED, Order

STOPPED_LATER: Final = ("inventory.rejected", "shipping.failed", "shipping.cancelled")
"""What stops an order of which inventory may have heard. Where payment stops it, nobody else has."""

REFUND_CAUSES: Final = ("payment.failed", *STOPPED_LATER)

EXCLUSIVE: Final = (
    *shared.EXCLUSIVE,
    exclusive("payment.charged", "payment.declined", "payment.failed"),
    exclusive("payment.refunded", "payment.refund_written_off"),
    exclusive("payment.refunded", "shipping.dispatched"),
    exclusive("payment.refund_written_off", "shipping.dispatched"),
    exclusive("payment.declined", "inventory.reserved"),
    exclusive("payment.failed", "inventory.reserved"),
)

RESTS_ON: Final = (
    *shared.RESTS_ON,
    rests("order.completed", "inventory.committed", "payment.charged", check="completed-unfinished"),
    rests("inventory.reserved", "payment.charged"),
    rests("inventory.rejected", "payment.charged"),
    rests("inventory.timers.reservation_expired", "payment.charged"),
    rests("inventory.released", STOPPED_LATER),
    rests("payment.calls.charge_answered", "order.placed"),
    rests("payment.charged", "payment.calls.charge_answered:accepted"),
    rests("payment.declined", "payment.calls.charge_answered:refused"),
    rests("payment.failed", "payment.calls.charge_answered:unknown"),
    rests("payment.refunded", REFUND_CAUSES),
    rests("payment.refunded:undone", "payment.calls.refund_answered:accepted"),
    rests("payment.calls.refund_answered", REFUND_CAUSES),
    rests("payment.refund_written_off", "payment.commands.write_off"),
    rests("payment.refund_written_off", REFUND_CAUSES),
    rests(
        "payment.refund_stuck",
        ("payment.calls.refund_answered:refused", "payment.calls.refund_answered:unknown"),
    ),
    rests("payment.ledger.posted:earn", "shipping.dispatched"),
    rests("shipping.calls.book_answered", "inventory.reserved"),
)

OWES: Final = (
    *shared.OWES,
    owes(REFUND_CAUSES, ("payment.refunded", "payment.refund_written_off")),
    owes(STOPPED_LATER, ("inventory.released",)),
)

FOREIGN: Final = COMMANDED | any_of(
    "payment.authorised",
    "payment.captured",
    "payment.voided",
    "payment.written_off",
    "payment.stuck",
    "payment.calls.authorise_answered",
    "payment.calls.void_answered",
    "payment.calls.capture_answered",
)

_CANCELLED, _ENDED = any_of("order.cancelled"), any_of(*ENDINGS)
_DISPATCHED = any_of("shipping.dispatched")
_RELEASED = any_of("inventory.released")
_CHARGED = any_of("payment.charged")
_REFUNDED, _REFUNDED_UNDONE = any_of("payment.refunded"), any_of("payment.refunded:undone")
_WRITTEN_OFF = any_of("payment.refund_written_off")
_CHARGE_ACCEPTED = any_of("payment.calls.charge_answered:accepted")
_CHARGE_UNKNOWN = any_of("payment.calls.charge_answered:unknown")
_REFUND_ACCEPTED = any_of("payment.calls.refund_answered:accepted")


class ChargedFirst:
    def standing(self, order: Order) -> list[str]:
        standing = []
        if any(line.facts & ASKED for line in order.lines) and not order.has(_RELEASED):
            standing.append("the reservation: no inventory.released")
        if order.has(_CHARGE_ACCEPTED | _CHARGE_UNKNOWN | _CHARGED):
            if not order.has(_REFUNDED | _WRITTEN_OFF):
                standing.append("the charge: neither payment.refunded nor written off")
            elif order.has(_CHARGE_ACCEPTED) and not order.has(_REFUNDED_UNDONE | _WRITTEN_OFF):
                standing.append("the charge: payment.refunded says that there was none")
        return standing

    def steps(self, order: Order) -> tuple[str, ...]:
        steps = []
        if order.has(_REFUNDED_UNDONE):
            steps.append("charge=payment.refunded")
        if order.has(_WRITTEN_OFF):
            steps.append("charge=payment.refund_written_off")
        return tuple(steps)

    def implied(self, order: Order, posted: Set[str], held: bool, late: bool) -> set[str]:
        """As with authorisations, a charge that came when the order had been stopped is posted in silence; and what
        was earned is posted when payment hears that the order has left, which no event of its own tells.
        """
        implied = set()
        accepted = order.has(_CHARGE_ACCEPTED)
        if order.has(_CHARGED) or (accepted and (order.has(_REFUNDED_UNDONE | _WRITTEN_OFF) or "charge" in posted)):
            implied.add("charge")
        if order.has(_DISPATCHED) and ("earn" in posted or (late and not held)):
            implied.add("earn")
        if order.has(_REFUNDED_UNDONE) and "charge" in implied:
            implied.add("refund")
        if order.has(_WRITTEN_OFF) and "charge" in implied:
            implied.add("write_off_refund")
            # The gateway's answer crossed the operator's command: nothing is owed any more, once payment has read it.
            if order.has(_REFUND_ACCEPTED) and not (held and "refund_after_all" not in posted):
                implied.add("refund_after_all")
        return implied

    def charge(self, order: Order, at_rest: bool) -> Charge:
        return Charge(
            amount=order.amount,
            currency=order.currency,
            captured=order.has(_CHARGED),
            cancelled=order.has(_CANCELLED),
            given_up=order.has(_WRITTEN_OFF),
            under_way=not at_rest and not order.has(_ENDED),
            first=True,
        )


CHARGED_FIRST: Final = Rules(EXCLUSIVE, RESTS_ON, OWES, FOREIGN, ChargedFirst())
