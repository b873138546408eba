"""Histograms of times: near enough, additive, bounded, and never flattering."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farandole.load.histogram import LONGEST, UNIT, Histogram, bucket_of, summed, upper_edge

TIMES = st.floats(0, 10_000, allow_nan=False)


def filled(times: list[float]) -> Histogram:
    histogram = Histogram()
    for each in times:
        histogram.add(each)
    return histogram


def nearest_rank(times: list[float], percent: float) -> float:
    return sorted(times)[max(1, math.ceil(round(len(times) * percent / 100, 6))) - 1]


@settings(deadline=None)
@given(st.floats(0, LONGEST))
def test_a_time_lies_below_the_edge_of_its_bucket_and_within_one_percent_of_it(seconds: float) -> None:
    edge = upper_edge(bucket_of(seconds))
    assert seconds < edge * (1 + 1e-9)
    assert edge <= max(seconds * 1.01, seconds + UNIT) * (1 + 1e-9)


@settings(deadline=None)
@given(st.lists(TIMES, min_size=1, max_size=300), st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9, 100.0]))
def test_a_percentile_is_what_sorting_says_and_at_most_one_percent_more(times: list[float], percent: float) -> None:
    exact, found = nearest_rank(times, percent), filled(times).percentile(percent)
    assert found is not None
    assert exact * (1 - 1e-9) <= found <= max(exact * 1.01, exact + UNIT) * (1 + 1e-9)
    assert found <= max(times)


@settings(deadline=None)
@given(st.lists(TIMES, max_size=100), st.lists(TIMES, max_size=100))
def test_a_minute_is_the_sum_of_its_seconds(one: list[float], other: list[float]) -> None:
    total = summed([filled(one), filled(other)])
    both = filled(one + other)
    assert (total.buckets, total.count, total.largest) == (both.buckets, both.count, both.largest)
    assert total.total == pytest.approx(both.total)


def test_memory_is_bounded_by_the_range_and_not_by_the_number_of_times() -> None:
    draw = random.Random(0)
    histogram = filled([draw.lognormvariate(-2, 3) for _ in range(50_000)])
    assert len(histogram.buckets) <= bucket_of(LONGEST)
    assert bucket_of(LONGEST) < 4_000


def test_of_nothing_there_is_no_percentile() -> None:
    assert Histogram().percentile(99) is None
    assert Histogram().mean is None


def test_what_is_longer_than_the_range_counts_at_its_end() -> None:
    histogram = filled([10 * LONGEST, -1.0])
    assert histogram.largest == LONGEST
    assert histogram.percentile(50) == UNIT


def test_how_many_were_longer() -> None:
    histogram = filled([0.1] * 90 + [2.0] * 10)
    assert histogram.above(1.0) == 10
    assert histogram.above(0.05) == 100
    assert histogram.above(3.0) == 0
