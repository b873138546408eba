"""The report of one load for people: one HTML file; and the same as JSON beside it.

Invariant: the page is made from the JSON object alone, so whatever is in it can be had by a program.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from farandole.load.objective import Objective
from farandole.load.outcome import LATENCIES, Outcome, confidence, growth_said, number, remark
from farandole.load.page import facts, heading, page, table, tiles, verdict
from farandole.load.plots import Line, Mark, Plot, percentile_plot

SERVICES: Final = {"order": "c1", "inventory": "c2", "payment": "c3", "shipping": "c5", "notification": "c7"}
OUTSIDE: Final = ("gateway", "carrier", "mail")
SPARE: Final = ("c4", "c8", "c6", "cg")
"""Colours of services that have none of their own."""


def write(outcome: Outcome, folder: Path) -> None:
    """`<run>.html` and `<run>.json`, and their paths into the outcome. What cannot be written is a problem of it: the
    figures are there all the same.
    """
    try:
        _write(outcome, folder)
    except OSError as error:
        outcome.reports = []
        outcome.problems.append(
            f"the report could not be written to {folder}: {error.strerror or error}; make room there, or choose "
            "another folder with --out; with --json all figures are on standard output"
        )


def _write(outcome: Outcome, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = outcome.figures["run"]["name"]
    html, data = folder / f"{name}.html", folder / f"{name}.json"
    outcome.reports = [near(html), near(data)]
    found = outcome.to_dict()
    data.write_text(json.dumps(found))
    html.write_text(render(found))


def near(path: Path) -> str:
    """As one would type it from here."""
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path)


def render(found: Mapping[str, Any]) -> str:
    """The page of a JSON object."""
    run, settings = found["run"], found["settings"]
    title = f"Load: {settings['load']}"
    return page(
        f"{title} – {run['name']}",
        [
            f"<h1>{_escaped(title)}</h1>",
            f'<p class="about">{_escaped(run["name"])}, {_escaped(run["began"])}, commit {_escaped(run["commit"])}; '
            f"via {_escaped(settings['via'])}, {_escaped(settings['against'])}</p>",
            *_verdicts(found),
            tiles(_tiles(found)),
            heading("Over time"),
            *plots(found),
            heading("Stages"),
            _stages(found["stages"]),
            *_limit(found["limit"]),
            *_processes(found),
            *_audit(found["audit"]),
            heading("Generator"),
            facts(_generator(found)),
            heading("Machine and settings"),
            facts({**found["machine"], **found["versions"]}),
            "<br>",
            facts(settings),
        ],
    )


def _escaped(text: Any) -> str:
    from html import escape

    return escape("–" if text is None else str(text))


def _verdicts(found: Mapping[str, Any]) -> Iterable[str]:
    said = found["latency"]["objective_said"]
    if found["interrupted"]:
        yield verdict("warn", "Interrupted: what had been measured by then. The audit was not carried out.")
    if not found["valid"]:
        yield verdict("warn", "Not valid: the generator was the bottleneck.", found["generator"]["bottleneck"])
    if found["problems"]:
        yield verdict("bad", "Failed", found["problems"])
    elif found["ok"]:
        yield verdict("good", f"The audit is clean{f'; {said}' if said else ''}.")
    if found["limit"] is not None:
        yield verdict("good" if found["limit"]["sure"] else "warn", f"Limit: {found['limit']['said']}")


def _tiles(found: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    limit, latency, totals = found["limit"], found["latency"], found["totals"]
    if limit is not None and limit["rate"] is not None:
        yield f"{limit['rate']:g}/s", f"highest rate that holds {found['settings']['objective']}"
    if found["burst"] is not None and found["burst"]["drained_in"] is not None:
        yield f"{found['burst']['drained_in']:.1f} s", f"until {found['burst']['orders']:,} orders at once were gone"
    for name in ("p50", "p99", "p99.9"):
        if latency[f"{name}_ms"] is not None:
            yield f"{number(latency[f'{name}_ms'])} ms", f"{name} from the intended start"
    yield f"{totals['placed']:,}", "orders placed"
    measured = [stage for stage in found["stages"] if stage["measured"]]
    if measured:
        yield f"{max(stage['ended_per_second'] for stage in measured):,.0f}/s", "ended, in the best stage"
    services = [row for row in found["memory"]["processes"] if row["process"].partition("[")[0] in SERVICES]
    ratios = [row["ratio"] for row in services if row["ratio"] is not None]
    if ratios:
        yield f"{max(ratios):.2f}×", "memory, end by start, most of a service"


# ---- plots


def plots(found: Mapping[str, Any]) -> list[str]:
    """All figures of a report, as HTML."""
    series, samples = found["series"], found["samples"]
    marks = [Mark(stage["began"], stage["name"] if stage["measured"] else "") for stage in found["stages"]]
    objective = found["settings"]["objective"]
    level = (Objective.parse(objective).seconds * 1000, objective) if objective else None

    ats = [at + series["width"] / 2 for at in series["at"]]

    def line(name: str, colour: str, *, dashed: bool = False) -> Line:
        return Line(name, colour, _points(ats, series[name]), dashed)

    found_plots = [
        Plot(
            "Latency",
            "ms",
            [line("p50", "c2"), line("p90", "c1"), line("p99", "c5"), line("max", "cg", dashed=True)],
            marks,
            log=True,
            level=level,
            about=f"from the intended start to the end, of the orders due in each {series['width']:g} s; logarithmic",
        ),
        Plot(
            "Throughput",
            "orders/s",
            [line("intended", "ci", dashed=True), line("placed", "c1"), line("ended", "c2")],
            marks,
        ),
        Plot(
            "Orders in flight", "orders", [Line("in flight", "c1", _points(samples["at"], samples["in_flight"]))], marks
        ),
        Plot(
            "Lag by service",
            "offsets",
            [Line(name, _colour(name), _points(samples["at"], each)) for name, each in _by_colour(samples["lag"])],
            marks,
            about="the ends of the topics that it reads less what it has committed; markers of transactions included",
        ),
        Plot("CPU by process", "cores", _processes_lines(samples, samples["cpu"], others=True), marks),
        Plot(
            "Resident memory by process",
            "MiB",
            _processes_lines(samples, samples["rss"], others=False),
            marks,
            log=True,
            about="logarithmic; how much it grew is in the table of processes",
        ),
    ]
    span = max([0.0, *(at + series["width"] for at in series["at"]), *samples["at"]])
    shown = [replace(plot, span=span).svg() for plot in found_plots]
    curve = percentile_plot([("all that is measured", "c1", found["latency"]["curve"])])
    return [shown[0], curve, *shown[1:]]


def _points(ats: Sequence[float], values: Sequence[float | None]) -> list[tuple[float, float | None]]:
    return list(zip(ats, values, strict=True))


def _by_colour(columns: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Services in the order in which an order passes them, others behind."""
    places = list(SERVICES)
    return sorted(columns.items(), key=lambda item: places.index(item[0]) if item[0] in places else len(places))


