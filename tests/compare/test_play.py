"""What a comparison starts: the services of orders, and no others, which would take the same cores."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farandole.compare import play, trial
from farandole.compare.flows import FLOWS
from farandole.compare.options import Options
from farandole.demo import runs
from farandole.demo.flows import order_services

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
