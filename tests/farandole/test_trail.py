"""The trail of an orchestrated order, read from what its orchestrator and the order service have committed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import events
from farandole import config, registry, trail
from farandole.audit import reading
from farandole.audit.records import LogRecord, Place
from farandole.cli import trail as cli
from farandole.errors import ConfigError
from farandole.partitioner import partition_of
from tests.farandole.audit_log import codec
from tests.flows.outside import Plan
from tests.flows.scenarios import an_order, saga_of
from tests.flows.world import world

ORDER = an_order("1")
SAGA = saga_of(ORDER)


class Topics:
    """Stands in for a cluster: two changelogs, of which each row was written once more before."""

    def __init__(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self.partitions = dict.fromkeys((trail.TRAILS, trail.ORDERS), 6)
        self.starts = {(topic, p): 0 for topic in self.partitions for p in range(6)}
        self.records: dict[Place, list[LogRecord]] = {place: [] for place in self.starts}
        for topic, table in rows.items():
            for key, row in table.items():
                place = (topic, partition_of(key, 6))
                value = None if row is None else codec().type_of(type(row)).encode_row(row)
                for older in (b"\0", value):
                    there = self.records[place]
                    there.append(LogRecord(*place, len(there), 1, key.encode(), older))

    def ends(self) -> dict[Place, int]:
        return {place: len(records) for place, records in self.records.items()}

    def read(
        self, first: Mapping[Place, int], end: Mapping[Place, int], take: Callable[[LogRecord], None], *_: Any
    ) -> int:
        for place in end:
            for record in self.records[place]:
                take(record)
        return 0

    def close(self) -> None:
        pass


def topics(flow: str, plan: Plan, gate: str = "", evicted: bool = False) -> Topics:
    with world() as it:
        it.outside.plans[SAGA] = plan
        it.send(events.StockReceived(sku="apple", quantity=3), "d-1", "restock/1")
        it.run()
        it.gates = {gate}
        it.send(ORDER, SAGA, flow)
        it.run()
        rows = dict(it.rows("orchestrator")["orchestrations"])
        orders = dict(it.rows("order")["orders"])
    gone = dict.fromkeys(rows)
    return Topics({trail.TRAILS: gone if evicted else rows, trail.ORDERS: gone if evicted else orders})


def said(name: str, there: Topics, monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    monkeypatch.setattr(reading, "Reader", lambda *_: there)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr(config, "check_broker", lambda *_: None)
    monkeypatch.setattr(registry, "configured", lambda: None)
    app = typer.Typer()
    app.command()(cli.command)
    result = CliRunner().invoke(app, [name, *options], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_each_command_is_told_with_its_cause_its_answer_and_when(monkeypatch: pytest.MonkeyPatch) -> None:
    text = said(SAGA, topics("order-orchestrated/1", Plan(books=False)), monkeypatch)
    lines = text.splitlines()
    assert lines[0] == f"order {SAGA}: cancelled, in order-orchestrated/1"
    assert lines[1] == "stopped by shipping.failed: undeliverable address"
    told = [line.split()[1:4] for line in lines[3:]]
    assert told == [
        ["order.placed", "reserve-stock", "inventory.reserved"],
        ["inventory.reserved", "authorise-payment", "payment.authorised"],
        ["payment.authorised", "dispatch-shipment", "shipping.failed"],
        ["shipping.failed", "void-payment", "payment.voided"],
        ["payment.voided", "release-stock", "inventory.released"],
        ["inventory.released", "abandon-order", "order.cancelled"],
        ["order.cancelled", "notify", "notification.sent"],
    ]
    assert lines[3].startswith("1970-01-01T00:00:00.0")


def test_an_order_on_its_way_says_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    there = topics("order-hybrid/1", Plan(), gate="authorise@payment")
    assert said(SAGA, there, monkeypatch).splitlines()[-1] == "waits for the answer to authorise-payment"
    told = json.loads(said(SAGA, there, monkeypatch, "--json"))
    assert (told["order"], told["flow"], told["status"]) == (SAGA, "order-hybrid/1", "placed")
    assert [(step["command"], step["answer"], step["took"] is None) for step in told["steps"]] == [
        ("reserve-stock", "inventory.reserved", False),
        ("authorise-payment", "", True),
    ]


def test_what_has_no_trail_is_an_error_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="there is no trail of an order o-nobody"):
        said("o-nobody", topics("order-orchestrated/1", Plan()), monkeypatch)
    with pytest.raises(ConfigError, match="nobody orchestrates it") as found:
        said(SAGA, topics("order/1", Plan()), monkeypatch)
    assert found.value.where == "flow order/1"
    with pytest.raises(ConfigError, match="there is no trail"):
        said(SAGA, topics("order-orchestrated/1", Plan(), evicted=True), monkeypatch)
