"""The audit of orders with an orchestrator: no false alarm, and whatever is taken out or mixed up is found."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from msgspec.structs import replace

import events as e
from farandole.audit.records import Where
from tests.farandole.audit_log import Log, recording
from tests.flows.outside import Plan
from tests.flows.scenarios import Scenario, an_order, saga_of
from tests.flows.test_interleavings import ALL
from tests.simulation.bugs import released_before_voided

ORCHESTRATED, HYBRID = "order-orchestrated/1", "order-hybrid/1"
DEADLINE = "AnswerOverdue"
TOKEN = "tok_never_to_be_seen"

WAYS: dict[str, tuple[Plan, str, str]] = {
    "completed": (Plan(), "", ""),
    "declined": (Plan(declines=True), "", ""),
    "undeliverable": (Plan(books=False), "", ""),
    "cancelled": (Plan(), "InventoryReserved@orchestrator", "customer"),
    "too late": (Plan(), "CaptureAnswered@payment", "customer"),
    "overdue": (Plan(), "PaymentAuthorised@orchestrator", "deadline"),
}
"""What the outside does, the message that is held back, and who then wants the order stopped."""


@functools.cache
def _told(flow: str, way: str) -> Log:
    plan, gate, stop = WAYS[way]
    with recording() as it:
        it.send(e.StockReceived(sku="apple", quantity=5), "delivery", "restock/1")
        order = replace(an_order(way, ("apple", 2), ("apple", 1)), card_token=TOKEN)
        saga = saga_of(order)
        it.outside.plans[saga] = plan
        it.gates = {gate}
        it.send(order, saga, flow)
        it.run()
        if stop == "customer":
            it.send(e.CancelOrder(), saga, flow)
        elif stop:
            it.fire(("orchestrator", saga, DEADLINE))
        it.run()
        it.gates.clear()
        it.run()
        return it.finish()


def told(flow: str, way: str) -> Log:
    """A log of one order that may be damaged."""
    return _told(flow, way).copy()


@pytest.mark.parametrize("flows", [(ORCHESTRATED,), (HYBRID,), ALL], ids=[ORCHESTRATED, HYBRID, "mixed"])
def test_whatever_the_services_do_there_is_no_false_alarm(flows: tuple[str, ...]) -> None:
    for seed in range(60):
        with recording() as world:
            Scenario.draw(world, seed, flows).play()
            report = world.finish().audit()
        assert report.findings == [], seed


UNMISSED = {"cancelled": {"InventoryReserved"}, "overdue": {"PaymentAuthorised"}}
"""Answers that came when the order was stopped already: nothing rests on them any more."""


def damaged(flow: str, way: str) -> list[tuple[str, Where]]:
    log = told(flow, way)
    return [(type(log.event(where)).__name__, where) for where in log.all() if log.meta(where).cause]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("flow", [ORCHESTRATED, HYBRID])
def test_whichever_event_is_missing_it_is_missed(flow: str, way: str) -> None:
    assert told(flow, way).audit().findings == []
    unmissed = set()
    for name, where in damaged(flow, way):
        log = told(flow, way)
        log.drop(where)
        if not log.audit().findings:
            unmissed.add(name)
    assert unmissed == UNMISSED.get(way, set())


@pytest.mark.parametrize("flow", [ORCHESTRATED, HYBRID])
def test_stock_that_is_released_before_the_payment_is_voided_is_found(
    flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    released_before_voided(monkeypatch)
    with recording() as it:
        it.send(e.StockReceived(sku="apple", quantity=1), "delivery", "restock/1")
        order = an_order("1", ("apple", 1))
        it.outside.plans[saga_of(order)] = Plan(books=False)
        it.gates = {"VoidPayment@payment"}
        it.send(order, saga_of(order), flow)
        it.run()
        found = {finding.what for finding in it.finish().audit().findings if finding.check == "unfounded"}
    assert any(what.startswith("inventory.commands.release_stock without payment.declined") for what in found)


@pytest.mark.parametrize("flow", [ORCHESTRATED, HYBRID])
def test_an_event_of_another_flow_than_its_cause_is_found(flow: str) -> None:
    for _, where in damaged(flow, "completed"):
        log = told(flow, "completed")
        log.remeta(where, flow="order/1")
        assert {"flow-differs", "two-flows"} <= {finding.check for finding in log.audit().findings}


@pytest.mark.parametrize(
    ("flow", "event"),
    [
        (HYBRID, e.CapturePayment()),
        (HYBRID, e.DispatchShipment(ship_to="x")),
        (HYBRID, e.CompleteOrder(written_off=False)),
        (ORCHESTRATED, e.OrchestratorConfirmed(ship_to="x")),
        ("order/1", e.ReserveStock(lines=(), amount=1, currency="EUR", ship_to="", card_token="", reserve_for=1)),
        ("order/1", e.AbandonOrder(cause="", reason="", released="pending", voided="pending")),
        ("order-pay-first/1", e.VoidPayment()),
    ],
    ids=lambda each: each if isinstance(each, str) else type(each).__name__,
)
def test_what_cannot_happen_in_a_flow_is_said_when_it_does(flow: str, event: Any) -> None:
    log = Log()
    log.publish(event, "o-1", flow=flow)
    assert any("where it cannot happen" in finding.what for finding in log.audit().findings)


def test_no_card_token_reaches_the_report() -> None:
    for _, where in damaged(ORCHESTRATED, "completed"):
        log = told(ORCHESTRATED, "completed")
        log.remeta(where, flow="order/1")
        assert TOKEN not in str(log.audit().to_dict())
