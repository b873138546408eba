"""Transfers of money, each wave between accounts of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from farandole.chaos.load import ANSWER_WITHIN, Means, Source, Taken, Wave
from farandole.demo import report
from farandole.demo.transfer_customers import Bank
from farandole.demo.transfer_plan import ENDS, Kinds, make
from farandole.demo.transfer_report import impossible
from farandole.partitioner import partition_of

PATIENT: Final = 600
"""Seconds that accounts have to answer: above what any fault takes, so that only those in a hurry meet their deadline
and how the others end is known beforehand.
"""


class Transfers(Source):
    what = "transfers"
    least = 30

    def __init__(self, means: Means, flows: tuple[str, ...], rate: float) -> None:
        super().__init__(means, flows, rate)
        self._banks: list[Bank] = []

    def wave(self, number: int) -> Wave:
        means, [flow] = self.means, self.flows
        seed, ways = self.wave_seed(number), ("http", "kafka")
        plan = make(f"{means.run}.{number}", f"w{number}-", self.size, seed, True, ways, False, PATIENT)
        urls = {service: means.urls[service] for service in ("transfers", "accounts")}
        bank = Bank(plan, urls, means.sender, means.seen, answer_within=ANSWER_WITHIN, handed_over=True)

        def begin() -> None:
            self._banks.append(bank)
            means.sagas.update({each.order: flow for each in plan.placements})

        async def place(began: float) -> None:
            async with bank.open():
                await bank.move_all(self.rate, began)

        return Wave(len(plan.placements), bank.open_accounts, begin, place)

    # ---- what became of them

    def intended(self) -> int:
        return sum(len(each.intended) for each in self._banks)

    def ended(self) -> int:
        endings = self.means.seen.endings
        return sum(each.order in endings for bank in self._banks for each in bank.plan.placements)

    def counts(self) -> dict[str, dict[str, int]]:
        seen, [flow] = self.means.seen, self.flows
        intended = {saga for bank in self._banks for saga in bank.intended}
        found = Counter({"placed": len(intended), **dict.fromkeys((*ENDS, "parked"), 0)})
        parked = seen.parked_sagas
        for saga, of in self.means.sagas.items():
            if of == flow:
                found["parked"] += saga in parked
                if ending := seen.endings.get(saga):
                    found[ending.how] += 1
        return {flow: dict(found)}

    def taken(self, monotonic_to_ms: float) -> Iterator[Taken]:
        endings, partitions = self.means.seen.endings, self.means.partitions
        for bank in self._banks:
            for each in bank.plan.placements:
                due, ending = bank.intended.get(each.order), endings.get(each.order)
                if each.kind is Kinds.PLAIN and due is not None and ending is not None:
                    through = {
                        "transfers": frozenset({partition_of(each.order, partitions)}),
                        "accounts": frozenset(
                            partition_of(account, partitions) for account in (each.command.source, each.command.target)
                        ),
                    }
                    yield Taken(int(due * 1000 + monotonic_to_ms), ending.at - due, through)

    def problems(self, audit: Mapping[str, Any] | None) -> list[str]:
        surprises = [surprise for bank in self._banks for surprise in bank.surprises]
        ends = [each for bank in self._banks for each in impossible(bank.plan, self.means.seen)]
        return report.some(surprises) + report.some(ends)
