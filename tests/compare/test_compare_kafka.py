"""A comparison on a real Kafka, as short as can be, and one that is interrupted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from farandole.compare.flows import WORDS
from farandole.compare.outages import STEPS
from farandole.compare.subscribers import reads
from farandole.pytest_plugin import TestKafka

COMPARE = [sys.executable, "-m", "farandole.cli.main", "compare", "--quick", "--json", "--minutes", "15"]
"""Some minutes where nothing else runs beside; where tests share the machine nothing is to be left out for that."""

PATIENCE = 900.0
MARK = "FARANDOLE_TEST_COMPARE"


@pytest.fixture
def environment(kafka: TestKafka, tmp_path: Path) -> dict[str, str]:
    """The session's Kafka, and a home of this test's own, which also marks every process."""
    return {**os.environ, **kafka.environment, "FARANDOLE_HOME": str(tmp_path / "home"), MARK: str(tmp_path)}


def start(environment: dict[str, str], errors: Path, *arguments: str) -> subprocess.Popen[str]:
    # Whoever runs the tests in the background ignores SIGINT, and a program inherits that.
    with errors.open("w") as log:
        return subprocess.Popen(
            [*COMPARE, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )


def test_all_dimensions_are_measured_and_the_page_is_written(environment: dict[str, str], tmp_path: Path) -> None:
    errors, page = tmp_path / "errors", tmp_path / "page.md"
    comparison = start(environment, errors, "--out", str(page))
    try:
        said, _ = comparison.communicate(timeout=PATIENCE)
    finally:
        comparison.terminate()
    assert said, errors.read_text()
    found = json.loads(said)
    assert (found["problems"], comparison.returncode) == ([], 0), errors.read_text()
    assert found["skipped"] == []
    for word in WORDS:
        assert found["costs"][word]["orders"] == 60
        assert found["costs"][word]["messages"]["median"] > 10
        assert found["latency"][word]["p50"] > 0
        assert found["rollback"]["shipping.failed"][word]["orders"] > 0
        assert found["step"][word]["trial"]["ok"]
        assert found["step"][word]["deploy"]  # it refuses to change a flow in place
        assert found["outages"]["nobody"][word]["steps"] > 0
        assert any(each["messages"] for each in found["visibility"][word].values())
        assert any(sum(each.values()) for each in found["debugging"][word].values())
    # Three stand-ins, each order: who is commanded has a command and an answer.
    modes = found["audience"]["modes"]
    assert [modes[mode]["written"] for mode in ("nobody", "heard", "commanded")] == [0, 0, 6]
    assert modes["heard"]["read"] > 3
    assert modes["heard"]["audience_cpu_ms"] > modes["nobody"]["audience_cpu_ms"] == 0
    assert set(found["load"]["others"]) == {"the rounds", "the steady pace"}
    # What a flow does not need it does not miss.
    down = found["outages"]["orchestrator"]
    assert down["choreographed"]["steps"] > down["orchestrated"]["steps"]
    # And what is outside all of them miss alike, from the step on that needs it.
    steps = ["", *STEPS]
    for part, last in (("payment gateway", "reserved"), ("carrier", "authorised"), ("mail", "completed")):
        assert all(steps.index(found["outages"][part][word]["farthest"]) <= steps.index(last) for word in WORDS)
    # What is extrapolated is what those that were run have read.
    each = found["subscribers"]["choreographed"]
    assert modes["heard"]["read"] == reads(3, 0, each["topic_records"], anew=True)
    assert modes["commanded"]["read"] == reads(3, 2, each["topic_records"], anew=True)
    assert "# Choreography or orchestration?" in page.read_text()
    assert page.with_suffix(".svg").exists()


def test_interrupted_it_leaves_nothing_behind(environment: dict[str, str], tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    comparison = start(environment, errors, "--out", str(tmp_path / "page.md"))
    deadline = time.monotonic() + PATIENCE
    while "round 1" not in errors.read_text():
        assert comparison.poll() is None, errors.read_text()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    comparison.send_signal(signal.SIGINT)
    comparison.communicate(timeout=60)
    assert comparison.returncode == 130
    assert "Traceback" not in errors.read_text()
    assert not (tmp_path / "page.md").exists()
    assert not [process for process in psutil.process_iter() if _marked(process, str(tmp_path))]


def _marked(process: psutil.Process, mark: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(MARK) == mark
    except psutil.Error:
        return False
