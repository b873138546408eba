"""Memory within 1.1 × of what it was after the warm-up: of the system's processes, where that can be judged."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from farandole.cli.load import app
from farandole.load import run
from farandole.load.html import render
from farandole.load.memory import JUDGED_SECONDS, MOST_GROWTH
from farandole.load.options import Options
from farandole.load.outcome import Outcome, print_outcome
from farandole.load.stages import Stage, checked
from tests.load.reports import Pretended
from tests.load.test_report import Page

APART = ("generator", "gateway", "mail")


def soaked(
    grows: dict[str, float] | None = None, change: Callable[[Pretended], None] | None = None, **chosen: Any
) -> Outcome:
    """What is judged, if nothing else is chosen."""
    options = Options(**{"rate": 2.0, "minutes": JUDGED_SECONDS / 60, "warm_up": 61.0, **chosen})
    pretended = Pretended(options)
    pretended.grows = grows or {}
    if options.find_limit:
        pretended.load.soak = pretended.play(options.soak(2.5))
    else:
        pretended.play(options.planned())
    if change is not None:
        change(pretended)
    return pretended.outcome()


def told(outcome: Outcome) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_outcome(outcome, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("chosen", [{}, {"rate": None, "minutes": None, "find_limit": True, "soak_minutes": 5.0}])
@pytest.mark.parametrize("process", ["order[0]", "payment[1]", "broker"])
def test_a_process_of_the_system_that_grew_beyond_its_limit_fails_the_run(process: str, chosen: dict[str, Any]) -> None:
    outcome = soaked({process: 1.2}, **chosen)
    [problem] = outcome.problems
    assert problem.startswith(f"memory of {process} grew to 1.20 × of what it was after the warm-up, ")
    assert not outcome.ok
    memory = outcome.to_dict()["memory"]
    assert (memory["judged"], memory["within"], memory["limit"]) == (True, False, MOST_GROWTH)
    assert {row["process"]: row["within"] for row in memory["processes"]}[process] is False
    assert f"failed: {problem}" in told(outcome)
    assert "not within 1.1 ×" in told(outcome)
    assert "above 1.1 ×" in Page(render(outcome.to_dict())).texts


def test_what_stays_within_the_limit_is_judged_and_said_to_be_so() -> None:
    outcome = soaked({"order[0]": MOST_GROWTH, "broker": 0.5})
    assert (outcome.ok, outcome.problems) == (True, [])
    memory = outcome.to_dict()["memory"]
    assert (memory["judged"], memory["within"], memory["not_judged"]) == (True, True, "")
    assert "; within 1.1 × of what it was after the warm-up" in told(outcome)
    assert "within 1.1 ×" in render(outcome.to_dict())


def test_stand_ins_and_the_generator_are_named_apart_and_not_judged() -> None:
    outcome = soaked(dict.fromkeys(APART, 3.0))
    assert (outcome.ok, outcome.figures["memory"]["within"]) == (True, True)
    assert tuple(outcome.figures["memory"]["apart"]) == APART
    assert [row["within"] for row in outcome.figures["memory"]["processes"] if row["process"] in APART] == [None] * 3
    [line] = [each for each in told(outcome).splitlines() if "not of the system, and not judged: " in each]
    assert all(name in line for name in APART)
    assert "order[0]" not in line
    assert Page(render(outcome.to_dict())).texts.count("not of the system") == 3


def ramp() -> tuple[Stage, ...]:
    return checked(Stage("warm-up", 61, 2, 2, measured=False)), checked(Stage("up", 300, 2, 4))


def nothing_measured(pretended: Pretended) -> None:
    pretended.recorder.played.clear()


def too_few(pretended: Pretended) -> None:
    pretended.samples[:] = pretended.samples[-9:]


@pytest.mark.parametrize(
    ("chosen", "change", "why"),
    [
        ({"minutes": 4.9}, None, "it is judged from 300 s on"),
        ({"warm_up": 60.0}, None, "rows of ended orders stay for 60 s, and the warm-up was 60 s"),
        ({"warm_up": 0.0}, None, "rows of ended orders stay for 60 s, and the warm-up was 0 s"),
        ({"steps": (2.0, 3.0), "rate": None, "minutes": None, "step_seconds": 300.0}, None, "only a load of one rate"),
        ({"stages": ramp(), "rate": None, "minutes": None}, None, "only a load of one rate"),
        ({}, nothing_measured, "nothing was measured for it"),
        ({}, lambda made: made.load.settings.clear(), "the system is not the load's own"),
        ({}, too_few, "there are too few samples of broker, order[0]"),
        ({}, lambda made: made.samples.clear(), "no process of the system was measured"),
    ],
)
def test_what_cannot_be_judged_is_told_and_says_why(chosen: dict[str, Any], change: Any, why: str) -> None:
    outcome = soaked({"order[0]": 2.0}, change, **chosen)
    assert (outcome.ok, outcome.problems) == (True, [])
    memory = outcome.to_dict()["memory"]
    assert (memory["judged"], memory["within"]) == (False, None)
    assert memory["not_judged"].startswith(why)
    if memory["processes"]:
        assert f"not judged: {why}" in told(outcome)
        assert why in " ".join(Page(render(outcome.to_dict())).texts)


@pytest.mark.parametrize(("grown", "code"), [(1.0, 0), (1.5, 1)])
def test_the_exit_code_says_it_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, grown: float, code: int) -> None:
    played = SimpleNamespace(play=lambda: soaked({"inventory[0]": grown}))
    monkeypatch.setattr(run, "prepared", lambda *_: nullcontext(played))
    monkeypatch.setattr("farandole.cli.load.signal.signal", lambda *_: None)
    done = CliRunner().invoke(app, ["--rate", "2", "--out", str(tmp_path), "--json"])
    assert done.exit_code == code
    assert json.loads(done.stdout)["memory"]["within"] is (code == 0)
