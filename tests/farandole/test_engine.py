"""The transaction cycle on a real Kafka: what fails is undone, what is unknown is found out, nothing is lost or
doubled.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

import farandole.engine
import farandole.timers
from events import (
    AuthoriseAnswered,
    InventoryReserved,
    OrderLine,
    OrderPlaced,
    PlaceOrder,
    ShippingCancelled,
    ShippingDispatched,
)
from farandole.agent import AgentSteps
from farandole.errors import BrokerError
from farandole.kafkaerrors import Inconsistent
from tests.farandole.rig import Rig, received

RESTOCK = "restock/1"


@pytest.fixture
def inventory(kafka: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    yield from rig("inventory", kafka, namespace, monkeypatch)


@pytest.fixture
def payment(kafka: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    yield from rig("payment", kafka, namespace, monkeypatch)


@pytest.fixture
def order(kafka: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    yield from rig("order", kafka, namespace, monkeypatch)


def rig(service: str, kafka: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    made = Rig(service, kafka, namespace)
    yield made
    made.engine.abandon()


def placed(amount: int = 500, reserve_for: int = 900, sku: str = "sku-1") -> OrderPlaced:
    line = OrderLine(line=1, sku=sku, quantity=1, price=amount)
    return OrderPlaced(
        customer="c", lines=(line,), amount=amount, currency="EUR", ship_to="x", card_token="t", reserve_for=reserve_for
    )


def reserved(amount: int = 500) -> InventoryReserved:
    return InventoryReserved(amount=amount, currency="EUR", card_token="tok", ship_to="x")


def abortable(*_: Any, **__: Any) -> Any:
    raise KafkaException(KafkaError(KafkaError.REQUEST_TIMED_OUT, "planted", False, False, True))


class TestTransactions:
    def test_tables_equal_their_changelogs_after_every_commit(self, inventory: Rig) -> None:
        inventory.start()
        for n in range(20):
            inventory.send(received(n + 1, f"sku-{n % 3}"), f"d-{n}", RESTOCK)
        inventory.settle(20)
        assert inventory.live_rows("levels") == inventory.rows("levels")
        assert sum(level.available for level in inventory.rows("levels").values()) == sum(range(1, 21))

    def test_an_aborted_batch_is_undone_and_done_once(self, inventory: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        inventory.start()
        inventory.send(received(5), "d-1", RESTOCK)
        with monkeypatch.context() as planted:
            planted.setattr(inventory.engine.transactions, "flush", abortable)
            inventory.step_until(lambda: inventory.engine.counts["aborts"] > 0)
        assert inventory.live_rows("levels") == {}
        inventory.settle(0)
        inventory.step_until(lambda: bool(inventory.live_rows("levels")))
        assert inventory.live_rows("levels")["sku-1"].available == 5 == inventory.rows("levels")["sku-1"].available
        assert len(inventory.records("inventory-levels-changelog")) == 1

    @pytest.mark.parametrize("happened", [True, False])
    def test_a_commit_of_unknown_outcome_counts_exactly_as_it_happened(
        self, inventory: Rig, monkeypatch: pytest.MonkeyPatch, happened: bool
    ) -> None:
        inventory.start()
        producer = inventory.engine.transactions.producer

        class Silent:
            """The producer, but nobody hears what became of the commit."""

            def __getattr__(self, name: str) -> Any:
                return getattr(producer, name)

            def commit_transaction(self, timeout: float) -> None:
                if happened:
                    producer.commit_transaction(timeout)
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "planted", False, True, False))

        inventory.engine.transactions.worn = False  # on a busy machine starting took so long that it would be made anew
        monkeypatch.setattr(inventory.engine.transactions, "producer", Silent())
        inventory.send(received(5), "d-1", RESTOCK)
        inventory.step_until(lambda: bool(inventory.live_rows("levels")))
        inventory.step_for(0.5)
        assert inventory.engine.counts["aborts"] == 1
        assert inventory.live_rows("levels")["sku-1"].available == 5 == inventory.rows("levels")["sku-1"].available
        assert len(inventory.records("inventory-levels-changelog")) == 1
        inventory.send(received(6), "d-2", RESTOCK)
        inventory.step_until(lambda: inventory.live_rows("levels")["sku-1"].available == 11)

    def test_a_producer_is_not_used_again_after_a_transaction_that_took_long_or_failed(
        self, inventory: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A copy of one of its requests may be late; a new epoch refuses it."""
        inventory.start()
        engine, clock = inventory.engine, [inventory.now()]
        inventory.now = lambda: clock[0]
        flush = engine.transactions.flush

        def slow() -> None:
            clock[0] += 1_000
            flush()

        def told(name: str) -> Any:
            """The producer after one more delivery."""
            inventory.send(received(5), name, RESTOCK)
            before = engine.counts["transactions"]
            inventory.step_until(lambda: engine.counts["transactions"] > before)
            return engine.transactions.producer

        engine.transactions.worn = False
        first = told("d-1")
        assert told("d-2") is first
        with monkeypatch.context() as planted:
            planted.setattr(engine.transactions, "flush", slow)
            assert told("d-3") is first
        second = told("d-4")
        assert second is not first
        with monkeypatch.context() as planted:
            planted.setattr(engine.transactions, "flush", abortable)
            inventory.send(received(5), "d-5", RESTOCK)
            inventory.step_until(lambda: engine.counts["aborts"] > 0)
        assert told("d-6") is not second
        first.begin_transaction()
        first.produce(inventory.namespace + "inventory.journal", b"")
        with pytest.raises(KafkaException, match="fenced"):
            first.commit_transaction(10)

    @pytest.mark.parametrize("stage", ["write", "produce", "flush"])
    def test_a_worker_that_is_fenced_at_any_stage_does_not_fence_back(
        self, inventory: Rig, monkeypatch: pytest.MonkeyPatch, stage: str
    ) -> None:
        inventory.start()
        clients: Any = inventory.engine.clients
        proper = getattr(inventory.engine.transactions, stage)
        usurpers: list[Any] = []

        def usurp(*arguments: Any) -> Any:
            if not usurpers:
                usurpers.append(clients.producer(inventory.engine.transactions.id))
            return proper(*arguments)

        monkeypatch.setattr(inventory.engine.transactions, stage, usurp)
        inventory.send(received(5), "d-1", RESTOCK)
        with pytest.raises(Inconsistent, match="taken over"):
            inventory.step_until(lambda: False)
        [other] = usurpers
        other.begin_transaction()
        other.produce(inventory.namespace + "inventory.journal", b"")
        other.flush(10)
        other.abort_transaction(10)  # it would fail if it had been fenced in turn
        inventory.engine.abandon()
        inventory.start()
        inventory.step_until(lambda: bool(inventory.live_rows("levels")))
        assert inventory.rows("levels")["sku-1"].available == 5

    def test_a_crash_between_decision_and_commit_leaves_nothing(
        self, inventory: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inventory.start()
        inventory.send(received(5), "d-1", RESTOCK)

        class Crash(Exception):
            pass

        def crash() -> None:
            inventory.engine.transactions.producer.flush()
            raise Crash

        with monkeypatch.context() as planted:
            planted.setattr(inventory.engine.transactions, "flush", crash)
            with pytest.raises(Crash):
                inventory.step_until(lambda: False)
        assert inventory.rows("levels") == {}
        inventory.crash().start()
        inventory.step_until(lambda: bool(inventory.live_rows("levels")))
        assert inventory.live_rows("levels")["sku-1"].available == 5 == inventory.rows("levels")["sku-1"].available

    def test_an_output_that_the_broker_refuses_parks_its_cause_alone(self, order: Rig) -> None:
        admin = AdminClient(dict(order.kafka.config))
        alter(admin, order.namespace + "order", "max.message.bytes", "1500")
        order.start()
        from agents.order import order_id

        def place(name: str, lines: int) -> str:
            saga = order_id("c", name)
            each = tuple(OrderLine(line=n + 1, sku=f"sku-{n}" + "x" * 40, quantity=1, price=1) for n in range(lines))
            command = PlaceOrder(
                customer="c",
                idempotency_key=name,
                lines=each,
                currency="EUR",
                email="a@b.de",
                ship_to="x",
                card_token="t",
            )
            order.send(command, saga)
            return saga

        sagas = [place(f"k-{n}", 100 if n == 3 else 1) for n in range(8)]
        order.step_until(lambda: bool(order.live_rows("parked")), patience=60)
        order.step_until(lambda: len(order.live_rows("orders")) == 7, patience=60)
        assert set(order.live_rows("parked")) == {sagas[3]}
        assert order.live_rows("parked")[sagas[3]].reason == "output-too-large"
        assert sorted(meta.saga for meta, _ in order.read("order")) == sorted(set(sagas) - {sagas[3]})

    def test_what_causes_nothing_is_acknowledged_all_the_same(self, payment: Rig) -> None:
        payment.start()
        from events import InventoryLineHeld

        for n in range(10):
            payment.send(InventoryLineHeld(line=1), f"o-{n}")
        payment.settle(10)
        payment.step_for(1.5)
        topic = payment.namespace + "inventory"
        found = payment.engine.clients.consumer.committed([TopicPartition(topic, p) for p in range(6)])
        assert sum(max(tp.offset, 0) for tp in found) == 10
        assert payment.engine.counts["transactions"] <= 2

    def test_a_batch_that_the_agent_does_not_decide_is_not_acknowledged(self, inventory: Rig) -> None:
        async def forgetful(batches: Any) -> None:
            async for _ in batches:
                pass

        inventory.engine.agent = AgentSteps("forgetful", forgetful)
        inventory.start()
        inventory.send(received(5), "d-1", RESTOCK)
        with pytest.raises(RuntimeError, match=r"did not call batch\.decide"):
            inventory.step_until(lambda: False)

    def test_an_agent_that_awaits_something_else_is_told(self, inventory: Rig) -> None:
        import asyncio

        async def sleepy(batches: Any) -> None:
            async for batch in batches:
                await asyncio.sleep(1)
                batch.decide()

        inventory.engine.agent = AgentSteps("sleepy", sleepy)
        inventory.start()
        inventory.send(received(5), "d-1", RESTOCK)
        with pytest.raises(RuntimeError, match=r"awaits only its batches|no running event loop"):
            inventory.step_until(lambda: False)


class TestIds:
    def test_an_id_says_where_its_cause_lies_and_which_service_acted(self, inventory: Rig) -> None:
        inventory.start()
        inventory.send(placed(), "o-1")
        inventory.step_until(lambda: "StockHoldRequested" in inventory.events("stock"))
        [cause] = inventory.records("order")
        [(meta, _)] = inventory.read("stock")
        assert meta.id == f"order/{cause.partition()}/{cause.offset()}.inventory.0"

    def test_two_services_that_act_on_one_record_give_different_ids(self, inventory: Rig, payment: Rig) -> None:
        for service in (inventory, payment):
            service.start()
        payment.send(ShippingCancelled(asked_by="customer"), "o-1")
        payment.step_until(lambda: bool(payment.events("payment")))
        inventory.step_until(lambda: bool(inventory.events("inventory")))
        [(of_payment, _)] = payment.read("payment")
        [(of_inventory, _)] = inventory.read("inventory")
        assert of_payment.cause == of_inventory.cause
        assert of_payment.id != of_inventory.id


class TestPositions:
    def test_lost_positions_are_refused_not_begun_again(self, inventory: Rig) -> None:
        inventory.start()
        inventory.send(received(5), "d-1", RESTOCK)
        inventory.step_until(lambda: bool(inventory.live_rows("levels")))
        inventory.engine.abandon()
        admin = AdminClient(dict(inventory.kafka.config))
        admin.delete_consumer_groups([inventory.processor.group])[inventory.processor.group].result(10)
        with pytest.raises(BrokerError, match="committed positions are gone") as refusal:
            inventory.start()
        assert "journal" in refusal.value.where

    def test_records_deleted_before_they_were_handled_are_refused(self, inventory: Rig) -> None:
        inventory.start()
        inventory.send(received(5), "d-1", RESTOCK)
        inventory.step_until(lambda: bool(inventory.live_rows("levels")))
        inventory.engine.abandon()
        inventory.send(received(6), "d-2", RESTOCK)
        inventory.send(received(7), "d-3", RESTOCK)
        last = inventory.records("stock")[-1]
        admin = AdminClient(dict(inventory.kafka.config))
        for future in admin.delete_records([TopicPartition(last.topic(), last.partition(), last.offset())]).values():
            future.result(10)
        inventory.engine.open()
        with pytest.raises(BrokerError, match="lies outside the log"):
            inventory.step_for(15)


class TestTimers:
    def reserve(self, inventory: Rig, seconds: int) -> int:
        """An order that is reserved and has a timer; returns when it is due."""
        inventory.start()
        inventory.send(received(5), "d-1", RESTOCK)
        inventory.step_until(lambda: bool(inventory.live_rows("levels")))
        inventory.send(placed(reserve_for=seconds), "o-1")
        inventory.step_until(lambda: phase(inventory, "o-1") == "reserved")
        [timer] = inventory.live_rows("timers").values()
        return int(timer.due)

    def test_a_timer_fires_once_when_it_is_due_and_not_before(self, inventory: Rig) -> None:
        due = self.reserve(inventory, 3)
        inventory.step_until(lambda: phase(inventory, "o-1") == "expiring")
        assert due <= inventory.now() < due + 3_000
        inventory.step_for(0.5)
        assert inventory.events("inventory.timers") == ["ReservationExpired"]
        assert inventory.events("inventory").count("InventoryExpiryRequested") == 1
        assert inventory.live_rows("timers") == {} == inventory.rows("timers")

    def test_a_worker_that_comes_back_to_a_backlog_cancels_nobody_whose_answer_lies_unread(
        self, inventory: Rig
    ) -> None:
        due = self.reserve(inventory, 3)
        inventory.engine.abandon()
        inventory.send(ShippingDispatched(tracking="t"), "o-1")
        time.sleep(max(0, due + 100 - inventory.now()) / 1000)
        inventory.start()
        inventory.step_until(lambda: phase(inventory, "o-1") == "committed")
        inventory.step_for(1)
        assert "InventoryExpiryRequested" not in inventory.events("inventory")
        assert inventory.events("inventory.timers") == []

    def test_an_open_transaction_upstream_holds_a_timer_back(self, inventory: Rig) -> None:
        due = self.reserve(inventory, 4)
        clients: Any = inventory.engine.clients
        upstream = clients.producer(f"{inventory.namespace}shipping-upstream")
        upstream.begin_transaction()
        value = inventory.encode(ShippingDispatched(tracking="t"), "o-1")
        upstream.produce(inventory.namespace + "shipping", value, "o-1")
        upstream.flush()
        assert inventory.now() < due, "this machine was too slow for the test to mean anything"
        inventory.step_for((due - inventory.now()) / 1000 + 1)
        assert inventory.live_rows("timers"), "it waits for the transaction"
        upstream.commit_transaction(10)
        inventory.step_until(lambda: phase(inventory, "o-1") == "committed")
        assert inventory.events("inventory.timers") == []

    def test_timers_that_are_due_together_fire_in_bounded_transactions(
        self, inventory: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(farandole.timers, "AT_ONCE", 3)
        inventory.start()
        for n in range(20):
            inventory.send(placed(reserve_for=2, sku=f"sku-{n}"), f"o-{n}")
        inventory.step_until(lambda: len(inventory.live_rows("timers")) == 20 or bool(inventory.events("inventory")))
        inventory.step_until(lambda: not inventory.live_rows("timers"))
        lines = [
            inventory.codec.decoders[m.value()[:5]].decode(m.value()) for m in inventory.records("inventory.journal")
        ]
        assert max(len(line.fired) for line in lines) <= 3

    def test_an_aborted_batch_leaves_every_timer_findable(
        self, inventory: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        due = self.reserve(inventory, 2)
        with monkeypatch.context() as planted:
            planted.setattr(inventory.engine.transactions, "flush", abortable)
            inventory.step_until(lambda: inventory.engine.counts["aborts"] > 0 and inventory.now() > due)
        inventory.step_until(lambda: phase(inventory, "o-1") == "expiring")

    def test_an_end_that_was_told_is_not_forgotten_for_what_waits_to_be_acknowledged(self, inventory: Rig) -> None:
        """Behind what was read may lie only a transaction's marker. Nobody tells the end again, and a timer waits."""
        inventory.start()
        engine, where = inventory.engine, (inventory.namespace + "payment", 0)
        inventory.step_until(lambda: where in engine._read)
        engine._ahead[where] = engine._position[where]
        engine._read[where] = told = engine._position[where] + 1
        inventory.send(received(5), "d-1", RESTOCK)
        inventory.step_until(lambda: bool(inventory.live_rows("levels")))
        assert engine._read[where] == told

    def test_a_timer_that_is_due_when_nobody_is_there_fires_when_somebody_is(self, inventory: Rig) -> None:
        due = self.reserve(inventory, 2)
        inventory.crash()
        time.sleep(max(0, due + 100 - inventory.now()) / 1000)
        inventory.start()
        inventory.step_until(lambda: phase(inventory, "o-1") == "expiring")


def phase(inventory: Rig, saga: str) -> str:
    row = inventory.live_rows("reservations").get(saga)
    return row.phase if row else ""


class TestOutsideCalls:
    def test_a_call_is_performed_after_its_commit_and_answered_once(self, payment: Rig) -> None:
        payment.start()
        payment.send(reserved(), "o-1")
        payment.step_until(lambda: "o-1/authorise" in payment.calls.started)
        assert "o-1/authorise" in payment.rows("calls")
        payment.answer("o-1/authorise")
        payment.answer("o-1/authorise")
        payment.step_until(lambda: "PaymentAuthorised" in payment.events("payment"))
        assert payment.events("payment.calls") == ["AuthoriseAnswered"]
        assert payment.rows("calls") == {}
        assert "o-1/authorise" in payment.calls.stopped

    def test_a_call_that_waits_is_performed_again_after_a_crash(self, payment: Rig) -> None:
        payment.start()
        payment.send(reserved(), "o-1")
        payment.step_until(lambda: "o-1/authorise" in payment.calls.started)
        payment.crash()
        assert payment.calls.started == {}
        payment.start()
        assert "o-1/authorise" in payment.calls.started

    def test_an_answer_leads_back_to_what_asked_for_it(self, payment: Rig) -> None:
        payment.start()
        payment.send(reserved(), "o-1")
        payment.step_until(lambda: "o-1/authorise" in payment.calls.started)
        payment.answer("o-1/authorise")
        payment.step_until(lambda: "PaymentAuthorised" in payment.events("payment"))
        [(asked, _)] = [(meta, e) for meta, e in payment.read("inventory") if isinstance(e, InventoryReserved)]
        [(answered, _)] = [(meta, e) for meta, e in payment.read("payment.calls") if isinstance(e, AuthoriseAnswered)]
        assert answered.cause == asked.id
        assert answered.saga == "o-1"
        assert answered.flow == asked.flow


def alter(admin: AdminClient, topic: str, name: str, value: str) -> None:
    from confluent_kafka.admin import (  # type: ignore[attr-defined]
        AlterConfigOpType,
        ConfigEntry,
        ConfigResource,
        ResourceType,
    )

    entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)
