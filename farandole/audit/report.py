"""The audit's result: figures for people, one object for scripts.

Invariant: `ok` is true only if there is no finding; what is merely worth knowing is a note and changes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from farandole.audit.bank import BankFigures
from farandole.audit.books import Account, AccountFigures, SkuFigures
from farandole.audit.findings import Finding
from farandole.audit.flows import OrderFigures
from farandole.audit.fold import Bad
from farandole.audit.services import Discarded, Parked, Waiting

LISTED: Final = 100
"""Entries of each list that to_dict() shows; the number of all is beside it."""

TAKEN_BACK_CHECKS: Final = (
    "not-taken-back",
    "cancelled-but-dispatched",
    "cancelled-but-charged",
    "held-by-ended",
    "gateway-left-open",
)


@dataclass
class Reading:
    """What was read, and how. seconds: of the first reading alone; rounds: how often the ends were asked for"""

    namespace: str
    topics: int
    partitions: int
    records: int = 0
    events: int = 0
    seconds: float = 0.0
    rounds: int = 0


@dataclass
class Report:
    """findings: what is wrong, in full; counts: how many by check, also of those too many to be kept"""

    reading: Reading
    findings: list[Finding]
    counts: dict[str, int]
    notes: list[str]
    orders: OrderFigures
    skus: dict[str, SkuFigures]
    accounts: dict[Account, AccountFigures]
    duplicate_ids: int
    parked: list[Parked]
    waiting: list[Waiting]
    timers: Counter[str]
    letters: Counter[tuple[str, str]]
    undecodable: list[Bad]
    undecodable_count: int
    unchecked_flows: dict[str, int]
    stock_compared: bool = True
    settled: bool = False
    gateway_operations: int | None = None
    operations: Counter[tuple[str, str]] = field(default_factory=Counter)
    discarded: list[Discarded] = field(default_factory=list)
    transfers: Counter[str] = field(default_factory=Counter)
    bank: BankFigures = field(default_factory=BankFigures)
    figures: dict[str, dict[str, int]] = field(default_factory=dict)
    two_endings: int = field(init=False)

    def __post_init__(self) -> None:
        self.two_endings = self.counts.get("two-endings", 0)

    @property
    def ok(self) -> bool:
        return not self.counts

    @property
    def stock_drift(self) -> dict[str, dict[str, int]]:
        """Table minus events by sku, where they differ; what was found, not what was seen in passing."""
        found = {finding.saga for finding in self.findings if finding.check == "stock-drift"}
        return {sku: self.skus[sku].to_dict()["drift"] for sku in sorted(found) if sku in self.skus}

    @property
    def money_drift(self) -> dict[str, int]:
        """Posted minus implied by currency and account, where they differ; minor units."""
        found = {finding.saga for finding in self.findings if finding.check == "money-drift"}
        figures = {f"{currency} {account}": each for (currency, account), each in self.accounts.items()}
        return {name: figures[name].to_dict()["drift"] for name in sorted(found) if name in figures}

    @property
    def parked_by_service(self) -> dict[str, int]:
        return dict(sorted(Counter(each.service for each in self.parked).items()))

    def count(self, *checks: str) -> int:
        return sum(self.counts.get(check, 0) for check in checks)

    def to_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON. Lists show the first LISTED entries."""
        orders = self.orders
        return {
            "ok": self.ok,
            "namespace": self.reading.namespace,
            "settled": self.settled,
            "accepted": orders.accepted,
            "completed": orders.completed,
            "cancelled": orders.cancelled,
            "cancelled_by": dict(sorted(orders.cancelled_by.items())),
            "refused": orders.refused,
            "parked": orders.parked,
            "open": orders.open,
            "open_ids": orders.open_ids[:LISTED],
            "unanswered": orders.unanswered,
            "flows": {flow: dict(sorted(figures.items())) for flow, figures in sorted(self.figures.items())},
            "older_than_history": orders.older,
            "duplicate_ids": self.duplicate_ids,
            "no_ending": self.count("no-ending"),
            "two_endings": self.two_endings,
            "published_twice": self.count("published-twice"),
            "not_taken_back": self.count(*TAKEN_BACK_CHECKS),
            "flow_differs": self.count("flow-differs", "two-flows"),
            "unknown_causes": self.count("unknown-cause"),
            "stock_compared": self.stock_compared,
            "stock_drift": self.stock_drift,
            "oversold": sorted({finding.saga for finding in self.findings if finding.check == "oversold"}),
            "money_drift": self.money_drift,
            "findings_by_check": dict(sorted(self.counts.items())),
            "findings": [finding.to_dict() for finding in self.findings[:LISTED]],
            "notes": self.notes,
            "parked_sagas": [each.to_dict() for each in self.parked[:LISTED]],
            "parked_by_service": self.parked_by_service,
            "dead_letters": _by_service(self.letters),
            "operations": _by_service(self.operations),
            "discarded": [each.to_dict() for each in self.discarded[:LISTED]],
            "waiting_calls": len(self.waiting),
            "waiting": [each.to_dict() for each in self.waiting[:LISTED]],
            "timers": dict(sorted(self.timers.items())),
            "undecodable": self.undecodable_count,
            "undecodable_records": [{"where": str(bad.where), "why": bad.why} for bad in self.undecodable[:LISTED]],
            "unchecked_flows": self.unchecked_flows,
            "stock": {sku: figures.to_dict() for sku, figures in sorted(self.skus.items())[: 10 * LISTED]},
            "skus": len(self.skus),
            "money": _by_currency(self.accounts),
            "gateway_operations": self.gateway_operations,
            "transfers": dict(sorted(self.transfers.items())),
            "bank": self.bank.to_dict(),
            "read": {
                "topics": self.reading.topics,
                "partitions": self.reading.partitions,
                "records": self.reading.records,
                "events": self.reading.events,
                "seconds": round(self.reading.seconds, 3),
                "rounds": self.reading.rounds,
            },
        }


def _by_service(letters: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (service, reason), count in sorted(letters.items()):
        found.setdefault(service, {})[reason] = count
    return found


def _by_currency(accounts: dict[Account, AccountFigures]) -> dict[str, dict[str, dict[str, int]]]:
    found: dict[str, dict[str, dict[str, int]]] = {}
    for (currency, account), figures in sorted(accounts.items()):
        found.setdefault(currency, {})[account] = figures.to_dict()
    return found
