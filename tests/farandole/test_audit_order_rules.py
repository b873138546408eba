"""What each fact about an order rests on, excludes and owes. Written out here once more, by hand, so that a rule that
is lost is missed."""

from __future__ import annotations

from typing import Any

import pytest

import events as e
from tests.farandole.audit_log import Log

STOP = "inventory.rejected or payment.declined or payment.failed or shipping.failed"

EVENTS: dict[str, Any] = {
    "placed": e.OrderPlaced(
        customer="a", lines=(), amount=5, currency="EUR", ship_to="x", card_token="t", reserve_for=900
    ),
    "refused": e.OrderRefused(customer="a", email="", reason="no"),
    "cancel_requested": e.OrderCancelRequested(),
    "completed": e.OrderCompleted(customer="a", email="", amount=5, currency="EUR", written_off=False),
    "cancelled": e.OrderCancelled(customer="a", email="", cause="payment.declined", reason="", steps=()),
    "reserved": e.InventoryReserved(amount=5, currency="EUR", card_token="t", ship_to="x"),
    "rejected": e.InventoryRejected(reason=""),
    "released": e.InventoryReleased(outcome="nothing_to_undo"),
    "committed": e.InventoryCommitted(),
    "timer": e.ReservationExpired(),
    "expiry_requested": e.InventoryExpiryRequested(),
    "authorise_answered": e.AuthoriseAnswered(outcome="accepted", reference="", reason=""),
    "authorised": e.PaymentAuthorised(ship_to="x", reference=""),
    "declined": e.PaymentDeclined(reason=""),
    "failed": e.PaymentFailed(outcome="unknown", reason=""),
    "voided": e.PaymentVoided(outcome="nothing_to_undo"),
    "undone": e.PaymentVoided(outcome="undone"),
    "captured": e.PaymentCaptured(amount=5, currency="EUR", reference=""),
    "capture_answered": e.CaptureAnswered(outcome="accepted", reference="", reason=""),
    "written_off_capture": e.PaymentWrittenOff(what="capture", amount=5, currency="EUR", reason=""),
    "written_off_void": e.PaymentWrittenOff(what="void", amount=5, currency="EUR", reason=""),
    "stuck": e.PaymentStuck(what="void", reason=""),
    "book_answered": e.BookAnswered(outcome="accepted", reference="", reason=""),
    "dispatched": e.ShippingDispatched(tracking=""),
    "not shipped": e.ShippingFailed(reason=""),
    "stopped by customer": e.ShippingCancelled(asked_by="customer"),
    "stopped by clock": e.ShippingCancelled(asked_by="clock"),
    "customer too late": e.ShippingCancelRefused(asked_by="customer"),
    "clock too late": e.ShippingCancelRefused(asked_by="clock"),
    "told completed": e.NotificationSent(template="completed", outcome="delivered", reason=""),
    "told cancelled": e.NotificationSent(template="cancelled", outcome="delivered", reason=""),
    "told refused": e.NotificationSent(template="refused", outcome="delivered", reason=""),
}

RESTS_ON = {
    "placed": ["order.commands.place_order"],
    "refused": ["order.commands.place_order"],
    "cancel_requested": ["order.commands.cancel_order", "order.placed"],
    "completed": ["inventory.committed", "payment.captured or payment.written_off:capture"],
    "cancelled": ["order.placed", STOP],
    "reserved": ["order.placed"],
    "rejected": ["order.placed"],
    "released": [STOP],
    "committed": ["shipping.dispatched"],
    "timer": ["order.placed"],
    "expiry_requested": ["inventory.timers.reservation_expired", "inventory.reserved"],
    "authorise_answered": ["inventory.reserved"],
    "authorised": ["payment.calls.authorise_answered:accepted"],
    "declined": ["payment.calls.authorise_answered:refused"],
    "failed": ["payment.calls.authorise_answered:unknown"],
    "voided": ["payment.failed or shipping.failed or shipping.cancelled"],
    "undone": ["payment.failed or shipping.failed", "payment.calls.void_answered:accepted"],
    "captured": ["shipping.dispatched", "payment.calls.capture_answered:accepted"],
    "capture_answered": ["shipping.dispatched"],
    "written_off_capture": ["payment.commands.write_off", "shipping.dispatched"],
    "written_off_void": ["payment.commands.write_off", "payment.failed or shipping.failed or shipping.cancelled"],
    "stuck": ["payment.calls.void_answered:refused"],
    "book_answered": ["payment.authorised"],
    "dispatched": ["shipping.calls.book_answered:accepted"],
    "not shipped": ["shipping.calls.book_answered:refused or shipping.calls.cancel_answered:accepted"],
    "stopped by customer": ["order.cancel_requested"],
    "stopped by clock": ["inventory.expiry_requested"],
    "customer too late": ["order.cancel_requested", "shipping.dispatched"],
    "clock too late": ["inventory.expiry_requested", "shipping.dispatched"],
    "told completed": ["order.completed"],
    "told cancelled": ["order.cancelled"],
    "told refused": ["order.refused"],
}

