"""`order-pay-first` under the audit: one order for each way in which it can go, then each of them damaged."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import pytest

import events as e
from events import CancelOrder, OrderStep, StockReceived, WriteOff
from tests.farandole.audit_gateway import KnownGateway
from tests.farandole.audit_log import Log, Recording, recording
from tests.flows.outside import Plan
from tests.flows.scenarios import an_order, saga_of

FLOW = "order-pay-first/1"
CHARGE_ACCEPTED = e.ChargeAnswered(outcome="accepted", reference="", reason="")


def _place(world: Recording, name: str, plan: Plan | None = None, gate: str = "", pieces: int = 1) -> str:
    order = an_order(name, ("apple", pieces), ("pear", 1))
    saga = saga_of(order)
    world.outside.plans[saga] = plan or Plan()
    world.gates = {gate} if gate else set()
    world.send(order, saga, FLOW)
    world.run()
    return saga


def _then(world: Recording, command: Any, saga: str) -> None:
    world.send(command, saga, FLOW)
    world.run()
    world.gates, world.deadlines = set(), set()
    world.run()


@functools.cache
def _told() -> tuple[Log, Mapping[str, str]]:
    with recording() as world:
        for sku in ("apple", "pear"):
            world.send(StockReceived(sku=sku, quantity=50), f"delivery-{sku}", "restock/1")
        world.run()
        sagas = {
            "completed": _place(world, "completed"),
            "short": _place(world, "short", pieces=1_000),
            "declined": _place(world, "declined", Plan(declines=True)),
            "undeliverable": _place(world, "undeliverable", Plan(books=False)),
        }
        sagas["stopped while charging"] = _place(world, "stopped while charging", gate="charge@payment")
        _then(world, CancelOrder(), sagas["stopped while charging"])
        sagas["cancelled"] = _place(world, "cancelled", gate="InventoryReserved@shipping")
        _then(world, CancelOrder(), sagas["cancelled"])
        world.deadlines = {"charge@payment"}
        sagas["unknown"] = _place(world, "unknown")
        world.deadlines = set()
        sagas["stuck"] = _place(world, "stuck", Plan(books=False, insists=frozenset({"refund"})))
        _then(world, WriteOff(reason="gone"), sagas["stuck"])
        sagas["after all"] = _place(world, "after all", Plan(books=False), gate="RefundAnswered@payment")
        _then(world, WriteOff(reason="gone"), sagas["after all"])
        return world.finish(), sagas


def told() -> tuple[Log, Mapping[str, str]]:
    log, sagas = _told()
    return log.copy(), sagas


def honest(log: Log) -> list[dict[str, Any]]:
    """What a gateway has done that agrees with the topics."""
    done = []
    for where in log.all(e.ChargeAnswered):
        event = log.event(where)
        if event.outcome == "accepted":
            placed = log.event(log.one(e.OrderPlaced, event.saga))
            facts = {"order": event.saga, "amount": placed.amount, "currency": placed.currency}
            done.append({"operation": "charge", **facts})
            if any(log.event(each).outcome == "accepted" for each in log.all(e.RefundAnswered, saga=event.saga)):
                done.append({"operation": "refund", "outcome": "undone", **facts})
    return done


def test_a_clean_history_has_no_finding_and_adds_up() -> None:
    log, _ = told()
    report = log.audit(gateway=KnownGateway(*honest(log)))
    assert (report.findings, report.notes, report.unchecked_flows) == ([], [], {})
    assert (report.orders.accepted, report.orders.completed, report.orders.cancelled) == (9, 1, 8)
    sums = {account: figures.posted for (_, account), figures in report.accounts.items()}
    # One was completed, one refund is still owed, and all else was given back.
    assert sums == {
        "gateway.receivable": 2 * 750,
        "sales": -750,
        "customers.prepaid": 0,
        "customers.unrefunded": -750,
    }


DROPPED = [
    ("completed", e.NotificationSent, "mail-missing"),
    ("completed", e.PaymentCharged, "completed-unfinished"),
    ("completed", e.ChargeAnswered, "unfounded"),
    ("completed", e.InventoryCommitted, "completed-unfinished"),
    ("completed", e.OrderCompleted, "no-ending"),
    ("short", e.PaymentRefunded, "not-taken-back"),
    ("short", e.InventoryReleased, "not-taken-back"),
    ("short", e.RefundAnswered, "unfounded"),
    ("undeliverable", e.PaymentRefunded, "confirmation-missing"),
    ("undeliverable", e.OrderCancelled, "no-ending"),
    ("stopped while charging", e.PaymentRefunded, "not-taken-back"),
    ("stopped while charging", e.InventoryReleased, "confirmation-missing"),
    ("unknown", e.PaymentRefunded, "not-taken-back"),
    ("unknown", e.PaymentFailed, "unfounded"),
    ("declined", e.PaymentDeclined, "unfounded"),
    ("stuck", e.PaymentRefundWrittenOff, "not-taken-back"),
    ("after all", e.WriteOff, "unfounded"),
]


@pytest.mark.parametrize(("name", "kind", "check"), DROPPED, ids=lambda each: getattr(each, "__name__", each))
def test_an_event_that_is_missing_is_missed(name: str, kind: type[Any], check: str) -> None:
    log, sagas = told()
    log.drop(log.one(kind, sagas[name]))
    assert check in {finding.check for finding in log.audit().findings if finding.saga == sagas[name]}


POSTINGS = [
    ("completed", "charge"),
    ("completed", "earn"),
    ("short", "refund"),
    ("stuck", "write_off_refund"),
    ("after all", "refund_after_all"),
]


@pytest.mark.parametrize(("name", "memo"), POSTINGS)
def test_a_posting_that_is_missing_or_of_another_amount_is_found(name: str, memo: str) -> None:
    for damage in ("drop", "amount"):
        log, sagas = told()
        [where] = [each for each in log.all(e.Posted, saga=sagas[name]) if log.event(each).memo == memo]
        if damage == "drop":
            log.drop(where)
        else:
            entries = log.event(where).entries
            log.change(where, entries=tuple(e.LedgerEntry(account=x.account, amount=2 * x.amount) for x in entries))
        found = {finding.check for finding in log.audit().findings}
        assert {"posting-differs" if damage == "drop" else "amount-differs", "money-drift"} <= found


def test_what_belongs_to_the_other_way_of_paying_cannot_happen() -> None:
    log, sagas = told()
    placed = log.one(e.OrderPlaced, sagas["completed"])
    log.publish(e.PaymentAuthorised(ship_to="x", reference=""), sagas["completed"], placed, "payment.9", FLOW)
    assert "contradiction" in {finding.check for finding in log.audit().findings}


def test_the_lines_that_are_charged_are_those_that_were_ordered() -> None:
    log, sagas = told()
    where = log.one(e.PaymentCharged, sagas["completed"])
    log.change(where, lines=tuple(e.OrderLine(line.line, "plum", 1, 1) for line in log.event(where).lines))
    assert "line-differs" in {finding.check for finding in log.audit().findings}


def test_a_cancelled_order_lists_the_charge_and_what_gave_it_back() -> None:
    log, sagas = told()
    steps = {name: log.event(log.one(e.OrderCancelled, sagas[name])).steps for name in sagas if name != "completed"}
    assert OrderStep(step="charge", undone_by="payment.refunded") in steps["short"]
    assert OrderStep(step="charge", undone_by="payment.refund_written_off") in steps["stuck"]
    assert steps["declined"] == ()
    log.change(log.one(e.OrderCancelled, sagas["short"]), steps=())
    assert "steps-differ" in {finding.check for finding in log.audit().findings}


def _without(done: list[dict[str, Any]], operation: str, saga: str) -> list[dict[str, Any]]:
    return [each for each in done if (each["operation"], each["order"]) != (operation, saga)]


@pytest.mark.parametrize(
    ("name", "operation", "check"),
    [("short", "refund", "gateway-left-open"), ("completed", "charge", "gateway-differs")],
)
def test_what_the_gateway_did_not_do_is_found(name: str, operation: str, check: str) -> None:
    log, sagas = told()
    report = log.audit(gateway=KnownGateway(*_without(honest(log), operation, sagas[name])))
    assert [(finding.check, finding.saga) for finding in report.findings] == [(check, sagas[name])]


@pytest.mark.parametrize(
    ("name", "operation"), [("completed", "refund"), ("completed", "charge"), ("declined", "charge")]
)
def test_what_the_gateway_did_and_nobody_knows_of_is_found(name: str, operation: str) -> None:
    log, sagas = told()
    placed = log.event(log.one(e.OrderPlaced, sagas[name]))
    done = {"operation": operation, "order": sagas[name], "amount": placed.amount, "currency": placed.currency}
    report = log.audit(gateway=KnownGateway(*honest(log), {**done, "outcome": "undone"}))
    assert "gateway-differs" in {finding.check for finding in report.findings}


def test_a_key_that_is_used_in_two_flows_at_once_is_one_order() -> None:
    """The request that was too late happened to nobody, whichever of the two is read first."""
    log, sagas = told()
    late = set()
    for name in ("completed", "declined"):
        command = log.event(log.one(e.PlaceOrder, sagas[name]))
        late.add(log.publish(command, sagas[name], flow="order/1"))
    assert log.audit().findings == []
    log.in_order = lambda records: sorted(records, key=lambda record: record.where not in late)
    assert log.audit().findings == []


def test_a_command_to_an_order_in_another_flow_is_told() -> None:
    log, sagas = told()
    log.publish(CancelOrder(), sagas["completed"], flow="order/1")
    assert [finding.check for finding in log.audit().findings] == ["two-flows"]
