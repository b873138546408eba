"""The search for the limit, against systems whose limit is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farandole.load.limit import MOST_PROBES, Found, Probe, search


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


def test_no_rate_above_the_highest_is_tried() -> None:
    found: Found = search(system(1e9), 50, 300, 0.05)
    assert max(each.rate for each in found.probes) == 300
    assert found.rate == 300
    assert "the highest that was tried" in found.said
