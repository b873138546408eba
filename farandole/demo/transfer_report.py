"""What came of a demo of transfers: figures, what was wrong, the table for people, the object for programs."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from farandole.demo.mischief import Restart
from farandole.demo.report import MOST_LISTED, latencies, percentile
from farandole.demo.transfer_plan import COMPLETED, KINDS, PARKED, Asked, Kinds, TransferPlan
from farandole.demo.watch import Parked, Seen


@dataclass(frozen=True)
class Row:
    """Transfers of one kind; ends: how many ended how; latency in milliseconds from when each was meant to be asked."""

    kind: str
    transfers: int
    ends: dict[str, int]
    p50_ms: float | None


@dataclass
class Outcome:
    """All that is known at the end of a run. Problems are what made it fail.

    answered: transfer → seconds from when it was due to the HTTP answer
    """

    run: dict[str, Any]
    transfers: dict[str, int]
    rows: list[Row]
    latency: dict[str, float | None]
    parked: list[Parked]
    requests: dict[str, dict[str, int]]
    restarts: list[Restart]
    problems: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    audit: dict[str, Any] | None = None
    next_steps: list[str] = field(default_factory=list)
    answered: dict[str, float] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        said = {"ok": self.ok, **dataclasses.asdict(self)}
        del said["answered"]
        return {**said, "parked": said["parked"][:MOST_LISTED]}


def ending_of(saga: str, seen: Seen, parked: set[str]) -> str:
    ending = seen.endings.get(saga)
    return ending.how if ending else PARKED if saga in parked else "open"


def rows_of(plan: TransferPlan, seen: Seen, intended: Mapping[str, float]) -> list[Row]:
    """One row for each kind."""
    parked = seen.parked_sagas
    by_kind: dict[Kinds, list[Asked]] = {}
    for asked in plan.placements:
        by_kind.setdefault(asked.kind, []).append(asked)
    rows = []
    for kind in Kinds:
        some = by_kind.get(kind, [])
        if some:
            ends = Counter(ending_of(each.order, seen, parked) for each in some)
            taken = latencies(some, seen, intended)  # type: ignore[arg-type]  # what it needs is the id
            rows.append(Row(KINDS[kind].title, len(some), dict(sorted(ends.items())), percentile(taken, 0.5)))
    return rows


def impossible(plan: TransferPlan, seen: Seen) -> Iterator[str]:
    """Transfers that ended in a way that their kind does not allow, and races that not exactly one has won."""
    parked = seen.parked_sagas
    won: Counter[str] = Counter()
    for asked in plan.placements:
        became = ending_of(asked.order, seen, parked)
        kind = KINDS[asked.kind]
        if became not in kind.ends and became != "open":
            yield f"transfer {asked.order} ({kind.title}) is {became}; possible: {', '.join(sorted(kind.ends))}"
        if asked.kind is Kinds.RACE:
            won[asked.command.source] += became == COMPLETED
    yield from (f"{count} of two transfers got the balance of {source}" for source, count in won.items() if count != 1)


def print_outcome(outcome: Outcome, console: Any) -> None:
    """The table, and what there is to say beside it."""
    from rich.table import Table

    table = Table("transfers of which", "", "became", "p50 ms", box=None, pad_edge=False, header_style="bold")
    for row in outcome.rows:
        became = ", ".join(f"{number} {end}" for end, number in row.ends.items())
        table.add_row(row.kind, str(row.transfers), became, f"{row.p50_ms or 0:,.0f}")
    console.print(table)
    for line in _figures(outcome):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if outcome.audit is not None and outcome.audit["ok"]:
        read = outcome.audit["read"]["records"]
        said = f"the audit holds: {read:,} records read; every transfer ended once or is parked, the ledger adds up to "
        said += "zero, every balance is what it says, nobody is below his limit"
        console.print(said, style="bold green", highlight=False, soft_wrap=True)
    for problem in outcome.problems:
        console.print(f"failed: {problem}", style="red", highlight=False, markup=False, soft_wrap=True)
    if outcome.next_steps:
        console.print("\nto go on looking:")
        for step in outcome.next_steps:
            console.print(f"  {step}", highlight=False, markup=False, soft_wrap=True)


def _figures(outcome: Outcome) -> Iterator[str]:
    yield "seconds: " + ", ".join(f"{name.replace('_', ' ')} {took:.0f}" for name, took in outcome.seconds.items())
    for currency, money in (outcome.audit or {}).get("bank", {}).get("money", {}).items():
        held, in_flight = money["held"], money["in_flight"]
        yield f"{currency}: paid in {money['funded']:,}, on accounts {held:,}, in flight {in_flight:,}"
    latency = outcome.latency
    yield f"from asked for to ended: p50 {latency['p50_ms'] or 0:,.0f} ms, p99 {latency['p99_ms'] or 0:,.0f} ms"
    for each in outcome.restarts:
        ready = f"ready in {each.ready or 0:.1f} s"
        yield f"{each.service} was killed (kill -9) after {each.accepted} transfers and started again: {ready}"
    for parked in outcome.parked[:MOST_LISTED]:
        yield f"parked: {parked.saga} in {parked.service} ({parked.reason}: {parked.error})"
