"""Members, generations and committed positions: each promise holds of the model and of a real cluster alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, TopicPartition

from farandole.clients import SESSION_TIMEOUT_MS
from tests.simulation.stages import OnKafka, OnModel, Stage, Worker, error_of
from tests.simulation.test_conformance import WAIT, at, position_of, write


@pytest.fixture(params=["model", "real"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = OnModel() if request.param == "model" else OnKafka(dict(request.getfixturevalue("kafka").config))
    yield made
    made.close()


def together(stage: Stage, topics: list[str]) -> tuple[Worker, Worker]:
    """Two members, each with its share."""
    first = stage.member(topics, "i1").start()
    second = stage.member(topics, "i2")
    stage.until(lambda: second.told and first.told[-1][0] == "assigned" and len(first.told) > 1, first, second)
    return first, second


def refusal(producer: Any, topic: str, metadata: Any) -> KafkaError:
    """The error of committing a position under this metadata; the transaction is aborted."""
    producer.begin_transaction()
    producer.produce(topic, b"x", None, 0)
    producer.flush(WAIT)
    error = error_of(producer.send_offsets_to_transaction, at(topic, 7), metadata, WAIT)
    assert (error.fatal(), error.txn_requires_abort()) == (False, True)
    assert error_of(producer.commit_transaction, WAIT).txn_requires_abort()
    producer.abort_transaction(WAIT)
    return error


class TestPositions:
    def test_positions_count_from_the_commit_on(self, stage: Stage) -> None:
        topic = stage.topic(2)
        worker = stage.member([topic]).start()
        producer = worker.kafka.producer(stage.group)
        assert position_of(worker, topic) < 0
        write(producer, topic, b"1", commit=None)
        producer.send_offsets_to_transaction(at(topic, 7), worker.metadata(), WAIT)
        producer.commit_transaction(WAIT)
        assert position_of(worker, topic) == 7
        assert position_of(worker, topic, 1) < 0

    def test_positions_of_an_aborted_transaction_never_count(self, stage: Stage) -> None:
        topic = stage.topic()
        worker = stage.member([topic]).start()
        producer = worker.kafka.producer(stage.group)
        for offset, commit in ((7, True), (9, False)):
            producer.begin_transaction()
            producer.send_offsets_to_transaction(at(topic, offset), worker.metadata(), WAIT)
            (producer.commit_transaction if commit else producer.abort_transaction)(WAIT)
        assert position_of(worker, topic) == 7

    def test_a_position_that_a_transaction_holds_is_waited_for(self, stage: Stage) -> None:
        topic = stage.topic(2)
        worker = stage.member([topic]).start()
        producer = worker.kafka.producer(stage.group)
        producer.begin_transaction()
        producer.send_offsets_to_transaction(at(topic, 7), worker.metadata(), WAIT)
        both = [TopicPartition(topic, 0), TopicPartition(topic, 1)]
        error = error_of(lambda: worker.consumer.committed(both, timeout=1.0))
        assert (error.code(), error.fatal()) == (KafkaError._TIMED_OUT, False)
        assert position_of(worker, topic, 1) < 0
        producer.commit_transaction(WAIT)
        assert position_of(worker, topic) == 7

    def test_initialising_the_id_decides_what_its_former_owner_held(self, stage: Stage) -> None:
        topic = stage.topic()
        worker = stage.member([topic]).start()
        producer = worker.kafka.producer(stage.group)
        producer.begin_transaction()
        producer.send_offsets_to_transaction(at(topic, 7), worker.metadata(), WAIT)
        worker.kafka.producer(stage.group)
        assert position_of(worker, topic) < 0

    def test_without_positions_nobody_asks_who_commits(self, stage: Stage) -> None:
        """So the engine always commits one."""
        topic = stage.topic()
        worker = stage.member([topic]).start()
        stale = worker.metadata()
        worker.kafka.close()
        producer = stage.clients("other").producer(stage.group)
        write(producer, topic, b"1", commit=None)
        producer.send_offsets_to_transaction([], stale, WAIT)
        producer.commit_transaction(WAIT)
        reader = stage.member([topic], "reader").start()
        stage.until(lambda: reader.values() == [b"1"], reader)


class TestMembers:
    def test_a_second_member_takes_its_range_of_every_topic(self, stage: Stage) -> None:
        topics = sorted([stage.topic(3), stage.topic(3)])
        first, second = together(stage, topics)
        everything = [(topic, p) for topic in topics for p in range(3)]
        assert first.told == [
            ("assigned", everything),
            ("revoked", everything),
            ("assigned", [(topic, p) for topic in topics for p in (0, 1)]),
        ]
        assert second.told == [("assigned", [(topic, 2) for topic in topics])]

    def test_a_member_that_leaves_gives_its_partitions_over_at_once(self, stage: Stage) -> None:
        topic = stage.topic(2)
        first, second = together(stage, [topic])
        first.kafka.close()
        assert first.told[-1] == ("revoked", [(topic, 0)])
        stage.until(lambda: second.told[-1] == ("assigned", [(topic, 0), (topic, 1)]), second, seconds=4)

    def test_a_member_that_falls_silent_loses_its_partitions_after_the_session(self, stage: Stage) -> None:
        topic = stage.topic(2)
        first, second = together(stage, [topic])
        first.consumer.close()  # a static member does not leave by this
        first.kafka.consumer = None
        second.poll_for(SESSION_TIMEOUT_MS / 1000 * 0.6)
        assert second.told == [("assigned", [(topic, 1)])]
        stage.until(lambda: second.told[-1] == ("assigned", [(topic, 0), (topic, 1)]), second, seconds=10)

    def test_an_instance_that_comes_back_in_time_takes_over_without_a_rebalance(self, stage: Stage) -> None:
        topic = stage.topic(2)
        first, second = together(stage, [topic])
        former, generation = first.consumer.memberid(), len(second.told)
        first.consumer.close()
        first.kafka.consumer = None
        again = stage.member([topic], "i1").start()
        assert again.told == [("assigned", [(topic, 0)])]
        assert again.consumer.memberid() != former
        second.poll_for(0.5)
        assert len(second.told) == generation
        producer = again.kafka.producer(stage.group)
        producer.begin_transaction()
        producer.send_offsets_to_transaction(at(topic, 7), again.metadata(), WAIT)
        producer.commit_transaction(WAIT)

    def test_who_comes_with_an_instance_fences_its_older_life(self, stage: Stage) -> None:
        topic = stage.topic()
        older = stage.member([topic]).start()
        metadata, producer = older.metadata(), older.kafka.producer(stage.group)
        newer = stage.member([topic]).start()
        assert newer.told == [("assigned", [(topic, 0)])]
        assert refusal(producer, topic, metadata).code() == KafkaError.FENCED_INSTANCE_ID
        stage.until(lambda: older.notices, older)
        assert [notice.error().code() for notice in older.notices] == [KafkaError._FATAL]
        assert older.consumer.assignment() == []
        older.poll_for(0.5)
        assert len(older.notices) == 1
        assert [what for what, _ in older.told] == ["assigned"]


class TestWhoMayCommit:
    def test_an_older_generation_may_not(self, stage: Stage) -> None:
        topic = stage.topic(2)
        first = stage.member([topic], "i1").start()
        stale, producer = first.metadata(), first.kafka.producer(stage.group)
        second = stage.member([topic], "i2")
        stage.until(lambda: second.told and len(first.told) == 3, first, second)
        assert refusal(producer, topic, stale).code() == KafkaError.ILLEGAL_GENERATION
        producer.begin_transaction()
        producer.send_offsets_to_transaction(at(topic, 7), first.metadata(), WAIT)
        producer.commit_transaction(WAIT)
        assert position_of(first, topic) == 7

    def test_nobody_asks_whose_partition_a_position_is(self, stage: Stage) -> None:
        """So fencing by the owner of a partition must not rest on its position alone."""
        topic = stage.topic(2)
        first, _ = together(stage, [topic])
        producer = first.kafka.producer(stage.group)
        producer.begin_transaction()
        producer.send_offsets_to_transaction(at(topic, 7, partition=1), first.metadata(), WAIT)
        producer.commit_transaction(WAIT)
        assert position_of(first, topic, 1) == 7

    def test_the_present_generation_may_while_the_next_one_is_prepared(self, stage: Stage) -> None:
        topic = stage.topic(2)
        first = stage.member([topic], "i1").start()
        producer = first.kafka.producer(stage.group)
        producer.begin_transaction()
        producer.produce(topic, b"x", None, 0)
        producer.flush(WAIT)
        second = stage.member([topic], "i2")
        second.poll_for(1.0)
        assert second.told == []
        producer.send_offsets_to_transaction(at(topic, 7), first.metadata(), WAIT)
        producer.commit_transaction(WAIT)
        stage.until(lambda: second.told, first, second)
        assert position_of(second, topic) == 7

    def test_a_member_whose_session_is_lost_may_not_and_is_told(self, stage: Stage) -> None:
        topic = stage.topic(2)
        worker = stage.member([topic], "i1").start()
        metadata, producer = worker.metadata(), worker.kafka.producer(stage.group)
        lose_session(stage, worker)
        assert refusal(producer, topic, metadata).code() == KafkaError.UNKNOWN_MEMBER_ID
        stage.until(lambda: len(worker.told) == 3, worker)
        assert worker.told[1:] == [("lost", [(topic, 0), (topic, 1)]), ("assigned", [(topic, 0), (topic, 1)])]

    def test_messages_of_partitions_that_are_gone_are_not_delivered(self, stage: Stage) -> None:
        topic = stage.topic(2)
        first = stage.member([topic], "i1").start()
        for partition in (0, 1):
            for n in range(50):
                stage.append(topic, b"%d" % n, partition=partition)
        second = stage.member([topic], "i2")
        held: list[Any] = []
        while not (second.told and len(first.told) == 3):
            before = len(first.told)
            found = first.poll(0.05, most=1)
            if len(first.told) == 3 == before:
                held += found
            second.poll(0.05, most=1)
        for _ in range(20):
            held += first.poll(0.05, most=10)
        assert {m.partition() for m in held} == {0}
        assert [m.offset() for m in held if m.partition() == 0] == sorted({m.offset() for m in held})


def lose_session(stage: Stage, worker: Worker) -> None:
    """The group forgets the member, and the member does not know yet."""
    if isinstance(stage, OnModel):
        stage.cluster.expire(stage.group, "i1")
    else:
        assert isinstance(stage, OnKafka)
        from farandole.clients import leave_group

        leave_group(stage.config, stage.group, worker.consumer.memberid())