def _colour(service: str) -> str:
    return SERVICES.get(service) or SPARE[sum(map(ord, service)) % len(SPARE)]


def _processes_lines(samples: Mapping[str, Any], columns: Mapping[str, Any], *, others: bool) -> list[Line]:
    """One line for each service, with all its workers; one for the outside world; broker, generator, the rest."""
    groups: dict[str, list[Sequence[float | None]]] = {}
    for process, values in columns.items():
        name = process.partition("[")[0]
        groups.setdefault("outside world" if name in OUTSIDE else name, []).append(values)
    summed = {name: [_sum(each) for each in zip(*group, strict=True)] for name, group in groups.items()}
    known = {"broker": ("c6", False), "outside world": ("c8", False), "generator": ("ci", True)}
    lines = []
    for name, values in _by_colour(summed):
        colour, dashed = known.get(name) or (_colour(name), False)
        lines.append(Line(name, colour, _points(samples["at"], values), dashed))
    if others:
        lines.append(Line("others on this machine", "cg", _points(samples["at"], samples["others_cpu"]), True))
    return lines


def _sum(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) if there else None


# ---- tables


def _stages(stages: Sequence[Mapping[str, Any]]) -> str:
    head = ("stage", "s", "placed", "placed/s", "ended/s", *(f"{name} ms" for name in LATENCIES), "")
    return table(
        head,
        (
            (
                "" if stage["measured"] else "quiet",
                (
                    stage["name"],
                    number(stage["seconds"]),
                    number(stage["placed"]),
                    number(stage["placed_per_second"]),
                    number(stage["ended_per_second"]),
                    *(number(stage["latency"][f"{name}_ms"]) for name in LATENCIES),
                    remark(stage) or ("" if stage["measured"] else "not counted"),
                ),
            )
            for stage in stages
        ),
    )


