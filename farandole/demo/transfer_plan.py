"""Every account and every transfer of a demo, what is wrong with it, and how it may end; from a seed.

Invariant: the same wishes give the same plan. What transfers of one kind do to their accounts hinders no other kind, so
how each may end is known beforehand.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from agents.transfers import transfer_id
from events import CloseAccount, FundAccount, OpenAccount, StartTransfer

COMPLETED, FAILED, REFUNDED, PARKED = "completed", "failed", "refunded", "parked"
ENDS: Final = (COMPLETED, FAILED, REFUNDED)
ANY: Final = frozenset(ENDS)

PLENTY: Final = 1_000_000
HURRIED: Final = 1
"""Seconds that accounts have to answer those whose deadline is to pass."""

PATIENT: Final = 60


class Kinds(StrEnum):
    PLAIN = "plain"
    HOT = "hot"
    RACE = "race"
    HURRIED = "hurried"
    OVERDRAFT = "overdraft"
    BEYOND = "beyond"
    POOR = "poor"
    CLOSED_SOURCE = "closed_source"
    CLOSED_TARGET = "closed_target"
    CLOSING = "closing"
    NO_SOURCE = "no_source"
    NO_TARGET = "no_target"
    FOREIGN_SOURCE = "foreign_source"
    FOREIGN_TARGET = "foreign_target"
    BROKEN = "broken"


@dataclass(frozen=True)
class Kind:
    """share: of all transfers; ends: how one may end; both ways if the clock may be quicker than the accounts"""

    title: str
    share: float
    ends: frozenset[str]


KINDS: Final = {
    Kinds.PLAIN: Kind("nothing is wrong", 0.0, frozenset({COMPLETED})),
    Kinds.HOT: Kind("all from and to two accounts", 0.15, frozenset({COMPLETED})),
    Kinds.RACE: Kind("two want the same balance", 0.1, frozenset({COMPLETED, FAILED})),
    Kinds.HURRIED: Kind("accounts have one second to answer", 0.15, frozenset({COMPLETED, FAILED, REFUNDED})),
    Kinds.OVERDRAFT: Kind("down to the overdraft's limit", 0.03, frozenset({COMPLETED})),
    Kinds.BEYOND: Kind("one unit beyond it", 0.03, frozenset({FAILED})),
    Kinds.POOR: Kind("more than the source has", 0.03, frozenset({FAILED})),
    Kinds.CLOSED_SOURCE: Kind("the source is closed", 0.03, frozenset({FAILED})),
    Kinds.CLOSED_TARGET: Kind("the target is closed", 0.03, frozenset({REFUNDED})),
    Kinds.CLOSING: Kind("both ends are closed meanwhile", 0.05, ANY),
    Kinds.NO_SOURCE: Kind("there is no such source", 0.02, frozenset({FAILED})),
    Kinds.NO_TARGET: Kind("there is no such target", 0.02, frozenset({REFUNDED})),
    Kinds.FOREIGN_SOURCE: Kind("the source has another currency", 0.02, frozenset({FAILED})),
    Kinds.FOREIGN_TARGET: Kind("the target has another currency", 0.02, frozenset({REFUNDED})),
    Kinds.BROKEN: Kind("its credit keeps failing", 0.0, frozenset({PARKED})),
}


@dataclass(frozen=True)
class Account:
    opening: OpenAccount
    amount: int
    closed: bool = False

    @property
    def name(self) -> str:
        return self.opening.account

    @property
    def deposit(self) -> FundAccount:
        return FundAccount(account=self.name, amount=self.amount, currency=self.opening.currency)


@dataclass(frozen=True)
class Asked:
    """One transfer. way: "http" or "kafka"; again: the same is asked twice; conflict: and once with another amount;
    closes: both of its accounts are closed as soon as it has been asked for
    """

    kind: Kinds
    command: StartTransfer
    way: str
    again: bool = False
    conflict: bool = False

    @property
    def order(self) -> str:
        """Its id; the demo calls what it looks for orders."""
        return transfer_id(self.command.customer, self.command.idempotency_key)

    @property
    def closes(self) -> tuple[CloseAccount, ...]:
        if self.kind is not Kinds.CLOSING:
            return ()
        return CloseAccount(account=self.command.source), CloseAccount(account=self.command.target)


@dataclass(frozen=True)
class TransferPlan:
    """rejected: bodies that HTTP refuses; broken: the transfer whose credit keeps failing, or nothing"""

    run: str
    accounts: tuple[Account, ...]
    placements: tuple[Asked, ...]
    rejected: tuple[bytes, ...]
    broken: str


def make(
    run: str,
    prefix: str,
    count: int,
    seed: int,
    failures: bool,
    ways: tuple[str, ...],
    planted: bool,
    patient: int = PATIENT,
) -> TransferPlan:
    """prefix: of accounts and customers, for a system that others use too; planted: one transfer can be made to fail;
    patient: seconds that accounts have to answer those whose deadline is not to pass
    """
    return _Maker(prefix, seed, ways, patient).plan(run, count, failures, planted)


class _Maker:
    def __init__(self, prefix: str, seed: int, ways: tuple[str, ...], patient: int) -> None:
        self._prefix, self._ways, self._patient = prefix, ways, patient
        self._random = random.Random(f"transfers {seed}")
        self._accounts: dict[str, Account] = {}
        self._asked: list[Asked] = []

    def plan(self, run: str, count: int, failures: bool, planted: bool) -> TransferPlan:
        for number in range(10):
            self._account(f"customer-{number}")
        broken = ""
        for kind in self._kinds(count, failures):
            self._ask(kind)
        if failures and planted:
            self._ask(Kinds.BROKEN)
            broken = self._asked[-1].order
        self._random.shuffle(self._asked)
        rejected = tuple(self._rejected()) if failures and "http" in self._ways else ()
        return TransferPlan(run, tuple(self._accounts.values()), tuple(self._asked), rejected, broken)

    def _kinds(self, count: int, failures: bool) -> Iterator[Kinds]:
        left = count
        for kind, about in KINDS.items() if failures else ():
            wanted = max(1, round(about.share * count)) if about.share else 0
            wanted += wanted % 2 if kind is Kinds.RACE else 0
            wanted = min(wanted, left)
            left -= wanted
            yield from [kind] * wanted
        yield from [Kinds.PLAIN] * left

    def _account(
        self, name: str, amount: int = PLENTY, overdraft: int = 0, currency: str = "EUR", closed: bool = False
    ) -> str:
        name = f"{self._prefix}{name}"
        opening = OpenAccount(account=name, currency=currency, overdraft=overdraft)
        self._accounts.setdefault(name, Account(opening, amount, closed))
        return name

    def _customer(self) -> str:
        return f"{self._prefix}customer-{self._random.randrange(10)}"

    def _ask(self, kind: Kinds) -> None:
        number, draw = len(self._asked), self._random
        source, target, amount, within = self._customer(), self._customer(), draw.randint(1, 500), self._patient
        while target == source:
            target = self._customer()
        match kind:
            case Kinds.HOT:
                pair = [self._account("hot-1"), self._account("hot-2")]
                source, target = pair if draw.random() < 0.5 else reversed(pair)
            case Kinds.RACE:
                raced = sum(each.kind is kind for each in self._asked) // 2
                source, amount = self._account(f"race-{raced}", amount=100), 100
            case Kinds.HURRIED:
                within = HURRIED
            case Kinds.OVERDRAFT | Kinds.BEYOND:
                source = self._account(f"indebted-{number}", amount=100, overdraft=50)
                amount = 150 if kind is Kinds.OVERDRAFT else 151
            case Kinds.POOR:
                source, amount = self._account(f"poor-{number}", amount=10), 11
            case Kinds.CLOSED_SOURCE:
                source = self._account("closed", closed=True)
            case Kinds.CLOSED_TARGET:
                target = self._account("closed", closed=True)
            case Kinds.CLOSING:
                source, target = self._account(f"closing-{number}", amount=amount), self._account(f"leaving-{number}")
            case Kinds.NO_SOURCE:
                source = f"{self._prefix}nobody"
            case Kinds.NO_TARGET:
                target = f"{self._prefix}nobody"
            case Kinds.FOREIGN_SOURCE:
                source = self._account("abroad", currency="USD")
            case Kinds.FOREIGN_TARGET:
                target = self._account("abroad", currency="USD")
        command = StartTransfer(
            customer=f"{self._prefix}somebody",
            idempotency_key=f"transfer-{number}",
            source=source,
            target=target,
            amount=amount,
            currency="EUR",
            within=within,
        )
        way = self._ways[number % len(self._ways)]
        conflict = way == "http" and kind is Kinds.PLAIN and draw.random() < 0.05
        self._asked.append(Asked(kind, command, way, again=draw.random() < 0.1, conflict=conflict))

    def _rejected(self) -> Iterator[bytes]:
        """Requests that are no transfers."""
        good = f'"customer":"{self._prefix}somebody","idempotency_key":"bad","currency":"EUR"'
        ends = f'"source":"{self._prefix}customer-1","target":"{self._prefix}customer-2"'
        for amount in ("0", "-5", str(1 << 54), str(10**30), "1.5", '"many"'):
            yield f'{{{good},{ends},"amount":{amount}}}'.encode()
        yield f'{{{good},"source":"same","target":"same","amount":5}}'.encode()
        yield f'{{{good},{ends},"amount":5,"amout":5}}'.encode()
        yield b"no json"
