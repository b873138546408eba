"""What came of a run: figures, the table for people, the object for programs, the verdict.

Invariant: `Outcome.ok` is true only if the audit and the order check hold, every fault recovered in time and every
order ended in a way that it may.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from farandole.chaos.injecting import Done
from farandole.chaos.load import Taken
from farandole.demo.report import percentile

SHOWN: Final = 60
"""Faults that are shown to people one by one; --json has all of them."""


@dataclass(frozen=True)
class Row:
    """A fault and the orders meanwhile.

    at, healed, whole: seconds since the load began, since the injection, since the injection
    recovered: seconds from the injection until what had stood still moved again
    others_p99_ms: of orders that did not go through what stood still
    """

    number: int
    at: float
    name: str
    target: str
    healed: float
    recovered: float | None
    whole: float | None
    alone: bool
    orders: int
    p50_ms: float | None
    p99_ms: float | None
    others: int
    others_p99_ms: float | None
    problem: str


@dataclass
class Outcome:
    """orders: all of them together; flows: each flow's sagas"""

    run: dict[str, Any]
    orders: dict[str, int]
    flows: dict[str, dict[str, int]]
    faults: list[Row]
    kinds: list[dict[str, Any]]
    latency: dict[str, dict[str, Any]]
    refused: dict[str, int]
    deaths: list[dict[str, Any]]
    problems: list[str]
    seconds: dict[str, float] = field(default_factory=dict)
    ordering: dict[str, Any] | None = None
    audit: dict[str, Any] | None = None

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        fields = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return {"ok": self.ok, **fields, "faults": [dataclasses.asdict(row) for row in self.faults]}


def total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Of several flows together."""
    found: dict[str, int] = {}
    for each in counts:
        for what, number in each.items():
            found[what] = found.get(what, 0) + number
    return found


def row_of(done: Done, taken: Iterable[Taken], began: int) -> Row:
    meanwhile = [each for each in taken if done.at <= each.at <= done.until]
    others = [each for each in meanwhile if not _goes_through(each, done.affects)] if done.affects else []
    seconds = [each.seconds for each in meanwhile]
    return Row(
        number=done.number,
        at=round((done.at - began) / 1000, 1),
        name=done.name,
        target=done.target,
        healed=round((done.healed - done.at) / 1000, 2),
        recovered=None if done.recovery is None else round(done.recovery, 2),
        whole=None if done.whole is None else round((done.whole - done.at) / 1000, 2),
        alone=done.alone,
        orders=len(meanwhile),
        p50_ms=percentile(seconds, 0.5),
        p99_ms=percentile(seconds, 0.99),
        others=len(others),
        others_p99_ms=percentile([each.seconds for each in others], 0.99),
        problem=done.problem,
    )


def _goes_through(taken: Taken, affects: Mapping[str, set[int]]) -> bool:
    """Whether it needs a partition that stood still."""
    return any(taken.through.get(service, frozenset()) & partitions for service, partitions in affects.items())


def kinds_of(rows: Iterable[Row], taken: list[Taken], done: Mapping[int, Done]) -> list[dict[str, Any]]:
    """One line for each kind of fault: recoveries, and all orders during them."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    found = []
    for name, group in sorted(groups.items()):
        recoveries = sorted(row.recovered for row in group if row.recovered is not None)
        spans = [done[row.number] for row in group]
        meanwhile = [each for each in taken if any(span.at <= each.at <= span.until for span in spans)]
        others = [
            each
            for each in taken
            if any(
                span.affects and span.at <= each.at <= span.until and not _goes_through(each, span.affects)
                for span in spans
            )
        ]
        found.append(
            {
                "name": name,
                "faults": len(group),
                "recovered_p50_s": _rank(recoveries, 0.5),
                "recovered_max_s": recoveries[-1] if recoveries else None,
                "orders": len(meanwhile),
                "p50_ms": percentile([each.seconds for each in meanwhile], 0.5),
                "p99_ms": percentile([each.seconds for each in meanwhile], 0.99),
                "others": len(others),
                "others_p99_ms": percentile([each.seconds for each in others], 0.99),
            }
        )
    return found


