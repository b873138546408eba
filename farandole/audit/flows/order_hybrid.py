"""`order-hybrid`: what an order promises that is orchestrated up to the payment, and choreographed from there on."""

from __future__ import annotations

from typing import ClassVar

from farandole.audit.flows.order import OrderAudit
from farandole.audit.flows.order_orchestrated import CONFIRMED, UP_TO_THE_PAYMENT
from farandole.audit.flows.order_promises import STOPPED_DIRECTLY, Promises, owes, rests


class Audit(OrderAudit):
    flow: ClassVar = "order-hybrid"
    promises: ClassVar[Promises] = UP_TO_THE_PAYMENT.and_also(*STOPPED_DIRECTLY).and_also(
        rests_on=(rests(CONFIRMED, "payment.authorised"), rests("shipping.calls.book_answered", CONFIRMED)),
        owes=(owes((CONFIRMED,), ("shipping.dispatched", "shipping.failed", "shipping.cancelled")),),
    )
