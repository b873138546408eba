"""What both sides are given: orders of one line each, and stock enough for all of them.

Names and numbers have a fixed width, so that every order costs the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import events
from agents.order import order_id
from events import OrderLine, PlaceOrder, StockReceived
from farandole.codec import Codec
from farandole.config import project_root
from farandole.event import Meta

FLOW = "order/1"
SKUS = tuple(f"sku-{number:04}" for number in range(100))
STOCK = 100_000_000


SAGA_BYTES = len(order_id("customer", "key"))
"""All orders' ids are equally long."""


class Placed(NamedTuple):
    """A record for `order.commands`, or `stock`."""

    key: str
    value: bytes


def codec() -> Codec:
    return Codec.load(project_root() / "schemas", events)


def orders(codec: Codec, name: str, count: int) -> list[Placed]:
    """`count` orders; another `name`, of at most eight letters, gives other orders."""
    return [_order(codec, f"{name:-<8}{number:08}", SKUS[number % len(SKUS)]) for number in range(count)]


def _order(codec: Codec, key: str, sku: str) -> Placed:
    saga = order_id("customer-48211", key)
    command = PlaceOrder(
        customer="customer-48211",
        idempotency_key=key,
        lines=(OrderLine(line=1, sku=sku, quantity=2, price=1999),),
        currency="EUR",
        email="someone@example.org",
        ship_to="12 rue de la Farandole, 69001 Lyon",
        card_token="tok_4242424242424242",
        reserve_for=900,
    )
    return Placed(saga, codec.encode(command, Meta(f"bench/{key}", saga, FLOW, "")))


def deliveries(codec: Codec) -> Iterator[Placed]:
    for sku in SKUS:
        delivery = StockReceived(sku=sku, quantity=STOCK)
        yield Placed(sku, codec.encode(delivery, Meta(f"bench/{sku}", f"delivery-{sku}", "restock/1", "")))
