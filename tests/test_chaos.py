"""A short run of `farandole chaos`, with a plug-in: what it breaks is healed, and the audit holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil

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


def test_a_system_that_is_broken_under_load_loses_doubles_and_reorders_nothing(tmp_path: Path) -> None:
    (tmp_path / "faults").mkdir()
    (tmp_path / "faults" / "spare_nobody.py").write_text(PLUG_IN)
    done = subprocess.run(
        [sys.executable, "-m", "farandole.cli.main", "chaos", "--orders", "100", "--faults", "5", "--rate", "4",
         "--seed", "3", "--only", ONLY, "--plugins", str(tmp_path / "faults"), "--json"],
        capture_output=True, text=True, cwd=ROOT, check=False, timeout=600,
        env={**os.environ, "FARANDOLE_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.stdout, done.stderr[-3000:]
    outcome = json.loads(done.stdout)
    assert not outcome["problems"], (outcome, done.stderr[-3000:])
    assert done.returncode == 0
    assert {each["name"] for each in outcome["faults"]} == set(ONLY.split(","))
    assert all(each["recovered"] is not None and each["whole"] is not None for each in outcome["faults"])
    assert outcome["orders"]["placed"] >= 100
    assert outcome["audit"]["ok"]
    assert outcome["audit"]["open"] == 0
    assert outcome["audit"]["accepted"] >= outcome["orders"]["accepted"]
    assert outcome["ordering"]["effects"] > 1_000
    assert outcome["orders"]["parked"] == sum(each["name"] == "failing-handler" for each in outcome["faults"])
    run = outcome["run"]["directory"]
    assert not [each for each in psutil.process_iter(["cmdline"]) if run in " ".join(each.info["cmdline"] or [])]
