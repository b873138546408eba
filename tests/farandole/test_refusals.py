"""A batch that the broker refuses, on a real Kafka: nobody pays for what others in the same transaction cause, and what
no message causes finds its way too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from events import FarandoleJournal, OrderRefused
from farandole.kafkaerrors import Inconsistent
from tests.farandole.rig import Rig

WEEK = 7 * 24 * 3_600_000


@pytest.fixture
def notification(kafka: Any, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    rig = Rig("notification", kafka, namespace)
    yield rig
    rig.engine.abandon()


def refused(email: str = "") -> OrderRefused:
    return OrderRefused(customer="c", email=email, reason="why not")


def test_a_message_is_condemned_only_when_it_stood_alone(notification: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker refuses what the answer brought about; the message beside it has nothing to do with that."""
    notification.start()
    notification.send(refused("a@example.org"), "o-first")
    notification.settle(1)
    produce = notification.engine.transactions.produce
    refusals: list[int] = []

    def refuse_answers() -> None:
        if notification.processor.records[0][0].endswith(".calls") and len(refusals) < 3:
            refusals.append(1)
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "made to fail", False, False, True))
        produce()

    monkeypatch.setattr(notification.engine.transactions, "produce", refuse_answers)
    notification.send(refused("a@example.org"), "o-innocent")
    consume = notification.engine._consume

    def both_at_once() -> Any:
        messages = consume()
        if messages and not refusals:
            notification.answer("o-first/refused")
        return messages

    monkeypatch.setattr(notification.engine, "_consume", both_at_once)
    notification.step_until(lambda: notification.live_rows("mails").get("o-first", refused()).phase == "delivered")
    notification.step_for(0.5)
    assert refusals
    assert not notification.live_rows("parked")
    assert notification.live_rows("mails")["o-innocent"].phase == "sending"


def test_a_journal_line_of_any_length_is_written(notification: Rig) -> None:
    """Clients choose their orders' names. A thousand long ones that go, or are answered, in one transaction make a line
    that is larger than a broker takes.
    """
    notification.start()
    sagas = {f"{n:04}" + "\N{FACE WITH TEARS OF JOY}" * 400 for n in range(1_200)}
    partition = notification.processor.partition_count - 1
    value = {saga: notification.encode(refused(), saga) for saga in sagas}
    topic = notification.namespace + "order"
    for saga in sagas:
        notification._producer.produce(topic, value[saga], saga, partition)
    notification._producer.flush(30)
    notification.step_until(lambda: len(notification.live_rows("mails")) == len(sagas), patience=60)
    aborts = notification.engine.counts["aborts"]
    now = notification.now
    notification.now = lambda: now() + 2 * WEEK
    notification.step_until(lambda: not notification.live_rows("mails"), patience=60)
    assert notification.engine.counts["aborts"] == aborts
    kind = notification.codec.type_of(FarandoleJournal)
    lines = [kind.decode_row(message.value()) for message in notification.records("notification.journal")]
    assert sorted(row for line in lines for row in line.evicted) == sorted(f"mails {saga}" for saga in sagas)


def test_a_worker_that_failed_and_then_idles_is_not_taken_for_one_that_hangs(
    notification: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    notification.start()

    def fenced() -> None:
        raise KafkaException(KafkaError(KafkaError._FENCED, "made to fail", False, False, False))

    monkeypatch.setattr(notification.engine.transactions, "flush", fenced)
    notification.send(refused(), "o-1")
    with pytest.raises(Inconsistent):
        notification.step_until(lambda: False)
    assert notification.engine.busy_since is None
