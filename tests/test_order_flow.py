"""The order flow end to end, on a real Kafka, with every process that there is in production.

One demo with everything that can go wrong, a kill -9 and two workers of one service among it; and what becomes of all
those processes when the one that started them ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from farandole.demo.mischief import NOISY_TOPICS
from farandole.errors import FarandoleError
from farandole.pytest_plugin import TestKafka
from farandole.system import System
from farandole.topics import Topics

DEMO = [sys.executable, "-m", "farandole.cli.main", "demo"]
GONE_WITHIN = 20.0
ROOT = Path(__file__).parents[1]
STOCK_CONSUMER = Path(__file__).with_name("stock_consumer.py")


@pytest.fixture
def environment(kafka: TestKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's Kafka, and a home of this test's own."""
    for name, value in kafka.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path))


def start(*arguments: str, errors: Path) -> subprocess.Popen[str]:
    """A demo in a process of its own, its progress in a file."""
    # Whoever runs the tests in the background ignores SIGINT, and a program inherits that.
    with errors.open("w") as log:
        return subprocess.Popen(
            [*DEMO, *arguments],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )


def until(true: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def running_workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The demo's workers, once all five have been started."""
    workers = [each for each in descendants(process) if is_worker(each)]
    return workers if len(workers) == 5 else []


def is_worker(process: psutil.Process) -> bool:
    try:
        return "worker" in process.cmdline()
    except psutil.NoSuchProcess:  # a zombie, or gone since
        return False


@pytest.mark.usefixtures("environment")
def test_whatever_goes_wrong_every_order_ends_once_or_is_parked_and_the_audit_holds(
    kafka: TestKafka, tmp_path: Path
) -> None:
    demo = start(
        *("--orders", "80", "--seed", "3", "--workers", "payment=2", "--kill", "inventory@30", "--json"),
        errors=tmp_path / "errors",
    )
    said, _ = demo.communicate(timeout=170)
    outcome = json.loads(said)
    assert (outcome["problems"], demo.returncode) == ([], 0), (tmp_path / "errors").read_text()

    orders, audit = outcome["orders"], outcome["audit"]
    assert (orders["accepted"], orders["open"], orders["parked"]) == (80, 0, 1)
    assert orders["completed"] + orders["cancelled"] == 79
    assert audit["ok"]
    assert audit["duplicate_ids"] == 0
    assert {key: audit[key] for key in ("accepted", "completed", "cancelled", "parked", "open")} == {
        key: orders[key] for key in ("accepted", "completed", "cancelled", "parked", "open")
    }
    causes = {row["cause"] for row in outcome["rows"]}
    assert causes >= {
        "inventory.rejected",
        "payment.declined",
        "payment.failed",
        "shipping.failed",
        "shipping.cancelled",
    }

    [parked] = outcome["parked"]
    assert (parked["service"], parked["topic"], parked["reason"]) == ("inventory", "stock", "decision-failed")
    [restart] = outcome["restarts"]
    assert restart["service"] == "inventory"
    assert restart["serving"] is not None
    requests = outcome["requests"]
    assert requests["conflict"] == {"409": 1}
    assert set(requests["reject"]) == {"422"}
    assert requests["look for nothing"] == {"404": 1}
    check_that_a_stock_consumer_reads_every_topic(kafka, audit["namespace"], tmp_path)


def check_that_a_stock_consumer_reads_every_topic(kafka: TestKafka, namespace: str, elsewhere: Path) -> None:
    """Nothing of the project is imported; what the demo planted as nonsense is all that cannot be read."""
    found = subprocess.run(
        [sys.executable, "-I", STOCK_CONSUMER, kafka.bootstrap_servers, namespace, ROOT / "schemas"],
        cwd=elsewhere,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout)
    assert said["modules"] == []
    assert set(said["counts"]) >= set(Topics.load(ROOT / "topics.yaml").topics)
    quiet = {topic for topic, count in said["counts"].items() if not count}
    may_be_quiet = (".dlq", ".operations", "-parked-changelog", "-handled-changelog")
    assert {topic for topic in quiet if not topic.endswith(may_be_quiet)} <= {"payment.commands"}
    assert set(said["unreadable"]) <= set(NOISY_TOPICS)


@pytest.mark.usefixtures("environment")
def test_ctrl_c_in_the_middle_leaves_nothing_running_and_says_130(tmp_path: Path) -> None:
    errors = tmp_path / "errors"
    demo = start("--orders", "5000", errors=errors)
    until(lambda: demo.poll() is not None or "placing" in errors.read_text(), 100, "it never placed an order")
    children = descendants(demo)
    assert len(children) >= 5 + 3, errors.read_text()
    demo.send_signal(signal.SIGINT)
    assert demo.wait(30) == 130, errors.read_text()
    assert not [each for each in children if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.usefixtures("environment")
def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    demo = start("--orders", "5000", errors=tmp_path / "errors")
    until(lambda: running_workers(demo), 60, "its workers were never started")
    children = descendants(demo)
    demo.kill()
    demo.communicate()
    _, alive = psutil.wait_procs(children, GONE_WITHIN)
    assert not alive


@pytest.mark.usefixtures("environment")
def test_a_worker_that_dies_by_itself_is_an_error_with_its_last_words(namespace: str, tmp_path: Path) -> None:
    system = System(tmp_path / "run", namespace=namespace, environment={"FARANDOLE_FAIL": "inventory.misspelt@o-1"})
    with pytest.raises(FarandoleError, match=r"inventory worker died[\s\S]*no decision is called inventory\.misspelt"):
        system.start()
    assert not system.workers


@pytest.fixture
def system(environment: None, namespace: str, tmp_path: Path) -> Iterator[System]:
    with System(tmp_path / "run", namespace=namespace) as system:
        yield system


def test_a_system_that_runs_already_is_used_and_left_running(system: System) -> None:
    before = {worker.pid for workers in system.workers.values() for worker in workers}
    done = subprocess.run(
        [*DEMO, "--use-running", "--orders", "40", "--json", "--order-url", system.url("order")],
        env={**os.environ, **system.environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    outcome = json.loads(done.stdout)
    assert (outcome["problems"], done.returncode) == ([], 0)
    assert outcome["orders"]["completed"] > 0
    assert outcome["orders"]["open"] == 0
    assert {worker.pid for workers in system.workers.values() for worker in workers} == before
    assert not system.dead()
