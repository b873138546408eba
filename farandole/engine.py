"""One Kafka transaction per batch: consume, decide, produce, commit, and whatever it takes when that goes wrong.

One engine is one service in one worker: one consumer, one transactional producer, one thread. It does not know
librdkafka from a model of it (`Clients`), nor the wall clock (`now`), so the simulation runs this very code.

Invariants:
- Nothing is acknowledged without its outcome: outputs, changelog, journal and consumed offsets are one transaction,
  fenced by the consumer group's metadata (KIP-447). Each transaction commits an offset of every partition whose
  tables it writes; an empty list of offsets would skip the fencing.
- Between transactions the tables hold exactly what the changelog holds, read committed.
- A transaction that nobody confirmed is found out about before anything else is done (`farandole/transactions.py`).
- Rebalance callbacks run only inside `consume`, so they never meet an open transaction.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from farandole import config, timers
from farandole.agent import AgentSteps, Batch
from farandole.backpressure import NOTHING, BackPressure, Pausable
from farandole.complaints import Complaints
from farandole.errors import CodecError
from farandole.kafkaerrors import REFUSALS, UNPACKABLE, raise_if_hopeless
from farandole.message import Message, Unfetched
from farandole.ports import Answer, Clients, Performer
from farandole.positions import check_co_partitioned, positions_of_group
from farandole.processor import Processor
from farandole.table import Changes
from farandole.transactions import Transactions

log = logging.getLogger(__name__)

BATCH = 4_000
"""Messages of a transaction at the most. More cost a little less per message and delay everything behind them."""

ANSWERS = 4_000
"""Answers of outside calls recorded in one transaction at the most."""

AHEAD_MS = 1_000
"""How long messages that caused nothing may wait for the next transaction to acknowledge them."""

EVICTION_MS = 5_000
"""How often rows are looked for that may go. Where there are some, the cluster is asked for the ends of topics."""

IDLE_WAIT = 0.1
"""Seconds that an idle engine waits for a message before it looks at timers and the stop flag again."""

BUSY_WAIT = 0.004
"""The same while outside calls are under way: an answer cannot interrupt a waiting consumer, so the wait is short."""

Due = tuple[int, tuple[int, dict[tuple[str, int], int]]]
"""A partition with timers or rows due, until when (ms), and the ends that must have been read before."""


LARGEST_PAUSE = 2.0
"""Seconds between tries of a batch that fails again and again; begins with a twentieth of it."""


class Engine:
    """The transaction cycle of one service in one worker.

    Args:
        processor: decides messages and keeps the tables
        agent:     the service's agent
        clients:   Kafka, or the model of it
        performer: performs outside calls
        now:       wall clock, milliseconds since 1970
        committed: called after each commit with what changed
        pausable:  topics that may be paused while too much of what they begin is under way
        most_open: sagas of a partition that may be open before the topic that begins them is paused
    """

    def __init__(
        self,
        processor: Processor,
        agent: AgentSteps,
        clients: Clients,
        performer: Performer,
        now: Callable[[], int],
        committed: Callable[[Changes], None] = lambda changes: None,
        pausable: Pausable = NOTHING,
        most_open: int = config.OPEN_SAGAS,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.processor, self.agent, self.clients, self.performer = processor, agent, clients, performer
        self.now, self._on_commit, self._sleep = now, committed, sleep
        self.answers: deque[Answer] = deque()
        self.assigned = False
        self.busy_since: float | None = None
        """Monotonic time at which the transaction under way began."""
        self.leaving_since: float | None = None
        """Monotonic time at which it began to give up its clients."""
        self.owned: frozenset[int] = frozenset()
        self.counts = {"messages": 0, "transactions": 0, "aborts": 0, "dead_letters": 0, "events": 0}
        self.transactions = Transactions(processor, clients, now)
        self._position: dict[tuple[str, int], int] = {}
        self._ahead: dict[tuple[str, int], int] = {}
        self._ahead_since = self._evicted_at = 0
        self._taken = self._failures = 0
        self._alone = False
        self._read: dict[tuple[str, int], int] = {}
        self._barriers: dict[int, tuple[int, dict[tuple[str, int], int]]] = {}
        self._rebalanced = False
        self._pressure = BackPressure(processor.group, pausable, most_open)
        self._batch = BATCH
        self._refused = False
        self._complaints = Complaints(log, processor.group)

    # ---- lifecycle

    def open(self) -> None:
        """Join the consumer group. Partitions arrive inside a later `step`."""
        self.clients.open_consumer(self.processor.topics, self._assigned, self._revoked, self._lost)

    def close(self) -> None:
        """Hand over: acknowledge what caused nothing, leave the group."""
        if self._ahead:
            self._transact([], [], acknowledge=True)
        self.abandon()

    def abandon(self) -> None:
        """Leave everything as Kafka has it. What was under way aborts; `open` begins anew from there."""
        self.leaving_since = time.monotonic()
        try:
            self.transactions.give_up()
            self.clients.close()
        finally:
            self.leaving_since = None
        self._drop(set(self.processor.partitions))
        self.answers.clear()
        self._refused = False
        self.assigned = False

    # ---- partitions come and go; only ever inside consume()

    def _assigned(self, consumer: Any, assignment: list[TopicPartition]) -> None:
        self._rebalanced = True
        partitions = {tp.partition for tp in assignment}
        check_co_partitioned(self.processor, assignment, partitions)
        self.transactions.take(partitions)
        if partitions:
            self.processor.partition_count = self.clients.count_partitions(self.processor.topics[0])
        positions = positions_of_group(self.processor, self.clients, consumer, assignment)
        self._position.update(positions)
        for partition in partitions:
            self.processor.add_partition(partition)
        began = self.now()
        restored = self.clients.restore(self.processor, partitions, self.transactions.producer)
        self.transactions.note_age(began)
        for partition in partitions:
            self.processor.restored(partition)
        for tp in assignment:
            tp.offset = positions[tp.topic, tp.partition]
        consumer.assign(assignment)
        self._pressure.begin_anew(consumer, assignment)
        for partition in sorted(partitions):
            waiting = self.processor.calls.table.parts.get(partition)
            for key, call in waiting.rows.items() if waiting else ():
                self.performer.start(partition, key, call)
        self.owned = frozenset(partitions)
        self.assigned = True
        log.info("%s owns partitions %s (%d changelog records)", self.processor.group, sorted(partitions), restored)

    def _revoked(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        self._drop({tp.partition for tp in partitions})

    def _lost(self, consumer: Any, partitions: list[TopicPartition]) -> None:
        log.warning("%s lost partitions %s", self.processor.group, sorted({tp.partition for tp in partitions}))
        self.assigned = False
        self.transactions.give_up()  # somebody else may have fenced it
        self._drop({tp.partition for tp in partitions})

    def _drop(self, partitions: set[int]) -> None:
        """What was decided ahead of the next transaction is forgotten with the partitions: the next owner reads it
        again.
        """
        self._rebalanced = True
        self.assigned = False
        self.owned -= partitions
        self.processor.rollback()
        for partition in partitions:
            self.processor.drop_partition(partition)
            self.performer.forget(partition)
            self._barriers.pop(partition, None)
        for state in (self._position, self._ahead, self._read):
            for where in [w for w in state if w[1] in partitions]:
                del state[where]
        self._taken = 0
        for _ in range(len(self.answers)):  # in place: answers are added by another thread meanwhile
            answer = self.answers.popleft()
            if answer.partition not in partitions:
                self.answers.append(answer)

    def waits_for_room(self, topic: str, partition: int) -> bool:
        """Whether what is written there waits on the broker until others have ended. Any thread may ask."""
        return self._pressure.waits(topic, partition)

    # ---- the cycle

    def step(self) -> bool:
        """One turn: take what there is, decide it, commit it. False if there was nothing to do."""
        messages = self._consume()
        if self.owned:
            under_way, open_sagas = self.performer.under_way(), self.processor.open_sagas
            self._pressure.adjust(self.clients.consumer, self.owned, under_way, open_sagas)
        now = self.now()
        self._look_at_what_is_due(now)
        due = [(p, barrier) for p, barrier in self._barriers.items() if self._passed(barrier[1])]
        late = bool(self._ahead) and now - self._ahead_since >= AHEAD_MS
        self._complaints.settle()
        if messages or self.answers or due or late:
            self._transact(messages, due, acknowledge=late)
            return True
        return False

    def _consume(self) -> list[Message]:
        consume = self.clients.consumer.consume
        messages = consume(self._batch, 0)
        if not messages and not self.answers:
            messages = consume(1, BUSY_WAIT if self.performer.under_way() else IDLE_WAIT)
            if messages and self._batch > 1:
                messages += consume(self._batch - 1, 0)
        if self._rebalanced:
            self._rebalanced = False
            messages = self._begin_reading(messages)
        if messages:
            wrong = [m for m in messages if m.error() is not None]
            if wrong:
                stepped_over = self._step_over(wrong)
                for message in wrong:
                    if message.error().code() == KafkaError._PARTITION_EOF:
                        self._read[message.topic(), message.partition()] = message.offset()
                    else:
                        raise_if_hopeless(self.processor.group, message)
                messages = [m for m in messages if m.error() is None] + stepped_over
        return messages  # type: ignore[no-any-return]

    def _begin_reading(self, messages: list[Any]) -> list[Any]:
        """After a rebalance inside consume(): what it returned is read again, but for the consumer's own errors.

        Nothing tells which messages, or ends of partitions, are from before the rebalance. They may be of partitions
        that have gone, or be the very ones that the same partitions, back with this worker, will give again.
        """
        if any(message.topic() is not None for message in messages):
            consumer = self.clients.consumer
            owned = [(tp.topic, tp.partition) for tp in consumer.assignment()]
            if owned:
                consumer.assign([TopicPartition(*where, self._position[where]) for where in owned])
        return [message for message in messages if message.topic() is None]

    def _step_over(self, wrong: list[Any]) -> list[Message]:
        """What stands for records that cannot be unpacked, one of each partition; the consumer goes on behind it.

        Told is the first offset of their batch, which may lie before the one that is to be read.
        """
        found: dict[tuple[str, int], Message] = {}
        for message in wrong:
            where = message.topic(), message.partition()
            if message.error().code() in UNPACKABLE and where not in found:
                offset = max(message.offset(), self._ahead.get(where, self._position[where]))
                found[where] = Unfetched(*where, offset, message.error().str())
                self.clients.consumer.seek(TopicPartition(*where, offset + 1))
        return list(found.values())

    def _transact(self, messages: list[Message], due: list[Due], acknowledge: bool) -> None:
        self.busy_since = time.monotonic()
        try:
            self._decide_and_commit(messages, due, acknowledge)
        finally:
            self.busy_since = None  # also when it is left to begin anew: whoever waits for a broker does not hang

    def _decide_and_commit(self, messages: list[Message], due: list[Due], acknowledge: bool) -> None:
        """Decide, produce, commit. What causes nothing waits for the next transaction, unless it is to be
        acknowledged.
        """
        self.transactions.renew_if_worn()
        # While a culprit is looked for every batch stands alone: no answers, no timers, not even what caused nothing.
        alone = self._alone = bool(messages) and self._batch < BATCH
        answers = [] if alone else [self.answers.popleft() for _ in range(min(len(self.answers), ANSWERS))]
        offsets: list[TopicPartition] = []
        try:
            self._decide(messages, answers, [] if alone else due)
            if self.processor.silent and not (acknowledge or alone):
                return
            self.processor.seal()
            offsets = self._offsets()
            self.transactions.write(offsets)
        except CodecError as error:
            # A decision wrote a row that its schema cannot hold; no transaction is open yet.
            log.warning("%s: a batch cannot be written down: %s", self.processor.group, error)
            self._refused = True
            self._start_over(answers)
            return
        except KafkaException as failure:
            self._refused |= failure.args[0].code() in REFUSALS
            self.counts["aborts"] += 1
            if not self.transactions.happened(failure, [tp for tp in offsets if self._moves(tp)]):
                self._start_over(answers)
                return
        self._done(offsets)

    def _decide(self, messages: list[Message], answers: list[Answer], due: list[Due]) -> None:
        """Messages, then answers, then timers, then rows that go: the journal tells it in this order."""
        if messages:
            if not self._ahead:
                self._ahead_since = self.now()
            self.agent.step(Batch(self.processor, messages))
            self._ahead.update(self.processor.ahead)
            for where, offset in self._ahead.items():
                # What waits to be acknowledged may lie before an end that was told since.
                self._read[where] = max(offset, self._read.get(where, 0))
            self._taken += len(messages)
            self.counts["messages"] += len(messages)
        for answer in answers:
            self.processor.answer(*answer)
        for partition, (until, _) in due:
            fired = self.processor.fire(partition, until) if self.processor.timed else 0
            if self.processor.evict(partition, until) and fired < timers.AT_ONCE:
                del self._barriers[partition]

    def _offsets(self) -> list[TopicPartition]:
        """The positions to commit: of all that was read, and one of each partition whose tables were written."""
        offsets = dict(self._ahead)
        for partition in self.processor.touched - {p for _, p in offsets}:
            where = (self.processor.topics[0], partition)
            offsets[where] = self._position[where]
        return [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]

    def _done(self, offsets: list[TopicPartition]) -> None:
        counts, processor = self.counts, self.processor
        counts["transactions"] += 1
        counts["events"] += len(processor.events)
        counts["dead_letters"] += len(processor.dead)
        for reason, source, saga, error in processor.dead:
            if error is not None:
                self._complaints.say(
                    "%s: %s from %s is a dead letter (%s): %s",
                    processor.group, "saga " + saga if saga else "a message", source, reason, _first_line(error),
                )  # fmt: skip
        if processor.dead and (many := processor.parked.newly_many()):
            log.warning("%s: %d sagas are parked", processor.group, many)
        changed = processor.commit(self.now())
        for tp in offsets:
            self._position[tp.topic, tp.partition] = tp.offset
        self._ahead.clear()
        self._taken = self._failures = 0
        self._refused = False
        self._batch = min(BATCH, self._batch * 2)
        for part, rows in changed.items():
            if part.table == "calls":
                for key, row in rows.items():
                    if row is None:
                        self.performer.stop(part.partition, key)
                    else:
                        self.performer.start(part.partition, key, row)
        self._on_commit(changed)

    # ---- when it goes wrong

    def _moves(self, tp: TopicPartition) -> bool:
        return bool(self._position.get((tp.topic, tp.partition)) != tp.offset)

    def _start_over(self, answers: list[Answer]) -> None:
        """The batch did not happen: tables, answers and the consumer go back to where the last commit left them."""
        self._failures += 1
        # Waiting does not mend a refusal; a culprit is found within some 14 tries.
        if self._failures > 1 and not (self._refused and self._failures < 30):
            self._batch = max(1, self._batch // 2)
            self._sleep(min(LARGEST_PAUSE, LARGEST_PAUSE / 20 * 2**self._failures))
        if self._refused:
            self._narrow_down()
        self.processor.rollback()
        self.answers.extendleft(reversed(answers))
        owned = {(tp.topic, tp.partition) for tp in self.clients.consumer.assignment()}
        for topic, partition in self._ahead:
            if (topic, partition) in owned:
                self.clients.consumer.seek(TopicPartition(topic, partition, self._position[topic, partition]))
        for where in self._ahead:
            self._read.pop(where, None)
        self._ahead.clear()
        self._taken = 0
        self._evicted_at = 0  # what was to go is due still

    def _narrow_down(self) -> None:
        """The broker refuses something that this batch publishes: halve the batch until the culprit stands alone,
        without answers and timers.
        """
        self._refused = False
        if self._taken > 1 or not self._alone:
            self._batch = max(1, min(self._batch, self._taken) // 2)
        else:
            for (topic, partition), offset in self._ahead.items():
                self.processor.condemn(topic, partition, offset - 1)

    # ---- timers, and rows of sagas that ended long ago

    def _look_at_what_is_due(self, now: int) -> None:
        """A partition with a timer or a row due gets a barrier: the ends of all its topics, asked for when it is due.

        When everything before the barrier has been read, no answer from before the due time can lie unread, and no step
        that the row of a saga that was stopped is a bar against.
        """
        due = {p for p in self.processor.partitions if self._is_due(p, now)} if self.processor.timed else set()
        if now - self._evicted_at >= EVICTION_MS:
            self._evicted_at = now
            due.update(self.processor.evictions.due(now))
        partitions = sorted(due - self._barriers.keys())
        if partitions:
            ends = self.clients.end_offsets([(topic, p) for p in partitions for topic in self.processor.topics])
            for partition in partitions:
                self._barriers[partition] = (now, {where: end for where, end in ends.items() if where[1] == partition})

    def _is_due(self, partition: int, now: int) -> bool:
        due = self.processor.timers.next_due(partition)
        return due is not None and due <= now

    def _passed(self, barrier: dict[tuple[str, int], int]) -> bool:
        # What begins sagas and is paused is not waited for: a timer may be what ends one and lets it be resumed.
        ends = [each for each in barrier.items() if each[0] not in self._pressure.intake_paused]
        return all(max(self._read.get(where, 0), self._position.get(where, 0)) >= end for where, end in ends)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__
