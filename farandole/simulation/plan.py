"""What is to happen in a run, apart from chance: orders, deliveries, nonsense, workers, and how much may go wrong.

Invariant: a plan follows from its seed alone. Each one draws what it has at all (swarm testing): a run without crashes
finds what one full of them hides.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from random import Random
from typing import Final

import msgspec

from agents.order import order_id
from events import OrderLine, PlaceOrder
from farandole.simulation import failing, logins, transfers
from farandole.simulation.failing import Failure
from farandole.simulation.logins import LoginPlan
from farandole.simulation.transfers import AccountPlan, TransferPlan

ALWAYS: Final = ("order", "inventory", "payment", "shipping", "notification")
"""Services without which there are no orders."""

SERVICES: Final = (*ALWAYS, "orchestrator")

FLOWS: Final = ("order/1", "order-pay-first/1", "order-orchestrated/1", "order-hybrid/1")
"""The flows whose orders can be planned."""

RESTOCK: Final = "restock/1"
"""The flow of a delivery."""

FAULTS: Final = ("pause", "zombie", "crash", "unknown", "fail")
"""What may befall a worker at any point at which it touches Kafka."""

WHEN_ASKED: Final = (
    "delay",
    "length",
    "which partition comes next",
    "how many messages fewer",
    "whether the batch ends here",
    "how many letters a killed command did not ask for",
    "whether an operation is written twice",
    "whether it happened all the same (unknown)",
    "whether it happened all the same (fail)",
    "partition of a record without a key",
)
"""Questions that come up only when something is off already: any answer is as good as another."""


MOVES: Final = ("kill", "leave", "expire")
"""What may happen to a worker between two of its turns."""


class Line(msgspec.Struct, frozen=True):
    sku: int
    quantity: int


class OrderPlan(msgspec.Struct, frozen=True):
    """One customer's order. Times are milliseconds since the run began.

    copies:   when the same command is sent again; cancels: when the customer asks for it to be stopped
    insists:  operations that the gateway refuses although it never should: an operator writes them off
    write_offs: when an operator gives up, whether that is called for or not
    flow:     in which it is placed; elsewhere: when the same is sent in another flow, too late
    """

    number: int
    at: int
    lines: tuple[Line, ...]
    card: str = "tok_visa"
    ship_to: str = "1 Mill Lane"
    email: str = "anna@example.org"
    currency: str = "EUR"
    reserve_for: int = 900
    copies: tuple[int, ...] = ()
    conflicts: tuple[int, ...] = ()
    cancels: tuple[int, ...] = ()
    insists: tuple[str, ...] = ()
    write_offs: tuple[int, ...] = ()
    flow: str = FLOWS[0]
    elsewhere: tuple[int, ...] = ()

    @property
    def saga(self) -> str:
        return order_id("anna", str(self.number))

    def command(self, price: int = 100) -> PlaceOrder:
        lines = tuple(OrderLine(n, f"sku-{line.sku}", line.quantity, price) for n, line in enumerate(self.lines, 1))
        return PlaceOrder(
            customer="anna",
            idempotency_key=str(self.number),
            lines=lines,
            currency=self.currency,
            email=self.email,
            ship_to=self.ship_to,
            card_token=self.card,
            reserve_for=self.reserve_for,
        )


class Delivery(msgspec.Struct, frozen=True):
    """Stock that arrives; the same delivery is announced once more at each of `copies`."""

    number: int
    at: int
    sku: int
    quantity: int
    copies: tuple[int, ...] = ()

    @property
    def saga(self) -> str:
        return f"d-{self.number}"


class Nonsense(msgspec.Struct, frozen=True):
    """A record that should not be there, in a topic that clients write to.

    kind: "bytes", "tombstone", "torn" (metadata that can be read, no body), "astray" (wrong partition), "wrong-key",
          "strange-flow"
    order: number of the order whose key it has
    """

    at: int
    topic: str
    kind: str
    order: int


class Move(msgspec.Struct, frozen=True):
    """What happens to a worker between two of its turns: "kill", "leave" (an orderly end; it comes back later),
    "expire" (the group loses it, as if its heartbeats had not arrived).
    """

    at: int
    service: str
    index: int
    what: str


class Repair(msgspec.Struct, frozen=True):
    """An operator has all dead letters redriven; heals: what failed until then does not any more."""

    at: int
    heals: bool


class Plan(msgspec.Struct, frozen=True):
    """repairs: what an operator does on the way; mends: at rest, he leaves nothing undone

    workers: by service, those of transfers only where there are any; rates: how often each kind of decision has another
    outcome than the plain one; faults: the kinds that befall workers at a touch of Kafka, as often as they are named;
    budget: how many of them at the most
    """

    seed: int
    partitions: int
    workers: dict[str, int]
    orders: tuple[OrderPlan, ...]
    deliveries: tuple[Delivery, ...]
    nonsense: tuple[Nonsense, ...] = ()
    failures: tuple[Failure, ...] = ()
    moves: tuple[Move, ...] = ()
    repairs: tuple[Repair, ...] = ()
    mends: bool = False
    rates: dict[str, float] = {}
    faults: tuple[str, ...] = ()
    budget: int = 0
    accounts: tuple[AccountPlan, ...] = ()
    transfers: tuple[TransferPlan, ...] = ()
    logins: tuple[LoginPlan, ...] = ()


INSISTED: Final[dict[str, dict[str, str]]] = {"order-pay-first/1": {"capture": "refund", "void": "refund"}}
"""What the gateway refuses in a flow where it has no captures and voids to refuse."""

ORCHESTRATED: Final = frozenset({"order-orchestrated/1", "order-hybrid/1"})


def make_plan(seed: int, orders: int | None = None, flows: Sequence[str] = FLOWS) -> Plan:
    """The plan of a seed, with this many orders; None: 1 to 5, mostly few."""
    return _with_failures(_with_logins(_with_transfers(_in_flows(_Maker(seed).plan(orders), flows))))


def _with_failures(plan: Plan) -> Plan:
    """Decisions that fail for some of whatever is in the plan, if anything is to go wrong in it."""
    if not plan.budget:
        return plan
    sagas = {
        "orders": {order.saga: order.flow for order in plan.orders},
        "deliveries": {delivery.saga: RESTOCK for delivery in plan.deliveries},
        "transfers": {transfer.saga: transfers.TRANSFER for transfer in plan.transfers},
        "accounts": {sent.saga: sent.flow for sent in transfers.commands(plan.accounts, ())},
        "logins": {login.name: logins.FLOW for login in plan.logins},
        "users": {logins.registration(user): logins.REGISTER for user in logins.REGISTERED if plan.logins},
    }
    drawn = (failing.draw(plan.seed, kind, named) for kind, named in sagas.items())
    return msgspec.structs.replace(plan, failures=tuple(itertools.chain.from_iterable(drawn)))


def _with_transfers(plan: Plan) -> Plan:
    """Beside the orders, and drawn apart from them."""
    money = transfers.draw(plan.seed, rough=plan.budget > 0)
    return msgspec.structs.replace(
        plan,
        accounts=money.accounts,
        transfers=money.transfers,
        workers=plan.workers | dict(money.workers),
        moves=(*plan.moves, *(Move(*each) for each in money.moves)),
    )


def _in_flows(plan: Plan, flows: Sequence[str]) -> Plan:
    """Each order in one of these flows, the first as often as all others together, drawn apart from all else: whatever
    the flows, the rest of the plan is the same.
    """
    random = Random(f"flows {plan.seed}")
    drawn_from = [*flows, *[flows[0]] * (len(flows) - 2)]
    placed = []
    for order in plan.orders:
        flow = random.choice(drawn_from)
        refused = INSISTED.get(flow, {})
        insists = tuple(refused.get(operation, operation) for operation in order.insists)
        twice = len(flows) > 1 and plan.budget > 0 and random.random() < 0.1
        elsewhere = (order.at + random.randrange(1, 200),) if twice else ()
        placed.append(msgspec.structs.replace(order, flow=flow, insists=insists, elsewhere=elsewhere))
    plan = msgspec.structs.replace(plan, orders=tuple(placed))
    return _with_orchestrator(plan, random) if ORCHESTRATED & {order.flow for order in placed} else plan


def _with_orchestrator(plan: Plan, random: Random) -> Plan:
    """Its workers, and what happens to them where something happens to others."""
    workers = {**plan.workers, "orchestrator": random.choice((1, 1, 1, 2, 3))}
    moves = tuple(
        Move(move.at, "orchestrator", random.randrange(workers["orchestrator"]), random.choice(MOVES))
        if random.random() < 0.4
        else move
        for move in plan.moves
    )
    return msgspec.structs.replace(plan, workers=workers, moves=moves)


def _with_logins(plan: Plan) -> Plan:
    """Some plans have logins, too, and the workers for them. Whatever else is in the plan stays as it was."""
    if not logins.has_logins(plan.seed):
        return plan
    random = Random(f"workers for logins {plan.seed}")
    workers = {service: random.choice((1, 1, 2)) for service in logins.SERVICES}
    moves = tuple(
        Move(random.randrange(4_000), service, 0, random.choice(("kill", "leave", "expire")))
        for service in logins.SERVICES
        if plan.budget and random.random() < 0.3
    )
    drawn = logins.draw(plan.seed, plan.partitions)
    return msgspec.structs.replace(plan, workers=plan.workers | workers, moves=(*plan.moves, *moves), logins=drawn)


class _Maker:
    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = Random(f"plan {seed}")

    def plan(self, orders: int | None) -> Plan:
        random = self.random
        count = orders or random.choice((1, 2, 2, 3, 3, 3, 4, 5))
        skus = random.choice((1, 1, 2, 3))
        rough = random.random() < 0.85
        calls_off = random.random() < 0.5
        placed = tuple(self._order(n, skus, rough, calls_off) for n in range(count))
        workers = {service: random.choice((1, 1, 1, 1, 1, 2, 2, 2, 3)) for service in ALWAYS}
        horizon = max(order.at for order in placed) + 1_500
        operator = Random(f"operator {self.seed}")  # of its own, so that all else stays as it was
        there_is_one = operator.random() < 0.6
        return Plan(
            seed=self.seed,
            partitions=random.choice((1, 2, 2, 3)),
            workers=workers,
            orders=placed,
            deliveries=self._deliveries(placed, skus),
            nonsense=self._nonsense(count, horizon) if rough and random.random() < 0.25 else (),
            moves=self._moves(workers, horizon) if rough and random.random() < 0.4 else (),
            repairs=tuple(
                Repair(operator.randrange(2 * horizon), operator.random() < 0.5)
                for _ in range(operator.choice((0, 1, 1, 2, 3)) if there_is_one else 0)
            ),
            mends=there_is_one,
            rates=self._rates(rough),
            faults=self._faults() if rough else (),
            budget=random.choice((2, 5, 10, 20)) if rough else 0,
        )

    def _order(self, number: int, skus: int, rough: bool, calls_off: bool) -> OrderPlan:
        random = self.random
        at = round(random.choice((0, 10, 200, 1_000)) * random.random())
        lines = tuple(
            Line(random.randrange(skus), random.choice((1, 1, 2, 3))) for _ in range(random.choice((1, 1, 2, 3)))
        )
        order = OrderPlan(number, at, lines)
        if not rough:
            return order
        dice = random.random
        return msgspec.structs.replace(
            order,
            card="tok_declined" if dice() < 0.1 else order.card,
            ship_to="nowhere" if dice() < 0.1 else order.ship_to,
            email="no address" if dice() < 0.05 else order.email,
            currency="euro" if dice() < 0.05 else order.currency,
            reserve_for=random.choice((1, 1, 2, 5, 20)) if dice() < 0.4 else order.reserve_for,
            copies=tuple(at + self._later() for _ in range(random.randrange(1, 3))) if dice() < 0.2 else (),
            conflicts=(at + self._later(),) if dice() < 0.05 else (),
            cancels=tuple(at + self._later() for _ in range(random.choice((1, 1, 2))))
            if calls_off and dice() < 0.6
            else (),
            insists=(random.choice(("capture", "void")),) if dice() < 0.08 else (),
            write_offs=(at + self._later(),) if dice() < 0.08 else (),
        )

    def _later(self) -> int:
        """Soon as often as late: a cancel is to meet every moment of an order."""
        return round(10 ** self.random.uniform(0.5, 4.2)) if self.random.random() < 0.3 else self.random.randrange(800)

    def _deliveries(self, orders: tuple[OrderPlan, ...], skus: int) -> tuple[Delivery, ...]:
        """Enough, or not quite, or some of it late."""
        random = self.random
        wanted = [0] * skus
        for order in orders:
            for line in order.lines:
                wanted[line.sku] += line.quantity
        share = random.choice((2.0, 1.0, 0.6))
        found: list[Delivery] = []
        for sku, quantity in enumerate(wanted):
            pieces = round(quantity * share)
            if pieces:
                copies = (random.randrange(500),) if random.random() < 0.1 else ()
                late = random.randrange(500) if random.random() < 0.15 else 0
                found.append(Delivery(len(found), late, sku, pieces, copies))
        return tuple(found)

    def _nonsense(self, orders: int, horizon: int) -> tuple[Nonsense, ...]:
        random = self.random
        kinds = ("bytes", "tombstone", "torn", "astray", "wrong-key", "strange-flow")
        topics = ("order.commands", "order.commands", "stock", "payment.commands")
        return tuple(
            Nonsense(random.randrange(horizon), random.choice(topics), random.choice(kinds), random.randrange(orders))
            for _ in range(random.choice((1, 2, 3)))
        )

    def _moves(self, workers: dict[str, int], horizon: int) -> tuple[Move, ...]:
        random = self.random
        made = []
        for _ in range(random.choice((1, 2, 4))):
            service = random.choice(ALWAYS)
            what = random.choice(MOVES)
            made.append(Move(random.randrange(horizon), service, random.randrange(workers[service]), what))
        return tuple(made)

    def _rates(self, rough: bool) -> dict[str, float]:
        random = self.random
        rates = {"who": random.choice((0.1, 0.5, 0.9)), "tick": random.choice((0.0, 0.02, 0.1))}
        rates |= dict.fromkeys(WHEN_ASKED, 0.5)
        if rough:
            rates |= {
                "fault": random.choice((0.003, 0.01, 0.03)),
                "outside": random.choice((0.0, 0.1, 0.3, 0.6)),
                "how a batch is fetched": random.choice((0.0, 0.05, 0.4)),
                "markers that come late": random.choice((0.0, 0.05, 0.4)),
                "whether records go out before the flush": random.choice((0.0, 0.5)),
            }
        return rates

    def _faults(self) -> tuple[str, ...]:
        """The kinds of this run, each with its own weight; sometimes none."""
        random = self.random
        chosen = [fault for fault in FAULTS if random.random() < 0.5]
        return tuple(fault for fault in chosen for _ in range(random.choice((1, 1, 3))))
