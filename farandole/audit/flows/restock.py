"""`restock`: a delivery arrives and is added to the stock. What became of it is in the inventory's table alone."""

from __future__ import annotations

from typing import Any, ClassVar

from events import StockReceived
from farandole.audit.flows import FlowAudit
from farandole.audit.records import LogRecord


class Audit(FlowAudit):
    flow: ClassVar = "restock"
    clients: ClassVar = frozenset({StockReceived})

    def take(self, saga: Any, event: Any, record: LogRecord) -> None:
        if isinstance(event, StockReceived):
            self.books.stock.received(event, record.where)
