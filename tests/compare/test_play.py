"""What a comparison starts: the services of orders, and no others, which would take the same cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farandole.compare import outages, play, trial
from farandole.compare.clock import Clock
from farandole.compare.flows import FLOWS
from farandole.compare.options import Options
from farandole.demo import runs
from farandole.demo.flows import order_services
from farandole.sandbox import SYSTEMS
from farandole.system import READY_WITHIN

Started = list[tuple[str, ...] | None]


class Stop(Exception):
    """Enough was seen."""


@pytest.fixture
def started() -> Started:
    return []


def test_a_comparison_starts_the_services_of_orders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, started: Started
) -> None:
    @contextmanager
    def new_run(kind: str) -> Iterator[Path]:
        yield tmp_path

    def own_stage(*_: object, services: tuple[str, ...] | None = None) -> Any:
        started.append(services)
        raise Stop

    monkeypatch.setattr(runs, "new_run", new_run)
    monkeypatch.setattr(play, "own_stage", own_stage)
    with pytest.raises(Stop), play.prepared(Options(), lambda what, done, total: None):
        pass
    assert started == [order_services()]
    assert not {"login", "directory", "bank"} & set(order_services())


def test_a_trial_starts_the_services_of_orders(monkeypatch: pytest.MonkeyPatch, started: Started) -> None:
    def system(*_: object, services: tuple[str, ...] | None = None, **__: object) -> Any:
        started.append(services)
        raise Stop

    monkeypatch.setattr(trial, "System", system)
    with pytest.raises(Stop):
        trial.run(FLOWS["choreographed"], 2)
    assert started == [order_services()]


class Taken:
    """Stands for a stage and its system: what is taken away, and brought back."""

    def __init__(self) -> None:
        self.system, self.told = self, list[tuple[Any, ...]]()

    def kill(self, service: str) -> None:
        self.told.append(("kill", service))

    def restart(self, service: str) -> None:
        self.told.append(("restart", service))

    def wait_ready(self, seconds: float) -> None:
        assert 1 <= seconds <= READY_WITHIN

    def set_faults(self, system: str, plan: dict[str, Any]) -> None:
        self.told.append(("faults", system, plan))


def test_a_part_that_is_taken_away_is_brought_back() -> None:
    stage = Taken()
    comparison = object.__new__(play.Comparison)
    comparison.stage = stage  # type: ignore[assignment]
    comparison._clock = Clock(600.0)
    for part in (outages.NOBODY, "shipping", *outages.OUTSIDE):
        comparison._take_away(part)
        comparison._bring_back(part)
    assert stage.told == [
        ("kill", "shipping"), ("restart", "shipping"),
        ("faults", "gateway", outages.GONE), ("faults", "gateway", {}),
        ("faults", "carrier", outages.GONE), ("faults", "carrier", {}),
        ("faults", "mail", outages.GONE), ("faults", "mail", {}),
    ]  # fmt: skip
    assert set(outages.OUTSIDE.values()) == set(SYSTEMS)
