"""What still moves while one part is down: a steady pace of new orders of all flows, the part taken away meanwhile.

A part is a service, which is killed, or a system of the outside world, which refuses connections.

Only orders are counted that had time enough: those of the last seconds of an outage are not. A step counts if its
record lies in a topic before the part is back, by the broker's time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from farandole.compare.facts import Facts
from farandole.compare.figures import share

GRACE: Final = 1.5
"""Seconds at the end of an outage whose orders are not counted; more where orders take longer."""

NOBODY: Final = "nobody"
"""The outage of nobody: the same pace with all services there, to compare with."""

OUTSIDE: Final = {"payment gateway": "gateway", "carrier": "carrier", "mail": "mail"}
"""Part → the sandbox's system."""

GONE: Final = {"outage": {"lasts": 3_600, "refuse": True}}
"""The sandbox's fault for it. It is lifted when the pace is over, long before that."""

STEPS: Final = {
    "placed": "order.placed",
    "reserved": "inventory.reserved",
    "authorised": "payment.authorised",
    "dispatched": "shipping.dispatched",
    "captured": "payment.captured",
    "committed": "inventory.committed",
    "completed": "order.completed",
}
"""Of a plain order, in each flow."""


@dataclass(frozen=True)
class Outage:
    """orders: word for the flow → the orders that are counted; until: the broker's time at which it was over"""

    part: str
    orders: dict[str, list[str]]
    until: int


def grace_of(p99_ms: float | None, outage_seconds: float) -> float:
    """Longer than nearly every order takes when all is well; half of the outage at the most."""
    return round(min(outage_seconds / 2, max(GRACE, 1.2 * (p99_ms or 0.0) / 1000)), 1)


def reached(facts: Facts, sagas: Iterable[str], until: int) -> dict[str, int]:
    """Step → how many of the orders had it by then."""
    counts = dict.fromkeys(STEPS, 0)
    names = {name: step for step, name in STEPS.items()}
    for saga in sagas:
        for step in {names[fact.name] for fact in facts.of.get(saga, ()) if fact.name in names and fact.at < until}:
            counts[step] += 1
    return counts


def row(facts: Facts, outage: Outage, word: str) -> dict[str, Any]:
    """steps: share of all steps that were done; farthest: the last step that more than half of the orders had"""
    sagas = outage.orders[word]
    counts = reached(facts, sagas, outage.until)
    far = [step for step in STEPS if counts[step] * 2 > len(sagas)]
    return {
        "orders": len(sagas),
        "steps": share(sum(counts.values()), len(sagas) * len(STEPS)),
        "dispatched": share(counts["dispatched"], len(sagas)),
        "completed": share(counts["completed"], len(sagas)),
        "farthest": far[-1] if far else "",
    }


def table(facts: Facts, outages: Sequence[Outage]) -> dict[str, dict[str, Any]]:
    """Part → word for the flow → its row."""
    return {each.part: {word: row(facts, each, word) for word in each.orders} for each in outages}
