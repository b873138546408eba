"""Deployment on a real Kafka: new versions under orders, one that cannot start, one that is killed midway, and back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

import events
from farandole.codec import Codec
from farandole.demo.flows import FLOW, services_of
from farandole.deploy.version import version_of
from farandole.event import Meta
from farandole.sandbox import Sandbox
from tests.farandole.deployproject import ROOT, add_field, copy, edit, keep_flows
from tests.test_workers import place, request, wait_until

NAMESPACE = "deployed."
SERVICES = set(services_of([FLOW]))
NOTE = {"name": "note", "type": "string", "default": "", "doc": "What somebody wrote beside it."}
WITHIN = "AUTHORISE_WITHIN: Final = 10.0"


def orders_alone(directory: Path) -> Path:
    """A project with the order flow alone."""
    root = copy(directory)
    keep_flows(root, "order", "restock")
    return root


class Deployed:
    """A home from which versions are deployed, each from a checkout of its own."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory, self.environment = directory, environment
        self.first = orders_alone(directory / "first")
        self.second = orders_alone(directory / "second")
        edit(self.second, "agents/payment.py", WITHIN, "AUTHORISE_WITHIN: Final = 9.0")
        for record in ("payment.tables.charge", "payment.authorised"):
            add_field(self.second, record, NOTE)
        self.broken = orders_alone(directory / "broken")
        edit(self.broken, "agents/payment.py", WITHIN, "AUTHORISE_WITHIN: Final = 8.0")
        for record in ("payment.tables.charge", "payment.authorised"):
            add_field(self.broken, record, NOTE)
        planted = 'if "FARANDOLE_DEPLOYED" in __import__("os").environ:\n    raise SystemExit("planted")\n'
        path = self.broken / "agents/shipping.py"
        path.write_text(path.read_text() + planted)

    @property
    def state(self) -> Path:
        return self.directory / "home/deploy/state.json"

    @property
    def supervisor(self) -> int:
        return int((self.directory / "home/deploy/supervisor.lock").read_text())

    def begin(self, root: Path, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "farandole.cli.main", *arguments]
        environment = {**os.environ, **self.environment, "PYTHONPATH": str(root), "FARANDOLE_PROJECT": str(root)}
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=root, env=environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, root: Path, *arguments: str) -> tuple[int, Any]:
        process = self.begin(root, *arguments, "--json")
        out, error = process.communicate()
        assert out, error
        return process.returncode, json.loads(out)

    def be_at(self, root: Path) -> None:
        """Whatever another test has left behind."""
        version, state = version_of(root), json.loads(self.state.read_text())
        if (state["current"], state["rolling"]) == (version, ""):
            return
        arguments = ("rollback", "--to", version) if version in state["former"] else ("apply",)
        code, report = self.run(root, "deploy", *arguments)
        assert code == 0, report

    def url(self, service: str, index: int = 0) -> str:
        state = json.loads(self.state.read_text())
        return f"http://127.0.0.1:{state['ports'][f'{service}-{index}']}"

    def place(self, key: str) -> str:
        end = time.monotonic() + 120
        while True:
            try:
                status, said = place(self, key)  # type: ignore[arg-type]  # all it needs is `url`
            except (OSError, HTTPException, ValueError):  # the one order worker is being succeeded at this moment
                status, said = 503, "no answer"
            # 202: the command is in its topic, and nobody has decided it yet; asked again, it is the same order.
            if status in (202, 503) and time.monotonic() < end:
                time.sleep(0.05)
                continue
            assert status in (200, 201), said
            return str(said["order"])

    def wait_until_completed(self, order: str) -> None:
        def completed() -> bool:
            try:
                code, said = request("GET", f"{self.url('order')}/orders/{order}")
            except OSError:
                return False
            return code == 200 and said["status"] == "completed"

        wait_until(completed, 90)


