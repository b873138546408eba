"""Dead letters keep order: a saga that cannot go on stops alone, and everything of it waits behind its first dead
letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

from events import InventoryReserved, StockReceived
from tests.farandole.rig import Rig, received
from tests.farandole.test_engine import RESTOCK, alter, reserved, rig


@pytest.fixture
def inventory(kafka: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    yield from rig("inventory", kafka, namespace, monkeypatch)


@pytest.fixture
def payment(kafka: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    yield from rig("payment", kafka, namespace, monkeypatch)


@pytest.fixture
def order(kafka: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    yield from rig("order", kafka, namespace, monkeypatch)


def header(message: Any, name: str) -> str:
    return str(dict(message.headers())[name].decode())


def reasons(rig: Rig) -> list[str]:
    return [header(message, "__dlq.reason") for message in rig.records(f"{rig.service}.dlq")]


def test_a_failing_saga_is_parked_in_order_and_every_other_goes_on_even_on_the_same_sku(inventory: Rig) -> None:
    inventory.start()
    inventory.send(received(5), "good-1", RESTOCK)
    inventory.send(received(0), "bad", RESTOCK)
    inventory.send(received(7), "bad", RESTOCK)
    inventory.send(received(11), "good-2", RESTOCK)
    inventory.send(received(13), "bad", RESTOCK)
    inventory.send(received(17), "good-3", RESTOCK)
    inventory.settle(6)
    assert inventory.rows("levels")["sku-1"].available == 5 + 11 + 17
    dead = inventory.records("inventory.dlq")
    assert [inventory.codec.decode(message.value())[1].quantity for message in dead] == [0, 7, 13]
    assert reasons(inventory) == ["decision-failed", "behind", "behind"]
    assert inventory.rows("parked")["bad"].count == 3


def test_a_dead_letter_is_the_message_as_it_was_and_says_where_it_came_from_and_why(inventory: Rig) -> None:
    inventory.start()
    value = inventory.encode(StockReceived(sku="sku-1", quantity=0), "bad", RESTOCK)
    inventory.send_bytes("stock", value, "sku-1", [("traceparent", b"00-1-2-01"), ("x", b"\xff")])
    inventory.settle(1)
    [source] = inventory.records("stock")
    [dead] = inventory.records("inventory.dlq")
    assert (dead.value(), dead.key(), dead.partition()) == (value, b"sku-1", source.partition())
    assert dead.headers()[:2] == [("traceparent", b"00-1-2-01"), ("x", b"\xff")]
    assert header(dead, "__dlq.errors.topic") == "stock"
    assert header(dead, "__dlq.errors.partition") == str(source.partition())
    assert header(dead, "__dlq.errors.offset") == str(source.offset())
    assert header(dead, "__dlq.errors.group") == inventory.processor.group
    assert "a delivery is at least one piece" in header(dead, "__dlq.errors.message")


def test_what_the_decision_wrote_before_it_failed_is_undone(inventory: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    from agents import inventory as service

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("after the delivery was written")

    inventory.start()
    monkeypatch.setattr(service, "_move", fail)
    inventory.send(received(5), "d-1", RESTOCK)
    inventory.settle(1)
    assert inventory.live_rows("deliveries") == {} == inventory.rows("deliveries")
    assert set(inventory.rows("parked")) == {"d-1"}


def test_a_parked_saga_is_still_parked_after_a_crash(inventory: Rig) -> None:
    inventory.start()
    inventory.send(received(0), "bad", RESTOCK)
    inventory.settle(1)
    inventory.crash().start()
    inventory.send(received(7), "bad", RESTOCK)
    inventory.settle(1)
    assert reasons(inventory) == ["decision-failed", "behind"]
    assert inventory.rows("levels") == {}


def test_an_answer_to_a_parked_saga_follows_it(payment: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    payment.start()
    payment.send(reserved(), "o-1")
    payment.step_until(lambda: "o-1/authorise" in payment.calls.started)
    wrong = payment.encode(reserved(), "o-1")
    payment.send_bytes("inventory", wrong[:-1], "o-1")
    payment.settle(1)
    payment.answer("o-1/authorise")
    payment.step_until(lambda: len(payment.live_rows("parked")) == 1 and payment.live_rows("parked")["o-1"].count == 2)
    payment.step_for(0.3)
    assert reasons(payment) == ["unreadable", "behind"]
    assert payment.events("payment") == []


def corpus(rig: Rig) -> dict[str, tuple[bytes | None, str | bytes | None, str, str | None]]:
    """name → (value, key, expected reason, saga that is parked for it)"""
    good = rig.encode(reserved(), "o-1")
    placed = rig.codec.type_named("order.placed").prefix
    return {
        "empty": (b"", "o-1", "unreadable", None),
        "no value": (None, "o-1", "unreadable", None),
        "no key": (good, None, "wrong-key", None),
        "wrong key": (good, "o-2", "wrong-key", None),
        "key that is not UTF-8": (good, b"\xff\xfe", "wrong-key", None),
        "truncated": (good[:-3], "o-1", "unreadable", "o-1"),
        "too long": (good + b"x", "o-1", "unreadable", "o-1"),
        "wrong magic byte": (b"\x01" + good[1:], "o-1", "unreadable", None),
        "unknown schema id": (b"\x00\x00\x0f\x42\x40" + good[5:], "o-1", "unknown-type", "o-1"),
        "valid Avro of another topic's type": (placed + good[5:], "o-1", "unknown-type", "o-1"),
        "text": (b"hello, world", "o-1", "unreadable", None),
        "zeros": (bytes(64), "o-1", "unknown-type", None),
        "not UTF-8": (good.replace(b"EUR", b"\xff\xfe\xfd"), "o-1", "unreadable", "o-1"),
        "unknown flow": (rig.encode(reserved(), "o-1", "order/99"), "o-1", "unknown-flow", "o-1"),
    }


NAMES = [
    "empty",
    "no value",
    "no key",
    "wrong key",
    "key that is not UTF-8",
    "truncated",
    "too long",
    "wrong magic byte",
    "unknown schema id",
    "valid Avro of another topic's type",
    "text",
    "zeros",
    "not UTF-8",
    "unknown flow",
]


def test_bytes_that_nobody_can_use_are_dead_letters_and_the_worker_goes_on(payment: Rig) -> None:
    payment.start()
    poison = corpus(payment)
    assert list(poison) == NAMES
    for number, name in enumerate(NAMES):
        value, key, _, saga = poison[name]
        if saga is not None and value is not None:  # its own saga each, or all but the first would be "behind"
            saga_bytes, other = b"\x06o-1", bytes([2 * len(f"o-{number:02}")]) + f"o-{number:02}".encode()
            value, key = value.replace(saga_bytes, other), f"o-{number:02}"
        payment.send_bytes("inventory", value, key)
    payment.send(InventoryReserved(amount=1, currency="EUR", card_token="t", ship_to="x"), "o-good")
    payment.settle(len(NAMES) + 1)
    assert "o-good/authorise" in payment.calls.started
    assert sorted(reasons(payment)) == sorted(poison[name][2] for name in NAMES)
    parked = {f"o-{number:02}" for number, name in enumerate(NAMES) if poison[name][3]}
    assert set(payment.rows("parked")) == parked


def test_a_secret_never_shows_in_a_dead_letters_explanation(payment: Rig, caplog: pytest.LogCaptureFixture) -> None:
    from agents import payment as service

    payment.start()
    token = "tok_very_secret"

    def fail(*_: Any) -> Any:
        raise ValueError(f"cannot authorise {event!r} with {service.app!r}")

    event = InventoryReserved(amount=-1, currency="EUR", card_token=token, ship_to="x", saga="o-1")
    route = payment.processor._routes[payment.namespace + "inventory"]
    prefix = payment.codec.type_of(InventoryReserved).prefix
    chosen = route[prefix]
    assert chosen is not None
    chosen.decisions[b"order/1"] = (fail, False)
    payment.send(event, "o-1")
    payment.settle(1)
    [dead] = payment.records("payment.dlq")
    assert "InventoryReserved" in header(dead, "__dlq.errors.message")
    assert token not in header(dead, "__dlq.errors.message")
    assert token not in caplog.text
    assert token not in repr(payment.rows("parked"))


def test_a_message_as_large_as_the_broker_takes_is_a_dead_letter_and_the_worker_goes_on(payment: Rig) -> None:
    payment.start()
    junk = b"x" * 999_000
    payment.send_bytes("inventory", junk, "o-1")
    payment.send(reserved(), "o-good")
    payment.settle(2)  # they may lie in different partitions: either may be taken first
    assert "o-good/authorise" in payment.calls.started
    [dead] = payment.records("payment.dlq")
    assert dead.value() == junk


def test_a_letter_that_the_broker_refuses_goes_without_its_bytes_and_says_where_they_are(payment: Rig) -> None:
    alter(AdminClient(dict(payment.kafka.config)), payment.namespace + "payment.dlq", "max.message.bytes", "5000")
    payment.start()
    payment.send_bytes("inventory", b"x" * 20_000, "o-1")
    payment.send(reserved(), "o-good")
    payment.step_until(lambda: "o-good/authorise" in payment.calls.started, patience=60)
    payment.step_until(lambda: bool(payment.records("payment.dlq")), patience=60)
    [dead] = payment.records("payment.dlq")
    assert dead.value() == b""
    assert header(dead, "__dlq.truncated") == "true"
    assert header(dead, "__dlq.errors.topic") == "inventory"


def test_a_row_that_its_schema_cannot_hold_parks_its_cause_alone(
    inventory: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agents import inventory as service
    from events import StockLevel

    proper = service._move

    def overflow(sku: str, **quantities: int) -> None:
        if sku == "sku-bad":
            service.levels[sku] = StockLevel(available=1 << 70, held=0, sold=0)
        else:
            proper(sku, **quantities)

    monkeypatch.setattr(service, "_move", overflow)
    inventory.start()
    for n in range(6):
        inventory.send(received(5, "sku-bad" if n == 3 else "sku-1"), f"d-{n}", RESTOCK)
    inventory.step_until(lambda: "d-3" in inventory.live_rows("parked"), patience=60)
    inventory.step_until(lambda: inventory.live_rows("levels")["sku-1"].available == 25, patience=60)
    assert set(inventory.live_rows("parked")) == {"d-3"}


def test_a_clients_record_on_the_wrong_partition_is_told_and_not_begun(order: Rig) -> None:
    from confluent_kafka import Producer

    from agents.order import order_id
    from events import OrderLine, PlaceOrder
    from farandole.partitioner import partition_of

    saga = order_id("c", "k")
    line = OrderLine(line=1, sku="sku-1", quantity=1, price=1)
    command = PlaceOrder(
        customer="c", idempotency_key="k", lines=(line,), currency="EUR", email="a@b.de", ship_to="x", card_token="t"
    )
    order.start()
    wrong = (partition_of(saga, 6) + 1) % 6
    producer = Producer(dict(order.kafka.config))
    producer.produce(order.namespace + "order.commands", order.encode(command, saga), saga, wrong)
    producer.flush(10)
    order.settle(1)
    assert reasons(order) == ["wrong-partition"]
    assert order.rows("orders") == {}
    order.send(command, saga)
    order.settle(1)
    assert set(order.rows("orders")) == {saga}
