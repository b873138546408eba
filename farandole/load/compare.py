"""Two reports side by side, with ratios, and where the machines or the settings were different.

Invariant: a ratio is always B by A; a figure that one of them has not is shown as missing, never as zero.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Final

from farandole.errors import ConfigError
from farandole.load.html import near, plots
from farandole.load.outcome import FORMAT, LATENCIES, number
from farandole.load.page import heading, in_words, page, table, verdict
from farandole.load.plots import percentile_plot

MACHINE: Final = ("system", "processor", "cores", "memory_gb")
"""Of the machine, what makes two runs different; its load average always does."""

Figure = tuple[str, float | None, float | None]
"""What it is, in A, in B."""


@dataclass
class Comparison:
    """a, b: the reports; figures: what both measured; differences: (what, in A, in B) of machine and settings"""

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    figures: list[Figure]
    differences: list[tuple[str, str, str]]
    warnings: list[str]
    reports: list[str] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, str]:
        return self.a["run"]["name"], self.b["run"]["name"]

    def to_dict(self) -> dict[str, Any]:
        return {
            "a": self.names[0],
            "b": self.names[1],
            "figures": [{"figure": name, "a": a, "b": b, "ratio": ratio(a, b)} for name, a, b in self.figures],
            "differences": [{"what": what, "a": a, "b": b} for what, a, b in self.differences],
            "warnings": self.warnings,
            "reports": self.reports,
        }

    def write(self, path: Path | None) -> None:
        """As HTML."""
        from farandole.load.run import reports_home

        path = path or reports_home() / f"{self.names[0]}-{self.names[1]}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render(self))
        self.reports = [near(path)]


def path_of(name: str) -> Path:
    """A report's .json file, by its path or by the name of its run. ConfigError if there is none."""
    from farandole.load.run import reports_home

    path = next((each for each in (Path(name), reports_home() / f"{name}.json") if each.is_file()), None)
    if path is None:
        raise ConfigError(
            "there is no such report", where=name, mend=f"a .json file, or the name of a run in {reports_home()}"
        )
    return path


def read(name: str) -> dict[str, Any]:
    """A report, by its .json file or by the name of its run. ConfigError if there is none, or it is something else."""
    path = path_of(name)
    try:
        found = json.loads(path.read_text())
        known = isinstance(found, dict) and found.get("format") == FORMAT and "stages" in found
    except ValueError:
        known = False
    if not known:
        raise ConfigError("this is no report of a load", where=str(path), mend="what farandole load has written, .json")
    return dict(found)


def compare(a: Mapping[str, Any], b: Mapping[str, Any]) -> Comparison:
    differences = [*_differences(a, b)]
    warnings = [f"{name} is not valid: its generator was the bottleneck" for name in _those(a, b, "valid", False)]
    warnings += [f"{name} was interrupted" for name in _those(a, b, "interrupted", True)]
    if differences:
        what = ", ".join(dict.fromkeys(each[0].partition(": ")[0] for each in differences))
        warnings.append(f"not the same {what}: a ratio says how these two runs differ, not why")
    return Comparison(a, b, list(_figures(a, b)), differences, warnings)


def _those(a: Mapping[str, Any], b: Mapping[str, Any], key: str, value: bool) -> list[str]:
    return [each["run"]["name"] for each in (a, b) if each[key] is value]


def ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None or not a else round(b / a, 3)


# ---- figures


