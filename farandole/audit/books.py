"""Stock by sku and money by account, added up from events alone, and compared with what the services say.

Invariants that are checked:
- received = available + held + sold, for every sku: deliveries from `stock.received`, held and sold from the lines of
  orders; against the inventory's own table.
- Every posting adds up to zero; every balance is what the orders' events imply.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from events import Posted, StockLevel, StockReceived
from farandole.audit.findings import Findings
from farandole.audit.records import LogRecord, Where
from farandole.audit.services import Services

CHART: Final[dict[str, dict[str, int]]] = {
    "authorise": {"authorisations.open": +1, "authorisations.customers": -1},
    "void": {"authorisations.open": -1, "authorisations.customers": +1},
    "capture": {
        "authorisations.open": -1,
        "authorisations.customers": +1,
        "gateway.receivable": +1,
        "sales": -1,
    },
    "write_off_void": {"authorisations.open": -1, "authorisations.customers": +1},
    "write_off_capture": {
        "authorisations.open": -1,
        "authorisations.customers": +1,
        "losses.written_off": +1,
        "sales": -1,
    },
    "recover": {"gateway.receivable": +1, "losses.written_off": -1},
    "charge": {"gateway.receivable": +1, "customers.prepaid": -1},
    "earn": {"customers.prepaid": +1, "sales": -1},
    "refund": {"gateway.receivable": -1, "customers.prepaid": +1},
    "write_off_refund": {"customers.prepaid": +1, "customers.unrefunded": -1},
    "refund_after_all": {"gateway.receivable": -1, "customers.unrefunded": +1},
}
"""What each posting does to the accounts, times the order's amount; docs/ledger.md. An outsider's copy, on purpose:
taken from the service that is audited, a mistake there would be right here."""

Account = tuple[str, str]
"""Currency and account."""


class Delivery(NamedTuple):
    saga: str
    sku: str
    quantity: int
    where: Where


@dataclass
class SkuFigures:
    """One sku's pieces, as the events have them, and as the table does."""

    received: int = 0
    held: int = 0
    sold: int = 0
    held_by_ended: int = 0
    table: tuple[int, int, int] | None = None

    @property
    def available(self) -> int:
        return self.received - self.held - self.sold

    @property
    def drift(self) -> tuple[int, int, int]:
        """Table minus events: available, held, sold."""
        table = self.table or (0, 0, 0)
        return table[0] - self.available, table[1] - self.held, table[2] - self.sold

    def to_dict(self) -> dict[str, Any]:
        return {
            "received": self.received,
            "available": self.available,
            "held": self.held,
            "sold": self.sold,
            "held_by_ended": self.held_by_ended,
            "drift": dict(zip(("available", "held", "sold"), self.drift, strict=True)),
        }


