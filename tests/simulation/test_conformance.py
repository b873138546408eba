"""What the engine relies on of Kafka: each promise holds of the model and of a real cluster alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, TopicPartition

import farandole.clients
from farandole.partitioner import partition_of
from tests.simulation.stages import OnKafka, OnModel, Stage, error_of

WAIT = 10.0
"""Seconds for one call."""


@pytest.fixture(params=["model", "real"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    made = OnModel() if request.param == "model" else OnKafka(dict(request.getfixturevalue("kafka").config))
    yield made
    made.close()


def write(producer: Any, topic: str, *values: bytes, partition: int = 0, commit: bool | None = True) -> None:
    """One transaction; commit None: it stays open."""
    producer.begin_transaction()
    for value in values:
        producer.produce(topic, value, None, partition)
    producer.flush(WAIT)
    if commit is not None:
        (producer.commit_transaction if commit else producer.abort_transaction)(WAIT)


def at(topic: str, offset: int, partition: int = 0) -> list[TopicPartition]:
    return [TopicPartition(topic, partition, offset)]


def position_of(worker: Any, topic: str, partition: int = 0) -> int:
    [found] = worker.consumer.committed([TopicPartition(topic, partition)], timeout=WAIT)
    return int(found.offset)


class TestVisibility:
    def test_what_is_committed_is_seen_in_order_what_is_aborted_never(self, stage: Stage) -> None:
        topic = stage.topic()
        producer, reader = stage.clients().producer(stage.group), stage.member([topic]).start()
        write(producer, topic, b"1", b"2")
        write(producer, topic, b"no", commit=False)
        write(producer, topic, b"3")
        stage.until(lambda: len(reader.messages) >= 3, reader)
        assert reader.values() == [b"1", b"2", b"3"]

    def test_markers_take_an_offset_each(self, stage: Stage) -> None:
        topic = stage.topic()
        clients = stage.clients()
        producer, reader = clients.producer(stage.group), stage.member([topic]).start()
        write(producer, topic, b"1", b"2")
        write(producer, topic, b"no", commit=False)
        write(producer, topic, b"3")
        stage.until(lambda: len(reader.messages) == 3, reader)
        assert [m.offset() for m in reader.messages] == [0, 1, 5]
        assert clients.end_offsets([(topic, 0)]) == {(topic, 0): 7}

    def test_an_open_transaction_holds_back_all_that_lies_behind_it_in_its_partition(self, stage: Stage) -> None:
        topic = stage.topic(2)
        producer, reader = stage.clients().producer(stage.group), stage.member([topic]).start()
        stage.append(topic, b"before", partition=0)
        write(producer, topic, b"open", commit=None)
        stage.append(topic, b"behind", partition=0)
        stage.append(topic, b"elsewhere", partition=1)
        stage.until(lambda: len(reader.messages) == 2, reader)
        reader.poll_for(0.5)
        assert set(reader.values()) == {b"before", b"elsewhere"}
        producer.commit_transaction(WAIT)
        stage.until(lambda: len(reader.messages) == 4, reader)
        assert reader.values()[2:] == [b"open", b"behind"]

    def test_ends_count_what_an_open_transaction_has_written(self, stage: Stage) -> None:
        topic = stage.topic()
        clients = stage.clients()
        write(clients.producer(stage.group), topic, b"open", b"too", commit=None)
        assert clients.end_offsets([(topic, 0)]) == {(topic, 0): 2}

    def test_the_end_of_a_partition_is_its_last_stable_offset_and_reported_once_each_time(self, stage: Stage) -> None:
        topic = stage.topic()
        producer, reader = stage.clients().producer(stage.group), stage.member([topic], timed=True).start()
        stage.until(reader.ends, reader)
        write(producer, topic, b"1", commit=None)
        reader.poll_for(0.5)
        assert reader.ends() == [0]
        producer.commit_transaction(WAIT)
        stage.until(lambda: len(reader.ends()) == 2, reader)
        write(producer, topic, b"no", commit=False)
        stage.until(lambda: len(reader.ends()) == 3, reader)
        reader.poll_for(0.5)
        assert reader.ends() == [0, 2, 4]
        assert reader.values() == [b"1"]

    def test_an_end_is_not_reported_again_because_something_happens_elsewhere(self, stage: Stage) -> None:
        topic = stage.topic(2)
        reader = stage.member([topic], timed=True).start()
        stage.until(lambda: len(reader.ends()) == 2, reader)
        for n in range(2):
            stage.append(topic, b"%d" % n, partition=1)
            stage.until(lambda n=n: len(reader.ends()) == 3 + n, reader)  # type: ignore[misc]
        reader.poll_for(0.3)
        assert sorted(reader.ends()) == [0, 0, 1, 2]

    def test_who_comes_upon_an_open_transaction_is_told_the_end_before_it(self, stage: Stage) -> None:
        """So a changelog is read to its uncommitted end, and not until an end is reported."""
        topic = stage.topic()
        stage.append(topic, b"before", partition=0)
        write(stage.clients("other").producer(stage.group), topic, b"open", commit=None)
        reader = stage.member([topic], timed=True).start()
        stage.until(reader.ends, reader)
        reader.poll_for(0.3)
        assert (reader.values(), reader.ends()) == ([b"before"], [1])

    def test_a_batch_has_no_more_messages_than_asked_for(self, stage: Stage) -> None:
        topic = stage.topic()
        reader = stage.member([topic]).start()
        for n in range(5):
            stage.append(topic, b"%d" % n)
        sizes = [len(reader.poll(0.2, most=2)) for _ in range(6)]
        assert max(sizes) == 2
        assert reader.values() == [b"0", b"1", b"2", b"3", b"4"]

    def test_time_is_the_brokers_and_never_goes_backwards_in_a_partition(self, stage: Stage) -> None:
        topic = stage.topic()
        producer, reader = stage.clients().producer(stage.group), stage.member([topic]).start()
        for n in range(4):
            stage.append(topic, b"plain")
            stage.sleep(0.01)
            write(producer, topic, b"%d" % n)
        stage.until(lambda: len(reader.messages) == 8, reader)
        kinds, times = zip(*(m.timestamp() for m in reader.messages), strict=True)
        assert set(kinds) == {TIMESTAMP_LOG_APPEND_TIME}
        assert list(times) == sorted(times)
        assert times[0] < times[-1]

    def test_a_key_lies_where_murmur2_says(self, stage: Stage) -> None:
        topic = stage.topic(5)
        producer, reader = stage.clients().producer(stage.group), stage.member([topic]).start()
        keys = [f"key-{n}" for n in range(12)]
        producer.begin_transaction()
        for key in keys:
            producer.produce(topic, b"", key)
        producer.commit_transaction(WAIT)
        for key in keys:
            stage.append(topic, b"", key.encode())
        stage.until(lambda: len(reader.messages) == 24, reader)
        assert all(m.partition() == partition_of(m.key().decode(), 5) for m in reader.messages)

    def test_headers_and_missing_values_arrive_as_they_were(self, stage: Stage) -> None:
        topic = stage.topic()
        producer, reader = stage.clients().producer(stage.group), stage.member([topic]).start()
        producer.begin_transaction()
        producer.produce(topic, None, "k", 0)
        producer.produce(topic, b"", None, 0, headers=[("a", b"1"), ("a", b"2")])
        producer.commit_transaction(WAIT)
        stage.until(lambda: len(reader.messages) == 2, reader)
        first, second = reader.messages
        assert (first.key(), first.value(), first.headers()) == (b"k", None, None)
        assert (second.key(), second.value(), second.headers()) == (None, b"", [("a", b"1"), ("a", b"2")])


class TestReading:
    def test_after_a_seek_the_same_messages_come_again(self, stage: Stage) -> None:
        topic = stage.topic()
        producer, reader = stage.clients().producer(stage.group), stage.member([topic]).start()
        write(producer, topic, b"1", b"2", b"3")
        stage.until(lambda: len(reader.messages) == 3, reader)
        reader.consumer.seek(TopicPartition(topic, 0, 1))
        stage.until(lambda: len(reader.messages) == 5, reader)
        assert reader.values() == [b"1", b"2", b"3", b"2", b"3"]

    def test_a_paused_partition_keeps_its_place(self, stage: Stage) -> None:
        topic = stage.topic(2)
        reader = stage.member([topic]).start()
        reader.consumer.pause([TopicPartition(topic, 0)])
        stage.append(topic, b"paused", partition=0)
        stage.append(topic, b"goes on", partition=1)
        reader.poll_for(0.6)
        assert reader.values() == [b"goes on"]
        reader.consumer.resume([TopicPartition(topic, 0)])
        stage.until(lambda: len(reader.messages) == 2, reader)

    def test_the_position_is_behind_the_last_message_or_the_marker(self, stage: Stage) -> None:
        topic = stage.topic()
        producer, reader = stage.clients().producer(stage.group), stage.member([topic], timed=True).start()
        write(producer, topic, b"1")
        stage.until(lambda: 2 in reader.ends(), reader)
        [found] = reader.consumer.position([TopicPartition(topic, 0)])
        assert found.offset == 2


class TestFencing:
    @pytest.mark.parametrize("written", [False, True])
    def test_who_initialises_an_id_fences_whoever_had_it(self, stage: Stage, written: bool) -> None:
        topic = stage.topic()
        reader, clients = stage.member([topic]).start(), stage.clients("other")
        producer = clients.producer(stage.group)
        producer.begin_transaction()
        if written:
            producer.produce(topic, b"zombie", None, 0)
            producer.flush(WAIT)
        usurper = clients.producer(stage.group)
        producer.produce(topic, b"zombie", None, 0)
        calls = (
            lambda: producer.flush(WAIT),
            lambda: producer.send_offsets_to_transaction(at(topic, 1), reader.metadata(), WAIT),
            lambda: producer.commit_transaction(WAIT),
            lambda: producer.abort_transaction(WAIT),
            producer.begin_transaction,
        )
        for call in calls:
            error = error_of(call)
            assert (error.code(), error.fatal(), error.txn_requires_abort()) == (KafkaError._FENCED, True, False)
        assert error_of(producer.produce, topic, b"zombie").code() == KafkaError._FATAL
        write(usurper, topic, b"rightful")
        stage.until(lambda: reader.messages, reader)
        assert reader.values() == [b"rightful"]

    @pytest.mark.parametrize("call", ["offsets", "commit", "abort"])
    def test_a_fenced_producer_learns_it_in_whatever_it_calls_next(self, stage: Stage, call: str) -> None:
        topic = stage.topic()
        reader, clients = stage.member([topic]).start(), stage.clients("other")
        producer = clients.producer(stage.group)
        write(producer, topic, b"zombie", commit=None)
        clients.fence([stage.group])
        calls = {
            "offsets": lambda: producer.send_offsets_to_transaction(at(topic, 1), reader.metadata(), WAIT),
            "commit": lambda: producer.commit_transaction(WAIT),
            "abort": lambda: producer.abort_transaction(WAIT),
        }
        error = error_of(calls[call])
        assert (error.code(), error.fatal(), error.txn_requires_abort()) == (KafkaError._FENCED, True, False)

    def test_who_has_nothing_to_commit_does_not_learn_that_it_was_fenced(self, stage: Stage) -> None:
        topic, clients = stage.topic(), stage.clients()
        producer = clients.producer(stage.group)
        clients.fence([stage.group])
        producer.begin_transaction()
        producer.commit_transaction(WAIT)
        producer.begin_transaction()
        producer.abort_transaction(WAIT)
        producer.begin_transaction()
        producer.produce(topic, b"zombie", None, 0)
        assert error_of(producer.flush, WAIT).code() == KafkaError._FENCED

    def test_a_commit_after_fencing_commits_nothing(self, stage: Stage) -> None:
        topic = stage.topic()
        reader, clients = stage.member([topic]).start(), stage.clients("other")
        producer = clients.producer(stage.group)
        write(producer, topic, b"zombie", commit=None)
        producer.send_offsets_to_transaction(at(topic, 1), reader.metadata(), WAIT)
        clients.fence([stage.group])
        stage.append(topic, b"behind", partition=0)
        error = error_of(producer.commit_transaction, WAIT)
        assert (error.code(), error.fatal()) == (KafkaError._FENCED, True)
        stage.until(lambda: reader.messages, reader)
        reader.poll_for(0.3)
        assert reader.values() == [b"behind"]
        assert position_of(reader, topic) < 0

    def test_another_id_fences_nobody(self, stage: Stage) -> None:
        topic = stage.topic()
        clients = stage.clients()
        producer, reader = clients.producer(stage.group), stage.member([topic], "reader").start()
        producer.begin_transaction()
        producer.produce(topic, b"1", None, 0)
        clients.fence([stage.group + "-other"])
        producer.commit_transaction(WAIT)
        stage.until(lambda: reader.values() == [b"1"], reader)

    def test_a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(farandole.clients._PRODUCER, "transaction.timeout.ms", 1_000)
        topic = stage.topic()
        producer, reader = stage.clients().producer(stage.group), stage.member([topic]).start()
        write(producer, topic, b"forgotten", commit=None)
        stage.append(topic, b"behind", partition=0)
        reader.poll_for(0.5)
        assert reader.values() == []
        stage.until(lambda: reader.values() == [b"behind"], reader, seconds=25)
        error = error_of(producer.commit_transaction, WAIT)
        assert (error.code(), error.fatal()) == (KafkaError._FENCED, True)


class TestRefusal:
    def refuse(self, producer: Any, topic: str) -> None:
        producer.begin_transaction()
        producer.produce(topic, b"x" * 2_000, None, 0)
        producer.flush(WAIT)
        error = error_of(producer.commit_transaction, WAIT)
        assert error.code() == KafkaError.MSG_SIZE_TOO_LARGE
        assert (error.fatal(), error.txn_requires_abort()) == (False, True)

    def test_a_refused_record_shows_in_every_call_after_the_flush_until_the_abort(self, stage: Stage) -> None:
        topic = stage.topic(2, largest=1_500)
        producer, reader = stage.clients().producer(stage.group), stage.member([topic]).start()
        self.refuse(producer, topic)
        error = error_of(producer.send_offsets_to_transaction, at(topic, 1), reader.metadata(), WAIT)
        assert (error.code(), error.txn_requires_abort()) == (KafkaError.MSG_SIZE_TOO_LARGE, True)
        producer.abort_transaction(WAIT)
        write(producer, topic, b"small", partition=1)
        stage.until(lambda: reader.values() == [b"small"], reader)

    def test_after_a_refused_record_the_next_transaction_in_its_partition_fails_too(self, stage: Stage) -> None:
        topic = stage.topic(largest=1_500)
        producer, reader = stage.clients().producer(stage.group), stage.member([topic]).start()
        self.refuse(producer, topic)
        producer.abort_transaction(WAIT)
        write(producer, topic, b"no", commit=None)
        error = error_of(producer.commit_transaction, WAIT)
        assert (error.code(), error.txn_requires_abort()) == (KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, True)
        producer.abort_transaction(WAIT)
        write(producer, topic, b"small")
        stage.until(lambda: reader.values() == [b"small"], reader)

    def test_what_no_broker_would_take_is_refused_by_the_producer(self, stage: Stage) -> None:
        topic = stage.topic()
        producer = stage.clients().producer(stage.group)
        producer.begin_transaction()
        error = error_of(producer.produce, topic, b"x" * 3_000_000)
        assert (error.code(), error.txn_requires_abort()) == (KafkaError.MSG_SIZE_TOO_LARGE, False)
        producer.abort_transaction(WAIT)

    def test_a_transaction_without_anything_commits(self, stage: Stage) -> None:
        producer = stage.clients().producer(stage.group)
        producer.begin_transaction()
        producer.commit_transaction(WAIT)
        producer.begin_transaction()
        producer.abort_transaction(WAIT)


class TestChangelogs:
    class Tables:
        """As much of a processor as `restore` needs."""

        def __init__(self, topic: str) -> None:
            self.topic = topic
            self.rows: list[tuple[bytes, bytes | None]] = []

        def changelog_topics(self) -> dict[str, str]:
            return {self.topic: "table"}

        def restore(self, table: str, partition: int) -> Any:
            return lambda key, value, at: self.rows.append((key, value))

    def change(self, producer: Any, topic: str, value: bytes | None, commit: bool | None = True) -> None:
        producer.begin_transaction()
        producer.produce(topic, value, "k", 0)
        producer.flush(WAIT)
        if commit is not None:
            (producer.commit_transaction if commit else producer.abort_transaction)(WAIT)

    def test_restoring_takes_what_is_committed(self, stage: Stage) -> None:
        topic = stage.topic()
        clients: Any = stage.clients()
        producer = clients.producer(stage.group)
        for value, commit in ((b"1", True), (b"no", False), (b"2", True), (None, True), (b"no", False)):
            self.change(producer, topic, value, commit)
        tables = self.Tables(topic)
        assert clients.restore(tables, {0}, producer) == 3
        assert tables.rows == [(b"k", b"1"), (b"k", b"2"), (b"k", None)]

    def test_restoring_after_fencing_does_not_wait_for_what_was_left_open(self, stage: Stage) -> None:
        topic = stage.topic()
        clients: Any = stage.clients()
        self.change(clients.producer(stage.group), topic, b"open", commit=None)
        stage.append(topic, b"behind", b"k", 0)
        clients.fence([stage.group])
        tables = self.Tables(topic)
        assert clients.restore(tables, {0}, clients.producer(stage.group)) == 1
        assert tables.rows == [(b"k", b"behind")]

    def test_restoring_again_steps_over_the_marks_of_earlier_times(self, stage: Stage) -> None:
        topic = stage.topic()
        clients: Any = stage.clients()
        for times in (1, 2, 3):
            producer = clients.producer(stage.group)
            self.change(producer, topic, b"%d" % times)
            tables = self.Tables(topic)
            clients.restore(tables, {0}, producer)
            assert [value for key, value in tables.rows if key == b"k"] == [b"%d" % n for n in range(1, times + 1)]
            assert all(value is None for key, value in tables.rows if key != b"k")

    def test_restoring_does_not_believe_the_end_that_a_broker_tells(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A leader that has slept while another was elected tells an old one."""
        topic = stage.topic()
        clients: Any = stage.clients()
        producer = clients.producer(stage.group)
        self.change(producer, topic, b"1")
        told = clients.end_offsets([(topic, 0)])
        self.change(producer, topic, b"2")
        monkeypatch.setattr(clients, "end_offsets", lambda partitions: told)
        tables = self.Tables(topic)
        assert clients.restore(tables, {0}, producer) == 2

    def test_what_was_aborted_is_no_history(self, stage: Stage) -> None:
        topic = stage.topic()
        clients: Any = stage.clients()
        producer = clients.producer(stage.group)
        assert not clients.has_history(topic, 0)
        self.change(producer, topic, b"no", commit=False)
        assert not clients.has_history(topic, 0)
        self.change(producer, topic, b"yes")
        assert clients.has_history(topic, 0)
