"""A comparison ends within its minutes: acts that do not fit are left out, and what hangs is ended."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from farandole.compare import asking, clock, costs, coupling, outages, play, rollback, step
from farandole.compare.clock import Alarm, Clock
from farandole.compare.ends import Ends
from farandole.compare.facts import Facts
from farandole.compare.flows import FLOWS, WORDS, services
from farandole.compare.options import Options, plan
from farandole.compare.outcome import tables
from farandole.compare.page import text
from farandole.compare.subscribers import subscribers
from farandole.demo import runs
from farandole.errors import FarandoleError
from farandole.flow import load_flows
from tests.compare.outcomes import an_outcome
from tests.compare.test_coupling import names, topics


def test_the_time_for_measuring_leaves_some_for_the_audit_and_for_stopping() -> None:
    of = Clock(600.0, time.monotonic() - 100)
    assert of.left() == pytest.approx(380, abs=1)
    assert of.left(0.5) == pytest.approx(140, abs=1)
    assert of.last == pytest.approx(455, abs=1)
    assert of.fits(139, 0.5)
    assert not of.fits(141, 0.5)
    assert 600 * (1 - clock.LAST) >= 30  # what stopping takes, and more


def test_what_hangs_is_ended_by_the_alarm_and_before_the_minutes_are_over() -> None:
    of = Clock(1.0)
    began = time.monotonic()
    with pytest.raises(FarandoleError, match="cannot end within"), Alarm(of).set():
        time.sleep(30)
    assert time.monotonic() - began < 1.0


def test_nothing_rings_while_it_is_stopped_nor_afterwards() -> None:
    before = signal.getsignal(signal.SIGALRM)
    alarm = Alarm(Clock(0.3))
    stopped = False
    with alarm.set():
        with alarm.off_afterwards():
            pass
        time.sleep(0.5)
        stopped = True
    assert stopped
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0
    assert signal.getsignal(signal.SIGALRM) == before


def test_a_start_that_hangs_is_ended_as_well(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The time is counted from when the command began, not from when Kafka and the services are there."""

    @contextmanager
    def new_run(kind: str) -> Iterator[Path]:
        yield tmp_path

    monkeypatch.setattr(runs, "new_run", new_run)
    monkeypatch.setattr(play, "own_stage", lambda *_, **__: time.sleep(30))
    began = Clock(600.0, time.monotonic() - 600 * clock.LAST + 0.2)
    with pytest.raises(FarandoleError, match="within 10 minutes"), play.prepared(Options(), lambda *_: None, began):
        pass


def test_a_comparison_that_has_ended_is_stopped_in_peace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @contextmanager
    def new_run(kind: str) -> Iterator[Path]:
        yield tmp_path

    stopped = []

    @contextmanager
    def own_stage(*_: object, **__: object) -> Iterator[None]:
        yield
        time.sleep(0.6)
        stopped.append(True)

    @contextmanager
    def comparison(*_: object) -> Iterator[None]:
        yield

    monkeypatch.setattr(runs, "new_run", new_run)
    monkeypatch.setattr(play, "own_stage", own_stage)
    monkeypatch.setattr(play, "Comparison", comparison)
    with play.prepared(Options(), lambda *_: None, Clock(600.0, time.monotonic() - 600 * clock.LAST + 0.3)):
        pass
    assert stopped == [True]


def test_orders_that_end_all_the_time_and_never_all_of_them_are_given_up() -> None:
    ends = Ends()
    sagas = [f"o-{number}" for number in range(1_000)]

    def one_more_ends(done: int, total: int) -> None:
        ends.ended(sagas[done].encode(), "completed", 1.0)
        ends.ended(sagas[done].encode(), "told", 1.0)

    began = time.monotonic()
    with pytest.raises(FarandoleError, match=r"of 1000 orders have not ended, and 0 s are over"):
        ends.wait(sagas, lambda: None, one_more_ends, within=0.3)
    assert time.monotonic() - began < 5


class Acts:
    """A comparison that has begun, without a system."""

    def __init__(self, passed: float) -> None:
        self.done: list[str] = []
        found = self.comparison = object.__new__(play.Comparison)
        found.options = Options()
        found.services = ("order", "payment")
        found._clock = self.clock = Clock(600.0, time.monotonic() - passed)
        found.progress = lambda *_: None
        found.skipped, found._turns, found._others = [], [], {"the rounds": []}
        found._paced, found._step, found._round_took = {}, {}, 0.0
        found._outage = self._act  # type: ignore[method-assign]

    def _act(self, part: str) -> None:
        self.done.append(part)


