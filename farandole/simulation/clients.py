"""The clients of a worker, on the model of Kafka.

What the real KafkaClients do with a consumer, its reader or its ends is inherited, so restoring and looking for
history are the very same code.

Invariant: a worker touches the model only through these; each touch is announced to `hook` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from farandole.clients import KafkaClients
from farandole.simulation.kafka import Cluster

POINTS = (
    "join",  # about to join the group, inside consume
    "consume",
    "committed",
    "restore",
    "ends",
    "init",  # about to call init_transactions, for the worker's own id or one that it fences
    "begin",
    "produce",  # before the first record of a transaction is produced; nothing of it is written yet
    "flush",  # before the records are written
    "flushed",  # they are written, the transaction is open
    "offsets",  # before the offsets are added to the transaction
    "commit.before",  # the request is not sent yet
    "commit.after",  # done on the broker, the answer not seen yet
    "abort",
    "close",
)
"""Every point at which a worker's hook is called.

The hook may raise (the worker is killed at that point: its heartbeats end, nothing else is said to Kafka); run other
workers (this one is frozen meanwhile: no heartbeats either, so a session may run out); or return the name of a fault:

    "fail"     flush, offsets, commit.before: the transaction fails with an error that requires an abort.
               init, committed, ends: a time-out error. consume: a transport error among the messages.
    "unknown"  offsets, commit.before, commit.after, abort, init: a time-out; the model asks `choose(2, …)` whether it
               happened all the same (commit.after: it did)
"""


class ModelClients(KafkaClients):
    """One life of one worker's clients. A worker that was killed comes back with new ones.

    Args:
        cluster:  the model
        group:    consumer group
        instance: static membership id
        hook:     called at each of POINTS
        timed:    report ends of partitions (the service has timers)
    """

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        instance: str,
        hook: Callable[[str], str | None] = lambda point: None,
        timed: bool = False,
    ) -> None:
        super().__init__({}, group, instance, timed=timed)
        self.cluster, self.hook = cluster, hook

    def open_consumer(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None:
        raise NotImplementedError

    def producer(self, transactional_id: str) -> Any:
        raise NotImplementedError

    def fence(self, transactional_ids: list[str]) -> None:
        raise NotImplementedError

    def first_offsets(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        raise NotImplementedError

    def count_partitions(self, topic: str) -> int:
        raise NotImplementedError

    def end_offsets(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        raise NotImplementedError

    def close(self) -> None:
        """Leave the group."""
        raise NotImplementedError

    # ---- what happens to a worker

    def kill(self) -> None:
        """kill -9: no heartbeat any more, and nothing else. Called by itself when the hook raises."""
        raise NotImplementedError

    def freeze(self) -> None:
        """SIGSTOP between two steps: heartbeats pause. Inside a hook this happens by itself."""
        raise NotImplementedError

    def thaw(self) -> None:
        """SIGCONT: heartbeats go on, if the group still has the member."""
        raise NotImplementedError
