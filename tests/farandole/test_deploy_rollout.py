"""One service after the other, and back: the order of a rollout, against a target that only notes what it is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.deploy import rollout
from farandole.deploy.planning import Plan, Step
from farandole.deploy.state import Deployment
from farandole.deploy.target import NotWell
from farandole.system import silent

STEPS = [Step(name, "v1", "v2", (1, 1)) for name in ("inventory", "payment", "shipping")]


class Noted:
    """A target. sick: (service, version) that do not become well."""

    name = "local"

    def __init__(self, *sick: tuple[str, str]) -> None:
        self.sick, self.told = sick, list[str]()

    def roll(self, service: str, version: str, workers: int, progress: Any) -> None:
        self.told.append(f"{service} {version}")
        if (service, version) in self.sick:
            raise NotWell(f"{service} ended")

    def remove(self, service: str) -> None:
        self.told.append(f"{service} -")


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    made = Deployment(tmp_path)
    made.state.current, made.state.workers = "v1", {step.service: 1 for step in STEPS}
    return made


def roll(
    target: Noted, deployment: Deployment, steps: list[Step], lag: Any = lambda service: 0, verb: str = "apply"
) -> rollout.Outcome:
    plan = Plan(verb, "local", "v2", "", "v1", manifest=None, steps=steps)  # type: ignore[arg-type]
    return rollout.roll_out(plan, target, deployment, lag, 0.0, silent)  # type: ignore[arg-type]


def test_all_are_rolled_in_their_order(deployment: Deployment) -> None:
    target = Noted()
    outcome = roll(target, deployment, STEPS)
    assert target.told == ["inventory v2", "payment v2", "shipping v2"]
    assert (outcome.failed, deployment.state.current, deployment.state.rolling) == ("", "v2", "")


def test_one_that_is_not_well_takes_back_all_before_it_the_last_one_first(deployment: Deployment) -> None:
    target = Noted(("payment", "v2"))
    outcome = roll(target, deployment, STEPS)
    assert target.told == ["inventory v2", "payment v2", "payment v1", "inventory v1"]
    assert (outcome.failed, outcome.taken_back) == ("payment", ["payment", "inventory"])
    assert (deployment.state.current, deployment.state.rolling) == ("v1", "")


def test_what_cannot_be_taken_back_is_said_and_the_rollout_stays_open(deployment: Deployment) -> None:
    target = Noted(("payment", "v2"), ("inventory", "v1"))
    outcome = roll(target, deployment, STEPS)
    assert list(outcome.not_taken_back) == ["inventory"]
    assert deployment.state.rolling == "v2"


def test_one_that_stays_behind_is_not_well(deployment: Deployment) -> None:
    behind = {"inventory": [0, 0], "payment": [10] + [2 * 10 + rollout.SLACK + 1] * 9}
    target = Noted()
    outcome = roll(target, deployment, STEPS, lambda service: behind[service].pop(0))
    assert outcome.failed == "payment"
    assert "does not catch up" in outcome.why
    assert target.told[-1] == "inventory v1"


def test_a_service_that_is_new_and_taken_back_does_not_run(deployment: Deployment) -> None:
    target = Noted(("inventory", "v2"))
    roll(target, deployment, [Step("extra", "", "v2", (0, 1)), *STEPS])
    assert target.told == ["extra v2", "inventory v2", "inventory v1", "extra -"]
    assert "extra" not in deployment.state.workers


def test_after_a_rollout_that_went_elsewhere_everything_goes_back(deployment: Deployment) -> None:
    deployment.state.rolling = "v3"
    target = Noted(("inventory", "v2"))
    roll(target, deployment, STEPS)
    assert target.told[1:] == ["shipping v1", "payment v1", "inventory v1"]


def test_a_rollback_remembers_what_it_leaves_unless_it_is_taken_back(deployment: Deployment) -> None:
    deployment.state.former = ["v2"]
    roll(Noted(("payment", "v2"), ("inventory", "v1")), deployment, STEPS, verb="rollback")
    assert (deployment.state.before, deployment.state.left) == ("v2", ["v1"]), "it is under way still"
    roll(Noted(("payment", "v2")), deployment, STEPS, verb="rollback")
    assert (deployment.state.former, deployment.state.left) == (["v2"], [])
    roll(Noted(), deployment, STEPS, verb="rollback")
    assert (deployment.state.current, deployment.state.former, deployment.state.left) == ("v2", [], ["v1"])
    assert Deployment(deployment.home.parent).state == deployment.state
