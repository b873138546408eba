"""`order-pay-first`: folded like `order`, judged by the rules of a card that is charged first."""

from __future__ import annotations

from typing import ClassVar

from farandole.audit.flows.order import Audit as OrderAudit
from farandole.audit.flows.order_charged_first import CHARGED_FIRST


class Audit(OrderAudit):
    flow: ClassVar = "order-pay-first"
    rules: ClassVar = CHARGED_FIRST