def latency_of(taken: list[Taken], done: Iterable[Done]) -> dict[str, dict[str, Any]]:
    """Of the orders that nothing was wrong with: while no fault was on, and while one was."""
    spans = [(each.at, each.until) for each in done]
    troubled = [any(begin <= each.at <= end for begin, end in spans) for each in taken]

    def figures(wanted: bool | None) -> dict[str, Any]:
        seconds = [each.seconds for each, trouble in zip(taken, troubled, strict=True) if wanted in (None, trouble)]
        return {
            "orders": len(seconds),
            "p50_ms": percentile(seconds, 0.5),
            "p99_ms": percentile(seconds, 0.99),
            "max_ms": percentile(seconds, 1.0),
        }

    return {"calm": figures(False), "troubled": figures(True), "all": figures(None)}


def _rank(ranked: list[float], share: float) -> float | None:
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))] if ranked else None


# ---- for people


def print_outcome(outcome: Outcome, console: Any) -> None:
    from rich.table import Table

    def table(*columns: str, left: int) -> Any:
        made = Table(box=None, pad_edge=False, header_style="bold")
        for number, column in enumerate(columns):
            made.add_column(column, justify="left" if number < left else "right", no_wrap=number < left)
        return made

    each = table("fault", "at s", "target", "healed s", "recovered s", "whole s", "orders", "p50 ms", "p99 ms", left=0)
    for number in (0, 2):
        each.columns[number].justify = "left"
    for row in outcome.faults[:SHOWN]:
        each.add_row(
            row.name, f"{row.at:.1f}", row.target[:50], f"{row.healed:.1f}", _seconds(row.recovered),
            _seconds(row.whole), str(row.orders), _ms(row.p50_ms), _ms(row.p99_ms),
        )  # fmt: skip
    console.print(each)
    if len(outcome.faults) > SHOWN:
        console.print(f"and {len(outcome.faults) - SHOWN} more (--json has all of them)")
    console.print()
    kinds = table(
        "kind", "faults", "recovered p50 s", "max s", "orders meanwhile", "p50 ms", "p99 ms", "others p99 ms", left=1
    )
    for kind in outcome.kinds:
        kinds.add_row(
            kind["name"], str(kind["faults"]), _seconds(kind["recovered_p50_s"]), _seconds(kind["recovered_max_s"]),
            str(kind["orders"]), _ms(kind["p50_ms"]), _ms(kind["p99_ms"]), _ms(kind["others_p99_ms"]),
        )  # fmt: skip
    console.print(kinds)
    console.print()
    for line in _figures(outcome):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if outcome.ok:
        console.print(
            "the audit and the order check hold, and every fault recovered in time", style="bold green", soft_wrap=True
        )
    for problem in outcome.problems:
        console.print(f"failed: {problem}", style="red", highlight=False, markup=False, soft_wrap=True)


def _figures(outcome: Outcome) -> Iterable[str]:
    yield "seconds: " + ", ".join(f"{name.replace('_', ' ')} {took:.0f}" for name, took in outcome.seconds.items())
    if outcome.orders:
        yield "orders: " + ", ".join(f"{number} {what}" for what, number in outcome.orders.items())
    for flow, counts in outcome.flows.items() if len(outcome.flows) > 1 or not outcome.orders else ():
        yield f"{flow}: " + ", ".join(f"{number} {what}" for what, number in counts.items())
    for name, figures in outcome.latency.items():
        yield (
            f"what nothing was wrong with, {name}: {figures['orders']}, p50 {_ms(figures['p50_ms'])} ms, "
            f"p99 {_ms(figures['p99_ms'])} ms, longest {_ms(figures['max_ms'])} ms"
        )
    for name, count in sorted(outcome.refused.items()):
        yield f"{name} was refused {count} times: the system would not have borne it"
    for death in outcome.deaths[:SHOWN]:
        yield f"{death['worker']} ended by itself at {death['at']:.0f} s and was started again:\n{death['words']}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


def _ms(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:,.0f}"
