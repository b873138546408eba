"""Histograms of times, log-linear as HdrHistogram's: every value within 1 % of what was measured, from 0.1 ms to a day.

Invariants: memory is bounded by the width of the range and not by the number of values; histograms add up, so that a
minute is the sum of its seconds; a percentile is never better than what was measured: it is the upper edge of its
bucket, and never above the largest value. The idea is Gil Tene's, the code is not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

UNIT: Final = 1e-4
"""Seconds: what is shorter counts as this."""

_BITS: Final = 7
_HALF: Final = 1 << _BITS

LONGEST: Final = 86_400.0
"""Seconds: what is longer counts as this."""


class Histogram:
    """Counts of times by bucket. Times are in seconds."""

    __slots__ = ("buckets", "count", "largest", "total")

    def __init__(self) -> None:
        self.buckets: dict[int, int] = {}
        self.count = 0
        self.total = self.largest = 0.0

    def add(self, seconds: float) -> None:
        seconds = min(max(seconds, 0.0), LONGEST)
        bucket = bucket_of(seconds)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1
        self.count += 1
        self.total += seconds
        self.largest = max(self.largest, seconds)

    def add_all(self, other: Histogram) -> None:
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
        self.count += other.count
        self.total += other.total
        self.largest = max(self.largest, other.largest)

    def percentile(self, percent: float) -> float | None:
        """The smallest time that at least so many percent are not above; None of nothing."""
        return self.percentiles((percent,))[0]

    def percentiles(self, percents: Iterable[float]) -> list[float | None]:
        """Several at once, for which the buckets are put in order once."""
        ordered = sorted(self.buckets.items())
        return [self._nearest_rank(ordered, percent) for percent in percents]

    def _nearest_rank(self, ordered: list[tuple[int, int]], percent: float) -> float | None:
        # 0.99 has no exact binary form: rounded, so that 99 % of 100 are 99 and not 100.
        left = max(1, math.ceil(round(self.count * percent / 100, 6)))
        for bucket, count in ordered:
            left -= count
            if left <= 0:
                return min(upper_edge(bucket), self.largest)
        return None

    def above(self, seconds: float) -> int:
        """How many were longer, counted by bucket: a bucket counts if the most of it may be longer."""
        return sum(count for bucket, count in self.buckets.items() if min(upper_edge(bucket), self.largest) > seconds)

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None


def summed(histograms: Iterable[Histogram]) -> Histogram:
    total = Histogram()
    for each in histograms:
        total.add_all(each)
    return total


def bucket_of(seconds: float) -> int:
    """Up to 256 units one bucket for each unit, and then 128 for every doubling."""
    units = int(seconds / UNIT)
    shift = max(0, units.bit_length() - _BITS - 1)
    return (shift << _BITS) + (units >> shift)


def upper_edge(bucket: int) -> float:
    """Seconds: where the next bucket begins."""
    if bucket < 2 * _HALF:
        return (bucket + 1) * UNIT
    shift = (bucket >> _BITS) - 1
    return (((bucket & (_HALF - 1)) + _HALF + 1) << shift) * UNIT
