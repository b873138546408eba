"""Loads on a real Kafka, as short as can be: of a system of its own, of one that runs, and with Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from farandole.demo.flows import FLOW, services_of
from farandole.pytest_plugin import TestKafka
from farandole.system import System

LOAD = [sys.executable, "-m", "farandole.cli.main", "load"]
PATIENCE = 150.0


@pytest.fixture
def environment(kafka: TestKafka, tmp_path: Path) -> dict[str, str]:
    """The session's Kafka, and a home of this test's own."""
    return {**os.environ, **kafka.environment, "FARANDOLE_HOME": str(tmp_path / "home")}


@pytest.fixture(scope="module")
def running(kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A system that somebody else runs."""
    directory = tmp_path_factory.mktemp("running")
    home = {"FARANDOLE_HOME": str(directory / "home")}
    with System(
        directory, namespace="load-test-", services=services_of([FLOW]), client_config=kafka.config, environment=home
    ) as system:
        yield system


def start(*arguments: str, environment: dict[str, str], errors: Path) -> subprocess.Popen[str]:
    """A load in a process of its own."""
    # Whoever runs the tests in the background ignores SIGINT, and a program inherits that.
    with errors.open("w") as log:
        return subprocess.Popen(
            [*LOAD, *arguments, "--json"],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )


def outcome_of(load: subprocess.Popen[str], errors: Path) -> dict[str, Any]:
    try:
        said, _ = load.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        load.terminate()  # and with it all that it started
        load.communicate()
        raise
    assert said, errors.read_text()
    return dict(json.loads(said))


def test_a_load_of_its_own_system_is_measured_audited_and_reported(environment: dict[str, str], tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    mix = "declined=0.1,sold_out=0.1,cancelled_soon=0.1,bad=0.1"
    load = start(
        *("--steps", "10,20", "--step-seconds", "3", "--warm-up", "1", "--mix", mix, "--lines", "1-3", "--zipf", "1.1"),
        *("--objective", "p99<60s", "--out", str(tmp_path / "out")),
        environment=environment,
        errors=errors,
    )
    found = outcome_of(load, errors)
    assert (found["problems"], load.returncode) == ([], 0), errors.read_text()
    assert found["totals"]["placed"] == 10 + 30 + 60
    assert found["totals"]["outcomes"].keys() == {"completed", "cancelled", "refused"}
    assert sum(found["totals"]["outcomes"].values()) == 100
    assert [stage["placed"] for stage in found["stages"]] == [10, 30, 60]
    assert found["latency"]["orders"] == 90
    assert 0 < found["latency"]["p50_ms"] <= found["latency"]["p99_ms"]
    assert found["audit"]["ok"]
    assert found["audit"]["settled"]
    assert found["audit"]["accepted"] + found["audit"]["refused"] == 100
    assert {"order[0]", "payment[0]", "gateway", "generator"} <= {
        row["process"] for row in found["memory"]["processes"]
    }
    services = {"order", "inventory", "payment", "shipping", "notification"}
    assert set(found["samples"]["lag"]) == services
    assert [Path(each).suffix for each in found["reports"]] == [".html", ".json"]
    assert all(Path(each).stat().st_size > 1_000 for each in found["reports"])


@pytest.mark.parametrize(
    ("via", "way"), [("http", ("--rate", "10", "--minutes", "0.05")), ("kafka", ("--burst", "50"))]
)
def test_a_system_that_runs_is_loaded_and_left_running(
    running: System, environment: dict[str, str], tmp_path: Path, via: str, way: tuple[str, ...]
) -> None:
    errors = tmp_path / "errors"
    load = start(
        *("--against", "--via", via, "--warm-up", "0", *way),
        environment=environment | running.environment | {"ORDER_URL": running.url("order")},
        errors=errors,
    )
    found = outcome_of(load, errors)
    assert (found["problems"], load.returncode) == ([], 0), errors.read_text()
    placed = 50 if via == "kafka" else 30
    assert found["totals"]["placed"] == placed
    assert found["totals"]["outcomes"] == {"completed": placed}
    assert (found["burst"] is not None and found["burst"]["drained_in"] > 0) == (via == "kafka")
    if via == "http":
        assert found["stages"][0]["answers"]["statuses"].keys() <= {"200", "201", "202"}
        assert found["stages"][0]["answers"]["orders"] == placed
    running.check()
    assert not running.dead()


def test_after_ctrl_c_what_was_measured_is_reported_and_no_process_is_left(
    environment: dict[str, str], tmp_path: Path
) -> None:
    errors = tmp_path / "errors"
    load = start("--rate", "20", "--minutes", "60", "--warm-up", "1", environment=environment, errors=errors)
    deadline = time.monotonic() + PATIENCE
    while "placing, 20/s" not in errors.read_text():
        assert time.monotonic() < deadline, errors.read_text()
        assert load.poll() is None, errors.read_text()
        time.sleep(0.1)
    time.sleep(1)
    children = psutil.Process(load.pid).children(recursive=True)
    assert len(children) >= 8
    load.send_signal(signal.SIGINT)
    found = outcome_of(load, errors)
    assert load.returncode == 130
    assert found["interrupted"]
    assert not found["ok"]
    assert 0 < found["totals"]["placed"] < 60 * 60 * 20
    assert found["audit"] is None
    assert "Traceback" not in errors.read_text()
    _, left = psutil.wait_procs(children, timeout=20)
    assert not left