def test_acts_that_no_longer_fit_are_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    acts = Acts(passed=470)
    tried: list[float] = []

    def put_in(word: str, system: object, orders: int, seconds: float) -> dict[str, Any]:
        tried.append(seconds)
        return {"trial": None}

    monkeypatch.setattr(step, "put_in", put_in)
    acts.comparison.stage = type("Stage", (), {"system": None})()
    acts.comparison._run_paced()
    acts.comparison._run_subscribers()
    acts.comparison._run_outages()
    acts.comparison._ask()
    acts.comparison._patch()
    assert acts.done == []
    assert tried == [0.0, 0.0, 0.0]
    assert acts.comparison.skipped == [
        "the steady pace: latency, failures, and the orders that commands tell of",
        "10 more subscribers",
        *(f"the outage of {part}" for part in ("nobody", "order", "payment", *outages.OUTSIDE)),
        *(f"running the patched project, {word}" for word in WORDS),
    ]


def test_an_act_begins_only_if_one_like_the_last_one_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine an outage takes longer than it was meant to."""
    now = [time.monotonic()]
    acts = Acts(passed=250)
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def outage(part: str) -> None:
        acts.done.append(part)
        now[0] += 100

    acts.comparison._outage = outage  # type: ignore[method-assign]
    acts.comparison._run_outages()
    assert acts.done == ["nobody"]  # it ends at 350 s; outages have to be over at 384 s
    assert len(acts.comparison.skipped) == 5


class Nowhere:
    """Stands for a system that a patched project could be run beside."""

    def __init__(self, home: Path) -> None:
        self.directory, self.root, self.namespace = home, home, "n-"
        self.environment: dict[str, str] = {}


def test_a_patch_that_no_longer_fits_is_a_problem_and_the_rest_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def copy(root: Path, to: Path) -> None:
        (to / "agents").mkdir(parents=True)
        (to / "agents" / "orchestrator.py").write_text("another one\n")

    monkeypatch.setattr(step, "copy", copy)
    found = step.put_in("hybrid", Nowhere(tmp_path), 2, 60.0)  # type: ignore[arg-type]
    assert found["trial"]["ok"] is False
    assert "agents/orchestrator.py: the patch does not fit" in found["trial"]["problem"]


def test_a_patched_project_that_takes_longer_than_is_left_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(step, "copy", lambda root, to: to.mkdir(parents=True))
    monkeypatch.setattr(step, "apply", lambda patch, root: None)
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(30)\n")
    monkeypatch.setattr(step, "PROGRAM", [str(tmp_path / "slow.py")])
    began = time.monotonic()
    found = step.put_in("hybrid", Nowhere(tmp_path), 2, 0.3)  # type: ignore[arg-type]
    assert time.monotonic() - began < 10
    assert (found["trial"], found["deploy"]) == (None, None)
    assert found["files"] > 0
    # If it has all the time that it may take, it is the project that is slow, and that is a problem.
    monkeypatch.setattr(step, "TRIAL_WITHIN", 0.3)
    found = step.put_in("hybrid", Nowhere(tmp_path), 2, 60.0)  # type: ignore[arg-type]
    assert found["trial"]["ok"] is False
    assert "did not end within 0 s" in found["trial"]["problem"]


def test_a_question_that_was_cut_short_is_left_out_and_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    acts = Acts(passed=470)
    acts.comparison.stage = type("Stage", (), {"system": type("S", (), {"root": None, "environment": {}})})()
    acts.comparison._failed = []
    monkeypatch.setattr(asking, "ask", lambda *_: asking.Said("story", 10.0, [], "did not end", late=True))
    acts.comparison._said_of("story", "o-1", "an order")
    assert acts.comparison._failed == []
    assert acts.comparison.skipped == ["farandole story, asked about an order (o-1), was given 10 s only"]
    acts.clock.began += 400
    acts.comparison._said_of("story", "o-1", "an order")
    assert acts.comparison._failed == ["farandole story, asked about an order (o-1), did not end"]


def test_a_page_of_which_nearly_all_was_left_out_can_be_written() -> None:
    comparison = Acts(passed=0).comparison
    comparison._said = {word: [] for word in WORDS}
    flows, facts = load_flows(), Facts()
    outcome = an_outcome(
        coupling={word: coupling.coupling(flows[key], names(), topics()).to_dict() for word, key in FLOWS.items()},
        costs={word: costs.summary([], facts) for word in WORDS},
        latency={word: comparison._latency(word) for word in WORDS},
        rollback={cause: comparison._rollbacks(facts, cause) for cause in rollback.CAUSES},
        visibility={word: comparison._visibility(facts, word) for word in WORDS},
        subscribers={word: subscribers(flows[key], names(), facts, []) for word, key in FLOWS.items()},
        outages={}, debugging={}, step={}, audience={}, skipped=["nearly all"],
    )  # fmt: skip
    page = text(outcome.to_dict())
    assert "Left out in this run, for want of time: nearly all." in page
    assert all(len(row) == len(table.head) for table in tables(outcome.to_dict()) for row in table.rows)
    assert "| records read more for each order | – | – | – |" in page


def test_what_is_planned_fits() -> None:
    options = Options()
    *acts, (_, end) = plan(options, len(services()))
    measuring = sum(seconds for _, seconds in acts)
    assert measuring < clock.MEASURED * options.minutes * 60
    assert measuring + end < options.minutes * 60
