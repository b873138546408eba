"""The search for the limit, against systems whose limit is known."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farandole.load.limit import MOST_PROBES, Found, Probe, search
from farandole.load.objective import Objective
from farandole.load.options import Options
from farandole.load.recorder import Recorder
from farandole.load.run import Load
from farandole.load.stages import steady


def system(limit: float, generator: float = 1e9) -> Callable[[float, bool], Probe]:
    return lambda rate, confirming: Probe(rate, rate <= min(limit, generator), valid=rate <= generator)


@settings(deadline=None)
@given(st.floats(2, 15_000), st.floats(1, 5_000), st.sampled_from([0.02, 0.05, 0.2]))
def test_the_limit_lies_between_what_is_said_to_be_held_and_missed(
    limit: float, start: float, precision: float
) -> None:
    found = search(system(limit), start, 20_000, precision)
    assert found.rate is not None
    assert found.missed is not None
    assert found.rate <= limit < found.missed
    assert found.missed - found.rate <= max(precision * found.missed, 1)
    assert found.sure
    assert len(found.probes) <= MOST_PROBES


def test_what_is_reported_was_held_twice_and_the_last_time_for_confirmation() -> None:
    asked: list[tuple[float, bool]] = []

    def probe(rate: float, confirming: bool) -> Probe:
        asked.append((rate, confirming))
        return system(333)(rate, confirming)

    found = search(probe, 50, 20_000, 0.05)
    assert asked[-1] == (found.rate, True)
    assert [rate for rate, _ in asked].count(found.rate or 0) == 2
    assert [rate for rate, _ in asked].count(found.missed or 0) == 2
    assert [confirming for _, confirming in asked].count(True) == 1


@pytest.mark.parametrize("late", [0, 2, 3, 6])
def test_a_pause_of_the_machine_does_not_bound_the_search(late: int) -> None:
    """One probe is missed that would have been held: the first, or one of the next."""
    asked: list[float] = []

    def probe(rate: float, confirming: bool) -> Probe:
        asked.append(rate)
        return Probe(rate, rate <= 333 and len(asked) != late + 1)

    found = search(probe, 50, 20_000, 0.05)
    assert found.rate is not None
    assert found.missed is not None
    assert 315 <= found.rate <= 333 < found.missed


def test_a_rate_that_is_not_held_again_makes_room_for_a_lower_one() -> None:
    def tired(rate: float, confirming: bool) -> Probe:
        return system(300 if confirming else 400)(rate, confirming)

    found = search(tired, 50, 20_000, 0.05)
    assert found.rate is not None
    assert found.rate <= 330
    assert found.probes[-1].held


def test_a_system_that_never_holds_again_has_no_limit_to_report() -> None:
    found = search(lambda rate, confirming: Probe(rate, rate <= 400 and not confirming), 50, 20_000, 0.05)
    assert found.rate is None
    assert "not held again" in found.said


def test_below_the_first_rate_is_looked_too() -> None:
    found = search(system(7), 100, 20_000, 0.05)
    assert found.rate is not None
    assert 6 <= found.rate <= 7


def test_a_system_that_holds_nothing_is_said_to() -> None:
    found = search(system(0.5), 100, 20_000, 0.05)
    assert found.rate is None
    assert "not even" in found.said


def test_where_the_generator_is_the_bottleneck_the_limit_is_said_to_lie_above() -> None:
    found = search(system(1e9, generator=700), 50, 20_000, 0.05)
    assert found.missed is None
    assert not found.sure
    assert found.rate == pytest.approx(700, rel=0.06)
    assert "the generator could not place" in found.said


def test_where_the_generator_places_no_rate_at_all_nothing_is_said_of_the_system() -> None:
    found = search(lambda rate, confirming: Probe(rate, False, valid=False), 50, 20_000, 0.05)
    assert (found.rate, found.missed, found.sure) == (None, None, False)
    assert "no rate is known to be held: the generator could not place" in found.said


def probed(ended: int, failed: int, seconds: float = 0.1, late: bool = False) -> Probe:
    """A rate of so many orders, against p90<500ms; late: what fails does so when it is drained."""
    recorder = Recorder()
    played = recorder.begin(steady("s", 10, 10), recorder.began)
    for number in range(ended + failed):
        saga = b"o-%d" % number
        recorder.placed(saga, recorder.began, played)
        if number < ended:
            recorder.ended(saga, "completed", recorder.began + seconds)
        elif not late:
            recorder.failed(saga, "refused")

    def drain(seconds: float) -> bool:
        if seconds == options.timeout:
            for saga in list(recorder.in_flight):
                recorder.failed(saga, "refused")
        return True

    options = Options(find_limit=True, objective=Objective.parse("p90<500ms"))
    load = SimpleNamespace(
        options=options,
        recorder=recorder,
        sampler=SimpleNamespace(between=lambda began, over: []),
        _cold=False,
        _lost=None,
        _play=lambda stages, lost: [played],
        _drain=drain,
    )
    return Load._probe(cast(Load, load), 10, False)


def test_a_rate_whose_orders_are_not_accepted_is_not_held() -> None:
    assert probed(100, 0).held
    assert probed(10, 90).why == "90 orders were not placed"
    assert not probed(10, 90).held
    assert probed(99, 1, late=True).why == "1 orders were not placed"
    assert probed(0, 100).why == "no order ended; 100 orders were not placed"


def test_a_miss_is_said_at_the_percentile_of_the_objective() -> None:
    why = probed(100, 0, seconds=2.0).why
    assert why.endswith(" ms at p90")
    assert float(why.split()[0].replace(",", "")) == pytest.approx(2_000, rel=0.02)


def test_a_limit_that_was_confirmed_by_a_generator_at_its_end_is_not_sure() -> None:
    def probe(rate: float, confirming: bool) -> Probe:
        return Probe(rate, rate <= 333, kept_up=not confirming)

    found = search(probe, 50, 20_000, 0.05)
    assert (found.rate is None, found.missed is None, found.sure) == (False, False, False)
    assert "not sure: the generator was the bottleneck" in found.said


def test_a_probe_says_whether_the_generator_kept_up() -> None:
    assert probed(100, 0).kept_up
    assert not probed(50, 0).kept_up, "half of the 100 orders were not placed"


def test_no_rate_above_the_highest_is_tried() -> None:
    found: Found = search(system(1e9), 50, 300, 0.05)
    assert max(each.rate for each in found.probes) == 300
    assert found.rate == 300
    assert "the highest that was tried" in found.said
