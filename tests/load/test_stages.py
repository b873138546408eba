"""When orders are due, and profiles of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farandole.config import project_root
from farandole.errors import ConfigError
from farandole.load import profile
from farandole.load.options import Options
from farandole.load.stages import Stage, burst, steady, with_warm_up

RATES = st.floats(0.5, 500)


def test_at_a_steady_rate_orders_are_due_one_after_the_other() -> None:
    assert list(steady("s", 10, 0.5).dues()) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])


@settings(deadline=None)
@given(st.floats(0.5, 30), RATES, RATES)
def test_a_stage_places_what_its_rates_make_within_its_time_and_in_order(
    seconds: float, rate: float, until: float
) -> None:
    stage = Stage("s", seconds, rate, until)
    dues = list(stage.dues())
    assert len(dues) == stage.orders
    assert abs(len(dues) - seconds * (rate + until) / 2) <= 1
    assert dues == sorted(dues)
    assert all(0 <= due <= seconds + 1e-6 for due in dues)


def test_a_ramp_places_few_at_its_low_end_and_many_at_its_high_one() -> None:
    dues = list(Stage("up", 10, 0, 100).dues())
    assert sum(due < 5 for due in dues) == pytest.approx(125, abs=2)
    assert sum(due >= 5 for due in dues) == pytest.approx(375, abs=2)


def test_a_burst_is_due_at_once() -> None:
    assert set(burst(50).dues()) == {0.0}
    assert burst(50).orders == 50


def test_a_warm_up_does_not_count_and_has_the_first_rate() -> None:
    first, second = with_warm_up([steady("s", 30, 5)], 2)
    assert (first.measured, first.rate, first.seconds) == (False, 30, 2)
    assert second.measured
    assert with_warm_up([burst(5)], 2) == [burst(5)]


def written(path: Path, text: str) -> Path:
    file = path / "p.yaml"
    file.write_text(text)
    return file


def test_a_profile_says_its_stages(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "stages:\n  - {rate: 5, seconds: 2, warm_up: true}\n  - {from: 5, to: 50, minutes: 0.5, name: up}\nzipf: 1.1\n",
    )
    found, stages = profile.load(path)
    assert (found.name, found.zipf) == ("p", 1.1)
    assert stages == [Stage("warm-up", 2, 5, 5, measured=False), Stage("up", 30, 5, 50)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stages: []", "0 stages"),
        ("stages: [{rate: 5}]", "seconds, or minutes"),
        ("stages: [{seconds: 5}]", "a rate, or from and to"),
        ("stages: [{rate: 5, from: 1, to: 2, seconds: 5}]", "a rate, or from and to"),
        ("stages: [{rate: 5, seconds: 1, minutes: 1}]", "seconds, or minutes"),
        ("stages: [{rte: 5, seconds: 5}]", "rte"),
        ("stages: [{rate: -5, seconds: 5}]", "a rate of -5"),
        ("stages: [{rate: 0, seconds: 5}]", "places no order"),
        ("stages: [{rate: five, seconds: 5}]", r"stages\[0\].rate"),
        ("stage: []", "stage"),
        ("stages: [", "no YAML"),
        ("", "null"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        profile.load(written(tmp_path, text))
    assert "p.yaml" in refused.value.where


@pytest.mark.parametrize("name", ["ramp", "spike", "soak"])
def test_the_examples_are_profiles(name: str) -> None:
    found, stages = profile.load(project_root() / "profiles" / f"{name}.yaml")
    assert found.name == name
    assert found.about
    assert any(stage.measured for stage in stages)


def test_the_first_rate_of_a_search_warms_up_longer() -> None:
    options = Options(find_limit=True)
    first, later = (options.probe(50.0, confirming=False, cold=cold)[0] for cold in (True, False))
    assert not first.measured
    assert not later.measured
    assert first.seconds > later.seconds
    assert Options(find_limit=True, warm_up=3.0).probe(50.0, confirming=False, cold=True)[0].seconds == 3.0


@pytest.mark.parametrize(("soak", "seconds"), [(0.0, 40.0), (2.0, 40.0), (10.0, 120.0)])
def test_what_is_to_be_held_for_long_is_confirmed_for_longer(soak: float, seconds: float) -> None:
    options = Options(find_limit=True, step_seconds=20.0, soak_minutes=soak)
    assert [options.probe(50.0, again, cold=False)[-1].seconds for again in (False, True)] == [20.0, seconds]
