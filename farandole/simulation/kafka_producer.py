"""A transactional producer, as librdkafka makes one.

Invariants:
- A producer that was fenced fails in every call from then on, and changes nothing.
- An error that requires an abort stays until the abort.
- Nothing is written before `flush` or the commit; part of a flush may have gone out before it, so a crash at its
  beginning leaves records or not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from farandole.simulation.kafka import OVERHEAD, Cluster
from farandole.simulation.kafka_errors import failure, fenced, timed_out
from farandole.simulation.kafka_groups import Metadata
from farandole.simulation.kafka_log import PartitionLog
from farandole.simulation.kafka_transactions import Outgoing

LARGEST_REQUEST = 2_097_152
"""The producer's own message.max.bytes."""


class Producer:
    """Args: cluster; transactional id; touch(point): announces a point, gives a fault or None."""

    def __init__(self, cluster: Cluster, transactional_id: str, touch: Callable[[str], str | None]) -> None:
        self._cluster, self.id, self._touch = cluster, transactional_id, touch
        self.epoch = -1
        self._buffer: list[Outgoing] = []
        self._open = self._registered = False
        """registered: the coordinator knows of the transaction, as something belongs to it."""
        self._fatal: KafkaException | None = None
        self._abort: KafkaException | None = None
        self._undecided = False
        """The commit's outcome is unknown: nothing more can be done with this producer."""
        self._skipped: set[PartitionLog] = set()
        """Where a batch was refused: the next one there comes with a sequence number that the broker does not expect,
        and only the abort after that sets it right, with a new epoch.
        """

    def init_transactions(self, timeout: float = -1) -> None:
        fault = self._touch("init")
        self._cluster.tick()
        if fault is None or self._happens(fault):
            self.epoch = self._cluster.transactions.init(self.id)
        if fault is not None:
            raise timed_out("init_transactions", retriable=True)

    def begin_transaction(self) -> None:
        self._touch("begin")
        if self._fatal is not None:
            raise self._fatal
        if self._open:
            raise failure(KafkaError._STATE, "a transaction is open already")
        self._open = True

    def produce(
        self,
        topic: str,
        value: bytes | str | None = None,
        key: bytes | str | None = None,
        partition: int = -1,
        headers: Iterable[tuple[str, bytes | None]] = (),
    ) -> None:
        if not self._buffer:
            self._touch("produce")
        if self._fatal is not None:
            raise failure(KafkaError._FATAL, "unable to produce message: fatal error")
        if not self._open:
            raise failure(KafkaError._STATE, "no transaction is open")
        if type(key) is str:
            key = key.encode()
        if type(value) is str:
            value = value.encode()
        if value is not None and len(value) > LARGEST_REQUEST:
            raise failure(KafkaError.MSG_SIZE_TOO_LARGE, "unable to produce message: message size too large")
        log = self._cluster.log_for(topic, key, partition)  # type: ignore[arg-type]
        self._buffer.append(Outgoing(log, key, value, tuple(headers)))  # type: ignore[arg-type]

    def flush(self, timeout: float = -1) -> int:
        """Write what was produced. A record that is refused shows in the next call, as librdkafka has it."""
        if self._buffer and self._cluster.choose(2, "whether records go out before the flush"):
            self._write()
        fault = self._touch("flush")
        if self._fatal is None and self._abort is None:
            if fault is None or self._happens(fault):
                self._write()
            if fault is not None and self._abort is None:
                self._abort = failure(KafkaError._MSG_TIMED_OUT, "planted: records timed out", abort=True)
        if self._fatal is not None:
            raise self._fatal
        self._touch("flushed")
        return 0

    def _write(self) -> None:
        buffer, self._buffer = self._buffer, []
        if not buffer or self._fatal is not None or self._abort is not None:
            return
        refused = {
            out.log for out in buffer if OVERHEAD + len(out.key or b"") + len(out.value or b"") > out.log.largest
        }
        unwanted = refused
        if refused:
            self._abort = failure(KafkaError.MSG_SIZE_TOO_LARGE, "message size too large", abort=True)
        elif self._skipped:
            unwanted = self._skipped & {out.log for out in buffer}
            if unwanted:
                self._abort = failure(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "skipped sequence numbers", abort=True)
        if unwanted:  # a partition's batch is refused as a whole
            buffer = [out for out in buffer if out.log not in unwanted]
        self._skipped |= refused
        self._registered = True
        self._cluster.tick()
        if not self._cluster.transactions.write(self.id, self.epoch, buffer):
            self._fatal = fenced()

    def send_offsets_to_transaction(
        self, positions: list[TopicPartition], group_metadata: Metadata, timeout: float = -1
    ) -> None:
        fault = self._touch("offsets")
        self._raise_failure()
        cluster = self._cluster
        cluster.tick()
        if fault is None or self._happens(fault):
            if not positions:
                return
            self._registered = True
            if not cluster.transactions.add_offsets(self.id, self.epoch):
                self._fatal = fenced()
                raise self._fatal
            code = cluster.group(group_metadata.group).refusal(group_metadata)
            if code is not None:
                self._abort = failure(code, "failed to commit offsets to transaction", abort=True)
                raise self._abort
            moved = {(tp.topic, tp.partition): tp.offset for tp in positions}
            cluster.transactions.pend_offsets(self.id, group_metadata.group, moved)
        if fault == "fail":
            self._abort = failure(KafkaError.REQUEST_TIMED_OUT, "planted: offsets", abort=True)
            raise self._abort
        if fault is not None:
            raise timed_out("send_offsets_to_transaction", retriable=True)

    def commit_transaction(self, timeout: float = -1) -> None:
        fault = self._touch("commit.before")
        self._raise_failure()
        if fault == "fail":
            self._abort = failure(KafkaError.REQUEST_TIMED_OUT, "planted: commit", abort=True)
            raise self._abort
        self._write()
        self._raise_failure()
        if fault is None or self._happens(fault):
            self._end(commits=True)
            fault = self._touch("commit.after") or fault
        if fault is not None:
            self._undecided = True
            raise timed_out("commit_transaction", retriable=True)
        self._open = False

    def abort_transaction(self, timeout: float = -1) -> None:
        fault = self._touch("abort")
        if self._fatal is not None:
            raise self._fatal
        if self._undecided:
            raise failure(KafkaError._STATE, "the transaction is being committed")
        self._buffer = []
        if fault is None or self._happens(fault):
            self._end(commits=False)
        if fault is not None:
            raise timed_out("abort_transaction", retriable=True)
        if self._abort is not None and self._abort.args[0].code() == KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER:
            self._skipped.clear()
            self.epoch = self._cluster.transactions.init(self.id)
        self._open, self._abort = False, None

    def close(self) -> None:
        self._buffer = []

    def _end(self, commits: bool) -> None:
        if not self._registered:
            return  # nobody is asked, so one that was fenced does not learn it
        self._registered = False
        self._cluster.tick()
        if not self._cluster.transactions.end(self.id, self.epoch, commits):
            self._fatal = fenced()
            raise self._fatal

    def _raise_failure(self) -> None:
        if self._fatal is not None:
            raise self._fatal
        if self._abort is not None:
            raise self._abort
        if not self._open:
            raise failure(KafkaError._STATE, "no transaction is open")

    def _happens(self, fault: str) -> bool:
        """Whether what failed for the client happened on the broker all the same."""
        return bool(self._cluster.choose(2, f"whether it happened all the same ({fault})"))
