"""`restock/1`: a delivery arrives and is added to the stock. The saga is the delivery's id."""

from __future__ import annotations

from agents import inventory
from events import StockReceived
from farandole import Flow

restock = Flow("restock", version=1)

restock.on(StockReceived, inventory.receive)
