"""A file in a folder adds a fault; one that is none is told with its name, and nothing is run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from farandole.chaos import fault, schedule
from farandole.errors import ConfigError

ROOT = Path(__file__).parents[2]

GOOD = '''
"""Nothing is broken."""
from farandole.chaos import Fault

class Nothing(Fault):
    name = "nothing"
    lasts = (1.0, 2.0)
    def inject(self, stage, rng):
        stage.broke("nothing")
'''


def folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


def test_our_own_faults_all_load_and_say_what_they_do() -> None:
    kinds = fault.load([fault.OWN])
    assert {"kill-worker", "kill-controller", "cut-worker", "undecodable", "failing-handler"} <= kinds.keys()
    assert len(kinds) == len(list(fault.OWN.glob("*.py")))


def test_a_file_adds_a_fault(tmp_path: Path) -> None:
    kinds = fault.load([fault.OWN, folder(tmp_path, nothing=GOOD, _helper="raise ValueError")])
    assert kinds["nothing"].lasts == (1.0, 2.0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ValueError('no')", "ValueError: no"),
        ("def inject(stage, rng): pass", "holds no fault"),
        (GOOD.replace("def inject(self, stage, rng)", "def injekt(self, stage, rng)"), "no `inject"),
        (GOOD.replace("def inject(self, stage, rng)", "def inject(self)"), "does not take (self, stage, rng)"),
        (GOOD.replace('"nothing"\n', '"No Thing"\n', 1), "its name is 'No Thing'"),
        (GOOD.replace("(1.0, 2.0)", "3"), "`lasts` is 3"),
        (GOOD.replace("(1.0, 2.0)", "(3, 1)"), "`lasts` is (3, 1)"),
        (GOOD + "    weight = 0\n", "its weight is 0"),
        (GOOD + "    def heal(self): pass\n", "`heal` does not take (self, stage)"),
        (GOOD.replace('"nothing"\n', '"kill-worker"\n', 1), "two faults are called kill-worker"),
    ],
)
def test_what_is_no_fault_is_told_with_its_file(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        fault.load([fault.OWN, folder(tmp_path, wrong=text)])
    assert said in told.value.what
    assert told.value.where.endswith("wrong.py")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        fault.load([tmp_path / "none"])


def test_a_seed_gives_the_same_faults_and_every_kind_comes_once_before_any_comes_again() -> None:
    kinds = fault.load([fault.OWN])
    first = list(islice(schedule.plan(kinds, 7), 100))
    assert first == list(islice(schedule.plan(kinds, 7), 100))
    assert first != list(islice(schedule.plan(kinds, 8), 100))
    assert {each.kind.name for each in first[: len(kinds)]} == kinds.keys()
    assert all(each.kind.lasts[0] <= each.lasts <= each.kind.lasts[1] for each in first)
    assert first[3].rng().random() == first[3].rng().random()


def chaos(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "farandole.cli.main", "chaos", *arguments],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "COLUMNS": "200"}, timeout=60, check=False,
    )  # fmt: skip


def test_the_list_has_plug_ins_and_what_they_say_of_themselves(tmp_path: Path) -> None:
    listed = json.loads(chaos("--list", "--json", "--plugins", str(folder(tmp_path, nothing=GOOD))).stdout)
    assert listed["nothing"] == "Nothing is broken."
    assert all(listed.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "kill-wroker"], "no fault is called kill-wroker"),
        (["--orders", "0"], "--orders"),
        (["--workers", "0"], "--workers"),
        (["--workers", "4", "--partitions", "3"], "--partitions"),
    ],
)
def test_a_wrong_flag_is_told_before_anything_is_started(arguments: list[str], said: str) -> None:
    done = chaos(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
