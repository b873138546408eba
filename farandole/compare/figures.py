"""Numbers from numbers: percentiles, medians, ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any, Final

CURVE: Final = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 98, 99, 99.5, 99.9)
"""Percents of the curve that is drawn."""


STRETCHES: Final = 5
"""Into which what was measured at a steady pace is cut: each stands for a round."""


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that so many percent do not exceed; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def spread(values: Sequence[float], digits: int = 1) -> dict[str, Any]:
    """p50, p99 and how many there were."""
    found = {name: percentile(values, percent) for name, percent in (("p50", 50), ("p99", 99))}
    return {name: None if each is None else round(each, digits) for name, each in found.items()} | {"of": len(values)}


def middle(values: Sequence[float], digits: int = 2) -> dict[str, Any]:
    """Median, least and most of rounds, and the rounds themselves."""
    if not values:
        return {"median": None, "least": None, "most": None, "rounds": []}
    return {
        "median": round(median(values), digits),
        "least": round(min(values), digits),
        "most": round(max(values), digits),
        "rounds": [round(each, digits + 1) for each in values],
    }


def stretches(values: Sequence[float | None], count: int) -> list[list[float]]:
    """What was measured one after the other, in so many stretches of about the same number; None: it does not count."""
    edges = [len(values) * place // count for place in range(count + 1)]
    return [[each for each in values[first:last] if each is not None] for first, last in pairwise(edges)]


def ratio(value: float | None, base: float | None, digits: int = 2) -> float | None:
    return None if value is None or not base else round(value / base, digits)


def share(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if whole else None


def curve(values: Sequence[float]) -> list[list[float]]:
    """[percent, value] as far as there are values above."""
    return [
        [percent, round(found, 1)]
        for percent in CURVE
        if len(values) * (100 - percent) >= 100 and (found := percentile(values, percent)) is not None
    ]
