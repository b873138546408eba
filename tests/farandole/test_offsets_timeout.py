"""Adding offsets to a transaction keeps its time-out, and what comes back too late is nobody's answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from farandole import clients
from farandole.clients import TransactionalProducer


class Slow(Producer):
    """librdkafka's part of it: each call takes until the test lets it go."""

    def send_offsets_to_transaction(self, positions: Any, *_: Any) -> None:
        going, done = positions
        going.wait(10)
        done.set()


class SlowTransactional(TransactionalProducer, Slow):
    pass


def test_an_answer_that_comes_after_the_time_out_is_not_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "GRACE", 0.05)
    producer = SlowTransactional({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    first, second = [(threading.Event(), threading.Event()) for _ in range(2)]
    with pytest.raises(KafkaException) as failure:
        producer.send_offsets_to_transaction(first, None, 0.0)
    assert failure.value.args[0].code() == KafkaError._TIMED_OUT
    first[0].set()
    assert first[1].wait(10)
    with pytest.raises(KafkaException):  # the first one's answer would say that the second is done
        producer.send_offsets_to_transaction(second, None, 0.0)
    assert not second[1].is_set()
    second[0].set()
    second[1].wait(10)


def test_the_thread_ends_with_its_producer() -> None:
    before = set(threading.enumerate())
    producer = SlowTransactional({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    at_once = (threading.Event(), threading.Event())
    at_once[0].set()
    producer.send_offsets_to_transaction(at_once, None, 5.0)
    (thread,) = set(threading.enumerate()) - before
    del producer
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.filterwarnings("error")
def test_settings_that_are_none_are_told_and_nothing_else() -> None:
    with pytest.raises(KafkaException):
        TransactionalProducer({"no.such.setting": "1"})
