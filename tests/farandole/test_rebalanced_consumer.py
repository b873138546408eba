"""What a rebalance inside `consume` leaves in what it returns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from farandole.engine import Engine


def message(topic: str | None, partition: int, offset: int, error: int | None = None) -> Any:
    said = None if error is None else KafkaError(error)
    return SimpleNamespace(
        topic=lambda: topic, partition=lambda: partition, offset=lambda: offset, error=lambda: said, value=lambda: b""
    )


def engine(messages: list[Any], assigned: list[tuple[str, int, int]]) -> tuple[Engine, list[Any]]:
    """An engine that owns these (topic, partition, position), whose next `consume` returns the messages."""
    calls: list[Any] = []
    consumer = SimpleNamespace(
        consume=lambda *arguments: messages,
        assignment=lambda: [TopicPartition(topic, partition) for topic, partition, _ in assigned],
        assign=calls.append,
    )
    anything: Any = SimpleNamespace(
        group="g", partitions=set(), rollback=lambda: None, consumer=consumer, under_way=lambda: 0
    )
    made = Engine(anything, anything, anything, anything, now=lambda: 0)
    made._lost(None, [])
    made._position = {(topic, partition): position for topic, partition, position in assigned}
    return made, calls


def test_a_consumer_that_was_fenced_for_good_together_with_its_partitions_ends_the_engines_cycle() -> None:
    fenced, _ = engine([message(None, -1, -1001, KafkaError._FATAL)], [])
    assert not fenced.assigned
    with pytest.raises(KafkaException, match="_FATAL"):
        fenced._consume()


def test_what_was_returned_across_a_rebalance_is_read_again() -> None:
    """The same partition went and came back within one `consume`: its messages may stand there twice."""
    twice = [message("t", 0, 2), message("t", 0, 3), message("gone", 1, 7), message("t", 0, 2)]
    made, assigned = engine(twice, [("t", 0, 2), ("u", 0, 5)])
    assert made._consume() == []
    assert [[(tp.topic, tp.partition, tp.offset) for tp in each] for each in assigned] == [[("t", 0, 2), ("u", 0, 5)]]


def test_an_end_of_a_partition_told_across_a_rebalance_does_not_count() -> None:
    """It would let timers fire over messages that are yet to be read."""
    made, assigned = engine([message("t", 0, 9, KafkaError._PARTITION_EOF)], [("t", 0, 2)])
    assert made._consume() == []
    assert made._read == {}
    assert len(assigned) == 1


def test_a_rebalance_that_returned_nothing_reads_on() -> None:
    made, assigned = engine([], [("t", 0, 2)])
    assert made._consume() == []
    assert assigned == []
    again, assigned = engine([message("t", 0, 2)], [])
    assert again._consume() == []
    assert assigned == []