@pytest.fixture(scope="module")
def deployed(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    directory = tmp_path_factory.mktemp("deploy")
    with Sandbox.start(directory) as sandbox:
        environment = {
            **kafka.environment,
            **sandbox.environment,
            "FARANDOLE_HOME": str(directory / "home"),
            "FARANDOLE_NAMESPACE": NAMESPACE,
        }
        system = Deployed(directory, environment)
        try:
            code, report = system.run(system.first, "deploy", "apply", "--scale", "payment=2")
            assert code == 0, report
            guard = guarding(directory / "home/deploy/supervisor.lock")
            codec = Codec.load(ROOT / "schemas", events)
            producer = Producer({**kafka.config, "partitioner": "murmur2_random"})
            meta = Meta("test/stock", "delivery-1", "restock/1", "")
            stock = codec.encode(events.StockReceived(sku="sku-1", quantity=10_000), meta)
            producer.produce(NAMESPACE + "stock", stock, "sku-1")
            producer.flush(10)
            yield system
        finally:
            system.run(system.first, "deploy", "stop")
        guard.kill()
        guard.communicate()


def guarding(lock: Path) -> subprocess.Popen[bytes]:
    """A process that ends the supervisor, and it its workers, when the tests are gone without having stopped it."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -s TERM $(cat {lock})"], stdin=subprocess.PIPE, start_new_session=True
    )


def versions(system: Deployed) -> set[str]:
    code, found = system.run(system.first, "deploy", "status")
    assert code == 0, found
    assert {each["service"] for each in found["workers"]} == SERVICES
    return {each["version"] for each in found["workers"]}


def check_audit(system: Deployed) -> None:
    code, report = system.run(system.second, "audit", "--settled")
    assert code == 0, report["findings"]


def test_a_new_version_of_every_service_while_orders_come(deployed: Deployed) -> None:
    orders: list[str] = []
    failures: list[BaseException] = []
    enough = threading.Event()

    def customers() -> None:
        try:
            while not enough.is_set():
                orders.append(deployed.place(f"roll-{len(orders)}"))
                time.sleep(0.05)
        except BaseException as failure:
            failures.append(failure)

    deployed.be_at(deployed.first)
    before = versions(deployed)
    placing = threading.Thread(target=customers)
    placing.start()
    try:
        code, report = deployed.run(deployed.second, "deploy", "apply")
    finally:
        enough.set()
        placing.join()
    assert not failures
    assert code == 0, report
    rolled = [each["service"] for each in report["rolled"] if each["service"] not in ("login", "directory")]
    assert rolled[-2:] == ["payment", "notification"]
    assert versions(deployed) == {report["plan"]["version"]} != before
    assert report["waited"]["orders"] > 0
    assert report["waited"]["complete"]
    for order in orders:
        deployed.wait_until_completed(order)
    check_audit(deployed)


def test_a_version_that_cannot_start_is_taken_back_and_orders_go_on(deployed: Deployed) -> None:
    deployed.be_at(deployed.second)
    before = versions(deployed)
    code, report = deployed.run(deployed.broken, "deploy", "apply")
    assert code == 1
    # Flows bind every service's decisions, so a module that cannot be imported stops whichever is rolled first.
    assert "planted" in report["why"]
    assert report["taken_back"]
    assert versions(deployed) == before
    deployed.wait_until_completed(deployed.place("after-broken"))


def test_going_back_goes_on_where_it_was_killed_and_reads_what_the_newer_version_wrote(deployed: Deployed) -> None:
    deployed.be_at(deployed.second)
    order = deployed.place("before-rollback")
    back = "deploy", "rollback", "--to", version_of(deployed.first)
    killed = deployed.begin(deployed.second, *back)
    wait_until(lambda: bool(json.loads(deployed.state.read_text())["rolling"]), 60)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    os.kill(deployed.supervisor, signal.SIGKILL)  # the workers go on, and the next supervisor finds them
    code, report = deployed.run(deployed.second, *back)
    assert code == 0, report
    services = [each["service"] for each in report["rolled"]]
    assert services.index("payment") < services.index("order"), "who publishes what is new goes back first"
    again = deployed.begin(deployed.second, "deploy", "rollback")
    _, error = again.communicate()
    assert (again.returncode, f"rolled back from: {version_of(deployed.second)}" in error) == (2, True), error
    assert versions(deployed) == {version_of(deployed.first)}
    deployed.wait_until_completed(order)
    deployed.wait_until_completed(deployed.place("after-rollback"))
    check_audit(deployed)
