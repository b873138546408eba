"""Back-pressure on a real Kafka: what begins more of what is too much already waits in its topic."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

import farandole.backpressure
from agents import payment as payment_service
from agents import shipping as shipping_service
from agents.order import app, order_id
from events import (
    CancelOrder,
    InventoryRejected,
    InventoryReleased,
    OrderLine,
    OrderPlaced,
    PlaceOrder,
    ShippingCancelled,
)
from farandole import config
from farandole.assembly import Project, pausable_topics
from farandole.errors import ConfigError
from farandole.partitioner import partition_of
from tests.farandole.rig import Rig

PARTITION = 0


@pytest.fixture
def payment(kafka: Any, namespace: str) -> Iterator[Rig]:
    rig = Rig("payment", kafka, namespace)
    yield rig
    rig.engine.abandon()


@pytest.fixture
def order(kafka: Any, namespace: str) -> Iterator[Rig]:
    """An order service that has enough with two open orders in a partition."""
    rig = Rig("order", kafka, namespace)
    rig.most_open = 2
    rig.engine = rig._new_engine()
    yield rig
    rig.engine.abandon()


FLOW = "order-pay-first/1"


def placed() -> OrderPlaced:
    line = OrderLine(line=1, sku="sku-1", quantity=1, price=500)
    return OrderPlaced(
        customer="c", lines=(line,), amount=500, currency="EUR", ship_to="x", card_token="tok", reserve_for=900
    )


def keys(partition: int = PARTITION) -> Iterator[str]:
    """Idempotency keys of orders that lie in one partition."""
    return (f"k{n}" for n in count() if partition_of(order_id("c", f"k{n}"), 6) == partition)


def place(rig: Rig, key: str) -> str:
    """Place an order. Returns its id."""
    line = OrderLine(line=1, sku="sku-1", quantity=1, price=500)
    command = PlaceOrder(
        customer="c", idempotency_key=key, lines=(line,), currency="EUR", email="a@example.org", ship_to="x",
        card_token="t", reserve_for=900,
    )  # fmt: skip
    saga = order_id("c", key)
    rig.send(command, saga)
    return saga


def reject(rig: Rig, saga: str) -> None:
    """Inventory has refused the order, and holds nothing of it: the order ends."""
    rig.send(InventoryRejected(reason="none left"), saga)
    rig.send(InventoryReleased(outcome="nothing_to_undo"), saga)


def park(rig: Rig, saga: str) -> None:
    """An event of the saga that cannot be read."""
    rig.send_bytes("inventory", rig.encode(InventoryRejected(reason="none left"), saga)[:-3], saga)


def fill(rig: Rig, supply: Iterator[str]) -> list[str]:
    """Three open orders in the partition, one more than it takes."""
    sagas = [place(rig, next(supply)) for _ in range(3)]
    rig.step_until(lambda: len(rig.live_rows("orders")) == 3)
    rig.step_for(0.3)
    assert rig.processor.open_sagas(PARTITION) == 3
    return sagas


def test_new_sagas_wait_while_too_many_are_open(order: Rig, caplog: pytest.LogCaptureFixture) -> None:
    supply = keys()
    order.start()
    with caplog.at_level(logging.WARNING):
        first = fill(order, supply)
    assert "3 sagas open in partition 0, pausing" in caplog.text
    late = place(order, next(supply))
    elsewhere = place(order, next(keys(PARTITION + 1)))
    order.step_until(lambda: elsewhere in order.live_rows("orders"))
    order.step_for(0.5)
    assert late not in order.live_rows("orders")
    reject(order, first[0])
    order.step_until(lambda: order.live_rows("orders")[first[0]].phase == "cancelled")
    order.step_for(0.5)
    assert late not in order.live_rows("orders")  # two are open, and it goes on with one
    reject(order, first[1])
    order.step_until(lambda: late in order.live_rows("orders"))


def test_a_restarted_worker_knows_how_many_are_open(order: Rig) -> None:
    supply = keys()
    order.start()
    first = fill(order, supply)
    order.crash().start()
    order.step_for(0.5)
    late = place(order, next(supply))
    order.step_for(0.5)
    assert late not in order.live_rows("orders")
    for saga in first[:2]:
        reject(order, saga)
    order.step_until(lambda: late in order.live_rows("orders"))


def test_a_cancellation_waits_behind_new_sagas_and_is_heard(order: Rig) -> None:
    supply = keys()
    order.start()
    first = fill(order, supply)
    order.send(CancelOrder(), first[2])
    order.step_for(0.5)
    assert not order.live_rows("orders")[first[2]].cancel_requested
    for saga in first[:2]:
        reject(order, saga)
    order.step_until(lambda: order.live_rows("orders")[first[2]].cancel_requested)


def test_parked_sagas_do_not_count(order: Rig) -> None:
    supply = keys()
    order.start()
    first = fill(order, supply)
    late = place(order, next(supply))
    unheard_of = [order_id("c", key) for key, _ in zip(supply, range(3), strict=False)]
    for saga in unheard_of:
        park(order, saga)
    order.step_until(lambda: set(order.live_rows("parked")) == set(unheard_of))
    order.step_for(0.3)
    assert order.processor.open_sagas(PARTITION) == 3  # they are not open: nobody makes room by writing nonsense
    assert late not in order.live_rows("orders")
    for saga in first[:2]:
        park(order, saga)
    order.step_until(lambda: late in order.live_rows("orders"))
    order.crash().start()
    order.step_until(lambda: order.engine.assigned)
    assert order.processor.open_sagas(PARTITION) == 2


def test_an_intake_that_is_not_heard_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    project = Project.read()
    monkeypatch.setattr(app, "intake", "order.comands")
    with pytest.raises(ConfigError, match="does not hear its intake"):
        pausable_topics(app, project.flows, project.codec, "")


@pytest.mark.parametrize("said", ["0", "-1", "many", "1.5", "²"])
def test_a_number_of_open_sagas_that_is_none_is_refused(said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FARANDOLE_OPEN_SAGAS", said)
    with pytest.raises(ConfigError, match="no number of sagas"):
        config.open_sagas()


# ---- outside calls


def test_a_topic_waits_only_if_all_that_any_flow_hears_in_it_is_calls() -> None:
    """In `inventory` payment begins authorisations, and refunds in another flow. In its commands an operator writes off
    what hangs, in those of shipping a parcel is stopped that was never booked: neither may wait for calls to end.
    """
    project = Project.read()
    found = {
        service.app.service_name: pausable_topics(service.app, project.flows, project.codec, "").starts_calls
        for service in (payment_service, shipping_service)
    }
    assert found == {"payment": {"order", "inventory"}, "shipping": {"orchestrator", "payment"}}


def test_too_many_calls_pause_what_starts_them_and_never_a_compensation(
    payment: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farandole.backpressure, "CALLS_AT_ONCE", 3)
    payment.start()
    for n in range(5):
        payment.send(placed(), f"o-{n}", FLOW)
    payment.step_until(lambda: len(payment.calls.started) >= 4)
    payment.step_for(0.5)
    before = len(payment.calls.started)
    payment.send(placed(), "o-late", FLOW)
    payment.send(ShippingCancelled(asked_by="customer"), "o-other", FLOW)
    payment.step_until(lambda: "PaymentRefunded" in payment.events("payment"))
    assert "o-late/charge" not in payment.calls.started
    assert len(payment.calls.started) == before
    for key in list(payment.calls.started):
        payment.answer(key)
    payment.step_until(lambda: "o-late/charge" in payment.calls.started)


def test_what_was_paused_is_resumed_when_partitions_come_back(payment: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farandole.backpressure, "CALLS_AT_ONCE", 3)
    payment.start()
    for n in range(5):
        payment.send(placed(), f"o-{n}", FLOW)
    payment.step_until(lambda: len(payment.calls.started) >= 4)
    payment.step_for(0.3)
    assert payment.engine._pressure.paused
    engine: Any = payment.engine
    consumer = engine.clients.consumer
    assignment = consumer.assignment()
    engine._revoked(consumer, assignment)
    consumer.unassign()
    payment.calls.started.clear()
    monkeypatch.setattr(farandole.backpressure, "CALLS_AT_ONCE", 1000)
    engine._assigned(consumer, assignment)
    payment.send(placed(), "o-late", FLOW)
    payment.step_until(lambda: "o-late/charge" in payment.calls.started)
