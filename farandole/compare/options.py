"""How much is done in a comparison, and the plan that follows from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from farandole.compare.audience import MODES
from farandole.compare.flows import FLOWS
from farandole.compare.outages import OUTSIDE
from farandole.demo.plan import Kinds

PATCHED_SECONDS: Final = 14
START_SECONDS: Final = 15
END_SECONDS: Final = 30
RESTART_SECONDS: Final = 4
ASKED_SECONDS: Final = 2.7
TURN_SECONDS: Final = 1.2
STAND_IN_SECONDS: Final = 1
BACKLOG_RATE: Final = 400
"""About what they take where nothing else runs beside: for the plan, and until the first one of a kind was seen."""

FAILING: Final = {Kinds.DECLINED: 0.1, Kinds.NOWHERE: 0.1}
"""Shares of the paced orders that fail, so that there are rollbacks to be measured."""


@dataclass(frozen=True)
class Options:
    """warm_up: orders of each flow before anything is measured, so that the broker's code is compiled

    orders: of each flow in a turn, of which a round has two of each; a cold round comes first

    subscribers: stand-ins that want to know of completed orders; rate: of all flows together

    asked: orders of each flow that commands tell of

    minutes: within which all of it ends; what no longer fits is left out, and said to be
    """

    warm_up: int = 400
    orders: int = 250
    rounds: int = 5
    subscribers: int = 10
    paced_seconds: float = 60.0
    rate: float = 30.0
    outage_seconds: float = 8.0
    outage_rate: float = 15.0
    asked: int = 4
    patched_orders: int = 20
    seed: int = 0
    minutes: float = 10.0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


QUICK: Final = {
    "warm_up": 30, "orders": 30, "rounds": 1, "subscribers": 3, "paced_seconds": 6.0, "outage_seconds": 4.0, "asked": 1,
    "patched_orders": 6,
}  # fmt: skip


def plan(options: Options, services: int) -> list[tuple[str, float]]:
    """(what is done, about how many seconds it takes)"""
    flows = len(FLOWS)
    a_turn = options.orders / BACKLOG_RATE + TURN_SECONDS
    return [
        ("start Kafka, the services and the outside world", START_SECONDS),
        (f"{options.warm_up} orders of each flow that are not measured", options.warm_up * flows / BACKLOG_RATE),
        (
            f"{options.rounds} rounds of twice {options.orders} orders at once of each flow, and a cold one before",
            (options.rounds + 1) * 2 * flows * a_turn,
        ),
        (
            f"{options.paced_seconds:g} s at {options.rate:g} orders/s, all flows mixed, a fifth of them failing",
            options.paced_seconds + 5,
        ),
        (
            f"a round with {options.subscribers} more subscribers, that hear and that are commanded",
            2 * len(MODES) * (a_turn + STAND_IN_SECONDS),
        ),
        (
            f"each of {services} services and {len(OUTSIDE)} outside systems down for {options.outage_seconds:g} s at "
            f"{options.outage_rate:g} orders/s",
            (services + len(OUTSIDE) + 1) * (options.outage_seconds + RESTART_SECONDS),
        ),
        (
            f"the project's commands asked about {options.asked} orders of each flow",
            (options.asked + 1) * flows * 3 * ASKED_SECONDS,
        ),
        ("a fraud check put into each flow from a patch, and run", PATCHED_SECONDS * flows),
        ("read the topics, audit them", END_SECONDS),
    ]
