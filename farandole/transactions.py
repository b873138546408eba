"""The transactions of one service in one worker: their producer, and what became of one that nobody confirmed.

Invariants:
- After a transaction that failed, or took long, the producer is thrown away: librdkafka has no KIP-890, so a late copy
  of a request would count for the next transaction, and tear it. A new epoch refuses it.
- After an unknown outcome the group's stable offsets tell which of the two it was.
- A worker that was fenced makes no producer: that would fence the rightful owner in turn.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from farandole.kafkaerrors import FENCED, Inconsistent
from farandole.ports import Clients
from farandole.positions import stable_offsets
from farandole.processor import Processor

log = logging.getLogger(__name__)

OFFSETS_TIMEOUT = 10.0
"""Seconds for the offsets to be added; the broker aborts an older transaction anyway."""

SLOW_MS = 400
"""Milliseconds from a transaction's beginning to its end after which its producer is not used for another one. Within
them librdkafka sends no request twice (clients.RETRY_BACKOFF_MS); beyond, a copy of one may be on its way still.
"""

COMMIT_TIMEOUT = 30.0
"""Seconds after which the outcome of a commit is called unknown; above the broker's own time-outs."""


class Transactions:
    """One transaction after the other, by one producer, named after the lowest partition that the worker owns.

    Args:
        processor: what its batches have brought about is written
        clients:   Kafka, or the model of it
        now:       wall clock, milliseconds since 1970
    """

    def __init__(self, processor: Processor, clients: Clients, now: Callable[[], int]) -> None:
        self.processor, self.clients, self.now = processor, clients, now
        self.group = processor.group
        self.producer: Any = None
        self.id = ""
        self.worn = False
        """Whether a request of the producer may still be on its way."""
        self.committing = False

    # ---- the producer

    def take(self, partitions: set[int]) -> None:
        """A producer for these partitions, and an end to what former owners have left open in them.

        Whoever gains a partition fences its old transactional id: a dead worker's hanging transaction would freeze
        the readers of its partitions until the transaction time-out.
        """
        if not partitions:
            self.producer = None
            return
        lowest = min(partitions)
        wanted = self._id_of(lowest)
        if self.producer is None or self.id != wanted or self.worn:
            self.id = wanted
            self._renew()
        self.clients.fence([self._id_of(p) for p in sorted(partitions) if p != lowest])

    def give_up(self) -> None:
        self.producer = None

    def note_age(self, began: int) -> None:
        """What began then (ms) has ended now."""
        self.worn = not 0 <= self.now() - began < SLOW_MS

    def renew_if_worn(self) -> None:
        if self.worn:
            self._renew()

    def _renew(self) -> None:
        """The same id: init_transactions completes or aborts what the old producer left behind."""
        self.producer = None
        self.producer = self.clients.producer(self.id)
        self.worn = False

    def _id_of(self, partition: int) -> str:
        return f"{self.group}-{partition}"

    # ---- a transaction

    def write(self, offsets: list[TopicPartition]) -> None:
        """What the processor has gathered, and the offsets up to which it was taken. KafkaException: see `happened`."""
        self.committing = False
        began = self.now()
        self.producer.begin_transaction()
        self.produce()
        self.flush()
        self.producer.send_offsets_to_transaction(
            offsets, self.clients.consumer.consumer_group_metadata(), OFFSETS_TIMEOUT
        )
        self.committing = True
        self.producer.commit_transaction(COMMIT_TIMEOUT)
        self.note_age(began)

    def produce(self) -> None:
        produce, processor = self.producer.produce, self.processor
        try:
            for event in processor.events:
                produce(*event)
            for record in processor.records:
                produce(*record)
            for topic, value, key, partition, headers in processor.letters:
                produce(topic, value, key, partition, headers=headers)
        except BufferError as error:
            # The queue holds far more than the largest batch; so this is a batch that no queue will ever hold.
            raise KafkaException(KafkaError(KafkaError._QUEUE_FULL, str(error), False, False, True)) from error

    def flush(self) -> None:
        """Before the offsets are sent: a commit took 8 ms instead of 30."""
        self.producer.flush()

    # ---- when it goes wrong

    def happened(self, failure: KafkaException, moving: list[TopicPartition]) -> bool:
        """Make certain what became of the transaction that failed so, and tell it.

        Args:
            moving: its offsets that are not those of the last transaction

        Inconsistent: this worker was fenced, or Kafka's answer fits neither fate. Then the engine begins anew from
                      what Kafka has.
        """
        error = failure.args[0]
        log.warning("%s: transaction failed: %s", self.group, error)
        if error.code() in FENCED:
            raise Inconsistent(f"{self.group}: another worker has taken over ({error.name()})") from failure
        if (error.txn_requires_abort() or not self.committing) and self._aborted():
            return False
        self._renew()
        if not self.committing:
            return False
        stand = stable_offsets(self.clients.consumer, moving, self.group) if moving else {}
        moved = [stand[tp.topic, tp.partition] == tp.offset for tp in moving]
        if not moved or any(moved) != all(moved):
            raise Inconsistent(f"{self.group}: cannot tell whether a transaction was committed") from failure
        return moved[0]

    def _aborted(self) -> bool:
        try:
            self.producer.abort_transaction(COMMIT_TIMEOUT)
        except KafkaException as worse:
            log.warning("%s: abort failed: %s", self.group, worse.args[0])
            if worse.args[0].code() in FENCED:
                raise Inconsistent(f"{self.group}: another worker has taken over") from worse
            return False
        # A producer is made anew only when it is needed: this worker may be one that has lost its partitions.
        self.worn = True
        return True