def _limit(limit: Mapping[str, Any] | None) -> Iterable[str]:
    if limit is None:
        return
    yield heading("The search")
    yield table(
        ("orders/s", "held", "p99 ms", "above, share", "95 % interval", ""),
        (
            (
                "" if probe["held"] else "quiet",
                (
                    f"{probe['rate']:g}",
                    "yes" if probe["held"] else "no",
                    number(probe["latency"]["p99_ms"]),
                    *_shares(probe["latency"]),
                    probe["why"] + ("" if probe["kept_up"] else "; generator too slow"),
                ),
            )
            for probe in limit["probes"]
        ),
    )
    held = [probe for probe in limit["probes"] if probe["held"]]
    if limit["rate"] is not None and held:
        yield f'<p class="about">At {limit["rate"]:g} orders/s, {_escaped(confidence(held[-1]["latency"]))}.</p>'


def _shares(latency: Mapping[str, Any]) -> tuple[str, str]:
    if latency["share_above"] is None:
        return "", ""
    low, high = latency["share_above_between"]
    return f"{latency['share_above']:.2%}", f"{low:.2%} – {high:.2%}"


def _processes(found: Mapping[str, Any]) -> Iterable[str]:
    rows = found["memory"]["processes"]
    if not rows:
        return
    cpu = found["cpu"]["processes"]
    yield heading("Processes")
    memory = found["memory"]
    yield (
        f'<p class="about">Resident memory: {_escaped(memory["of"])}; {_escaped(growth_said(memory))}. '
        "CPU: the mean of that time.</p>"
    )
    yield table(
        ("process", "start MiB", "end MiB", "ratio", "most MiB", "cores", ""),
        (
            (
                "",
                (
                    row["process"],
                    number(row["start_mib"]),
                    number(row["end_mib"]),
                    "" if row["ratio"] is None else f"{row['ratio']:.3f}",
                    number(row["most_mib"]),
                    f"{cpu[row['process']]:.2f}" if row["process"] in cpu else "",
                    "not of the system" if row["process"] in memory["apart"] else _too_much(row, memory),
                ),
            )
            for row in rows
        ),
    )
    if found["cpu"]["others"] is not None:
        yield f'<p class="about">Everything else on this machine took {found["cpu"]["others"]:.2f} cores.</p>'


def _too_much(row: Mapping[str, Any], memory: Mapping[str, Any]) -> str:
    return f"above {memory['limit']:g} ×" if row["within"] is False else ""


def _audit(audit: Mapping[str, Any] | None) -> Iterable[str]:
    yield heading("Audit")
    if audit is None:
        yield '<p class="about">It was not carried out.</p>'
        return
    names = ("ok", "accepted", "completed", "cancelled", "refused", "parked", "open", "findings_by_check", "notes")
    yield facts({**{name.replace("_", " "): audit[name] for name in names}, "records read": audit["read"]["records"]})


def _generator(found: Mapping[str, Any]) -> dict[str, Any]:
    generator = found["generator"]
    if generator["late_p99_ms"] is None:
        return {"nothing": "was measured that counts"}
    return {
        "placed late by": f"p50 {number(generator['late_p50_ms'])} ms, p99 {number(generator['late_p99_ms'])} ms, "
        f"at most {number(generator['late_max_ms'])} ms",
        "its CPU": f"{generator['cpu_share']:.0%} of a core, of that in Python {generator['python_share']:.0%}",
        "bottleneck": generator["bottleneck"] or "no",
        "samples without lag": found["lag_gaps"],
    }
