"""`order-hybrid`: the rules of an order that is orchestrated up to the payment, and choreographed from there on."""

from __future__ import annotations

from typing import ClassVar

from farandole.audit.flows.order import Audit as OrderAudit
from farandole.audit.flows.order_facts import any_of
from farandole.audit.flows.order_orchestrated import (
    CAPTURE,
    COMMIT,
    COMPLETE,
    CONFIRMED,
    DISPATCH,
    NOTIFY,
    OVERDUE,
    STOP,
    UP_TO_THE_PAYMENT,
)
from farandole.audit.flows.order_ruling import instead, owes, rests


class Audit(OrderAudit):
    flow: ClassVar = "order-hybrid"
    rules: ClassVar = UP_TO_THE_PAYMENT._replace(
        foreign=UP_TO_THE_PAYMENT.foreign
        | any_of(CAPTURE, COMMIT, COMPLETE, DISPATCH, NOTIFY, STOP, f"{OVERDUE}:dispatch-shipment"),
        rests_on=instead(
            UP_TO_THE_PAYMENT.rests_on,
            rests(CONFIRMED, "payment.authorised"),
            rests("shipping.calls.book_answered", CONFIRMED),
        ),
        owes=instead(
            UP_TO_THE_PAYMENT.owes,
            owes((CONFIRMED,), ("shipping.dispatched", "shipping.failed", "shipping.cancelled")),
        ),
    )
