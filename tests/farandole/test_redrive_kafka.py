"""Commands against a real Kafka: one service's engine, turned by hand, while the command is killed and repeated.

The whole system, with every process that there is, is in tests/test_redrive.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaException

from agents import inventory as agent
from events import FarandoleOutcome
from farandole.config import project_root
from farandole.kafkaerrors import Inconsistent
from tests.farandole.rig import Rig, received
from tests.farandole.test_engine import RESTOCK, rig

COMMAND = [sys.executable, "-m", "farandole.cli.main", "dead-letters"]
SAGAS, EACH = 60, 3
PATIENCE = 150.0


@pytest.fixture
def inventory(kafka: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    yield from rig("inventory", kafka, namespace, monkeypatch)


def command(rig: Rig, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": rig.kafka.bootstrap_servers}
    return subprocess.Popen(
        [*COMMAND, *arguments, "--service", "inventory", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=project_root(),
        env={**environment, "FARANDOLE_NAMESPACE": rig.namespace},
    )


def said(rig: Rig, *arguments: str, code: int = 0) -> Any:
    """Run a command while the engine goes on. Waiting for it takes a thread: its pipes are small."""
    asked = command(rig, *arguments)
    found: list[tuple[str, str]] = []
    waiting = threading.Thread(target=lambda: found.append(asked.communicate()))
    waiting.start()
    rig.step_until(lambda: not waiting.is_alive(), PATIENCE)
    assert asked.returncode == code, found
    return json.loads(found[0][0])


def outcomes(rig: Rig) -> list[FarandoleOutcome]:
    decoders = rig.codec.decoders
    found = [decoders[record.value()[:5]].decode(record.value()) for record in rig.records("inventory.operations")]
    return [row for row in found if isinstance(row, FarandoleOutcome)]


def test_sagas_that_a_bug_has_parked_are_redriven_once_and_in_order_whoever_is_killed(
    inventory: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = agent._move
    monkeypatch.setattr(agent, "_move", _fails)
    inventory.start()
    for number in range(EACH):
        for saga in range(SAGAS):
            # The same delivery again changes nothing: so what is asked about is the order, and that it is once.
            inventory.send(received(1, f"sku-{saga}"), f"d-{saga}", RESTOCK)
        inventory.settle(SAGAS)
        assert {row.count for row in inventory.rows("parked").values()} == {number + 1}

    assert said(inventory, "redrive", "--saga", "d-7", code=1)["letters"] == {"failed-again": 1, "ignored": EACH - 1}
    plan = said(inventory, "redrive", "--since", "1h", "--dry-run")
    assert (plan["letters"], plan["sagas"]) == (SAGAS * EACH, SAGAS)
    assert len(inventory.rows("parked")) == SAGAS

    monkeypatch.setattr(agent, "_move", decide)
    for attempt in (1, 2):
        killed = command(inventory, "redrive", "--since", "1h", "--rate", "40")
        done = SAGAS * EACH * attempt // 4
        step_until_done(inventory, done)
        killed.kill()
        killed.communicate()
        inventory.crash().start()
        assert len(inventory.live_rows("parked")) > 0, "it was over before it was killed"
    last = said(inventory, "redrive", "--since", "1h")
    assert (last["ok"], last["letters"].get("ignored", 0)) == (True, 0)

    assert inventory.rows("parked") == {} == inventory.live_rows("parked")
    assert {sku: row.available for sku, row in inventory.rows("levels").items()} == {
        f"sku-{saga}": 1 for saga in range(SAGAS)
    }
    redriven = [(row.saga, row.number) for row in outcomes(inventory) if row.outcome == "redriven"]
    assert len(redriven) == SAGAS * EACH
    assert Counter(redriven).most_common(1)[0][1] == 1
    assert all([n for each, n in redriven if each == f"d-{s}"] == list(range(EACH)) for s in range(SAGAS))
    states = Counter(letter["state"] for letter in said(inventory, "list", "--state", "all")["letters"])
    assert states == {"redriven": SAGAS * EACH}


def _fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError("a bug")


def step_until_done(rig: Rig, letters: int) -> None:
    """Step until so many letters were redriven, by what the engine keeps in memory: quicker than reading topics."""

    def done() -> bool:
        rows = rig.live_rows("parked").values()
        dealt_with: int = EACH * (SAGAS - len(rows)) + sum(row.done for row in rows)
        return dealt_with >= letters

    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, "nothing was redriven"
        try:
            rig.engine.step()
        except (KafkaException, Inconsistent):
            rig.crash().start()


def test_what_nobody_can_read_is_shown_edited_or_discarded(inventory: Rig) -> None:
    inventory.start()
    inventory.send_bytes("stock", b"nobody can read this", "sku-1")
    inventory.send(received(0), "bad", RESTOCK)
    inventory.send(received(7, "sku-2"), "bad", RESTOCK)
    inventory.settle(3)
    listed = said(inventory, "list")["letters"]
    assert sorted((each["state"], each["saga"], each["reason"]) for each in listed) == [
        ("open", "", "unreadable"),
        ("parked", "bad", "behind"),
        ("parked", "bad", "decision-failed"),
    ]
    [loose] = [each["source"] for each in listed if each["state"] == "open"]
    shown = said(inventory, "show", "--saga", "bad")
    assert shown["bytes"]["fields"] == {"sku": "sku-1", "quantity": 0}
    [due] = [each["source"] for each in listed if each["reason"] == "decision-failed"]
    [next_one] = [each["source"] for each in listed if each["reason"] == "behind"]
    edit = ("edit", "--letter", due, "--why", "counted again", "--set")
    assert said(inventory, *edit, "quantity=5")["letters"] == {"redriven": 1}
    for again, code in (
        ((*edit, "quantity=5"), 0),
        ((*edit, "quantity=6"), 1),
        (("discard", "--letter", due, "--why", "a test"), 1),
    ):
        told = said(inventory, *again, code=code)
        assert (told["letters"], told["ok"], told["before"][0]["edited"]) == ({}, code == 0, True)
    assert said(inventory, "discard", "--letter", next_one, "--why", "never came")["letters"] == {"discarded": 1}
    assert said(inventory, "discard", "--letter", loose, "--why", "a test")["letters"] == {"discarded": 1}
    assert said(inventory, "discard", "--letter", loose, "--why", "a test")["letters"] == {}
    assert said(inventory, "list") == {"letters": [], "counts": []}
    assert {sku: row.available for sku, row in inventory.rows("levels").items()} == {"sku-1": 5}
    assert inventory.rows("parked") == {}
