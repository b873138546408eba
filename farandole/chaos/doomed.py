"""Sagas that a decision will fail on: one of each service at least, in each flow.

Invariant: every saga of a flow comes to each of its decisions named here, whatever faults delay it: so what is doomed
is parked, sooner or later.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final, NamedTuple

from agents.order import order_id
from agents.transfers import transfer_id
from events import BeginLogin, FundAccount, OpenAccount, OrderLine, PlaceOrder, StartTransfer, StockReceived
from farandole.chaos.flows import Flows
from farandole.demo.place import RESTOCK
from farandole.demo.transfer_customers import ACCOUNT
from farandole.event import Event
from farandole.flow import load_flows
from farandole.partitioner import partition_of
from farandole.passcodes import BYTES, letters_of

SKU: Final = "kettle"
"""What orders ask for whose handler fails: the sku that everybody wants, so that others wait behind them."""

SOURCE, TARGET = "doomed-source", "doomed-target"
"""Accounts of the transfers whose handler fails."""

EACH: Final = 40
"""Sagas for each decision, its flows in turn."""

PATIENT: Final = 3_600
"""Seconds that accounts have to answer: nothing else stops such a transfer."""

DECISIONS: Final = (
    "order.place",
    "order.place_charged_first",
    "order.captured",
    "order.charged",
    "order.complete",
    "orchestrator.begin",
    "orchestrator.reserved",
    "orchestrator.authorised",
    "orchestrator.confirm",
    "orchestrator.captured",
    "orchestrator.end_completed",
    "orchestrator.told",
    "inventory.request_holds",
    "inventory.hold",
    "inventory.line_held",
    "payment.authorise",
    "payment.authorise_answered",
    "payment.charge",
    "payment.charge_answered",
    "payment.capture",
    "payment.earn",
    "shipping.book",
    "shipping.book_answered",
    "notification.tell_completed",
    "notification.tell",
    "transfers.start",
    "transfers.debited",
    "transfers.credited",
    "accounts.debit",
    "accounts.credit",
    "accounts.settle",
    "login.begin",
    "login.looked_up",
    "directory.look_up",
)


class Doom(NamedTuple):
    """What a client sends, and in which saga and flow."""

    event: Event
    saga: str
    flow: str


class Doomed:
    """Their ids are known to the workers before they start.

    partitions: of each topic: a login's challenge lies in its user's
    """

    def __init__(self, run: str, flows: Flows, partitions: int) -> None:
        self._run, self._flows, self._partitions = run, flows, partitions
        known = load_flows()
        bound = {key: {decision.name for decision in known[key].bindings.values()} for key in flows.keys}
        self._left = {
            decision: list(self._dooms(decision, within))
            for decision in DECISIONS
            if (within := [key for key in flows.keys if decision in bound[key]])
        }
        self._lock = threading.Lock()

    @property
    def setting(self) -> str:
        """FARANDOLE_FAIL."""
        return ",".join(f"{decision}@{doom.saga}" for decision, dooms in self._left.items() for doom in dooms)

    def left(self) -> list[str]:
        """Decisions that have a saga left to fail on."""
        return [decision for decision, dooms in self._left.items() if dooms]

    def take(self, decision: str) -> Doom:
        """One more saga that this decision fails on."""
        with self._lock:
            return self._left[decision].pop()

    def needed(self) -> Iterator[Doom]:
        """Stock and accounts, so that what is doomed takes nothing from the others."""
        if self._flows.orders:
            yield Doom(StockReceived(sku=SKU, quantity=len(DECISIONS) * EACH), f"{self._run}/doomed", RESTOCK)
        for name in (SOURCE, TARGET) if self._flows.transfers else ():
            yield Doom(OpenAccount(account=name, currency="EUR", overdraft=0), f"{self._run}/open/{name}", ACCOUNT)
            deposit = FundAccount(account=name, amount=len(DECISIONS) * EACH, currency="EUR")
            yield Doom(deposit, f"{self._run}/fund/{name}", ACCOUNT)

    def _dooms(self, decision: str, flows: list[str]) -> Iterable[Doom]:
        for number in range(EACH):
            flow, key = flows[number % len(flows)], f"{self._run}/doomed/{decision}/{number}"
            if flow in self._flows.orders:
                yield Doom(_order(key), order_id("chaos", key), flow)
            elif flow in self._flows.transfers:
                yield Doom(_transfer(key), transfer_id("chaos", key), flow)
            else:
                yield self._login(key, flow)

    def _login(self, key: str, flow: str) -> Doom:
        """Nobody knows such a user, so nothing is sent; what it says is as secret as it looks."""

        def letters(what: str) -> str:
            return letters_of(blake2b(f"{what} {key}".encode(), digest_size=BYTES).digest())

        challenge = f"c-{letters('challenge')}"
        home = partition_of(challenge, self._partitions)
        names = (f"doomed-{letters('user')[:8]}-{number}" for number in range(10_000))
        user = next(name for name in names if partition_of(name, self._partitions) == home)
        return Doom(BeginLogin(user=user, seed=letters("seed"), digest=letters("digest") * 2), challenge, flow)


def _order(key: str) -> PlaceOrder:
    return PlaceOrder(
        customer="chaos",
        idempotency_key=key,
        lines=(OrderLine(line=1, sku=SKU, quantity=1, price=100),),
        currency="EUR",
        email="chaos@example.org",
        ship_to="1 Harbour Street, Hamburg",
        card_token="tok_doomed",
        reserve_for=900,
    )


def _transfer(key: str) -> StartTransfer:
    return StartTransfer(
        customer="chaos",
        idempotency_key=key,
        source=SOURCE,
        target=TARGET,
        amount=1,
        currency="EUR",
        within=PATIENT,
    )
