"""What came of a load: one object for programs, a table for people.

Invariant: `ok` is true only if the audit was carried out and is clean, every order was placed and has ended or is
parked, the objective, if there is one, was held by a run that is valid, and memory, where it is judged, stayed within
its limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from farandole.load.objective import Objective

FORMAT = 1
"""Of the JSON object; a report of another one is not compared."""

LATENCIES = ("p50", "p90", "p99", "p99.9", "max")


@dataclass
class Outcome:
    """figures: everything but the verdict; see docs/operating-load.md. valid: the generator was not the bottleneck in
    the stages by which the run is judged.
    """

    figures: dict[str, Any]
    problems: list[str] = field(default_factory=list)
    valid: bool = True
    interrupted: bool = False
    reports: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems and not self.interrupted

    def to_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "ok": self.ok,
            "valid": self.valid,
            "interrupted": self.interrupted,
            "problems": self.problems,
            "reports": self.reports,
            **self.figures,
        }


def print_outcome(outcome: Outcome, console: Any) -> None:
    """For people."""
    figures = outcome.figures
    console.print(_stages(figures["stages"]))
    for line in [*_limit(figures), *_totals(figures), *_generator(figures), *_memory(figures)]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    audit = figures["audit"]
    if audit is not None and audit["ok"]:
        console.print(
            f"the audit holds: {audit['read']['records']:,} records read", style="bold green", highlight=False
        )
    if not outcome.valid:
        console.print("not valid: the generator was the bottleneck, see above", style="bold yellow", highlight=False)
    if outcome.interrupted:
        console.print("interrupted: what had been measured by then", style="bold yellow", highlight=False)
    for problem in outcome.problems:
        console.print(f"failed: {problem}", style="red", highlight=False, markup=False, soft_wrap=True)
    for path in outcome.reports:
        console.print(f"report: {path}", highlight=False, markup=False, soft_wrap=True)


def _stages(stages: Iterable[Mapping[str, Any]]) -> Any:
    from rich.table import Table

    names = ("stage", "seconds", "placed", "placed/s", "ended/s", *(f"{name} ms" for name in LATENCIES), "")
    table = Table(*names, box=None, pad_edge=False, header_style="bold")
    for column in table.columns[1:-1]:
        column.justify = "right"
    for stage in stages:
        latency = stage["latency"]
        table.add_row(
            stage["name"] + ("" if stage["measured"] else " (not counted)"),
            number(stage["seconds"]),
            number(stage["placed"]),
            number(stage["placed_per_second"]),
            number(stage["ended_per_second"]),
            *(number(latency[f"{name}_ms"]) for name in LATENCIES),
            remark(stage),
        )
    return table


def remark(stage: Mapping[str, Any]) -> str:
    """What has to be said of a stage."""
    said = []
    if stage["latency"].get("held") is False and stage["measured"]:
        said.append(f"misses {stage['latency']['objective']}")
    if stage["grows"]:
        said.append(", ".join(stage["grows"]) + " grow" + ("s" if len(stage["grows"]) == 1 else ""))
    if stage["cut"]:
        said.append("cut short")
    if stage["generator"]["bottleneck"]:
        said.append("generator too slow")
    return "; ".join(said)


def number(value: float | None) -> str:
    """With three digits that say something."""
    if value is None:
        return ""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _limit(figures: Mapping[str, Any]) -> Iterable[str]:
    limit = figures["limit"]
    if limit is None:
        return
    yield f"limit: {limit['said']}"
    confirmed = [probe for probe in limit["probes"] if probe["held"]]
    if limit["rate"] is not None and confirmed:
        yield f"at {limit['rate']:g} orders/s {confidence(confirmed[-1]['latency'])}"


def confidence(latency: Mapping[str, Any]) -> str:
    """How sure a percentile is that holds an objective."""
    if latency["share_above"] is None:
        return "nothing was measured"
    low, high = latency["share_above_between"]
    objective = Objective.parse(latency["objective"])
    most = f"{objective.seconds * 1000:g} ms, {objective.allowed:.2%} may"
    return (
        f"{latency['share_above']:.2%} of {latency['orders']:,} orders took longer than {most} "
        f"(95 % interval {low:.2%} to {high:.2%}, if orders are independent)"
    )


def _totals(figures: Mapping[str, Any]) -> Iterable[str]:
    totals, latency = figures["totals"], figures["latency"]
    outcomes = ", ".join(f"{count:,} {how}" for how, count in sorted(totals["outcomes"].items()))
    yield (
        f"{totals['placed']:,} orders placed, {outcomes or 'none ended'}; "
        f"{totals['parked']} parked, {totals['open']} open"
    )
    if latency["objective_said"]:
        yield latency["objective_said"]
    if figures["burst"] is not None and figures["burst"]["drained_in"] is not None:
        orders, seconds, rate = (figures["burst"][name] for name in ("orders", "drained_in", "rate"))
        yield f"{orders:,} orders at once were gone after {seconds:.1f} s: {rate:,.0f} orders/s"


def _generator(figures: Mapping[str, Any]) -> Iterable[str]:
    generator = figures["generator"]
    if generator["late_p99_ms"] is None:
        return
    yield (
        f"generator: late by p99 {number(generator['late_p99_ms'])} ms, at most {number(generator['late_max_ms'])} ms; "
        f"{generator['cpu_share']:.0%} of a core, {generator['python_share']:.0%} in its Python threads"
    )
    for why in generator["bottleneck"]:
        yield f"  {why}"
    if figures["cpu"].get("others") and figures["cpu"]["others"] > 0.1 * (figures["machine"]["cores"] or 1):
        yield f"others on this machine took {figures['cpu']['others']:.2f} cores meanwhile"


def _memory(figures: Mapping[str, Any]) -> Iterable[str]:
    memory = figures["memory"]
    apart = [row for row in memory["processes"] if row["process"] in memory["apart"]]
    system = [row for row in memory["processes"] if row not in apart]
    if system:
        yield f"resident memory, MiB, {memory['of']}: {_grew(system)}; {growth_said(memory)}"
    if apart:
        yield f"not of the system, and not judged: {_grew(apart)}"


def _grew(rows: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{row['process']} {row['start_mib']:.0f} to {row['end_mib']:.0f}"
        + ("" if row["ratio"] is None else f" ({row['ratio']:.2f}×)")
        for row in rows
    )


def growth_said(memory: Mapping[str, Any]) -> str:
    """Whether memory stayed within its limit."""
    if not memory["judged"]:
        return f"not judged: {memory['not_judged']}"
    return f"{'within' if memory['within'] else 'not within'} {memory['limit']:g} × of what it was after the warm-up"
