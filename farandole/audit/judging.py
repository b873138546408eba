"""From what was folded to what is wrong: one judgement of a moment, and what is left of several.

A reading of a live system ends somewhere: between a cause and its effect, or between two halves of a transaction
whose markers lie in two partitions. What that could explain is momentary: it is a finding only if it is there again,
in the same words, when the topics have been read on to ends that were asked for later. Every record that a first
reading has missed in this way was committed before the first reading ended, so the second one has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from farandole.audit.bank import TOPICS, BankFigures
from farandole.audit.books import Account, AccountFigures, Charge, Delivery, compare_money, compare_stock
from farandole.audit.chain import SUSPECTS, place_name
from farandole.audit.findings import Finding, Findings
from farandole.audit.flows import Moment, OrderFigures, for_flow
from farandole.audit.fold import Fold
from farandole.audit.gateway import Gateway
from farandole.audit.records import Place
from farandole.audit.services import Parked, Waiting

STOCK_OWNER: Final = "inventory"
"""The service that keeps the stock table."""

T = TypeVar("T", Parked, Waiting)


@dataclass(frozen=True)
class Terms:
    """settled: nothing is merely late; open_for: seconds that an order may take; now: milliseconds since 1970"""

    settled: bool
    open_for: float
    now: int


@dataclass(frozen=True)
class History:
    """What the topics still hold. starts: first offsets; horizon: record time from which nothing is missing, 0: all
    is there"""

    starts: Mapping[Place, int]
    horizon: int


@dataclass
class Judgement:
    findings: Findings
    moment: Moment
    parked: list[Parked]
    waiting: list[Waiting]
    accounts: dict[Account, AccountFigures]
    bank: BankFigures
    missing: set[tuple[bytes, int]]
    notes: list[str]


def judge(fold: Fold, terms: Terms, history: History) -> Judgement:
    """What is wrong with what has been folded so far. The fold stays as it is."""
    findings = Findings()
    parked = fold.services.parked(findings)
    waiting = list(fold.services.waiting)
    skus, unhandled = fold.stock.add_up(fold.services, STOCK_OWNER)
    moment = Moment(
        now=terms.now,
        settled=terms.settled,
        open_for=round(terms.open_for * 1000),
        horizon=history.horizon,
        parked=_by_saga(parked),
        discarded={each.saga for each in fold.services.discarded if each.saga},
        waiting=_by_saga(waiting),
        skus=skus,
        findings=findings,
        orders=OrderFigures(),
    )
    for name, saga in fold.sagas.items():
        audit = for_flow(fold.flows, saga.flow)
        if audit is not None:
            audit.judge(name, saga, moment)
    notes: list[str] = []
    accounts = _compare_books(fold, moment, history, findings, notes)
    bank = _compare_bank(fold, moment, history, findings, notes)
    _deliveries(unhandled, terms, findings, notes)
    _swallowed(fold, findings)
    missing = _missing_causes(fold, history, notes)
    return Judgement(findings, moment, parked, waiting, accounts, bank, missing, notes)


def _by_saga(rows: Iterable[T]) -> dict[str, list[T]]:
    found: defaultdict[str, list[T]] = defaultdict(list)
    for row in rows:
        found[row.saga].append(row)
    return dict(found)


def _compare_books(
    fold: Fold, moment: Moment, history: History, findings: Findings, notes: list[str]
) -> dict[Account, AccountFigures]:
    if not history.horizon:
        compare_stock(moment.skus, findings)
        return compare_money(fold.ledger.balances, moment.implied, findings)
    notes.append("records have been deleted (retention): stock and payments cannot be added up from the beginning")
    return {}


def _compare_bank(fold: Fold, moment: Moment, history: History, findings: Findings, notes: list[str]) -> BankFigures:
    """Balances add up by two topics alone, what is in flight by the transfers' answers besides."""
    if any(start for (topic, _), start in history.starts.items() if topic in TOPICS):
        notes.append("records of the accounts have been deleted: their balances cannot be added up from the beginning")
        return BankFigures()
    if not history.horizon:
        return fold.bank.compare(moment.in_flight, findings)
    figures = fold.bank.compare(None, findings)
    if figures.accounts:
        notes.append(
            "answers to transfers may have been deleted (retention): bank balances are compared with the ledger, "
            "what is in flight is not compared with the answers"
        )
    return figures


def _deliveries(unhandled: list[Delivery], terms: Terms, findings: Findings, notes: list[str]) -> None:
    if unhandled and not terms.settled:
        notes.append(f"{len(unhandled)} deliveries are announced and not yet added to the stock")
    for delivery in unhandled if terms.settled else ():
        what = f"{delivery.quantity} of {delivery.sku}"
        findings.add("delivery-unhandled", what, where=delivery.where, saga=delivery.saga, momentary=True)


def _swallowed(fold: Fold, findings: Findings) -> None:
    for bad in fold.bad:
        if bad.unknown:
            for service in fold.services.swallowed_by(bad.where):
                findings.add("swallowed", f"{service} took it: {bad.why}", where=bad.where, momentary=True)


def _missing_causes(fold: Fold, history: History, notes: list[str]) -> set[tuple[bytes, int]]:
    """Places that are named as a cause, and where nothing was read."""
    starts = {place_name(place): start for place, start in history.starts.items()}
    missing, older = fold.chain.missing(starts)
    if older:
        notes.append(f"{older} causes are older than what the topics still hold (retention); they were not compared")
    if fold.chain.more or len(missing) >= SUSPECTS:
        notes.append(f"more than {SUSPECTS} ids or causes are wrong; the first {SUSPECTS} are explained")
    return missing


class Persistence:
    """What is left of several judgements: what was wrong in all of them.

    missing: causes that were there in none of them
    """

    def __init__(self) -> None:
        self.missing: set[tuple[bytes, int]] = set()
        self._always: dict[Finding, None] = {}
        self._subjects: set[tuple[str, str]] = set()
        self._first = True

    def add(self, judgement: Judgement) -> None:
        momentary = {finding: None for finding in judgement.findings if finding.momentary}
        subjects = {(finding.check, finding.saga) for finding in momentary}
        if self._first:
            self._always, self._subjects, self.missing = momentary, subjects, judgement.missing
        else:
            self._always = {finding: None for finding in momentary if finding in self._always}
            self._subjects &= subjects
            self.missing &= judgement.missing
        self._first = False

    @property
    def doubtful(self) -> bool:
        """Whether anything might be a matter of the moment."""
        return bool(self._subjects or self.missing)

    @property
    def confirmed(self) -> Iterable[Finding]:
        return self._always

    @property
    def moving(self) -> list[tuple[str, str]]:
        """Check and subject of what was wrong each time, but each time in another way: it cannot be said while it
        moves."""
        return sorted(self._subjects - {(finding.check, finding.saga) for finding in self._always})


def compare_gateway(gateway: Gateway, fold: Fold, moment: Moment, findings: Findings) -> None:
    """What is parked is under way for as long as it is, and what an operator stopped for ever. Where records are gone,
    an unknown order may just be older.
    """
    charges: dict[str, Charge] = {}
    for name, saga in fold.sagas.items():
        audit = for_flow(fold.flows, saga.flow)
        charge = audit.charge(saga, moment.settled and not moment.is_held(name)) if audit else None
        if charge is not None:
            charges[name] = charge
    gateway.compare(charges, not moment.horizon, findings)
