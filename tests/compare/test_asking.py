"""Commands that are asked as a person asks: what is an answer, and what is a failure."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from farandole import trail
from farandole.cli import compare as cli
from farandole.compare import asking, play
from farandole.compare.clock import Clock
from farandole.compare.flows import WORDS
from farandole.compare.options import Options
from farandole.errors import ConfigError, FarandoleError
from farandole.redrive.queue import Book
from farandole.story.asking import _nothing
from farandole.story.reading import Records
from tests.compare.outcomes import an_outcome
from tests.farandole.audit_log import codec

Program = Callable[[str], None]


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """What runs in the place of every command."""
    file = tmp_path / "program.py"
    monkeypatch.setattr(asking, "PROGRAM", [str(file)])

    def write(text: str) -> None:
        file.write_text(f"import sys, time\n{text}\n")

    return write


def ask(command: str = asking.STORY, **more: float) -> asking.Said:
    return asking.ask(command, "o-1", os.environ, Path.cwd(), **more)


def test_what_a_command_prints_is_its_answer(program: Program) -> None:
    program("print('{\"saga\": \"o-1\"}'); print('beside')")
    said = ask()
    assert (said.objects, said.problem) == ([{"saga": "o-1"}], "")


def test_a_command_that_fails_is_a_problem_and_no_answer(program: Program) -> None:
    program("print('{}'); sys.exit('Traceback: it broke')")
    said = ask()
    assert (said.objects, said.late) == ([], False)
    assert said.problem == "ended with exit code 1: Traceback: it broke"
    program("print('{')")
    assert "no JSON" in ask().problem


def test_a_command_that_takes_too_long_is_a_problem_and_ends_nothing_else(program: Program) -> None:
    program("time.sleep(60)")
    said = ask(within=0.2)
    assert (said.objects, said.late) == ([], True)
    assert "did not end within 0 s" in said.problem


@pytest.mark.parametrize(
    ("command", "code", "words", "known"),
    [
        (asking.STORY, 1, "error: there is no record of a saga 'o-1'", True),
        (asking.TRAIL, 2, "error: order o-1 has no trail: nobody orchestrates it", True),
        (asking.TRAIL, 2, "error: KAFKA_SECURITY_PROTOCOL is none", False),
        (asking.TRAIL, 1, "error: order o-1 has no trail", False),
        (asking.INSPECT, 1, "error: there is no record of a saga 'o-1'", False),
    ],
)
def test_not_to_know_an_order_is_an_answer(program: Program, command: str, code: int, words: str, known: bool) -> None:
    program(f"print({words!r}, file=sys.stderr); sys.exit({code})")
    said = ask(command)
    assert said.objects == []
    assert (said.problem == "") is known


def test_these_are_the_words_of_the_commands() -> None:
    code, words = asking.UNKNOWN[asking.STORY]
    unknown: FarandoleError = _nothing("o-1", Records("o-1", Book(codec(), ())), {})
    assert (unknown.exit_code, words in str(unknown)) == (code, True)

    with pytest.raises(ConfigError) as caught:
        trail.read(Places(), codec(), "o-1", lambda *_: None)  # type: ignore[arg-type]
    code, words = asking.UNKNOWN[asking.TRAIL]
    assert (caught.value.exit_code, words in str(caught.value)) == (code, True)


class Places:
    """A reader of a trail's topics, in which nothing lies."""

    partitions: dict[str, int] = {trail.TRAILS: 1, trail.ORDERS: 1}  # noqa: RUF012
    starts: dict[tuple[str, int], int] = {(trail.TRAILS, 0): 0, (trail.ORDERS, 0): 0}  # noqa: RUF012

    def ends(self) -> dict[tuple[str, int], int]:
        return self.starts

    def read(self, *_: Any) -> int:
        return 0


def test_a_comparison_goes_on_after_a_command_that_failed_and_has_failed(program: Program) -> None:
    program('sys.exit(\'it broke\') if \'story\' in sys.argv else print(\'{"type": "order.placed", "time": "t"}\')')
    comparison = comparing()
    comparison._ask_of_stuck({"hybrid": "o-1"})
    assert comparison._stuck["hybrid"][asking.INSPECT]["done"]
    assert not any(comparison._stuck["hybrid"][asking.STORY].values())
    problem = "farandole story, asked about an order that is stuck (o-1), ended with exit code 1: it broke"
    assert comparison._failed == [problem]
    assert an_outcome(failed=comparison._failed).problems == [problem]


def comparing() -> play.Comparison:
    """One that has begun: it can ask, and do nothing else."""

    class Stage:
        class system:
            environment: dict[str, str] = {}  # noqa: RUF012
            root = Path.cwd()

    found = object.__new__(play.Comparison)
    found.stage = Stage()  # type: ignore[assignment]
    found.progress = lambda *_: None
    found._clock, found._failed, found._stuck = Clock(600.0), [], {}
    return found


@pytest.mark.parametrize(("audit", "written"), [(True, True), (False, False)])
def test_a_command_that_failed_leaves_the_rest_to_be_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, audit: bool, written: bool
) -> None:
    """Exit code 1, and the page names it. Figures of a run whose audit found something are written nowhere."""
    report = {"ok": audit, "accepted": 9, "findings": []}
    outcome = an_outcome(failed=["farandole story broke"], audit=report)

    class Played:
        def play(self) -> Any:
            return outcome

    @contextmanager
    def prepared(*_: object) -> Iterator[Played]:
        yield Played()

    monkeypatch.setattr(play, "prepared", prepared)
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("signal.signal", lambda *_: None)
    app = typer.Typer()
    app.command()(cli.command)
    page = tmp_path / "page.md"
    done = CliRunner().invoke(app, ["--json", "--out", str(page)], catch_exceptions=False)
    assert done.exit_code == 1
    assert "farandole story broke" in json.loads(done.stdout)["problems"]
    assert page.exists() is written
    if written:
        assert "**Problem:** farandole story broke." in page.read_text().partition("## When which")[0]


def test_as_many_orders_of_each_flow_are_asked_about() -> None:
    asked: list[tuple[str, str]] = []
    comparison = comparing()
    comparison.options = Options(asked=2)
    comparison._said, comparison.skipped = {word: [] for word in WORDS}, []

    def plain(word: str) -> list[str]:
        return [f"{word}-{number}" for number in range(4)]

    def said_of(command: str, saga: str, what: str) -> asking.Said:
        asked.append((command, saga))
        return asking.Said(command, 1.0, [])

    comparison._plain, comparison._said_of = plain, said_of  # type: ignore[method-assign]
    fits = iter([True, False])
    comparison._clock.fits = lambda *_: next(fits)  # type: ignore[method-assign]
    comparison._ask()
    assert {saga for _, saga in asked} == {f"{word}-2" for word in WORDS}
    assert comparison.skipped == ["asking about 1 of 2 orders of each flow"]
