"""The audit and what operators have done about dead letters: edited ones count as edited, discarded ones are named."""

from __future__ import annotations

from typing import Any

import events as e
from farandole.audit.records import Where
from farandole.event import Meta
from farandole.partitioner import partition_of
from tests.farandole.audit_log import Log, codec, encode
from tests.farandole.audit_orders import told


def torn(log: Log, event: Any, meta: Meta, key: str) -> tuple[Where, bytes]:
    """A record that nobody can read, its letter, and what it should have been."""
    kind = codec().type_of(type(event))
    value = kind.encode(event, encode(meta))
    home = partition_of(key, log.partitions[kind.topic])
    return log.append(kind.topic, home, key, b"nobody can read this"), value


def redriven(log: Log, service: str, where: Where, value: bytes, saga: str = "") -> None:
    """An operator edited the letter, and the service decided it."""
    log.letter(service, where, "unreadable")
    operation = e.FarandoleOperation(
        action="redrive",
        saga=saga,
        first="",
        number=0,
        topic=where.topic,
        offset=where.offset,
        time=log.clock,
        edited=True,
        who="anna",
        why="",
        key=log.at(where).key,
        value=value,
    )
    asked = log.row_in(f"{service}.operations", where.partition, saga, operation)
    outcome = e.FarandoleOutcome(
        operation=asked.offset,
        action="redrive",
        saga=saga,
        number=0,
        topic=where.topic,
        offset=where.offset,
        outcome="redriven",
        reason="",
        error="",
        left=0,
        edited=True,
        who="anna",
        why="",
    )
    log.row_in(f"{service}.operations", where.partition, saga, outcome)


def test_a_delivery_that_was_edited_counts_with_its_new_quantity() -> None:
    log, _ = told()
    where = log.publish(e.StockReceived(sku="fig", quantity=0), "delivery-9", flow="restock/1")
    log.journal("inventory", "stock", where.partition, where.offset, where.offset)
    meta = log.meta(where)
    redriven(log, "inventory", where, codec().encode(e.StockReceived(sku="fig", quantity=7), meta))
    level = log.row("inventory-levels", where.partition, "fig", e.StockLevel(available=7, held=0, sold=0))
    assert log.audit().ok, log.audit().findings
    log.drop(level)
    assert "stock-drift" in log.audit().counts


def test_a_record_that_nobody_could_read_counts_as_it_was_written_anew() -> None:
    log, _ = told()
    meta = Meta("anna/1", "delivery-9", "restock/1", "")
    where, value = torn(log, e.StockReceived(sku="fig", quantity=7), meta, "fig")
    log.journal("inventory", "stock", where.partition, where.offset, where.offset)
    log.row("inventory-levels", where.partition, "fig", e.StockLevel(available=7, held=0, sold=0))
    assert "stock-drift" in log.audit().counts
    redriven(log, "inventory", where, value)
    report = log.audit()
    assert report.ok, report.findings
    assert report.operations == {("inventory", "redriven"): 1}


def test_what_a_record_that_was_written_anew_causes_has_a_cause() -> None:
    log, _ = told()
    command = log.event(log.one(e.PlaceOrder))
    where, value = torn(log, command, Meta("anna/1", "o-anew", "order/1", ""), "o-anew")
    refused = e.OrderRefused(customer="anna", email="", reason="no")
    kind = codec().type_of(e.OrderRefused)
    effect = kind.encode(refused, encode(Meta(f"{where}.order.0", "o-anew", "order/1", "anna/1")))
    log.append("order", where.partition, "o-anew", effect)
    assert "unknown-cause" in log.audit().counts
    redriven(log, "order", where, value)
    assert set(log.audit().counts) == {"mail-missing"}, "a cause there is, and nobody was told"


def test_a_saga_of_which_a_letter_was_discarded_is_named_and_not_blamed() -> None:
    log, sagas = told()
    log.drop(log.one(e.OrderRefused, sagas["refused"]))
    for where in (*log.all(e.NotificationSent, saga=sagas["refused"]), *log.all(e.MailAnswered, saga=sagas["refused"])):
        log.drop(where)
    assert set(log.audit().counts) == {"unanswered"}
    asked = log.one(e.PlaceOrder, sagas["refused"])
    log.letter("order", asked, "decision-failed")
    log.outcome("order", asked, "discarded", sagas["refused"])
    report = log.audit()
    assert report.ok, report.findings
    assert any("discarded 1 dead letters" in note and "anna: a test" in note for note in report.notes)
    assert [each["why"] for each in report.to_dict()["discarded"]] == ["a test"]
