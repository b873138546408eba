"""Objectives: what they say, and when they are held."""

from __future__ import annotations

import pytest

from farandole.errors import ConfigError
from farandole.load.histogram import Histogram
from farandole.load.objective import Objective, share_between


def measured(*times: float) -> Histogram:
    histogram = Histogram()
    for each in times:
        histogram.add(each)
    return histogram


@pytest.mark.parametrize(
    ("text", "percent", "seconds"),
    [("p99<1000ms", 99, 1.0), ("p99.9 < 2s", 99.9, 2.0), (" p50<0.5s", 50, 0.5)],
)
def test_what_it_says(text: str, percent: float, seconds: float) -> None:
    assert Objective.parse(text) == Objective(percent, seconds)
    assert Objective.parse(str(Objective.parse(text))) == Objective.parse(text)


@pytest.mark.parametrize("text", ["", "p99", "99<1s", "p99<1", "p99>1s", "p100<1s", "p0<1s", "p99<0ms", "p99<1000 m"])
def test_what_it_cannot_say(text: str) -> None:
    with pytest.raises(ConfigError, match="not an objective"):
        Objective.parse(text)


def test_it_is_held_if_so_many_percent_are_below() -> None:
    objective = Objective.parse("p90<1s")
    assert objective.held_by(measured(*[0.1] * 90, *[5.0] * 10))
    assert not objective.held_by(measured(*[0.1] * 89, *[5.0] * 11))


def test_what_was_not_measured_is_not_held() -> None:
    assert not Objective.parse("p99<1s").held_by(Histogram())


def test_the_interval_of_a_share_holds_it_and_narrows() -> None:
    low, high = share_between(10, 1_000)
    assert low < 0.01 < high
    narrower = share_between(1_000, 100_000)
    assert narrower[1] - narrower[0] < high - low
    assert share_between(0, 0) == (0.0, 1.0)
    assert share_between(0, 100)[0] == 0.0
