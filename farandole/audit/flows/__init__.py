"""What each flow promises, one file per flow: a module of this package with a class `Audit` is found by itself.

A flow's audit folds the events of its sagas, one small object per saga, and judges them when asked to, as often as it
is asked: judging changes nothing that was folded.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import msgspec

from farandole.audit.bank import Bank
from farandole.audit.books import Account, Charge, Ledger, SkuFigures, Stock
from farandole.audit.findings import Findings
from farandole.audit.records import LogRecord
from farandole.audit.services import Parked, Waiting

T = TypeVar("T")

OPEN_IDS = 1_000
"""Open orders that are named; more are counted."""


class Saga(msgspec.Struct, gc=False):
    """What is known of one saga, whatever its flow.

    home: the partition in which its key belongs; since: earliest record time, milliseconds since 1970
    """

    flow: str
    home: int
    since: int


@dataclass
class Books:
    """What sagas of all flows write to."""

    findings: Findings
    stock: Stock
    ledger: Ledger
    bank: Bank


@dataclass
class OrderFigures:
    accepted: int = 0
    completed: int = 0
    cancelled: int = 0
    refused: int = 0
    parked: int = 0
    open: int = 0
    unanswered: int = 0
    older: int = 0
    open_ids: list[str] = field(default_factory=list)
    cancelled_by: Counter[str] = field(default_factory=Counter)


@dataclass
class Moment:
    """One judgement of everything that has been folded so far.

    now:      milliseconds since 1970
    settled:  the system is said to be at rest: nothing is merely late
    open_for: milliseconds that a saga may take
    horizon:  sagas that began before are not judged: part of their records is gone (retention); 0: nothing is gone
    parked, waiting: by saga
    transfers: how many, by how they ended, and how many missed a deadline
    in_flight: by currency, as the transfers' answers say
    discarded: sagas of which an operator has discarded a message
    """

    now: int
    settled: bool
    open_for: int
    horizon: int
    parked: Mapping[str, Sequence[Parked]]
    waiting: Mapping[str, Sequence[Waiting]]
    discarded: Set[str]
    skus: defaultdict[str, SkuFigures]
    findings: Findings
    orders: OrderFigures = field(default_factory=OrderFigures)
    figures: dict[str, dict[str, int]] = field(default_factory=dict)
    """Flow → sagas by how they stand, of flows other than orders."""
    implied: Counter[Account] = field(default_factory=Counter)
    transfers: Counter[str] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)

    def is_late(self, since: int) -> bool:
        return self.settled or self.now - since > self.open_for

    def is_held(self, saga: str) -> bool:
        """Something of it waits for an operator, or was stopped by one: what is missing is nobody's fault."""
        return saga in self.parked or saga in self.discarded


class FlowAudit:
    """Base of the flows' audits.

    flow:    the flow's name, for all of its versions that have no audit of their own; or name/version, for one
    clients: event classes that clients publish; everything else has a cause
    beginnings: those with which they begin a saga
    """

    flow: ClassVar[str]
    clients: ClassVar[frozenset[type[Any]]]
    beginnings: ClassVar[frozenset[type[Any]]] = frozenset()

    def __init__(self, books: Books) -> None:
        self.books = books

    def begin(self, flow: str, home: int, since: int) -> Saga:
        return Saga(flow, home, since)

    def take(self, saga: Any, event: Any, record: LogRecord) -> None:
        """Fold one event of a saga. Records of different topics come in any order."""

    def is_only_asked(self, saga: Any) -> bool:
        """Whether nothing but clients' words is known of the saga: no service has acted on them yet."""
        return False

    def judge(self, name: str, saga: Any, moment: Moment) -> None:
        """Say what is wrong with a saga, and add it to the figures."""

    def charge(self, saga: Any, at_rest: bool) -> Charge | None:
        """The saga's payment, if it has one, to be compared with the gateway's. at_rest: nothing of it is under way."""
        return None


def audit_classes() -> dict[str, type[FlowAudit]]:
    """What `flow` of an audit says → its class, of every module of this package that has one."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return {module.Audit.flow: module.Audit for module in modules if hasattr(module, "Audit")}


def flow_audits(books: Books) -> dict[str, FlowAudit]:
    return {flow: audit(books) for flow, audit in audit_classes().items()}


def for_flow(audits: Mapping[str, T], flow: str) -> T | None:
    """Of `order/2` what is there for that version, or else for all of `order`; None: nothing."""
    found = audits.get(flow)
    return audits.get(flow.rpartition("/")[0]) if found is None else found
