"""Two versions of a flow side by side on a real Kafka, until the last saga of the old one has ended; and who is counted
where a worker is killed midway.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

import events
from agents.order import order_id
from farandole.codec import Codec
from farandole.event import Event, Meta
from farandole.pytest_plugin import TestKafka
from farandole.system import System
from tests.farandole.deployproject import ROOT, copy
from tests.replay.maker import order
from tests.test_workers import wait_until

NAMESPACE = "versions."

SECOND = '''"""`order/2`: as order/1, but nobody is told of a refusal."""

from __future__ import annotations

import inspect

from events import OrderRefused
from farandole import Flow
from flows.order import order as first

second = Flow("order", version=2)
for (service, event), decision in first.bindings.items():
    if (service, event) != ("notification", OrderRefused):
        second.on(event, inspect.unwrap(decision.function))
'''

SECOND_RULES = '''"""`order/2`: nobody has to be told of a refusal."""

from typing import ClassVar

from farandole.audit.flows.order import Audit as First
from farandole.audit.flows.order_facts import ENDINGS
from farandole.audit.flows.order_ruling import owes

OTHERS = tuple(rule for rule in First.rules.owes if rule.check != "mail-missing")


class Audit(First):
    flow: ClassVar = "order/2"
    rules: ClassVar = First.rules._replace(owes=(*OTHERS, owes(ENDINGS, ("notification.sent",), "mail-missing")))
'''


class Installation:
    """A system that runs a checkout with both versions, and commands from that or from another checkout."""

    def __init__(self, system: System, kafka: TestKafka, both: Path) -> None:
        self.system, self.both = system, both
        self._environment = {**os.environ, **kafka.environment, "FARANDOLE_NAMESPACE": NAMESPACE}
        self._codec = Codec.load(ROOT / "schemas", events)
        self._producer = Producer({**kafka.config, "partitioner": "murmur2_random"})

    def send(self, event: Event, saga: str, flow: str, key: str = "") -> None:
        topic = self._codec.type_of(type(event)).topic
        value = self._codec.encode(event, Meta(f"client/{saga}", saga, flow, ""))
        self._producer.produce(NAMESPACE + topic, value, key or saga)
        self._producer.flush(10)

    def place(self, number: int, flow: str, sku: str = "tea") -> str:
        saga = order_id("customer", str(number))
        self.send(order(number, sku, 1), saga, flow)
        return saga

    def said(self, *arguments: str, root: Path | None = None, code: int = 0) -> Any:
        where = root or self.both
        done = subprocess.run(
            [sys.executable, "-m", "farandole.cli.main", *arguments, "--json"],
            capture_output=True, text=True, cwd=where, timeout=60, check=False,
            env={**self._environment, "PYTHONPATH": str(where), "FARANDOLE_PROJECT": str(where)},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return json.loads(done.stdout)

    def left(self, root: Path | None = None) -> dict[str, tuple[int, int]]:
        """Flow → sagas that are left, and parked."""
        return {each["flow"]: (each["left"], each["parked"]) for each in self.said("flows", "list", root=root)["flows"]}


@pytest.fixture(scope="module")
def installation(kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("versions")
    both = copy(directory / "both")
    (both / "flows/order_2.py").write_text(SECOND)
    (both / "farandole/audit/flows/order_2.py").write_text(SECOND_RULES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FARANDOLE_PROJECT", str(both))
        patch.setenv("PYTHONPATH", str(both))
        system = System(
            directory / "logs",
            namespace=NAMESPACE,
            environment={"FARANDOLE_HOME": str(directory / "home")},
            client_config=kafka.config,
        )
        with system:
            yield Installation(system, kafka, both)


def test_each_saga_ends_under_its_version_and_the_last_ones_are_counted_down(installation: Installation) -> None:
    it = installation
    it.send(events.StockReceived(sku="tea", quantity=100), "delivery-1", "restock/1", "tea")
    wait_until(lambda: it.left()["restock/1"] == (0, 0))
    it.system.kill("payment")
    first = [it.place(number, "order/1") for number in range(3)]
    second = [it.place(number, "order/2") for number in range(10, 12)]
    refused = {flow: it.place(20 + n, flow, sku="no sku at all") for n, flow in enumerate(("order/1", "order/2"))}
    wait_until(lambda: _some(it.left()) == {"order/1": (3, 0), "order/2": (2, 0)})

    listed = it.said("flows", "list")
    assert set(_named(listed, "order/1")["sagas"]) == set(first)
    assert set(_named(listed, "order/2")["sagas"]) == set(second)

    old = it.said("flows", "list", root=ROOT)
    assert _named(old, "order/2")["known"] is False
    assert set(_named(old, "order/2")["sagas"]) == set(second)

    waiting = it.said("story", first[0])
    assert not waiting["ended"]
    assert any(why.startswith("payment has not read ") for why in waiting["waiting"])

    it.system.restart("payment")
    wait_until(lambda: _some(it.left()) == {})
    assert "order/2" not in it.left(ROOT)

    told = {saga: it.said("story", saga) for saga in (first[0], second[0], *refused.values())}
    assert all(each["ended"] for each in told.values())
    assert [told[saga]["flow"] for saga in (first[0], second[0])] == ["order/1", "order/2"]
    assert {"order.completed", "notification.sent"} <= _types(told[first[0]]["story"])
    assert {"order.completed", "notification.sent"} <= _types(told[second[0]]["story"])
    assert {"order.refused", "notification.sent"} <= _types(told[refused["order/1"]]["story"])
    assert _types(told[refused["order/2"]]["story"]) == {"order.commands.place_order", "order.refused"}


def test_each_version_is_audited_by_its_own_rules(installation: Installation) -> None:
    it = installation
    it.place(30, "order/1", sku="no sku at all")
    it.place(31, "order/2", sku="no sku at all")
    wait_until(lambda: _some(it.left()) == {})
    assert it.said("audit", "--settled")["ok"]

    os.remove(it.both / "farandole/audit/flows/order_2.py")
    found = it.said("audit", "--settled", code=1)["findings"]
    assert {(each["check"], each["saga"]) for each in found} >= {("mail-missing", order_id("customer", "31"))}


def _some(left: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Those of which any are left."""
    return {flow: counts for flow, counts in left.items() if any(counts)}


def _named(listed: Any, flow: str) -> Any:
    return next(each for each in listed["flows"] if each["flow"] == flow)


def _types(steps: list[Any]) -> set[str]:
    return {each["what"] for each in steps}.union(*(_types(each["below"]) for each in steps))
