"""What came of a demo: figures, what was wrong, the table for people, the object for programs.

Invariant: `Outcome.ok` is true only if every order has ended or is parked, in a way that its kind allows, nothing
answered otherwise than promised, and the audit holds.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from farandole.demo.mischief import Restart
from farandole.demo.plan import COMPLETED, KINDS, PARKED, REFUSED, Kinds, Placement, ends_of
from farandole.demo.watch import DeadLetter, Parked, Seen

MOST_LISTED: Final = 20
"""Orders, letters or problems of one sort that are named; the rest is counted."""

OPEN: Final = "open"

IN_WORDS: Final = {
    "inventory.rejected": "not enough stock",
    "payment.declined": "card declined",
    "payment.failed": "the gateway did not answer in time",
    "shipping.failed": "the carrier refused, or did not answer in time",
    "shipping.cancelled": "the customer or the clock stopped it",
}


@dataclass(frozen=True)
class Row:
    """Orders with one outcome and one cause; latencies in milliseconds from when the order was meant to be placed."""

    outcome: str
    cause: str
    orders: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass
class Outcome:
    """All that is known at the end of a run. Problems are what made it fail."""

    run: dict[str, Any]
    orders: dict[str, int]
    rows: list[Row]
    kinds: dict[str, dict[str, int]]
    latency: dict[str, float | None]
    rates: dict[str, float]
    parked: list[Parked]
    dead_letters: dict[str, dict[str, int]]
    letters: list[DeadLetter]
    requests: dict[str, dict[str, int]]
    restarts: list[Restart]
    problems: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    audit: dict[str, Any] | None = None
    next_steps: list[str] = field(default_factory=list)
    flows: dict[str, dict[str, int]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {
            "ok": self.ok,
            **fields,
            "rows": [dataclasses.asdict(row) for row in self.rows],
            "parked": [dataclasses.asdict(each) for each in self.parked[:MOST_LISTED]],
            "letters": [dataclasses.asdict(each) for each in self.letters[:MOST_LISTED]],
            "restarts": [dataclasses.asdict(each) for each in self.restarts],
        }


def ending_of(order: str, seen: Seen, parked: set[str]) -> tuple[str, str]:
    """(outcome, cause) of an order: completed, cancelled, refused, parked or open."""
    ending = seen.endings.get(order)
    if ending is not None:
        return ending.how, ending.cause
    return (PARKED if order in parked else OPEN), ""


def rows_of(placements: Iterable[Placement], seen: Seen, intended: Mapping[str, float]) -> list[Row]:
    """One row for each outcome and cause."""
    parked = seen.parked_sagas
    groups: dict[tuple[str, str], list[Placement]] = {}
    for placement in placements:
        groups.setdefault(ending_of(placement.order, seen, parked), []).append(placement)
    place = {COMPLETED: 0, "cancelled": 1, REFUSED: 2, PARKED: 3, OPEN: 4}
    rows = []
    for (outcome, cause), group in sorted(groups.items(), key=lambda each: (place[each[0][0]], each[0][1])):
        taken = latencies(group, seen, intended)
        rows.append(Row(outcome, cause, len(group), percentile(taken, 0.5), percentile(taken, 0.99)))
    return rows


def latencies(placements: Iterable[Placement], seen: Seen, intended: Mapping[str, float]) -> list[float]:
    """Seconds from when each order was meant to be placed to its end, of those that have one."""
    endings = seen.endings
    return [
        endings[each.order].at - intended[each.order]
        for each in placements
        if each.order in endings and each.order in intended
    ]


def latency_of(placements: Iterable[Placement], seen: Seen, intended: Mapping[str, float]) -> dict[str, float | None]:
    """From placed to ended: of all, and of the orders that nothing was wrong with."""
    everything = list(placements)
    plain = [each for each in everything if each.kind is Kinds.PLAIN]
    all_taken, plain_taken = latencies(everything, seen, intended), latencies(plain, seen, intended)
    return {
        "p50_ms": percentile(all_taken, 0.5),
        "p99_ms": percentile(all_taken, 0.99),
        "plain_p50_ms": percentile(plain_taken, 0.5),
        "plain_p99_ms": percentile(plain_taken, 0.99),
    }


def rates_of(seen: Seen, began: float, placed: float) -> dict[str, float]:
    """Orders per second. began, placed: when the first was placed and the last one had its answer."""
    last = max((each.at for each in seen.endings.values()), default=placed)
    return {
        "placed_per_second": round(len(seen.orders) / max(1e-9, placed - began), 1),
        "ended_per_second": round(len(seen.endings) / max(1e-9, last - began), 1),
    }


def nested(counts: Mapping[tuple[str, Any], int]) -> dict[str, dict[str, int]]:
    """{(a, b): n} → {a: {b: n}}, sorted."""
    found: dict[str, dict[str, int]] = {}
    for (outer, inner), number in sorted(counts.items()):
        found.setdefault(outer, {})[str(inner)] = number
    return found


def percentile(seconds: list[float], share: float) -> float | None:
    """In milliseconds, by nearest rank; None of nothing."""
    if not seconds:
        return None
    ranked = sorted(seconds)
    return round(ranked[min(len(ranked) - 1, int(len(ranked) * share))] * 1000, 1)


def kinds_of(placements: Iterable[Placement], seen: Seen) -> dict[str, dict[str, int]]:
    """Kind of order → what came of them, by outcome or cause."""
    parked = seen.parked_sagas
    found: dict[str, Counter[str]] = {}
    for placement in placements:
        outcome, cause = ending_of(placement.order, seen, parked)
        found.setdefault(placement.kind.value, Counter())[cause or outcome] += 1
    return {kind: dict(counts) for kind, counts in found.items()}


def flows_of(placements: Iterable[Placement], seen: Seen) -> dict[str, dict[str, int]]:
    """Flow → what came of its orders, by outcome."""
    parked = seen.parked_sagas
    return nested(Counter((each.flow, ending_of(each.order, seen, parked)[0]) for each in placements))


def impossible_endings(placements: Iterable[Placement], seen: Seen) -> list[str]:
    """Orders that ended in a way that their kind does not allow, in sentences. Open ones are not among them."""
    parked = seen.parked_sagas
    found = []
    for placement in placements:
        outcome, cause = ending_of(placement.order, seen, parked)
        ends = ends_of(placement.kind, placement.flow)
        if outcome != OPEN and (cause or outcome) not in ends:
            became, possible = " ".join(filter(None, [outcome, cause])), ", ".join(sorted(ends))
            what = f"order {placement.order} ({KINDS[placement.kind].title}, {placement.flow})"
            found.append(f"{what} is {became}; possible: {possible}")
    return found


def disagreements(audit: Mapping[str, Any], seen: Seen) -> list[str]:
    """Where the audit counts otherwise than the watcher: both have read the same topics."""
    ours = {"accepted": len(seen.placed), **{how: seen.ended[how] for how in ("completed", "cancelled", "refused")}}
    return [
        f"the audit counts {audit[what]} orders {what}, the demo saw {number}"
        for what, number in ours.items()
        if audit[what] != number
    ]


def some(problems: list[str]) -> list[str]:
    """The first of many."""
    more = len(problems) - MOST_LISTED
    return problems[:MOST_LISTED] + ([f"… and {more} more like these"] if more > 0 else [])


# ---- for people


def print_outcome(outcome: Outcome, console: Any) -> None:
    """The table, and what there is to say beside it."""
    from rich.table import Table

    table = Table("outcome", "cause", "orders", "p50 ms", "p99 ms", box=None, pad_edge=False, header_style="bold")
    for column in table.columns[2:]:
        column.justify = "right"
    for row in outcome.rows:
        why = f"{row.cause}: {IN_WORDS[row.cause]}" if row.cause in IN_WORDS else row.cause
        table.add_row(row.outcome, why, str(row.orders), _ms(row.p50_ms), _ms(row.p99_ms))
    console.print(table)
    console.print()
    if len(outcome.kinds) > 1:
        console.print(_kinds(outcome.kinds))
        console.print()
    for line in [*_flows(outcome), *_figures(outcome), *_restarts(outcome), *_parked(outcome), *_letters(outcome)]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if outcome.audit is not None and outcome.audit["ok"]:
        console.print(_audit(outcome.audit), style="bold green", highlight=False, soft_wrap=True)
    for problem in outcome.problems:
        console.print(f"failed: {problem}", style="red", highlight=False, markup=False, soft_wrap=True)
    if outcome.next_steps:
        console.print("\nto go on looking:")
        for step in outcome.next_steps:
            console.print(f"  {step}", highlight=False, markup=False, soft_wrap=True)


def _kinds(kinds: Mapping[str, Mapping[str, int]]) -> Any:
    """What was wrong with orders, and what came of them."""
    from rich.table import Table

    table = Table("orders of which", "", "became", box=None, pad_edge=False, header_style="bold")
    table.columns[1].justify = "right"
    for kind in Kinds:
        if kind in kinds:
            became = ", ".join(f"{number} {what}" for what, number in sorted(kinds[kind].items()))
            table.add_row(KINDS[kind].title, str(sum(kinds[kind].values())), became)
    return table


def _ms(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:,.0f}"


def _flows(outcome: Outcome) -> Iterable[str]:
    for flow, became in outcome.flows.items() if len(outcome.flows) > 1 else ():
        yield f"{flow}: " + ", ".join(f"{number} {how}" for how, number in became.items())


def _figures(outcome: Outcome) -> Iterable[str]:
    latency, rates = outcome.latency, outcome.rates
    yield "seconds: " + ", ".join(f"{name.replace('_', ' ')} {took:.0f}" for name, took in outcome.seconds.items())
    yield (
        f"{outcome.orders['accepted']} orders accepted, placed at {rates['placed_per_second']:.0f} a second, "
        f"ended at {rates['ended_per_second']:.0f} a second; from placed to ended p50 {_ms(latency['p50_ms'])} ms, "
        f"p99 {_ms(latency['p99_ms'])} ms (what nothing was wrong with: p50 {_ms(latency['plain_p50_ms'])} ms, "
        f"p99 {_ms(latency['plain_p99_ms'])} ms)"
    )


def _audit(audit: Mapping[str, Any]) -> str:
    return (
        f"the audit holds: {audit['read']['records']:,} records read; every order ended once or is parked, no id "
        "is there twice, no stock and no money is lost or doubled, what was cancelled is taken back"
    )


def _restarts(outcome: Outcome) -> Iterable[str]:
    for each in outcome.restarts:
        handled = f"handled messages again after {each.serving:.1f} s" if each.serving else "no message came for it"
        yield (
            f"{each.service} was killed (kill -9) at {each.accepted} accepted orders and started again: "
            f"ready after {each.ready or 0:.1f} s, {handled}"
        )


def _parked(outcome: Outcome) -> Iterable[str]:
    letters = {(each.service, each.topic, each.partition, each.offset): each for each in outcome.letters}
    for each in outcome.parked[:MOST_LISTED]:
        letter = letters.get((each.service, each.topic, each.partition, each.offset))
        lies = f", dead letter {letter.queue}[{letter.queue_partition}]@{letter.queue_offset}" if letter else ""
        yield (
            f"parked: order {each.saga} in {each.service} since {each.topic}[{each.partition}]@{each.offset}{lies} "
            f"({each.reason}: {each.error}); messages of it that wait there, in order: {each.letters}"
        )


def _letters(outcome: Outcome) -> Iterable[str]:
    for service, reasons in sorted(outcome.dead_letters.items()):
        yield f"dead letters of {service}: " + ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
