"""The accounts' ledger, added up from its postings alone, and compared with what the accounts service's tables say.

Invariants that are checked:
- Every posting adds up to zero and is one that the chart knows; so all accounts, the money in flight and the cash
  together are zero, whatever happens.
- Every account's balance is what the postings say, and not below its overdraft.
- No debit is left to be settled when all is at rest.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from events import Account, Booked, Movement
from farandole.audit.findings import Findings
from farandole.audit.records import LogRecord, Where

TABLES: Final = ("balances", "movements")
"""Tables of the accounts service that are compared."""

TOPICS: Final = ("accounts.ledger", "accounts-balances-changelog")
"""What an account's balance is compared by. They are kept for ever, whatever becomes of the transfers' answers."""

IN_FLIGHT: Final = "in_flight"
CUSTOMER: Final = "account:"
CHART: Final[dict[str, tuple[str, str]]] = {
    "fund": ("cash", CUSTOMER),
    "debit": (CUSTOMER, IN_FLIGHT),
    "credit": (IN_FLIGHT, CUSTOMER),
    "refund": (IN_FLIGHT, CUSTOMER),
}
"""Memo → what is debited and what is credited; docs/ledger.md. An outsider's copy, on purpose: taken from the service
that is audited, a mistake there would be right here."""


@dataclass
class BankFigures:
    """By currency, in minor units: paid in, on customers' accounts, in flight."""

    accounts: int = 0
    funded: Counter[str] = field(default_factory=Counter)
    held: Counter[str] = field(default_factory=Counter)
    in_flight: Counter[str] = field(default_factory=Counter)

    def to_dict(self) -> dict[str, Any]:
        currencies = sorted({*self.funded, *self.held, *self.in_flight})
        money = {
            each: {"funded": self.funded[each], "held": self.held[each], "in_flight": self.in_flight[each]}
            for each in currencies
        }
        return {"accounts": self.accounts, "money": money}


class Bank:
    """Folds postings and rows. Minor units; debit positive, so what a customer has is minus his account's sum."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._sums: Counter[tuple[str, str]] = Counter()
        self._rows: dict[str, Account] = {}
        self._open: set[str] = set()

    # ---- folding

    def post(self, posting: Booked, where: Where) -> tuple[str, int] | None:
        """Add a posting. The customer's account and the amount; None if the chart knows no such posting."""
        for entry in posting.entries:
            self._sums[posting.currency, entry.account] += entry.amount
        total = sum(entry.amount for entry in posting.entries)
        found = None if total else _read(posting)
        if found is None:
            entries = ", ".join(f"{entry.account} {entry.amount:+}" for entry in posting.entries)
            what = f"{posting.memo}: {entries}, together {total}"
            self._findings.add("wrong-booking", what, where=where, saga=posting.saga)
        return found

    def row(self, table: str, record: LogRecord, row: Any) -> None:
        """A row of one of TABLES; None: it was deleted."""
        key = (record.key or b"").decode(errors="replace")
        if table == "movements":
            if isinstance(row, Movement) and row.phase == "debited":
                self._open.add(key)
            else:
                self._open.discard(key)
        elif isinstance(row, Account):
            self._rows[key] = row
            if row.balance < -row.overdraft:
                what = f"{key} has {row.balance} {row.currency}, its overdraft is {row.overdraft}"
                self._findings.add("below-overdraft", what, where=record.where, saga=key)
        else:
            self._rows.pop(key, None)

    # ---- what it amounts to

    def is_unsettled(self, saga: str) -> bool:
        """The accounts service has not been told what became of this transfer's debit."""
        return f"{saga}/debit" in self._open

    def compare(self, implied: Counter[str] | None, findings: Findings) -> BankFigures:
        """implied: what is in flight by currency, as the transfers' answers say; None: some of those are gone."""
        figures = BankFigures(len(self._rows))
        posted = {(currency, name): -amount for (currency, name), amount in self._sums.items()}
        for name, row in self._rows.items():
            figures.held[row.currency] += row.balance
            drift = row.balance - posted.pop((row.currency, CUSTOMER + name), 0)
            if drift:
                what = f"the table has {drift:+} {row.currency} (minor units) against the ledger"
                findings.add("account-drift", what, saga=name, momentary=True)
        for (currency, name), amount in posted.items():
            if name == "cash":
                figures.funded[currency] -= amount
            elif name == IN_FLIGHT:
                figures.in_flight[currency] += amount
            elif amount:
                what = f"the ledger has {amount} {currency} (minor units), and there is no such row"
                findings.add("account-drift", what, saga=name.removeprefix(CUSTOMER), momentary=True)
        if implied is not None:
            self._compare_in_flight(figures.in_flight, implied, findings)
        return figures

    @staticmethod
    def _compare_in_flight(posted: Counter[str], implied: Counter[str], findings: Findings) -> None:
        for currency in {*implied, *posted}:
            if implied[currency] != posted[currency]:
                what = f"{posted[currency]} by the ledger, {implied[currency]} by the transfers' answers"
                findings.add("in-flight-drift", what, saga=currency, momentary=True)


def _read(posting: Booked) -> tuple[str, int] | None:
    """The customer's account and the amount, if the posting is one of the chart's."""
    chart = CHART.get(posting.memo)
    if chart is None or len(posting.entries) != 2:
        return None
    account = ""
    for entry, name in zip(posting.entries, chart, strict=True):
        if name == CUSTOMER and entry.account.startswith(CUSTOMER):
            account = entry.account.removeprefix(CUSTOMER)
        elif name != entry.account:
            return None
    amount = posting.entries[0].amount
    return (account, amount) if amount > 0 else None
