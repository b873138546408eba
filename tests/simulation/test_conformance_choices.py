"""What the model of Kafka leaves to chance, and what it does to a worker at a point: promises of the model alone."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from farandole.clients import SESSION_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS
from farandole.simulation.clients import POINTS, ModelClients
from farandole.simulation.kafka import Cluster
from tests.simulation.stages import OnModel, Worker, error_of
from tests.simulation.test_conformance import at, write

Hook = Callable[[str], str | None]


class Killed(BaseException):
    pass


class Chance(OnModel):
    """The model; its choices come from `choose`, a worker's hook from `hook`."""

    def __init__(self) -> None:
        super().__init__()
        self.choose: Callable[[int, str], int] = lambda n, what: 0
        self.hook: Hook = lambda point: None
        self.cluster = Cluster({}, lambda: self.time, lambda n, what: self.choose(n, what), self._advance)

    def _clients(self, instance: str, timed: bool) -> ModelClients:
        return ModelClients(self.cluster, self.group, instance, lambda point: self.hook(point), timed)


@pytest.fixture
def stage() -> Chance:
    return Chance()


def transaction(worker: Worker, topic: str, value: bytes, offset: int) -> None:
    producer = worker.kafka.producer(worker.stage.group)
    producer.begin_transaction()
    producer.produce(topic, value, None, 0)
    producer.flush()
    producer.send_offsets_to_transaction(at(topic, offset), worker.metadata(), 10.0)
    producer.commit_transaction()


def nothing(point: str) -> str | None:
    return None


def at_point(wanted: str, do: Hook) -> Hook:
    """Once, at this point."""
    done: list[str] = []

    def hook(point: str) -> str | None:
        if point != wanted or done:
            return None
        done.append(point)
        return do(point)

    return hook


def kill(point: str) -> str | None:
    raise Killed


class TestChoices:
    @pytest.mark.parametrize("seed", range(20))
    def test_whatever_is_chosen_each_partition_comes_whole_and_in_order(self, stage: Chance, seed: int) -> None:
        rng = random.Random(seed)
        stage.choose = lambda n, what: rng.randrange(n)
        topic = stage.topic(3)
        producer, reader = stage.clients().producer("p"), stage.member([topic], timed=True).start()
        expected: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
        for n in range(30):
            partition, commit = rng.randrange(3), rng.random() < 0.7
            values = [b"%d.%d" % (n, i) for i in range(rng.randrange(1, 4))]
            write(producer, topic, *values, partition=partition, commit=commit)
            expected[partition] += values if commit else []
            reader.poll(most=rng.randrange(1, 5))
        stage.until(lambda: len(reader.messages) >= sum(map(len, expected.values())), reader)
        assert {p: [m.value() for m in reader.messages if m.partition() == p] for p in expected} == expected

    def test_the_same_choices_give_the_same_messages(self) -> None:
        def story() -> list[tuple[int, int, bytes]]:
            rng, stage = random.Random(7), Chance()
            stage.choose = lambda n, what: rng.randrange(n)
            topic = stage.topic(3)
            reader = stage.member([topic]).start()
            for n in range(50):
                stage.append(topic, b"%d" % n)
            stage.until(lambda: len(reader.messages) == 50, reader)
            return [(m.partition(), m.offset(), m.value()) for m in reader.messages]

        assert story() == story()
        assert story() != sorted(story())

    @pytest.mark.parametrize("late", range(4))
    def test_markers_may_be_late_and_what_they_decide_is_then_seen_as_a_whole(self, stage: Chance, late: int) -> None:
        topic = stage.topic()
        worker = stage.member([topic]).start()
        stage.choose = lambda n, what: late if what == "markers that come late" else 0
        transaction(worker, topic, b"1", 7)
        pending = stage.cluster.transactions.is_pending(stage.group, [(topic, 0)])
        seen = [m.value() for m in worker.consumer.consume(10, 0)]
        assert (seen, pending) == [([b"1"], False), ([], False), ([b"1"], True), ([], True)][late]
        [position] = worker.consumer.committed([TopicPartition(topic, 0)], timeout=1.0)
        assert position.offset == 7
        deadline = stage.cluster.next_deadline()
        if deadline is not None:
            stage.time = deadline
        seen += [m.value() for m in worker.consumer.consume(10, 0)]
        assert seen == [b"1"]
        assert stage.cluster.next_deadline() is None


