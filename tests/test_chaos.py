"""Short runs of `farandole chaos`, with a plug-in: what it breaks is healed, and the audit holds.

Orders of each of their flows in every run of the tests: they share their services, so four flows cost what one does.
Money and passcodes, and all flows at once with twenty workers, take minutes more: pytest tests/test_chaos.py --long
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from farandole.demo.flows import every_flow, order_flows

ROOT = Path(__file__).parents[1]
ONLY = "kill-worker,cut-worker,undecodable,failing-handler,spare-nobody"
PLUG_IN = '''
"""A worker of payment is told to end."""
from farandole.chaos import Fault

class SpareNobody(Fault):
    name = "spare-nobody"
    lasts = (0.5, 1.0)
    def inject(self, stage, rng):
        stage.leave(stage.pick_worker(rng, "payment"))
'''


def chaos(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """What it has to say; nothing of it is left."""
    done = subprocess.run(
        [sys.executable, "-m", "farandole.cli.main", "chaos", *arguments, "--json"],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=600,
        env={**os.environ, "FARANDOLE_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.stdout, done.stderr[-3000:]
    outcome: dict[str, Any] = json.loads(done.stdout)
    assert not outcome["problems"], (outcome, done.stderr[-3000:])
    assert done.returncode == 0
    assert all(each["recovered"] is not None and each["whole"] is not None for each in outcome["faults"])
    assert outcome["audit"]["ok"]
    parked = sum(counts["parked"] for counts in outcome["flows"].values())
    assert parked == sum(each["name"] == "failing-handler" for each in outcome["faults"])
    run = outcome["run"]["directory"]
    assert not [each for each in psutil.process_iter(["cmdline"]) if run in " ".join(each.info["cmdline"] or [])]
    return outcome


def takes_long(request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("some minutes more: --long")


def test_a_system_that_is_broken_under_load_loses_doubles_and_reorders_nothing(tmp_path: Path) -> None:
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "spare_nobody.py").write_text(PLUG_IN)
    outcome = chaos(
        tmp_path, "--flow", ",".join(order_flows()), "--orders", "100", "--faults", "5", "--rate", "4",
        "--seed", "3", "--only", ONLY, "--plugins", str(tmp_path / "faults"),
    )  # fmt: skip
    assert {each["name"] for each in outcome["faults"]} == set(ONLY.split(","))
    assert outcome["orders"]["placed"] >= 100
    assert all(outcome["flows"][flow]["completed"] > 5 for flow in order_flows())
    assert outcome["audit"]["open"] == 0
    assert outcome["audit"]["accepted"] >= outcome["orders"]["accepted"]
    assert outcome["ordering"]["effects"] > 1_000


def test_money_and_passcodes_bear_it_too(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    takes_long(request)
    outcome = chaos(
        tmp_path, "--flow", "transfer,login", "--orders", "100", "--faults", "5", "--rate", "4", "--seed", "4",
        "--only", "kill-worker,kill-service,kill-outside,schema-violation,failing-handler",
    )  # fmt: skip
    assert outcome["flows"]["transfer/1"]["completed"] > 10
    assert outcome["flows"]["login/1"]["granted"] > 10
    assert outcome["audit"]["bank"]["money"]["EUR"]["funded"] > 0


def test_all_flows_bear_it_at_once(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    takes_long(request)
    outcome = chaos(
        tmp_path, "--flow", "all", "--orders", "150", "--faults", "6", "--rate", "4", "--seed", "3",
        "--only", "kill-worker,kill-service,cut-worker,kill-outside,undecodable,failing-handler",
    )  # fmt: skip
    assert set(outcome["flows"]) == set(every_flow())
    assert all(outcome["flows"][flow]["completed"] > 5 for flow in (*order_flows(), "transfer/1"))
    assert outcome["flows"]["login/1"]["granted"] > 5
    assert (outcome["audit"]["open"], outcome["audit"]["flow_differs"]) == (0, 0)
