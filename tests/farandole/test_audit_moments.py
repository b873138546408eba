"""What is no fault: what is under way, parked, waited for, older than the topics, or put right a moment later."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import events as e
from farandole import Meta
from farandole.audit import findings as findings_module
from farandole.audit.findings import CHECKS, Findings
from farandole.audit.rounds import DAY_MS, horizon
from farandole.partitioner import partition_of
from tests.farandole.audit_gateway import KnownGateway, honest
from tests.farandole.audit_log import Log, topics
from tests.farandole.audit_orders import told
from tests.flows.scenarios import an_order, saga_of

ROOT = Path(__file__).parents[2]
HOUR_MS = 3_600_000


# ---- open


def test_an_open_order_is_told_and_fails_only_when_it_is_late() -> None:
    log, of = told()
    log.drop(log.one(e.OrderCompleted, of["completed"]))
    log.drop(log.one(e.NotificationSent, of["completed"]))
    log.drop(log.one(e.MailAnswered, of["completed"]))
    young = log.audit(settled=False)
    assert young.ok
    assert young.orders.open_ids == [of["completed"]]
    assert log.audit(settled=True).counts == {"no-ending": 1}
    long_ago = time.time_ns() // 1_000_000 - 2 * HOUR_MS
    for where in log.all(saga=of["completed"]):
        log.put(where, time=long_ago)
    assert log.audit(settled=False).counts == {"no-ending": 1}
    assert log.audit(settled=False, open_for=3 * 3_600).ok


def test_a_late_order_says_what_it_waits_for() -> None:
    log, of = told()
    log.drop(log.one(e.OrderCompleted, of["completed"]))
    log.wait("payment", of["completed"], "gateway", "capture")
    [finding] = [each for each in log.audit().findings if each.check == "no-ending"]
    assert "gateway/capture" in finding.what


def test_a_confirmation_may_be_missing_while_a_call_waits() -> None:
    log, of = told()
    for kind in (e.MailAnswered, e.NotificationSent):
        log.drop(log.one(kind, of["completed"]))
    assert log.audit().counts == {"mail-missing": 1}
    log.wait("notification", of["completed"], "mail", "send")
    report = log.audit()
    assert report.ok
    assert [(call.saga, call.operation) for call in report.waiting] == [(of["completed"], "send")]
    log.row("notification-calls", 0, f"{of['completed']}/send", None)
    assert log.audit().counts == {"mail-missing": 1}, "the call was withdrawn"


# ---- parked


def test_a_parked_order_has_no_ending_and_is_named() -> None:
    log, of = told()
    saga = of["completed"]
    log.drop(log.one(e.OrderCompleted, saga))
    log.drop(log.one(e.MailAnswered, saga))
    log.drop(log.one(e.NotificationSent, saga))
    letter = log.park("order", log.one(e.PaymentCaptured, saga), saga)
    report = log.audit()
    assert report.ok, report.findings
    assert (report.orders.parked, report.orders.open) == (1, 0)
    assert report.parked_by_service == {"order": 1}
    assert report.letters == {("order", "decision-failed"): 1}
    [parked] = report.to_dict()["parked_sagas"]
    assert (parked["saga"], parked["service"], parked["reason"]) == (saga, "order", "decision-failed")
    assert (parked["topic"], parked["partition"], parked["offset"]) == tuple(letter)


def test_parking_excuses_what_is_missing_and_nothing_that_was_done() -> None:
    log, of = told()
    saga = of["undeliverable"]
    log.park("order", log.one(e.CancelOrder), saga)
    captured = e.PaymentCaptured(amount=250, currency="EUR", reference="x")
    log.publish(captured, saga, log.one(e.VoidAnswered, saga), "payment.9")
    assert "cancelled-but-charged" in log.audit().counts


def test_an_order_that_is_not_parked_any_more_has_to_end() -> None:
    log, of = told()
    saga = of["completed"]
    source = log.one(e.PaymentCaptured, saga)
    log.drop(log.one(e.OrderCompleted, saga))
    log.park("order", source, saga)
    log.row("order-parked", source.partition, saga, None)
    assert "no-ending" in log.audit().counts


# ---- records that nobody acts upon


def test_bytes_that_nobody_can_read_are_no_fault_once_they_are_dead_letters() -> None:
    log, _ = told()
    garbage = log.append("order.commands", 0, "x", b"garbage")
    log.letter("order", garbage, "unreadable")
    log.journal("order", "order.commands", 0, garbage.offset, garbage.offset)
    report = log.audit()
    assert report.ok
    assert report.undecodable_count == 1
    assert report.letters == {("order", "unreadable"): 1}


def test_a_command_may_be_sent_twice() -> None:
    log, of = told()
    log.again(log.one(e.PlaceOrder, of["completed"]))
    report = log.audit()
    assert report.ok
    assert report.duplicate_ids == 0


def test_a_clients_record_under_a_wrong_key_happened_to_nobody() -> None:
    log, _ = told()
    saga = saga_of(an_order("elsewhere"))
    log.write(an_order("elsewhere"), Meta("client/x", saga, "order/1", ""), key="another")
    report = log.audit()
    assert report.ok
    assert report.orders.unanswered == 0
    assert "wrong key" in report.notes[0]


def test_a_flow_without_an_audit_is_said_and_its_causes_are_checked() -> None:
    log, _ = told()
    cause = log.publish(e.CancelOrder(), "s-1", flow="newsletter/1")
    log.publish(e.OrderCancelRequested(), "s-1", cause, flow="newsletter/1")
    report = log.audit()
    assert report.ok
    assert report.unchecked_flows == {"newsletter/1": 2}
    assert "newsletter/1" in report.notes[0]
    log.publish(e.OrderCancelRequested(), "s-2", cause, 1, flow="newsletter/1")
    assert log.audit().counts == {"saga-differs": 1}


# ---- deliveries


def _delivery(log: Log, quantity: int = 7) -> tuple[e.StockReceived, int]:
    event = e.StockReceived(sku="apple", quantity=quantity)
    return event, partition_of("apple", 6)


def test_a_delivery_on_its_way_is_a_note_while_the_system_works() -> None:
    log, _ = told()
    event, _ = _delivery(log)
    log.publish(event, "delivery-9", flow="restock/1")
    report = log.audit(settled=False)
    assert report.ok
    assert "not yet added" in report.notes[0]
    assert report.skus["apple"].received == 100


def test_a_parked_delivery_is_not_received_until_it_is_delivered_again() -> None:
    log, _ = told()
    event, partition = _delivery(log)
    where = log.publish(event, "delivery-9", flow="restock/1")
    log.park("inventory", where, "delivery-9")
    log.journal("inventory", "stock", partition, where.offset, where.offset)
    report = log.audit()
    assert report.ok
    assert report.skus["apple"].received == 100
    log.row("inventory-parked", partition, "delivery-9", None)
    log.row("inventory-levels", partition, "apple", e.StockLevel(available=102, held=0, sold=5))
    report = log.audit()
    assert report.ok
    assert report.skus["apple"].received == 107


# ---- a moment later


def _grow(log: Log, *steps: tuple[int, int, int]) -> None:
    """The row of apples before the first reading, and before each later one."""

    def write(log: Log, step: tuple[int, int, int]) -> None:
        log.row("inventory-levels", partition_of("apple", 6), "apple", e.StockLevel(*step))

    write(log, steps[0])
    log.growing = [lambda log, step=step: write(log, step) for step in steps[1:]]  # type: ignore[misc]


def test_what_the_next_reading_puts_right_was_a_matter_of_the_moment() -> None:
    log, _ = told()
    _grow(log, (94, 1, 5), (95, 0, 5))
    report = log.audit(settled=False)
    assert (report.findings, report.notes) == ([], [])
    assert report.reading.rounds == 2


def test_what_is_wrong_in_every_reading_is_wrong() -> None:
    log, _ = told()
    _grow(log, (94, 0, 5))
    report = log.audit(settled=False)
    assert report.counts == {"stock-drift": 1}
    assert report.reading.rounds == 3


def test_what_is_wrong_in_another_way_each_time_cannot_be_judged_while_it_moves() -> None:
    log, _ = told()
    _grow(log, (94, 0, 5), (93, 0, 5), (92, 0, 5))
    report = log.audit(settled=False)
    assert report.ok
    assert "stock-drift of apple: it moves too much" in report.notes[0]


def test_what_moves_in_a_system_that_is_said_to_be_at_rest_is_wrong() -> None:
    log, _ = told()
    _grow(log, (94, 0, 5), (93, 0, 5), (92, 0, 5))
    assert log.audit(settled=True).counts == {"stock-drift": 1}


def test_a_cause_that_comes_a_moment_later_is_no_fault() -> None:
    log, of = told()
    where = log.one(e.MailAnswered, of["completed"])
    record = log.at(where)
    tail = log.records[where.topic, where.partition][where.offset :]
    del log.records[where.topic, where.partition][where.offset :]
    log.growing = [lambda log: log.records[where.topic, where.partition].extend(tail)]
    assert record is tail[0]
    report = log.audit()
    assert report.findings == []


# ---- history that is gone


def _shortened() -> tuple[Log, str, str]:
    """A log whose first orders are partly deleted, and one order that is younger than that."""
    log, of = told()
    gone = of["completed"]
    first = log.at(log.one(e.OrderPlaced, gone))
    for (topic, partition), records in log.records.items():
        if topics().topics[topic].events:
            dropped = sum(record is not None and record.time <= first.time + 3 for record in records)
            log.starts[topic, partition] = dropped
    return log, gone, of["recovered"]


def test_orders_that_are_older_than_the_topics_are_counted_and_not_judged() -> None:
    log, _, _ = _shortened()
    report = log.audit()
    assert report.findings == []
    assert report.orders.older > 0
    assert not report.stock_compared
    assert any("retention" in note for note in report.notes)


def test_younger_orders_are_judged_all_the_same() -> None:
    log, _, young = _shortened()
    log.drop(log.one(e.NotificationSent, young))
    assert log.audit().counts == {"mail-missing": 1}


def test_the_horizon_is_the_first_record_that_is_left_or_the_retention_whichever_says_more() -> None:
    known = topics().topics
    now = 1_000 * DAY_MS
    start = {("order", 0): 5, ("order", 1): 0}
    assert horizon(known, {("order", 1): 0}, {}, now) == 0
    assert horizon(known, start, {("order", 0): now - 95 * DAY_MS}, now) == now - 95 * DAY_MS
    assert horizon(known, start, {("order", 0): now - DAY_MS}, now) == now - 90 * DAY_MS
    assert horizon(known, {("payment.ledger", 0): 5}, {}, now) == now, "kept for ever, and yet something is gone"
    assert horizon(known, {("order.dlq", 0): 5}, {}, now) == 0, "only events count"


# ---- the gateway


def test_the_gateway_may_be_ahead_of_the_topics_while_an_order_is_under_way() -> None:
    log, of = told()
    saga = of["completed"]
    for kind in (e.PaymentCaptured, e.OrderCompleted, e.MailAnswered, e.NotificationSent):
        log.drop(log.one(kind, saga))
    done = honest(log)
    log.drop(log.one(e.CaptureAnswered, saga))
    posting = next(where for where in log.all(e.Posted, saga=saga) if log.event(where).memo == "capture")
    log.drop(posting)
    assert log.audit(settled=False, gateway=KnownGateway(*done)).ok
    assert "gateway-differs" in log.audit(settled=True, gateway=KnownGateway(*done)).counts
    log.park("payment", log.one(e.AuthoriseAnswered, saga), saga)
    assert log.audit(settled=True, gateway=KnownGateway(*done)).ok, "parked is under way"


def test_an_order_that_came_while_the_topics_were_read_is_not_unknown() -> None:
    log, _ = told()
    new = {"operation": "authorise", "order": "o-new", "amount": 1, "currency": "EUR"}
    assert log.audit(gateway=KnownGateway(*honest(log), later=(new,))).ok


def test_a_gateway_that_did_what_was_given_up_is_no_fault() -> None:
    log, of = told()
    facts = {"order": of["capture written off"], "amount": 250, "currency": "EUR"}
    assert log.audit(gateway=KnownGateway(*honest(log), {"operation": "capture", **facts})).ok


def test_without_its_whole_history_no_order_is_unknown() -> None:
    log, _, _ = _shortened()
    done = honest(told()[0])
    assert log.audit(gateway=KnownGateway(*done)).findings == []


# ---- the report


def test_the_report_is_one_json_object_with_the_figures_that_scripts_ask_for() -> None:
    log, _ = told()
    log.again(log.one(e.MailAnswered))
    found = json.loads(json.dumps(log.audit().to_dict()))
    assert found["ok"] is False
    assert found["duplicate_ids"] == 1
    for name in ("accepted", "completed", "cancelled", "parked", "open", "no_ending", "two_endings", "flow_differs"):
        assert isinstance(found[name], int), name
    assert found["stock_drift"] == found["money_drift"] == {}
    assert found["not_taken_back"] == 0
    assert {"check", "what", "where", "saga", "means"} <= found["findings"][0].keys()


def test_no_card_token_ever_reaches_the_report() -> None:
    log, of = told()
    log.change(log.one(e.OrderPlaced, of["declined"]), card_token="tok_secret")
    log.change(log.one(e.InventoryReserved, of["declined"]), card_token="tok_secret", amount=1)
    log.append("order.commands", 0, "x", b"tok_secret")
    assert "tok_secret" not in json.dumps(log.audit().to_dict())


def test_findings_beyond_what_is_kept_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings_module, "KEPT", 10)
    findings = Findings()
    for number in range(25):
        findings.add("oversold", "x", saga=str(number))
    assert len(list(findings)) == 10
    assert findings.counts == {"oversold": 25}


def test_every_check_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "audit.md").read_text()
    assert [check for check in CHECKS if f"`{check}`" not in text] == []


# ---- an outsider


def test_the_audit_imports_neither_the_agents_nor_the_engine() -> None:
    """Nor anything that they are made of: a mistake there must not be shared."""
    outsiders = {"config", "codec", "errors", "partitioner", "registry", "topics", "audit", "cli"}
    for path in [*(ROOT / "farandole" / "audit").rglob("*.py"), ROOT / "farandole" / "cli" / "audit.py"]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top, _, rest = name.partition(".")
                assert top not in ("agents", "flows", "web", "faust"), f"{path.name} imports {name}"
                assert top != "farandole" or rest.split(".")[0] in {*outsiders, ""}, f"{path.name} imports {name}"


def test_no_agent_and_no_engine_is_loaded_with_the_audit() -> None:
    code = "import sys, farandole.audit; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not {name for name in loaded if name.split(".")[0] in ("agents", "flows", "web")}
    assert not loaded & {"farandole.engine", "farandole.processor", "farandole.runtime", "farandole.clients"}