class Stock:
    """Deliveries and the stock table. Lines of orders are added by whoever follows the orders."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._deliveries: list[Delivery] = []
        self._levels: dict[tuple[str, int], StockLevel] = {}

    def received(self, event: StockReceived, where: Where) -> None:
        self._deliveries.append(Delivery(event.saga, event.sku, event.quantity, where))

    def level(self, record: LogRecord, row: StockLevel | None) -> None:
        name = ((record.key or b"").decode(errors="replace"), record.partition)
        if row is None:
            self._levels.pop(name, None)
            return
        self._levels[name] = row
        if min(row.available, row.held, row.sold) < 0:
            self._findings.add("below-zero", f"the stock of {name[0]} is {row}", where=record.where, saga=name[0])

    def add_up(self, services: Services, owner: str) -> tuple[defaultdict[str, SkuFigures], list[Delivery]]:
        """What was received, by sku, and the deliveries that `owner` has not taken yet."""
        skus: defaultdict[str, SkuFigures] = defaultdict(SkuFigures)
        known: set[tuple[str, str]] = set()
        unhandled = []
        for delivery in self._deliveries:
            place = (owner, delivery.where.topic, delivery.where.partition)
            if services.taken.get(place, -1) < delivery.where.offset:
                unhandled.append(delivery)
            elif not services.refused(owner, delivery.where, delivery.saga):
                name = (delivery.sku, delivery.saga)
                if name not in known:  # the same delivery again changes nothing
                    known.add(name)
                    edited = services.edited.get((owner, delivery.where))
                    skus[delivery.sku].received += edited.quantity if edited else delivery.quantity
        for (sku, _), row in self._levels.items():
            available, held, sold = skus[sku].table or (0, 0, 0)
            skus[sku].table = (available + row.available, held + row.held, sold + row.sold)
        return skus, unhandled


def compare_stock(skus: dict[str, SkuFigures], findings: Findings) -> None:
    for sku, figures in skus.items():
        if any(figures.drift):
            available, held, sold = figures.drift
            what = f"against the events the table of {sku} has {available:+} available, {held:+} held, {sold:+} sold"
            findings.add("stock-drift", what, saga=sku, momentary=True)
        if figures.available < 0:
            what = f"{sku}: {figures.received} received, {figures.held + figures.sold} held or sold"
            findings.add("oversold", what, saga=sku, momentary=True)


@dataclass
class AccountFigures:
    posted: int = 0
    implied: int = 0

    def to_dict(self) -> dict[str, int]:
        return {"posted": self.posted, "implied": self.implied, "drift": self.posted - self.implied}


@dataclass
class Ledger:
    """The postings, added up by account. Minor units, debit positive."""

    findings: Findings
    balances: Counter[Account] = field(default_factory=Counter)

    def post(self, posting: Posted, where: Where) -> int | None:
        """Add a posting. The amount that it is about; None if the chart of accounts does not know such a posting."""
        for entry in posting.entries:
            self.balances[posting.currency, entry.account] += entry.amount
        total = sum(entry.amount for entry in posting.entries)
        if total or len(posting.entries) < 2:
            what = f"{posting.memo}: its {len(posting.entries)} entries add up to {total}"
            self.findings.add("unbalanced-posting", what, where=where, saga=posting.saga)
        amount = amount_of(posting)
        if amount is None:
            entries = ", ".join(f"{entry.account} {entry.amount:+}" for entry in posting.entries)
            self.findings.add("wrong-posting", f"{posting.memo}: {entries}", where=where, saga=posting.saga)
        return amount


def amount_of(posting: Posted) -> int | None:
    """The amount with which the chart's row gives exactly these entries."""
    chart = CHART.get(posting.memo)
    entries = {entry.account: entry.amount for entry in posting.entries}
    if chart is None or entries.keys() != chart.keys() or len(entries) != len(posting.entries):
        return None
    amounts = {entries[account] * sign for account, sign in chart.items()}
    amount = amounts.pop()
    return None if amounts or amount < 0 else amount


def compare_money(
    posted: Counter[Account], implied: Counter[Account], findings: Findings
) -> dict[Account, AccountFigures]:
    figures = {name: AccountFigures(posted[name], implied[name]) for name in sorted({*posted, *implied})}
    for (currency, account), each in figures.items():
        if each.posted != each.implied:
            what = f"{account} is {each.posted - each.implied:+} {currency} (minor units) off what the orders imply"
            findings.add("money-drift", what, saga=f"{currency} {account}", momentary=True)
    return figures


class Charge(NamedTuple):
    """One order's payment as the topics have it, for whoever compares it with the outside.

    amount:    of the order, -1: not known; captured: payment.captured, or payment.charged, was published
    given_up:  an operator wrote the capture, the void or the refund off, so the gateway may have done it or not
    under_way: not ended, and parked or in a system that is not said to be at rest: the gateway may be ahead
    first:     it is charged first, and refunded if it is stopped
    """

    amount: int
    currency: str
    captured: bool
    cancelled: bool
    given_up: bool
    under_way: bool
    first: bool = False
