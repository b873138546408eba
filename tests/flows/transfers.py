"""Transfers and what goes wrong with them, drawn from a seed; and what must hold, at every step and at rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from random import Random

from msgspec.structs import replace

from agents.transfers import transfer_id
from events import (
    AccountsCredited,
    AccountsCreditRefused,
    AccountsDebited,
    AccountsDebitRefused,
    AccountsRefunded,
    Booked,
    CancelCredit,
    CloseAccount,
    CreditAccount,
    DebitAccount,
    FundAccount,
    OpenAccount,
    SettleDebit,
    StartTransfer,
    TransfersCompleted,
    TransfersFailed,
)
from farandole.values import MAX_AMOUNT
from tests.flows.world import World

TRANSFER, ACCOUNT = "transfer/1", "account/1"
NAMES = ["anna", "ben", "carla", "nobody"]
MOST_STEPS = 20_000


def a_transfer(key: str = "1", **changes: object) -> StartTransfer:
    """Ten units from anna to ben."""
    command = StartTransfer(
        customer="anna", idempotency_key=key, source="anna", target="ben", amount=10, currency="EUR"
    )
    return replace(command, **changes)


def id_of(command: StartTransfer) -> str:
    return transfer_id(command.customer, command.idempotency_key)


def open_accounts(world: World, **balances: int) -> None:
    """Accounts in EUR with these balances; a negative number: no money, and an overdraft of so much."""
    for name, balance in balances.items():
        world.send(OpenAccount(account=name, currency="EUR", overdraft=max(0, -balance)), f"open-{name}", ACCOUNT)
        if balance > 0:
            world.send(FundAccount(account=name, amount=balance, currency="EUR"), f"fund-{name}", ACCOUNT)
    world.run()


def start(world: World, command: StartTransfer) -> str:
    world.send(command, id_of(command), TRANSFER)
    return id_of(command)


def balances_of(world: World) -> dict[str, int]:
    return {name: account.balance for name, account in world.rows("accounts")["balances"].items()}


# ---- what must hold


def check_always(world: World) -> None:
    """After every decision: nothing is created, nothing is lost, nobody owes more than agreed."""
    rows = world.rows("accounts")
    in_flight: Counter[str] = Counter()
    funded: Counter[str] = Counter()
    for movement in rows["movements"].values():
        if movement.phase in ("debited", "settled"):
            in_flight[movement.currency] += movement.amount
        elif movement.phase == "credited":
            in_flight[movement.currency] -= movement.amount
    for deposit in rows["deposits"].values():
        funded[deposit.currency] += deposit.amount
    held: Counter[str] = Counter()
    for name, account in rows["balances"].items():
        assert account.balance >= -account.overdraft, f"{name} has {account.balance}"
        held[account.currency] += account.balance
    assert {c: held[c] + in_flight[c] for c in {*held, *in_flight}} == {c: funded[c] for c in {*held, *in_flight}}


def check_at_rest(world: World) -> None:
    assert not any(world.queues.values()), "something was not read"
    assert not world.timers, f"timers of transfers that have ended: {world.timers}"
    assert [each for each, count in Counter(world.published).items() if count > 1] == [], "published twice"
    rows = world.rows("accounts")
    assert not [key for key, row in rows["movements"].items() if row.phase == "debited"], "money is in flight"
    check_always(world)
    check_ledger(world)
    for saga in world.rows("transfers")["states"]:
        check_transfer(world, saga)


def check_ledger(world: World) -> None:
    sums: Counter[str] = Counter()
    for _, event in world.published:
        if isinstance(event, Booked):
            assert sum(entry.amount for entry in event.entries) == 0
            for entry in event.entries:
                sums[entry.account] += entry.amount
    assert sums.pop("in_flight", 0) == 0
    cash = sums.pop("cash", 0)
    assert cash == -sum(sums.values())
    balances = {f"account:{name}": balance for name, balance in balances_of(world).items() if balance}
    assert {name: -amount for name, amount in sums.items() if amount} == balances


def check_transfer(world: World, saga: str) -> None:
    row = world.row("transfers", "states", saga)
    ends = world.events(saga, TransfersCompleted, TransfersFailed)
    assert len(ends) == 1, f"{saga} has ended {len(ends)} times: {ends}"
    did = {type(event) for event in world.events(saga, *ANSWERS)}
    memos = sorted(event.memo for event in world.events(saga, Booked))
    [end] = ends
    if isinstance(end, TransfersCompleted):
        assert row.phase == "completed"
        assert did == {AccountsDebited, AccountsCredited}
        assert memos == ["credit", "debit"]
        assert world.row("accounts", "movements", f"{saga}/debit").phase == "settled"
        return
    assert row.phase == "failed"
    assert isinstance(end, TransfersFailed)
    assert row.reason == end.reason != ""
    if end.refunded:
        assert did == {AccountsDebited, AccountsCreditRefused, AccountsRefunded}
        assert memos == ["debit", "refund"]
    else:
        assert did in (set(), {AccountsDebitRefused})
        assert memos == []


ANSWERS = (AccountsDebited, AccountsDebitRefused, AccountsCredited, AccountsCreditRefused, AccountsRefunded)
OF_TRANSFERS = (DebitAccount, SettleDebit, CreditAccount, CancelCredit)

# ---- anything, in any order


@dataclass
class Scenario:
    """One run. hurry: how often a deadline is quicker than everything else; again: how often a message is delivered
    once more; overtake: how often two messages to one account change places, as a parked one that is redriven would.
    """

    world: World
    random: Random
    actions: list[Callable[[], None]] = field(default_factory=list)
    weights: dict[tuple[str, str], float] = field(default_factory=dict)
    hurry: float = 0.0
    again: float = 0.0
    overtake: float = 0.0

    @classmethod
    def draw(cls, world: World, seed: int) -> Scenario:
        random = Random(seed)
        made = cls(
            world,
            random,
            hurry=random.choice([0, 0.1, 0.5]),
            again=random.choice([0, 0.05, 0.3]),
            overtake=random.choice([0, 0.2, 0.5]),
        )
        for service, topic in (("transfers", "accounts"), ("accounts", "accounts.commands")):
            made.weights[service, topic] = 10 ** random.uniform(-2, 0)
        for name in NAMES[: random.randint(2, 3)]:
            made._draw_account(name)
        world.run()
        for number in range(random.randint(1, 5)):
            made._draw_transfer(str(number))
        for name in NAMES[:3]:
            if name in balances_of(world) and random.random() < 0.2:
                made.actions.append(partial(world.send, CloseAccount(account=name), f"close-{name}", ACCOUNT))
        random.shuffle(made.actions)
        return made

    def _draw_account(self, name: str) -> None:
        random, world = self.random, self.world
        currency = "USD" if random.random() < 0.1 else "EUR"
        opening = OpenAccount(account=name, currency=currency, overdraft=random.choice([0, 0, 15]))
        full = random.random() < 0.05
        deposit = FundAccount(
            account=name, amount=MAX_AMOUNT if full else random.choice([5, 20, 40]), currency=currency
        )
        for event, saga in ((opening, f"open-{name}"), (deposit, f"fund-{name}")):
            for _ in range(random.choice([1, 1, 2])):
                world.send(event, saga, ACCOUNT)

    def _draw_transfer(self, key: str) -> None:
        random = self.random
        source, target = random.choice(NAMES), random.choice(NAMES)
        amount = random.choice([1, 10, 10, 20, 35, *([0, -5] if random.random() < 0.1 else [])])
        command = a_transfer(key, source=source, target=target, amount=amount)
        saga = id_of(command)
        commands = [command] * random.choice([1, 1, 2])
        if random.random() < 0.1:
            commands.append(replace(command, amount=amount + 1))
        self.actions += [partial(self.world.send, each, saga, TRANSFER) for each in commands]

    def play(self) -> None:
        for _ in range(MOST_STEPS):
            if not self._something():
                return
            check_always(self.world)
        raise AssertionError("it does not come to rest")

    def _something(self) -> bool:
        random, world = self.random, self.world
        if self.actions and random.random() < 0.1:
            self.actions.pop()()
        elif world.timers and random.random() < self.hurry:
            world.fire(random.choice(list(world.timers)))
        elif random.random() < self.again:
            world.again(random)
        elif random.random() < self.overtake:
            self._overtake()
        elif not world.step(random, self.weights):
            if not self.actions:
                return False
            self.actions.pop()()
        return True

    def _overtake(self) -> None:
        for queue in self.world.queues.values():
            if len(queue) > 1 and isinstance(queue[0].event, OF_TRANSFERS) and isinstance(queue[1].event, OF_TRANSFERS):
                queue[0], queue[1] = queue[1], queue[0]
                return
