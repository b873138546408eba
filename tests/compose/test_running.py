"""docker-compose.yml brought up: where an engine answers that has the base images. `make compose-test` runs this."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.compose.engine import (
    Running,
    crash,
    docker,
    eventually,
    no_compose,
    no_engine,
    partitions,
    state,
)
from tests.test_compose import LONG_LIVED, OURS, SERVICES

DEMO_SECONDS = 240
"""A bound: 300 orders at 6 a second, and then those that somebody does not answer."""


def have(reason: str | None) -> None:
    """Skip for `reason`; under `make compose-test`, which has seen to everything, fail."""
    if reason and os.environ.get("COMPOSE_TEST"):
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def test_compose_understands_the_file() -> None:
    have(no_compose())
    done = docker("compose", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)["services"]) == set(SERVICES)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    have(no_engine())
    system = Running()
    try:
        system.compose("up", "--build", "--detach", "--wait")
        yield system
    finally:
        system.take_down()


def demo(running: Running, orders: int, rate: int) -> dict[str, Any]:
    command = ("farandole", "demo", "--use-running", "--orders", str(orders), "--rate", str(rate), "--json")
    return dict(json.loads(running.inside("order", *command, timeout=DEMO_SECONDS)))


def assert_all_is_well(outcome: dict[str, Any]) -> None:
    assert outcome["problems"] == []
    assert outcome["orders"]["completed"] > 0
    assert outcome["orders"]["cancelled"] > 0
    assert outcome["orders"]["open"] == 0


def test_all_of_it_comes_up_and_nobody_had_to_try_twice(running: Running) -> None:
    for service in SERVICES:
        for container in running.containers(service):
            said = state(container)
            assert said["RestartCount"] == 0, service
            assert said["State"]["Status"] == ("exited" if service == "setup" else "running"), service


def test_the_containers_are_nobody_and_can_change_nothing(running: Running) -> None:
    for service in set(OURS) & set(LONG_LIVED):
        assert running.inside(service, "id", "-u").strip() == "10001", service
        assert "read-only" in running.inside(service, "sh", "-c", "touch /app/x 2>&1 || true").lower(), service


def test_an_order_goes_through_the_containers_and_the_audit_holds(running: Running) -> None:
    assert_all_is_well(demo(running, orders=60, rate=20))


def test_partitions_are_shared_by_more_workers_and_handed_back_at_once(running: Running) -> None:
    running.scale("payment", 3)
    first, *others = sorted(running.containers("payment"), key=lambda each: str(state(each)["Created"]))
    assert len(others) == 2
    eventually(lambda: [len(partitions(each)) for each in (first, *others)] == [2, 2, 2], "two partitions each")
    docker("stop", "--time", "45", *others, timeout=120)
    eventually(lambda: len(partitions(first)) == 6, "all six are the first one's again", seconds=30)
    for stopped in others:
        assert state(stopped)["State"]["ExitCode"] == 0
    running.scale("payment", 1)


def test_a_worker_that_dies_comes_back(running: Running) -> None:
    (container,) = running.containers("inventory")
    before = state(container)["RestartCount"]
    crash(container)
    eventually(lambda: state(container)["RestartCount"] == before + 1, "Docker starts it again")
    eventually(lambda: len(partitions(container)) == 6, "it has its partitions back")


def test_orders_go_on_while_workers_come_and_go_and_die(running: Running) -> None:
    (inventory,) = running.containers("inventory")
    before = state(inventory)["RestartCount"]
    with ThreadPoolExecutor(1) as aside:
        outcome = aside.submit(demo, running, orders=300, rate=6)
        running.scale("payment", 3)
        crash(inventory)
        running.scale("payment", 2)
        assert not outcome.done(), "orders were placed all the while"
        assert_all_is_well(outcome.result())
    assert state(inventory)["RestartCount"] == before + 1


def test_what_is_stopped_ends_in_order_and_is_there_again(running: Running) -> None:
    assert_all_is_well(demo(running, orders=60, rate=20))
    running.compose("stop")
    for service in set(OURS) & set(LONG_LIVED):
        for container in running.containers(service):
            assert state(container)["State"]["ExitCode"] == 0, service
    running.compose("up", "--detach", "--wait", "--no-recreate")
    audit = json.loads(running.inside("order", "farandole", "audit", "--settled", "--json"))
    assert audit["ok"]
    assert audit["accepted"] >= 60
