"""Orders, mixed in the flows in which they can be placed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from agents.order import order_id
from farandole.chaos.flows import services_in
from farandole.chaos.load import ANSWER_WITHIN, Means, Source, Taken, Wave
from farandole.demo import plan as plans
from farandole.demo import report
from farandole.demo.place import Customers
from farandole.demo.plan import Kinds, Placement, Wishes
from farandole.partitioner import partition_of

LEFT_TO_FAULTS: Final = frozenset({Kinds.BROKEN, Kinds.UNANSWERED, Kinds.UNBOOKED})
"""Kinds of order that no wave has: handlers fail by faults here, and what the outside does to the other two hangs on
its usual behaviour, which faults change.
"""


COUNTED: Final = ("placed", "accepted", "completed", "cancelled", "refused", "parked")


class Orders(Source):
    what = "orders"
    least = 50

    def __init__(self, means: Means, flows: tuple[str, ...], rate: float) -> None:
        super().__init__(means, flows, rate)
        self._placements: dict[str, Placement] = {}
        self._customers: list[Customers] = []

    def wave(self, number: int) -> Wave:
        means = self.means
        wishes = Wishes(
            run=f"{means.run}.{number}",
            orders=self.size,
            seed=self.wave_seed(number),
            possible=frozenset(Kinds) - LEFT_TO_FAULTS,
            flows=self.flows,
        )
        customers = Customers(
            plans.make(wishes, order_id),
            urls=means.urls["order"],
            sender=means.sender,
            seen=means.seen,
            rate=self.rate,
            outage=_nothing,
            answer_within=ANSWER_WITHIN,
            handed_over=True,
        )
        placements = customers.plan.placements

        def begin() -> None:
            self._customers.append(customers)
            self._placements.update({each.order: each for each in placements})
            means.sagas.update({each.order: each.flow for each in placements})

        return Wave(len(placements), customers.deliver_stock, begin, customers.place_all)

    # ---- what became of them

    def intended(self) -> int:
        return sum(len(each.intended) for each in self._customers)

    def ended(self) -> int:
        return sum(saga in self._placements for saga in list(self.means.seen.endings))

    def counts(self) -> dict[str, dict[str, int]]:
        seen, sagas = self.means.seen, self.means.sagas
        intended, parked = self._intended(), seen.parked_sagas
        found = {flow: Counter(dict.fromkeys(COUNTED, 0)) for flow in self.flows}
        for saga, flow in sagas.items():
            if flow in found:
                found[flow]["placed"] += saga in intended
                found[flow]["accepted"] += saga in seen.placed
                found[flow]["parked"] += saga in parked
                if ending := seen.endings.get(saga):
                    found[flow][ending.how] += 1
        return {flow: dict(counts) for flow, counts in found.items()}

    def taken(self, monotonic_to_ms: float) -> Iterator[Taken]:
        intended, endings, partitions = self._intended(), self.means.seen.endings, self.means.partitions
        services = {flow: services_in(flow) for flow in self.flows}
        for order, each in self._placements.items():
            if each.kind is Kinds.PLAIN and order in intended and order in endings:
                home = frozenset({partition_of(order, partitions)})
                through = dict.fromkeys(services[each.flow], home)
                through["inventory"] = home | {partition_of(line.sku, partitions) for line in each.command.lines}
                due = intended[order]
                yield Taken(int(due * 1000 + monotonic_to_ms), endings[order].at - due, through)

    def problems(self, audit: Mapping[str, Any] | None) -> list[str]:
        surprises = [surprise for each in self._customers for surprise in each.surprises]
        impossible = report.impossible_endings(self._placements.values(), self.means.seen)
        return report.some(surprises) + report.some(impossible)

    def _intended(self) -> dict[str, float]:
        return {order: at for each in self._customers for order, at in each.intended.items()}


async def _nothing() -> None:
    """The gateway goes away when a fault says so, not when the plan does."""
