"""Transfers in a run: accounts that are opened, funded and closed, and money that moves between them, at moments that
suit nobody.

Invariant: what is drawn follows from the seed alone and from no other part of the plan, so a seed without transfers is
what it was before there were any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from types import MappingProxyType
from typing import Final, NamedTuple

import msgspec

from agents.transfers import transfer_id
from events import CloseAccount, FundAccount, OpenAccount, StartTransfer
from farandole.event import Event

SERVICES: Final = ("transfers", "accounts")

TRANSFER, ACCOUNT = "transfer/1", "account/1"
NAMES: Final = ("anna", "ben", "carla")
EVERY: Final = 4
"""Of so many seeds one has transfers beside its orders."""


class AccountPlan(msgspec.Struct, frozen=True):
    """An account. closes: milliseconds since the run began, or -1; copies: how often each command comes"""

    name: str
    amount: int
    overdraft: int = 0
    currency: str = "EUR"
    closes: int = -1
    copies: int = 1


class TransferPlan(msgspec.Struct, frozen=True):
    """One transfer. copies, conflicts: when it is asked for again, and when something else under its key is."""

    number: int
    at: int
    source: str
    target: str
    amount: int
    within: int = 30
    copies: tuple[int, ...] = ()
    conflicts: tuple[int, ...] = ()

    @property
    def saga(self) -> str:
        return transfer_id("anna", str(self.number))

    def command(self, more: int = 0) -> StartTransfer:
        return StartTransfer(
            customer="anna",
            idempotency_key=str(self.number),
            source=self.source,
            target=self.target,
            amount=self.amount + more,
            currency="EUR",
            within=self.within,
        )


class Sent(NamedTuple):
    """A client's command."""

    at: int
    event: Event
    saga: str
    flow: str
    key: str


def commands(accounts: tuple[AccountPlan, ...], transfers: tuple[TransferPlan, ...]) -> Iterator[Sent]:
    """What clients send in a run, and when."""
    for account in accounts:
        name = account.name
        opening = OpenAccount(account=name, currency=account.currency, overdraft=account.overdraft)
        deposit = FundAccount(account=name, amount=account.amount, currency=account.currency)
        for copy in range(account.copies):
            yield Sent(100 * copy, opening, f"open-{name}", ACCOUNT, name)
            yield Sent(100 * copy + 1, deposit, f"fund-{name}", ACCOUNT, name)
        if account.closes >= 0:
            yield Sent(account.closes, CloseAccount(account=name), f"close-{name}", ACCOUNT, name)
    for transfer in transfers:
        for at in (transfer.at, *transfer.copies):
            yield Sent(at, transfer.command(), transfer.saga, TRANSFER, transfer.saga)
        for at in transfer.conflicts:
            yield Sent(at, transfer.command(more=1), transfer.saga, TRANSFER, transfer.saga)


class Drawn(NamedTuple):
    """Of one seed; nothing of each if it has no transfers. moves: (when, service, index, what)"""

    accounts: tuple[AccountPlan, ...] = ()
    transfers: tuple[TransferPlan, ...] = ()
    workers: Mapping[str, int] = MappingProxyType({})
    moves: tuple[tuple[int, str, int, str], ...] = ()


def draw(seed: int, rough: bool) -> Drawn:
    """rough: whether anything is to go wrong."""
    if seed % EVERY != 1:
        return Drawn()
    random = Random(f"transfers {seed}")
    accounts = tuple(_account(random, name, rough) for name in NAMES)
    transfers = tuple(_transfer(random, number, rough) for number in range(random.choice((1, 2, 3, 4))))
    workers = {service: random.choice((1, 1, 1, 1, 2, 3)) for service in SERVICES}
    moves = []
    for transfer in transfers if rough and random.random() < 0.6 else ():
        service = random.choice(("accounts", "accounts", "transfers"))
        what = random.choice(("kill", "kill", "kill", "leave", "expire"))
        # While it is under way, so that what comes next of it comes late.
        moment = transfer.at + random.randrange(5, 400)
        moves.append((moment, service, random.randrange(workers[service]), what))
    return Drawn(accounts, transfers, workers, tuple(moves))


def _account(random: Random, name: str, rough: bool) -> AccountPlan:
    dice = random.random
    plain = AccountPlan(name, random.choice((20, 100, 500)), random.choice((0, 0, 20)))
    if not rough:
        return plain
    return msgspec.structs.replace(
        plain,
        currency="USD" if dice() < 0.05 else "EUR",
        closes=20 + random.randrange(random.choice((100, 400, 2_000))) if dice() < 0.3 else -1,
        copies=random.choice((1, 1, 2)),
    )


def _transfer(random: Random, number: int, rough: bool) -> TransferPlan:
    dice = random.random
    at = round(random.choice((0, 10, 200, 1_000)) * dice())
    source, target = random.sample((*NAMES, "nobody") if dice() < 0.3 else NAMES, 2)
    plain = TransferPlan(number, at, source, target, random.choice((5, 10, 30, 60)))
    if not rough:
        return plain
    return msgspec.structs.replace(
        plain,
        amount=random.choice((0, -1, 1 << 54)) if dice() < 0.05 else plain.amount,
        within=random.choice((1, 1, 1, 2, 5)) if dice() < 0.8 else plain.within,
        copies=tuple(at + random.randrange(3_000) for _ in range(random.choice((1, 2)))) if dice() < 0.2 else (),
        conflicts=(at + random.randrange(1_000),) if dice() < 0.1 else (),
    )
