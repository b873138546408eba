"""`order-orchestrated`: the rules of an order whose steps an orchestrator commands.

Each command rests on the answer before it, each answer on its command, and each command owes its answer.
"""

from __future__ import annotations

from typing import ClassVar, Final

from farandole.audit.flows import order_charged_last as charged_last
from farandole.audit.flows.order import Audit as OrderAudit
from farandole.audit.flows.order_charged_last import ChargedLast
from farandole.audit.flows.order_facts import CAUSES, COMMANDED, any_of
from farandole.audit.flows.order_ruling import Rules, exclusive, instead, owes, rests

RESERVE, AUTHORISE = "inventory.commands.reserve_stock", "payment.commands.authorise_payment"
DISPATCH, STOP = "shipping.commands.dispatch_shipment", "shipping.commands.cancel_shipment"
CAPTURE, COMMIT = "payment.commands.capture_payment", "inventory.commands.commit_stock"
VOID, RELEASE = "payment.commands.void_payment", "inventory.commands.release_stock"
COMPLETE, ABANDON = "order.closing.commands.complete_order", "order.closing.commands.abandon_order"
OVERDUE = "orchestrator.timers.answer_overdue"
CONFIRMED, NOTIFY = "orchestrator.confirmed", "notification.commands.notify"

_STOPPED: Final = (*CAUSES, f"{OVERDUE}:reserve-stock", f"{OVERDUE}:authorise-payment")
_VOIDED: Final = ("payment.voided", "payment.written_off:void")
_CHARGED: Final = ("payment.captured", "payment.written_off:capture")

UP_TO_THE_PAYMENT: Final = Rules(
    causes=(*CAUSES, OVERDUE),
    foreign=charged_last.FOREIGN & ~COMMANDED,
    paying=ChargedLast(),
    exclusive=(
        *charged_last.EXCLUSIVE,
        exclusive(RELEASE, "shipping.dispatched"),
        exclusive(VOID, "shipping.dispatched"),
    ),
    rests_on=instead(
        charged_last.RESTS_ON,
        rests(RESERVE, "order.placed"),
        rests("inventory.reserved", RESERVE),
        rests("inventory.rejected", RESERVE),
        rests("inventory.timers.reservation_expired", RESERVE),
        rests(AUTHORISE, "inventory.reserved"),
        rests("payment.calls.authorise_answered", AUTHORISE),
        rests(f"{OVERDUE}:reserve-stock", RESERVE),
        rests(f"{OVERDUE}:authorise-payment", AUTHORISE),
        rests(VOID, AUTHORISE, _STOPPED),
        rests("payment.voided", ("payment.failed", VOID)),
        rests("payment.written_off:void", ("payment.failed", VOID)),
        rests(RELEASE, _STOPPED),
        # The last step is taken back first. Of a declined payment there is nothing to take back.
        rests(RELEASE, ("payment.declined", *_VOIDED), given=AUTHORISE),
        rests("inventory.released", ("inventory.rejected", RELEASE)),
        rests(ABANDON, _STOPPED, "inventory.released"),
        rests("order.cancelled", "order.placed", ABANDON),
    ),
    owes=instead(
        charged_last.OWES,
        owes(("payment.failed", "shipping.failed", "shipping.cancelled"), ("inventory.released",)),
        owes((RESERVE,), ("inventory.reserved", "inventory.rejected", "inventory.released")),
        owes((AUTHORISE,), ("payment.authorised", "payment.declined", "payment.failed", *_VOIDED)),
        owes((VOID,), _VOIDED),
        owes(("payment.failed",), _VOIDED),
        owes((RELEASE,), ("inventory.released",)),
        owes((ABANDON,), ("order.cancelled",)),
    ),
)

ORCHESTRATED: Final = UP_TO_THE_PAYMENT._replace(
    foreign=UP_TO_THE_PAYMENT.foreign | any_of(CONFIRMED),
    exclusive=(*UP_TO_THE_PAYMENT.exclusive, exclusive(COMPLETE, ABANDON)),
    rests_on=instead(
        UP_TO_THE_PAYMENT.rests_on,
        rests(DISPATCH, "payment.authorised"),
        rests("shipping.calls.book_answered", DISPATCH),
        rests(f"{OVERDUE}:dispatch-shipment", DISPATCH),
        rests(f"{STOP}:customer", "order.cancel_requested"),
        rests(f"{STOP}:clock", ("inventory.expiry_requested", f"{OVERDUE}:dispatch-shipment")),
        rests("shipping.cancelled:customer", f"{STOP}:customer"),
        rests("shipping.cancelled:clock", f"{STOP}:clock"),
        rests("shipping.cancel_refused:customer", f"{STOP}:customer", "shipping.dispatched"),
        rests("shipping.cancel_refused:clock", f"{STOP}:clock", "shipping.dispatched"),
        rests(CAPTURE, "shipping.dispatched"),
        rests("payment.calls.capture_answered", CAPTURE, "shipping.dispatched", check="charged-without-dispatch"),
        rests(COMMIT, "shipping.dispatched"),
        rests("inventory.committed", COMMIT),
        rests(COMPLETE, "inventory.committed", _CHARGED),
        rests("order.completed", COMPLETE, "inventory.committed", _CHARGED, check="completed-unfinished"),
        rests(f"{NOTIFY}:completed", "order.completed"),
        rests(f"{NOTIFY}:cancelled", "order.cancelled"),
        rests(f"{NOTIFY}:refused", "order.refused"),
        rests("notification.sent", NOTIFY),
    ),
    owes=instead(
        UP_TO_THE_PAYMENT.owes,
        owes((DISPATCH,), ("shipping.dispatched", "shipping.failed", "shipping.cancelled")),
        owes((f"{STOP}:customer",), ("shipping.cancelled", "shipping.failed", "shipping.cancel_refused:customer")),
        owes((f"{STOP}:clock",), ("shipping.cancelled", "shipping.failed", "shipping.cancel_refused:clock")),
        owes(("order.cancel_requested",), (f"{STOP}:customer", "order.cancelled")),
        owes(("inventory.expiry_requested",), (f"{STOP}:clock", "order.cancelled")),
        owes((CAPTURE,), _CHARGED),
        owes((COMMIT,), ("inventory.committed",)),
        owes((COMPLETE,), ("order.completed",)),
        owes((NOTIFY,), ("notification.sent",), "mail-missing"),
    ),
)


class Audit(OrderAudit):
    flow: ClassVar = "order-orchestrated"
    rules: ClassVar = ORCHESTRATED