EXCLUDE = [
    ("placed", "refused"),
    ("reserved", "rejected"),
    ("released", "committed"),
    ("released", "dispatched"),
    ("authorised", "declined"),
    ("authorised", "failed"),
    ("declined", "failed"),
    ("captured", "written_off_capture"),
    ("voided", "written_off_void"),
    ("voided", "captured"),
    ("voided", "dispatched"),
    ("dispatched", "not shipped"),
    ("dispatched", "stopped by customer"),
    ("not shipped", "stopped by clock"),
    ("cancelled", "dispatched"),
    ("cancelled", "captured"),
    ("completed", "cancelled"),
]

OWES = [
    ("failed", "payment.voided"),
    ("not shipped", "payment.voided"),
    ("stopped by clock", "payment.voided"),
    ("rejected", "inventory.released"),
    ("declined", "inventory.released"),
    ("failed", "inventory.released"),
    ("not shipped", "inventory.released"),
    ("stopped by customer", "inventory.released"),
    ("cancel_requested", "shipping.cancel_refused:customer"),
    ("expiry_requested", "shipping.cancel_refused:clock"),
    ("completed", "notification.sent"),
    ("cancelled", "notification.sent"),
    ("refused", "notification.sent"),
]

LINE_RESTS_ON = [
    (e.InventoryLineHeld(line=1), "held, but not hold requested"),
    (e.InventoryLineShort(line=1), "short, but not hold requested"),
    (e.InventoryLineReleased(line=1, outcome="undone"), "released, but not held"),
    (e.InventoryLineReleased(line=1, outcome="undone"), "released, but not release requested"),
    (e.InventoryLineReleased(line=1, outcome="nothing_to_undo"), "nothing to release, but not release requested"),
    (e.InventoryLineCommitted(line=1), "committed, but not held"),
    (e.InventoryLineCommitted(line=1), "committed, but not commit requested"),
]

LINE_EXCLUDE = [
    (e.InventoryLineHeld(line=1), e.InventoryLineShort(line=1)),
    (e.InventoryLineHeld(line=1), e.InventoryLineReleased(line=1, outcome="nothing_to_undo")),
    (
        e.InventoryLineReleased(line=1, outcome="undone"),
        e.InventoryLineReleased(line=1, outcome="nothing_to_undo"),
    ),
    (e.InventoryLineReleased(line=1, outcome="undone"), e.InventoryLineCommitted(line=1)),
    (e.StockReleaseRequested(sku="a", line=1), e.StockCommitRequested(sku="a", line=1)),
]

LINE_OWES = [
    e.StockHoldRequested(sku="a", line=1, quantity=1),
    e.StockReleaseRequested(sku="a", line=1),
    e.StockCommitRequested(sku="a", line=1),
]


def found(*facts: Any) -> dict[str, list[str]]:
    """Check → what it says of an order to which nothing but this has happened."""
    log = Log()
    for fact in facts:
        log.publish(EVENTS[fact] if isinstance(fact, str) else fact, "o-1")
    said: dict[str, list[str]] = {}
    for finding in log.audit().findings:
        said.setdefault(finding.check, []).append(finding.what)
    return said


@pytest.mark.parametrize("fact", RESTS_ON)
def test_what_happens_rests_on_what_happened(fact: str) -> None:
    said = found(fact)
    without = [
        what.partition(" without ")[2]
        for check in ("unfounded", "completed-unfinished", "charged-without-dispatch", "told-wrong")
        for what in said.get(check, [])
    ]
    for needed in RESTS_ON[fact]:
        assert any(what.startswith(needed) for what in without), without


def test_every_fact_is_in_the_table() -> None:
    assert set(RESTS_ON) == set(EVENTS)


@pytest.mark.parametrize(("one", "other"), EXCLUDE)
def test_of_two_that_exclude_each_other_both_are_named(one: str, other: str) -> None:
    said = found(one, other)
    checks = ("contradiction", "cancelled-but-dispatched", "cancelled-but-charged", "two-endings")
    assert [what for check in checks for what in said.get(check, [])]


@pytest.mark.parametrize(("because", "owed"), OWES)
def test_what_is_owed_is_missed(because: str, owed: str) -> None:
    said = found(because)
    missing = [what for check in ("confirmation-missing", "mail-missing") for what in said.get(check, [])]
    assert any(owed in what.partition(" and none of ")[2] for what in missing), said


@pytest.mark.parametrize(("event", "text"), LINE_RESTS_ON)
def test_what_happens_to_a_line_rests_on_what_happened_to_it(event: Any, text: str) -> None:
    assert f"line 1: {text}" in found(event)["unfounded"]


@pytest.mark.parametrize(("one", "other"), LINE_EXCLUDE)
def test_a_line_has_one_fate(one: Any, other: Any) -> None:
    assert any(what.startswith("line 1: ") for what in found(one, other)["contradiction"])


@pytest.mark.parametrize("event", LINE_OWES)
def test_a_request_about_a_line_is_answered(event: Any) -> None:
    assert any(what.startswith("line 1: ") for what in found(event)["confirmation-missing"])