def _figures(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterable[Figure]:
    if a["limit"] is not None or b["limit"] is not None:
        yield "limit, orders/s", (a["limit"] or {}).get("rate"), (b["limit"] or {}).get("rate")
    if a["burst"] is not None or b["burst"] is not None:
        yield "burst drained, orders/s", (a["burst"] or {}).get("rate"), (b["burst"] or {}).get("rate")
    for name in LATENCIES:
        yield f"{name}, ms", a["latency"][f"{name}_ms"], b["latency"][f"{name}_ms"]
    for name, one, other in _both(_by_name(a), _by_name(b)):
        for what, key in (("placed/s", "placed_per_second"), ("ended/s", "ended_per_second")):
            yield f"{name}: {what}", one.get(key), other.get(key)
        yield f"{name}: p99, ms", one.get("latency", {}).get("p99_ms"), other.get("latency", {}).get("p99_ms")
    for process, one, other in _both(_memory(a), _memory(b)):
        yield f"memory of {process}, end by start", one.get("ratio"), other.get("ratio")
        yield f"memory of {process}, MiB at the end", one.get("end_mib"), other.get("end_mib")
    cpu = [each["cpu"]["processes"] for each in (a, b)]
    for process in dict.fromkeys([*cpu[0], *cpu[1]]):
        yield f"CPU of {process}, cores", cpu[0].get(process), cpu[1].get(process)
    yield "CPU of others, cores", a["cpu"]["others"], b["cpu"]["others"]


def _both(
    a: Mapping[str, Mapping[str, Any]], b: Mapping[str, Mapping[str, Any]]
) -> Iterable[tuple[str, Mapping[str, Any], Mapping[str, Any]]]:
    """What is in either, by name."""
    return ((name, a.get(name, {}), b.get(name, {})) for name in dict.fromkeys([*a, *b]))


def _by_name(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Stages that count; of a search none, as its rates are never the same twice."""
    if found["limit"] is not None:
        return {}
    return {stage["name"]: stage for stage in found["stages"] if stage["measured"]}


def _memory(found: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {row["process"]: row for row in found["memory"]["processes"]}


# ---- differences


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    parts = {
        "machine": ({name: each["machine"].get(name) for name in MACHINE} for each in (a, b)),
        "versions": (each["versions"] for each in (a, b)),
        "settings": (each["settings"] for each in (a, b)),
        "commit": ({"commit": each["run"]["commit"]} for each in (a, b)),
    }
    for part, (one, other) in parts.items():
        for name in dict.fromkeys([*one, *other]):
            if one.get(name) != other.get(name):
                yield f"{part}: {name.replace('_', ' ')}", in_words(one.get(name)), in_words(other.get(name))


# ---- for people


def print_comparison(compared: Comparison, console: Any) -> None:
    from rich.table import Table

    shown = Table("", *compared.names, "B/A", box=None, pad_edge=False, header_style="bold")
    for column in shown.columns[1:]:
        column.justify = "right"
    for row in _rows(compared.figures):
        shown.add_row(*row)
    console.print(shown)
    for what, a, b in compared.differences:
        console.print(f"{what}: {a} | {b}", highlight=False, markup=False, soft_wrap=True)
    for warning in compared.warnings:
        console.print(warning, style="yellow", highlight=False, markup=False, soft_wrap=True)
    for path in compared.reports:
        console.print(f"report: {path}", highlight=False, markup=False, soft_wrap=True)


def _rows(figures: Iterable[Figure]) -> Iterable[Sequence[str]]:
    for name, a, b in figures:
        by = ratio(a, b)
        yield name, number(a), number(b), "" if by is None else f"{by:.2f}×"


def render(compared: Comparison) -> str:
    a, b = compared.a, compared.b
    named = list(zip(compared.names, ("c1", "c8"), (a, b), strict=True))
    curves = [(name, colour, each["latency"]["curve"]) for name, colour, each in named]
    sides = [f"<div><h3>{side}</h3>{''.join(plots(each))}</div>" for side, each in zip("AB", (a, b), strict=True)]
    began = (
        f"{side} is {each['run']['name']}, {each['run']['began']}" for side, each in zip("AB", (a, b), strict=True)
    )
    return page(
        " and ".join(compared.names),
        [
            f"<h1>{escape(a['settings']['load'])} | {escape(b['settings']['load'])}</h1>",
            f'<p class="about">{escape("; ".join(began))}</p>',
            *(verdict("warn", each) for each in compared.warnings),
            heading("Figures"),
            table(("", "A", "B", "B/A"), (("", row) for row in _rows(compared.figures))),
            heading("What was different"),
            table(("", "A", "B"), (("differs", row) for row in compared.differences), "words")
            if compared.differences
            else '<p class="about">Neither machine nor settings.</p>',
            percentile_plot(curves),
            heading("Over time"),
            f'<div class="sides">{"".join(sides)}</div>',
        ],
        broad=True,
    )
