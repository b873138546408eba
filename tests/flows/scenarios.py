"""Orders, deliveries and what goes wrong, drawn from a seed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from random import Random

from msgspec.structs import replace

from agents.order import order_id
from events import (
    CancelOrder,
    OrderLine,
    PaymentRefundStuck,
    PaymentStuck,
    PlaceOrder,
    StockReceived,
    WriteOff,
)
from farandole import Event
from tests.flows.outside import Plan
from tests.flows.paying import paying_in
from tests.flows.world import World

SKUS = ["apple", "pear", "quince"]
MOST_STEPS = 20_000


def an_order(key: str = "1", *lines: tuple[str, int], **changes: object) -> PlaceOrder:
    """A valid order of (sku, quantity) lines; one apple if none are given."""
    named = enumerate(lines or [("apple", 1)], start=1)
    order = PlaceOrder(
        customer="anna",
        idempotency_key=key,
        lines=tuple(OrderLine(line=n, sku=sku, quantity=quantity, price=250 * n) for n, (sku, quantity) in named),
        currency="EUR",
        email="anna@example.org",
        ship_to="1 Main Street\nSpringfield",
        card_token="tok_good",
    )
    return replace(order, **changes)


def saga_of(order: PlaceOrder) -> str:
    return order_id(order.customer, order.idempotency_key)


Action = Callable[[], None]


@dataclass
class Scenario:
    """One run. `play` it, then check `received` and the world's invariants.

    actions: what clients and operators do, at times that are drawn
    flows:   in which orders are placed
    hurry:   how often the clock of a reservation is quicker than everything else
    again:   how often a message is delivered once more
    """

    world: World
    random: Random
    received: Counter[str] = field(default_factory=Counter)
    actions: list[Action] = field(default_factory=list)
    weights: dict[tuple[str, str], float] = field(default_factory=dict)
    flows: Sequence[str] = ("order/1",)
    hurry: float = 0.0
    again: float = 0.0

    @classmethod
    def draw(cls, world: World, seed: int, flows: Sequence[str] = ("order/1",)) -> Scenario:
        random = Random(seed)
        hurry, again = random.choice([0, 0.003, 0.03, 0.2]), random.choice([0, 0.05, 0.3])
        scenario = cls(world, random, flows=flows, hurry=hurry, again=again)
        for flow in world.flows.values():
            for service in flow.services:
                for topic in ("order", "stock", "inventory", "payment", "shipping", f"{service}.calls"):
                    scenario.weights[service, topic] = 10 ** random.uniform(-2, 0)
        for number in range(random.randint(2, 6)):
            scenario._draw_delivery(f"d-{number}")
        if random.random() < 0.8:
            scenario._let_actions_happen()
        for number in range(random.randint(1, 4)):
            scenario._draw_order(str(number))
        return scenario

    def _draw_delivery(self, delivery: str) -> None:
        sku, quantity = self.random.choice(SKUS), self.random.randint(1, 8)
        event = StockReceived(sku=sku, quantity=quantity)
        self.received[sku] += quantity
        for _ in range(self.random.choice([1, 1, 2])):
            self.actions.append(partial(self.world.send, event, delivery, "restock/1"))

    def _draw_order(self, key: str) -> None:
        random = self.random
        stocked = sorted(self.received) if random.random() < 0.9 else SKUS
        lines = [(random.choice(stocked), random.randint(1, 3)) for _ in range(random.choice([1, 1, 2, 3]))]
        order = an_order(key, *lines)
        if random.random() < 0.05:
            order = replace(order, email=random.choice(["nobody", order.email]), currency="euro")
        saga, flow = saga_of(order), random.choice(self.flows)
        self.world.flow_of[saga] = flow
        commands: list[Event] = [order] * random.choice([1, 1, 1, 2])
        if random.random() < 0.1:
            conflicting = replace(order, lines=order.lines[:1], ship_to="2 Main Street")
            commands = [order, conflicting]
            # Whichever comes first is the order; stock and money are checked against what was placed.
            random.shuffle(commands)
        commands += [CancelOrder()] * random.choice([0, 0, 0, 1, 2])
        commands += [WriteOff(reason="too early")] * random.choice([0, 0, 0, 1, 3])
        self.actions += [partial(self.world.send, command, saga, flow) for command in commands]
        self.world.outside.plans[saga] = Plan(
            declines=random.random() < 0.1,
            books=random.random() > 0.1,
            mails=random.random() > 0.1,
            silent=frozenset(each for each in (*paying_in(flow).operations, "book") if random.random() < 0.08),
            insists=frozenset(each for each in paying_in(flow).operations[1:] if random.random() < 0.08),
        )

    def _let_actions_happen(self) -> None:
        for action in self.actions:
            action()
        self.actions.clear()
        self.world.run()

    def play(self) -> None:
        """Until nothing is left to happen; operators then end what is stuck, and it goes on."""
        for _ in range(MOST_STEPS):
            if not self._something():
                stuck = self._stuck()
                if not stuck:
                    return
                for saga in stuck:
                    self.world.send(WriteOff(reason="the gateway is gone"), saga, self.world.flow_of[saga])
        raise AssertionError("it does not come to rest")

    def _something(self) -> bool:
        random, world = self.random, self.world
        if self.actions and random.random() < 0.1:
            self.actions.pop(random.randrange(len(self.actions)))()
        elif world.timers and random.random() < self.hurry:
            world.fire(random.choice(list(world.timers)))
        elif random.random() < self.again:
            world.again(random)
        elif world.late and random.random() < 0.05:
            world.late_arrival(random)
        elif not world.step(random, self.weights):
            if not self.actions:
                return False
            self.actions.pop()()
        return True

    def _stuck(self) -> set[str]:
        """Sagas whose capture, void or refund the gateway does not confirm, and nobody has given up yet."""
        waiting = {call.saga for call in self.world.calls.values()}
        refused = {
            event.saga for _, event in self.world.published if isinstance(event, PaymentStuck | PaymentRefundStuck)
        }
        ended = {"captured", "voided", "void_written_off", "capture_written_off", "refunded", "refund_written_off"}
        tables = self.world.rows("payment")
        paid = {**tables["charges"], **tables["prepayments"]}
        return {saga for saga in waiting | refused if paid[saga].phase not in ended}
