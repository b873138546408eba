"""Resident memory of each process, from after the warm-up to the end, and whether that is a leak.

Invariant: what is not judged says why; nothing passes because it was not looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from farandole.load.figures import GENERATOR, mib
from farandole.load.recorder import Played
from farandole.load.sampler import Sample
from farandole.sandbox import ENVIRONMENT

MOST_GROWTH: Final = 1.1
"""Times what a process of the system had after the warm-up, that it may have at the end."""

JUDGED_SECONDS: Final = 300.0
"""Of one rate, below which growth is told and not judged: what an allocator takes once weighs too much in less."""

ENDS_OF_WINDOW: Final = 5
"""Samples of which memory at the start and at the end is the mean: one alone is an accident."""

APART: Final = (GENERATOR, *ENVIRONMENT)
"""Not of the system. The stand-ins for the outside world keep all that they were asked, so that an audit can ask them;
the generator keeps figures for each second of the first ten minutes.
"""


@dataclass(frozen=True)
class Memory:
    """of: which stretch; processes: a row of each; not_judged: why its growth is no verdict; empty: it is one"""

    of: str
    processes: list[dict[str, Any]]
    not_judged: str

    @property
    def problems(self) -> list[str]:
        return [
            f"memory of {row['process']} grew to {row['ratio']:.2f} × of what it was after the warm-up, "
            f"{row['start_mib']:.0f} to {row['end_mib']:.0f} MiB: {MOST_GROWTH:g} × is allowed"
            for row in self.processes
            if row["within"] is False
        ]

    def to_dict(self) -> dict[str, Any]:
        judged = not self.not_judged
        return {
            "of": self.of,
            "limit": MOST_GROWTH,
            "judged": judged,
            "not_judged": self.not_judged,
            "within": not self.problems if judged else None,
            "apart": [row["process"] for row in self.processes if row["process"] in APART],
            "processes": self.processes,
        }


def memory(
    judged: Sequence[Played], played: Sequence[Played], samples: Sequence[Sample], keep_seconds: float | None
) -> Memory:
    """Of the stages by which the run is judged.

    played:       all stages, in their order
    samples:      of the time of those that are judged
    keep_seconds: for which rows of ended orders stay; None: the system is somebody else's
    """
    rows = rows_of(samples)
    why = _not_judged(judged, played, keep_seconds) or _not_measured(rows)
    for row in rows:
        row["within"] = None if why or row["process"] in APART else row["ratio"] <= MOST_GROWTH
    return Memory(_said(judged), rows, why)


def rows_of(samples: Sequence[Sample]) -> list[dict[str, Any]]:
    """Resident memory of each process at the start and at the end of a stretch, in MiB, and the ratio."""
    found = []
    for name in dict.fromkeys(name for each in samples for name in each.rss):
        sizes = [each.rss[name] for each in samples if name in each.rss]
        first, last = (_average(part) for part in (sizes[:ENDS_OF_WINDOW], sizes[-ENDS_OF_WINDOW:]))
        row = {"process": name, "start_mib": mib(first), "end_mib": mib(last), "most_mib": mib(max(sizes))}
        found.append({**row, "ratio": round(last / first, 3) if first else None, "samples": len(sizes)})
    return found


def _average(sizes: Sequence[int]) -> int:
    return sum(sizes) // len(sizes)


def _not_judged(judged: Sequence[Played], played: Sequence[Played], keep_seconds: float | None) -> str:
    if keep_seconds is None:
        return "the system is not the load's own"
    if not judged:
        return "nothing was measured for it"
    if len(judged) != 1 or judged[0].stage.burst or judged[0].stage.rate != judged[0].stage.until:
        return "only a load of one rate is judged by it"
    [one] = judged
    if one.seconds < JUDGED_SECONDS:
        return f"it is judged from {JUDGED_SECONDS:.0f} s on"
    warm_up = 0.0
    place = next(number for number, each in enumerate(played) if each is one)
    while place and not played[place - 1].stage.measured:
        place -= 1
        warm_up += played[place].stage.seconds
    if not warm_up > keep_seconds:
        return f"rows of ended orders stay for {keep_seconds:g} s, and the warm-up was {warm_up:.0f} s"
    return ""


def _not_measured(rows: Sequence[dict[str, Any]]) -> str:
    system = [row for row in rows if row["process"] not in APART]
    few = [row["process"] for row in system if row["samples"] < 2 * ENDS_OF_WINDOW or row["ratio"] is None]
    if few:
        return f"there are too few samples of {', '.join(few)}"
    return "" if system else "no process of the system was measured"


def _said(judged: Sequence[Played]) -> str:
    if not judged:
        return "nothing was measured for it"
    return f"first and last of {sum(each.seconds for each in judged):.0f} s, warm-up left out"
