"""Run in a patched copy of the project: orders of one flow in memory, half of them fraudulent, in many interleavings.

    python -m tests.compare.fraudulent order/1 25

Prints one line for each ending and how often it was; whatever is wrong is an AssertionError.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from random import Random

import events
from events import CancelOrder, OrderCancelled, OrderCompleted, ShippingDispatched, StockReceived
from tests.farandole.audit_log import recording
from tests.flows.scenarios import Scenario, an_order, saga_of

ADDRESSES = ("1 Utopia Square, Nowhere", "1 Main Street, Springfield")
ORDERS = 8


def run(flow: str, seed: int) -> Counter[tuple[str, str]]:
    """(address, how it ended) → how many"""
    random, ends = Random(seed), Counter[tuple[str, str]]()
    with recording() as world:
        world.send(StockReceived(sku="apple", quantity=100), "delivery-1", "restock/1")
        orders = {saga_of(order): order for order in (_order(number) for number in range(ORDERS))}
        scenario = Scenario(world, random, again=0.25)
        for saga, order in orders.items():
            scenario.actions.append(functools.partial(world.send, order, saga, flow))
            if random.random() < 0.3:
                scenario.actions.append(functools.partial(world.send, CancelOrder(), saga, flow))
        scenario.play()
        for saga, order in orders.items():
            ended = world.events(saga, OrderCancelled, OrderCompleted)
            assert len(ended) == 1, f"{saga} has {len(ended)} endings"
            end = ended[0]
            ends[order.ship_to, end.cause if isinstance(end, OrderCancelled) else "completed"] += 1
            fraudulent = order.ship_to == ADDRESSES[0]
            assert not (fraudulent and world.events(saga, ShippingDispatched)), f"{saga} was shipped"
            suspected = world.events(saga, events.FraudSuspected)  # type: ignore[attr-defined]  # the patch brings it
            assert not (suspected and not fraudulent), f"{saga} was suspected"
        report = world.finish().audit()
        assert report.ok, report.findings[:3]
    return ends


def _order(number: int) -> events.PlaceOrder:
    return an_order(f"{number}", ship_to=ADDRESSES[number % 2])


def main() -> None:
    flow, seeds = sys.argv[1], int(sys.argv[2])
    total = Counter[tuple[str, str]]()
    for seed in range(seeds):
        total += run(flow, seed)
    for (address, end), count in sorted(total.items()):
        print(f"{'fraudulent' if address == ADDRESSES[0] else 'honest'} {end} {count}")


if __name__ == "__main__":
    main()
