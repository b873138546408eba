"""Every flow at once on one Kafka: orders in each of their flows, transfers and logins, mixed, with each service killed
once in the middle. Each saga ends once, and no event belongs to another flow than its cause.

More of them: MIXED_SAGAS=10000 pytest tests/test_all_flows.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from farandole.demo.flows import every_flow, order_flows, services_of
from farandole.pytest_plugin import TestKafka
from farandole.system import System

COMMAND = [sys.executable, "-m", "farandole.cli.main"]
SAGAS = int(os.environ.get("MIXED_SAGAS", "200"))
SHARES = {"all": 0.6, "transfer": 0.25, "login": 0.15}
RATE = 30.0
"""Sagas begun per second, of all flows together."""

PATIENCE = 300.0


def test_sagas_of_all_flows_end_once_and_never_mix(kafka: TestKafka, tmp_path: Path, namespace: str) -> None:
    home = {"FARANDOLE_HOME": str(tmp_path / "home")}
    with System(tmp_path, namespace=namespace, client_config=kafka.config, environment=home) as system:
        urls = {f"{name.upper()}_URL": system.url(name) for name in ("order", "transfers", "accounts", "login")}
        environment = {**os.environ, **kafka.environment, **system.environment, **home, **urls}
        demos = {flow: begin(flow, share, environment, tmp_path) for flow, share in SHARES.items()}
        try:
            kill_each(system)
            assert [flow for flow, demo in demos.items() if demo.poll() is not None] == [], "killed when it was over"
            found = {flow: ended(demo, tmp_path / f"{flow}.errors") for flow, demo in demos.items()}
        finally:
            for demo in demos.values():
                demo.kill()
                demo.communicate()
        audit = json.loads(
            subprocess.run(
                [*COMMAND, "audit", "--settled", "--json"], env=environment, capture_output=True, text=True, check=True
            ).stdout
        )
    orders, transfers, logins = found["all"], found["transfer"]["transfers"], found["login"]["logins"]
    assert (orders["orders"]["open"], transfers["open"]) == (0, 0)
    assert set(orders["flows"]) == set(order_flows())
    assert sum(sum(ends.values()) for ends in orders["flows"].values()) == orders["orders"]["placed"]
    assert (audit["ok"], audit["settled"], audit["open"]) == (True, True, 0)
    assert (audit["flow_differs"], audit["two_endings"], audit["no_ending"], audit["duplicate_ids"]) == (0, 0, 0, 0)
    assert audit["accepted"] >= orders["orders"]["accepted"]
    assert sum(audit["transfers"].values()) >= transfers["asked"]
    assert audit["flows"]["login"]["granted"] >= logins["granted"] > 0


def kill_each(system: System) -> None:
    """kill -9 of every service, one after the other, while sagas begin; they come back side by side."""
    services = services_of(every_flow())
    assert sorted(system.workers) == list(services)
    for service in services:
        until_busy(system, service)
        system.kill(service)
        system.restart(service)
        time.sleep(SAGAS / RATE / (len(services) + 1))


def until_busy(system: System, service: str) -> None:
    """The demos take a while to begin: until a saga has reached it, killing a service would show nothing."""
    deadline = time.monotonic() + PATIENCE
    while not ((health := system.health(service)) and health.messages):
        assert time.monotonic() < deadline, f"nothing has reached {service}"
        time.sleep(0.05)


def begin(flow: str, share: float, environment: dict[str, str], tmp_path: Path) -> subprocess.Popen[str]:
    with (tmp_path / f"{flow}.errors").open("w") as errors:
        return subprocess.Popen(
            [
                *(*COMMAND, "demo", "--use-running", "--flow", flow, "--json"),
                *(("--timeout", str(PATIENCE)) if flow != "login" else ()),
                *("--orders", str(round(SAGAS * share)), "--rate", str(RATE * share)),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )


def ended(demo: subprocess.Popen[str], errors: Path) -> Any:
    """What it found."""
    said, _ = demo.communicate(timeout=SAGAS / RATE + PATIENCE)
    found = json.loads(said) if said else {}
    assert found.get("problems") == [], errors.read_text()
    assert demo.returncode == 0, errors.read_text()
    return found