class TestPoints:
    def test_every_point_is_announced(self, stage: Chance) -> None:
        seen: set[str] = set()
        stage.hook = lambda point: seen.add(point)
        topic = stage.topic()
        worker = stage.member([topic]).start()
        transaction(worker, topic, b"1", 1)
        worker.consumer.committed([TopicPartition(topic, 0)], timeout=1.0)
        worker.kafka.end_offsets([(topic, 0)])
        producer = worker.kafka.producer(stage.group)
        write(producer, topic, b"no", commit=False)
        worker.kafka.close()
        assert set(POINTS) - seen == {"restore"}

    @pytest.mark.parametrize(
        "point", ["begin", "produce", "flush", "flushed", "offsets", "commit.before", "commit.after"]
    )
    def test_who_is_killed_leaves_a_whole_transaction_or_none(self, stage: Chance, point: str) -> None:
        topic = stage.topic()
        worker = stage.member([topic], "i1").start()
        stage.hook = at_point(point, kill)
        with pytest.raises(Killed):
            transaction(worker, topic, b"1", 7)
        stage.hook = nothing
        stage.sleep(TRANSACTION_TIMEOUT_MS / 1000)
        happened = point == "commit.after"
        assert [stored.value for stored in stage.cluster.read(topic, 0)] == ([b"1"] if happened else [])
        assert stage.cluster.committed(stage.group) == ({(topic, 0): 7} if happened else {})
        with pytest.raises(AssertionError, match="killed"):
            worker.poll()

    def test_who_is_killed_keeps_its_partitions_until_its_session_is_over(self, stage: Chance) -> None:
        topic = stage.topic(2)
        first, second = stage.member([topic], "i1").start(), stage.member([topic], "i2")
        stage.until(lambda: second.told, first, second)
        assert isinstance(first.kafka, ModelClients)
        first.kafka.kill()
        stage.sleep(SESSION_TIMEOUT_MS / 1000 - 1)
        second.poll()
        assert len(second.told) == 1
        assert stage.cluster.next_deadline() is not None
        stage.sleep(1)
        second.poll()
        assert second.told[-1] == ("assigned", [(topic, 0), (topic, 1)])

    @pytest.mark.parametrize("seconds", [1, 10])
    def test_who_is_frozen_beyond_its_session_wakes_up_as_a_stranger(self, stage: Chance, seconds: int) -> None:
        topic = stage.topic()
        worker = stage.member([topic], "i1").start()
        stage.hook = at_point("produce", lambda point: stage.sleep(seconds))
        if seconds * 1000 < SESSION_TIMEOUT_MS:
            transaction(worker, topic, b"1", 7)
            worker.poll()
            assert [what for what, _ in worker.told] == ["assigned"]
        else:
            error = error_of(transaction, worker, topic, b"1", 7)
            assert (error.code(), error.txn_requires_abort()) == (KafkaError.UNKNOWN_MEMBER_ID, True)
            worker.poll()
            assert [what for what, _ in worker.told] == ["assigned", "lost", "assigned"]

    def test_who_is_frozen_while_its_partitions_move_commits_nothing(self, stage: Chance) -> None:
        topic = stage.topic()
        worker = stage.member([topic], "i1").start()

        def others(point: str) -> None:
            stage.hook = nothing
            stage.sleep(SESSION_TIMEOUT_MS / 1000)
            heir = stage.member([topic], "i2").start()
            transaction(heir, topic, b"heir", 7)

        stage.hook = at_point("commit.before", others)
        assert error_of(transaction, worker, topic, b"zombie", 7).code() == KafkaError._FENCED
        assert [stored.value for stored in stage.cluster.read(topic, 0)] == [b"heir"]


class TestFaults:
    @pytest.mark.parametrize("point", ["offsets", "commit.before", "commit.after"])
    @pytest.mark.parametrize("happens", [0, 1])
    def test_an_unknown_outcome_is_a_time_out_that_says_nothing(self, stage: Chance, point: str, happens: int) -> None:
        topic = stage.topic()
        worker = stage.member([topic]).start()
        stage.choose = lambda n, what: happens if "happened" in what else 0
        stage.hook = at_point(point, lambda point: "unknown")
        error = error_of(transaction, worker, topic, b"1", 7)
        assert (error.code(), error.retriable()) == (KafkaError._TIMED_OUT, True)
        assert not error.txn_requires_abort()
        worker.kafka.producer(stage.group)
        committed = point == "commit.after" or (point == "commit.before" and bool(happens))
        assert [stored.value for stored in stage.cluster.read(topic, 0)] == ([b"1"] if committed else [])
        assert stage.cluster.committed(stage.group) == ({(topic, 0): 7} if committed else {})

    @pytest.mark.parametrize("point", ["flush", "offsets", "commit.before"])
    def test_a_failure_needs_an_abort_and_is_mended_by_it(self, stage: Chance, point: str) -> None:
        topic = stage.topic()
        worker = stage.member([topic]).start()
        producer = worker.kafka.producer(stage.group)
        stage.hook = at_point(point, lambda point: "fail")
        producer.begin_transaction()
        producer.produce(topic, b"no", None, 0)
        with pytest.raises(KafkaException) as failure:  # noqa: PT012
            producer.flush()
            producer.send_offsets_to_transaction(at(topic, 7), worker.metadata(), 10.0)
            producer.commit_transaction()
        assert failure.value.args[0].txn_requires_abort()
        producer.abort_transaction()
        write(producer, topic, b"1")
        assert [stored.value for stored in stage.cluster.read(topic, 0)] == [b"1"]
        assert stage.cluster.committed(stage.group) == {}

    def test_a_reader_that_waits_lets_time_pass_until_what_blocks_it_is_over(self, stage: Chance) -> None:
        topic = stage.topic()
        clients = stage.clients()
        began = stage.time
        write(clients.producer("p"), topic, b"open", commit=None)
        stage.append(topic, b"behind", partition=0)
        assert clients.has_history(topic, 0)
        assert stage.time == began + TRANSACTION_TIMEOUT_MS

    def test_messages_fetched_before_a_rebalance_may_come_after_it(self, stage: Chance) -> None:
        """So the engine drops what is not its own any more."""
        topic = stage.topic(2)
        first = stage.member([topic], "i1").start()
        second = stage.member([topic], "i2")
        second.poll()
        for partition in (0, 1):
            stage.append(topic, b"%d" % partition, partition=partition)
        stage.choose = lambda n, what: int("before a rebalance" in what)
        found = first.poll()
        assert ("revoked", [(topic, 0), (topic, 1)]) in first.told
        owned = [tp.partition for tp in first.consumer.assignment()]
        assert [m.partition() for m in found if m.partition() not in owned]
