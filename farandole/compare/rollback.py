"""Failures: who takes part in taking an order back, and how long it takes.

Measured from the record that says what failed (payment.declined, shipping.failed) by the broker's time. What tells the
customer is left out: it is the same everywhere, and no compensation.
"""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import Any, Final, NamedTuple

from farandole.compare.facts import Fact, Facts
from farandole.compare.figures import STRETCHES, percentile, spread, stretches

CAUSES: Final = {"payment.declined": "a declined card", "shipping.failed": "a refused shipment"}
CONFIRMED: Final = ("payment.voided", "inventory.released")
"""The confirmations of compensations."""
END: Final = "order.cancelled"
TELLING: Final = ("notification", "notification.commands", "notification.calls")


class Rollback(NamedTuple):
    """compensated, cancelled: milliseconds from the failure to the last confirmation, and to the order's end

    messages: written after the failure until the order is cancelled; services: that wrote them, or had failed
    topics:   in which they lie
    """

    compensated: float
    cancelled: float
    messages: int
    services: int
    topics: int


def rollback_of(facts: Iterable[Fact], cause: str) -> Rollback | None:
    """One order's; None if it did not fail for this cause, or has not ended."""
    ordered = list(facts)
    failed = next((each.at for each in ordered if each.name == cause), None)
    end = next((each.at for each in ordered if each.name == END), None)
    confirmed = [each.at for each in ordered if each.name in CONFIRMED]
    if failed is None or end is None or not confirmed:
        return None
    until = max(end, *confirmed)
    after = [
        each
        for each in ordered
        if failed <= each.at <= until and each.name != cause and each.topic not in TELLING and not _before(each)
    ]
    services = {each.by for each in after if each.by} | {cause.partition(".")[0]}
    topics = {each.topic for each in after}
    return Rollback(max(confirmed) - failed, end - failed, len(after), len(services), len(topics))


def _before(fact: Fact) -> bool:
    """The answer that says the failure, and the ledger's line beside it, may have the same millisecond."""
    return fact.name in ("payment.calls.authorise_answered", "shipping.calls.book_answered")


def rollbacks(facts: Facts, sagas: Iterable[str], cause: str) -> dict[str, Any]:
    """sagas: in the order in which they were placed, so that those of all flows can be compared stretch by stretch"""
    each_saga = [rollback_of(facts.of.get(saga, ()), cause) for saga in sagas]
    found = [each for each in each_saga if each is not None]
    parts = stretches([None if each is None else each.compensated for each in each_saga], STRETCHES)
    return {
        "orders": len(found),
        "compensated_ms": {
            **spread([each.compensated for each in found]),
            "stretches": {"p50": [percentile(each, 50) for each in parts]},
        },
        "cancelled_ms": spread([each.cancelled for each in found]),
        "messages": median(each.messages for each in found) if found else None,
        "services": median(each.services for each in found) if found else None,
        "topics": median(each.topics for each in found) if found else None,
    }
