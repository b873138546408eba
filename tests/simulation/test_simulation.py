"""Runs hold, replay exactly, and bite: each planted bug is found, shrunk and told."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from farandole.cli import simulate
from farandole.flow import load_flows
from farandole.simulation import failing
from farandole.simulation.campaign import campaign
from farandole.simulation.plan import FLOWS, make_plan
from farandole.simulation.shrink import Shrinker, silent
from farandole.simulation.tape import Recorded, Tape
from farandole.simulation.timeline import timeline
from farandole.simulation.trial import Trial, trial
from farandole.simulation.workers import Workshop
from tests.simulation.bugs import BUGS, Bug, compensation_forgotten

SEEDS = 400


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


def play(workshop: Workshop, seed: int, flows: tuple[str, ...] = FLOWS) -> tuple[Trial, Tape]:
    plan = make_plan(seed, None, flows)
    tape = Tape(seed, plan.rates)
    return trial(workshop, plan, tape), tape


def first_failure(workshop: Workshop, seeds: int, flows: tuple[str, ...] = FLOWS) -> int | None:
    return next((seed for seed in range(seeds) if play(workshop, seed, flows)[0].violations), None)


def test_every_run_holds_and_everything_went_wrong_in_some(workshop: Workshop) -> None:
    counts = Counter[str]()
    for seed in range(SEEDS):
        found, _ = play(workshop, seed)
        assert not found.violations, f"farandole simulate --seed {seed}"
        counts += found.counts
    wrong = {
        "crash",
        "zombie",
        "pause",
        "unknown",
        "fail",
        "kill",
        "leave",
        "expire",
        "aborts",
        "dead_letters",
        "nonsense",
    }
    ends = {"completed", "cancelled", "refused", "parked", "rebalances", "takeovers", "timed_out", "late_markers"}
    ends |= {"transfers completed", "transfers failed", "transfers failed and refunded", "transfers overdue"}
    assert {name for name in wrong | ends if not counts[name]} == set()


def test_a_seed_gives_the_same_log_twice_and_so_does_its_tape(workshop: Workshop) -> None:
    for seed in range(5, 15):
        found, tape = play(workshop, seed)
        assert play(Workshop(), seed)[0].fingerprint() == found.fingerprint()
        replayed = trial(workshop, make_plan(seed), Recorded(tape.answers))
        assert replayed.fingerprint() == found.fingerprint()


def test_every_decision_of_every_flow_fails_for_some_seed() -> None:
    for flow in load_flows().values():
        drawn = (failing.draw(seed, flow.key, {"saga": flow.key}) for seed in range(3_000))
        found = {failure.decision for failures in drawn for failure in failures}
        assert found == {decision.name for decision in flow.bindings.values()}, flow.key


def test_decisions_of_every_service_fail_in_some_run(workshop: Workshop) -> None:
    planned = {failure.decision.partition(".")[0] for seed in range(400) for failure in make_plan(seed).failures}
    assert planned == set(workshop.services)


def test_a_tape_of_plain_answers_is_a_run_without_faults(workshop: Workshop) -> None:
    found = trial(workshop, make_plan(3), Recorded([]))
    assert not found.violations
    assert not found.counts["aborts"]
    assert not {name for name in ("crash", "zombie", "pause", "unknown", "fail") if found.counts[name]}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.plant.__name__)
def test_a_planted_bug_is_found(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    assert first_failure(Workshop(), bug.within, bug.flows) is not None, f"{bug.name}: not within {bug.within} seeds"


def test_a_failure_is_shrunk_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    compensation_forgotten(monkeypatch)
    workshop = Workshop()
    seed = first_failure(workshop, 100)
    assert seed is not None
    found, tape = play(workshop, seed)
    check = found.violations[0].check
    plan, answers = Shrinker(workshop, make_plan(seed), tape.answers, check, seconds=30).shrink()
    shrunk, told = timeline(workshop, plan, answers)
    assert shrunk.violations[0].check == check
    assert len(plan.orders) == 1
    assert not any(answers), "it needs no fault"
    lines = [str(entry) for entry in told]
    assert any("payment.declined" in line for line in lines)
    assert not any("inventory.released" in line for line in lines)
    assert [entry.seconds for entry in told] == sorted(entry.seconds for entry in told)


def test_the_bugs_are_those_of_the_documentation() -> None:
    text = (Path(__file__).parents[2] / "docs" / "simulation.md").read_text()
    for bug in BUGS:
        assert f"| {bug.says.removesuffix('.')} | {bug.within:,} |" in text


class TestCommand:
    def test_a_campaign_counts_every_seed_once_whatever_the_processes(self) -> None:
        one = campaign(0, 12, jobs=1, progress=silent)
        two = campaign(0, 12, jobs=2, progress=silent)
        assert one.runs == two.runs == 12
        assert one.counts == two.counts
        assert not one.failed

    def test_a_failing_seed_exits_1_with_its_story_and_the_story_replays(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        compensation_forgotten(monkeypatch)
        file = tmp_path / "story.json"
        said = self._run("--seeds", "100", "--shrink", "2", "--story", str(file), "--json", code=1)
        assert said["failed"][0]["check"] == "no-ending"
        assert said["story"]["timeline"]
        again = self._run("--replay", str(file), "--json", code=1)
        assert again["fingerprint"] == said["story"]["fingerprint"]

    def test_a_seed_that_holds_exits_0(self) -> None:
        assert self._run("--seed", "1", "--json", code=0)["ok"]

    def test_what_is_no_story_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "none").write_text("[]")
        with pytest.raises(Exception, match="no story"):
            self._run("--replay", str(tmp_path / "none"), code=2)

    @staticmethod
    def _run(*arguments: str, code: int) -> Any:
        import typer

        app = typer.Typer()
        app.command()(simulate.command)
        result = CliRunner().invoke(app, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return json.loads(result.stdout.splitlines()[-1])
