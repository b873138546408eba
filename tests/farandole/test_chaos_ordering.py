"""What came first is answered first: each way of breaking it is found."""

from __future__ import annotations

from events import PaymentAuthorised, StockHoldRequested
from farandole import Event, Meta
from farandole.audit.records import LogRecord
from farandole.chaos.ordering import OrderCheck, OrderReport
from tests.farandole.audit_log import Log, codec, topics
from tests.farandole.audit_orders import told


def checked(records: list[LogRecord]) -> OrderReport:
    check = OrderCheck(codec(), topics())
    for record in records:
        check.take(record)
    return check.finish()


def all_of(log: Log) -> list[LogRecord]:
    return [record for records in log.records.values() for record in records if record is not None]


def an_event(id: str, offset: int, event: Event, topic: str) -> LogRecord:
    value = codec().encode(event, Meta(id, "o-1", "order/1", "somebody/1"))
    return LogRecord(topic, 0, offset, 1, b"o-1", value)


def authorised(id: str, offset: int) -> LogRecord:
    return an_event(id, offset, PaymentAuthorised(ship_to="", reference=""), "payment")


def letter(offset: int, of: int, reason: bytes = b"decision-failed") -> LogRecord:
    value = codec().encode(StockHoldRequested(sku="s", line=1, quantity=1), Meta("c/1", "o-1", "order/1", "somebody/1"))
    headers = [
        ("__dlq.errors.topic", b"inventory"),
        ("__dlq.errors.partition", b"0"),
        ("__dlq.errors.offset", b"%d" % of),
        ("__dlq.reason", reason),
    ]
    return LogRecord("payment.dlq", 0, offset, 1, b"o-1", value, headers)


def test_orders_of_every_kind_are_in_order() -> None:
    report = checked(all_of(told()[0]))
    assert report.ok
    assert report.effects > 100
    assert report.sagas > 5


def test_an_effect_that_overtakes_an_earlier_one_is_found() -> None:
    in_order = [authorised("inventory/0/5.payment.0", 1), authorised("inventory/0/7.payment.0", 2)]
    assert checked(in_order).ok
    swapped = [authorised("inventory/0/7.payment.0", 1), authorised("inventory/0/5.payment.0", 2)]
    assert "overtaken: payment/0/2" in checked(swapped).found[0]


def test_between_two_topics_there_is_no_order() -> None:
    assert checked([authorised("inventory/0/7.payment.0", 1), authorised("shipping/0/5.payment.0", 2)]).ok


def test_two_effects_of_one_cause_come_as_they_are_numbered() -> None:
    assert not checked([authorised("inventory/0/7.payment.1", 1), authorised("inventory/0/7.payment.0", 2)]).ok


def test_a_parked_saga_has_no_effect_any_more() -> None:
    effect = authorised("inventory/0/9.payment.0", 1)
    assert "passed: payment parked o-1 at inventory/0/5" in checked([letter(0, of=5), effect]).found[0]
    assert checked([letter(0, of=5, reason=b"unreadable"), effect]).ok
    assert checked([letter(0, of=12), effect]).ok


def test_dead_letters_of_a_saga_lie_in_the_order_in_which_they_were_sent() -> None:
    assert checked([letter(0, of=5), letter(1, of=6, reason=b"behind")]).ok
    assert "letters: payment.dlq/0/1" in checked([letter(0, of=6), letter(1, of=5, reason=b"behind")]).found[0]


def test_what_a_client_says_is_nobodys_effect() -> None:
    event = PaymentAuthorised(ship_to="", reference="")
    value = codec().encode(event, Meta("x", "o-1", "order/1", ""))
    assert checked([LogRecord("payment", 0, 0, 1, b"o-1", value)]).effects == 0
