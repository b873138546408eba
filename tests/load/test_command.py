"""The command line: what does not fit together is refused before anything is started, and a plan can be had."""

from __future__ import annotations

import errno
import io
import json
import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from farandole.cli.load import app
from farandole.errors import ConfigError
from farandole.load import run
from farandole.load.outcome import Outcome
from tests.load import reports


def called(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def planned(*arguments: str) -> dict[str, Any]:
    done = called(*arguments, "--dry-run", "--json")
    assert done.exit_code == 0, done.output
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--steps", "10,20", "--burst", "5"), "different loads"),
        (("--find-limit", "--profile", "ramp"), "different loads"),
        (("--steps", "10,20", "--rate", "5"), "--rate says nothing here"),
        (("--burst", "20", "--minutes", "5"), "--minutes says nothing here"),
        (("--rate", "20", "--step-seconds", "5"), "--step-seconds says nothing here"),
        (("--against", "--workers", "order=2"), "a system that the load starts itself"),
        (("--soak-minutes", "5"), "a soak comes after a search"),
        (("--workers", "nobody=2"), "no such service"),
        (("--via", "pigeon"), "no such way"),
        (("--objective", "quick"), "not an objective"),
        (("--rate", "1e9"), "a rate of"),
        (("--steps", "10,many"), "not rates"),
        (("--burst", "10000000"), "cannot be placed at once"),
        (("--profile", "nothing"), "no such profile"),
        (("--lines", "0"), "not a number or two"),
        (("--mix", "bad=0.1", "--via", "http"), "HTTP lets no bad order in"),
        (("--zipf", "-1"), "an exponent of"),
        (("--rate", "0"), "places no order"),
        (("--minutes", "0"), "a stage of 0 s"),
        (("--steps", "10,20", "--step-seconds", "0"), "a stage of 0 s"),
        (("--find-limit", "--rate", "0"), "places no order"),
        (("--find-limit", "--step-seconds", "0"), "a stage of 0 s"),
    ],
)
def test_what_does_not_fit_together_is_refused(arguments: tuple[str, ...], said: str) -> None:
    done = called(*arguments, "--dry-run")
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)


@pytest.mark.parametrize(
    "option", ["--rate", "--minutes", "--step-seconds", "--burst", "--soak-minutes", "--warm-up", "--seed"]
)
@pytest.mark.parametrize("way", [(), ("--find-limit",)])
def test_a_number_below_nothing_is_refused_and_not_taken_for_none(option: str, way: tuple[str, ...]) -> None:
    done = called(*way, option, "-1", "--dry-run")
    assert done.exit_code == 2
    assert option in done.stderr


def test_the_plan_says_stages_orders_and_stock() -> None:
    plan = planned("--steps", "10,20", "--step-seconds", "5", "--warm-up", "2", "--skus", "7")
    assert [stage["orders"] for stage in plan["stages"]] == [20, 50, 100]
    assert (plan["orders"], plan["seconds"]) == (170, 12)
    assert plan["stock"]["skus"] == 7


def test_the_plan_of_a_profile_has_its_mix_and_the_command_line_goes_before_it() -> None:
    plan = planned("--profile", "soak", "--zipf", "2")
    assert plan["mix"]["kinds"]["declined"] == 0.03
    assert (plan["mix"]["zipf"], plan["mix"]["lines"]) == (2, "1-3")
    assert planned("--profile", "soak", "--mix", "sold_out=0.5")["mix"]["kinds"] == {"sold_out": 0.5}


def test_a_search_has_an_objective_and_a_note_on_what_it_does() -> None:
    plan = planned("--find-limit", "--soak-minutes", "10")
    assert plan["objective"] == "p99<1000ms"
    assert "halved" in plan["note"]
    assert "125 s for the one that was found" in plan["note"]
    assert "10 min at 80%" in plan["load"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rate", "0"), "places no order"),
        (("--highest", "30000"), "a rate of 30000"),
        (("--step-seconds", "400000"), "a stage of 800000 s"),
        (("--soak-minutes", "20000"), "a stage of 1.2e"),
    ],
)
def test_all_stages_of_a_search_are_checked_before_it_begins(arguments: tuple[str, ...], said: str) -> None:
    done = called("--find-limit", *arguments, "--dry-run")
    assert isinstance(done.exception, ConfigError)
    assert said in str(done.exception)


def test_a_search_begins_no_higher_than_it_may_go() -> None:
    plan = planned("--find-limit", "--highest", "20")
    assert {stage["from"] for stage in plan["stages"]} == {20}


def test_a_folder_that_takes_no_report_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(run, "prepared", lambda *_: pytest.fail("something is started"))
    done = called("--rate", "10", "--out", str(tmp_path / "file" / "out"))
    assert isinstance(done.exception, ConfigError)
    assert "the file cannot be written" in str(done.exception)
    assert done.exception.where == f"--out {tmp_path / 'file' / 'out'}"


def test_a_full_disk_is_found_before_anything_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path))
    monkeypatch.setattr("farandole.cli.files.tempfile.TemporaryFile", lambda **_: Full())
    monkeypatch.setattr(run, "prepared", lambda *_: pytest.fail("something is started"))
    done = called("--rate", "10")
    assert isinstance(done.exception, ConfigError)
    assert "No space left" in str(done.exception)
    assert done.exception.where == f"FARANDOLE_HOME {tmp_path / 'reports'}"


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_a_report_that_cannot_be_written_does_not_lose_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: tuple[str, ...]
) -> None:
    folder = tmp_path / "out"

    def play() -> Outcome:
        folder.rmdir()  # it was there before
        folder.touch()
        return reports.outcome()

    monkeypatch.setattr(run, "prepared", lambda *_: nullcontext(SimpleNamespace(play=play)))
    monkeypatch.setattr("farandole.cli.load.signal.signal", lambda *_: None)
    done = called("--rate", "10", "--out", str(folder), *as_json)
    assert done.exit_code == 1, done.output
    assert "1,400 orders placed" in done.stdout or json.loads(done.stdout)["totals"]["placed"] == 1_400
    assert f"the report could not be written to {folder}" in done.stdout


def test_the_plan_for_people_has_the_same() -> None:
    done = called("--rate", "10", "--minutes", "1", "--dry-run")
    assert done.exit_code == 0
    assert "600 orders" in done.stdout
    assert "stock delivered" in done.stdout
