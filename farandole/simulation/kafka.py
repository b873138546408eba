"""A deterministic model of Kafka: one cluster in memory, one thread, virtual time.

Invariants:
- What the model does depends on its inputs, `now` and `choose` alone.
- 0 is always the plain answer to `choose`: everything that is there, in order, no fault.
- It knows as much of Kafka as the engine relies on; the conformance tests hold each of these semantics to a real one.

Parts: kafka_log (partitions), kafka_transactions (producers and their transactions), kafka_groups (members and their
offsets); clients.py has what a worker sees of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from farandole.simulation.kafka_log import Stored


class Cluster:
    """Topics, transactions and groups.

    Args:
        topics:  name → number of partitions
        now:     virtual time, milliseconds since 1970; never goes backwards
        choose:  (n, what) → 0 … n - 1; asked for every decision that a real cluster would leave to chance
        advance: let the virtual time pass to this moment, called when a client waits for something that only time
                 brings (a hanging transaction's time-out). Nobody else may run meanwhile. Without it such a wait times
                 out at once.
    """

    def __init__(
        self,
        topics: Mapping[str, int],
        now: Callable[[], int],
        choose: Callable[[int, str], int] = lambda n, what: 0,
        advance: Callable[[int], None] | None = None,
    ) -> None:
        raise NotImplementedError

    # ---- clients outside any transaction, and checks

    def append(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[tuple[str, bytes | None]] = (),
        partition: int | None = None,
    ) -> tuple[int, int]:
        """Write a record as a plain producer does. Returns (partition, offset)."""
        raise NotImplementedError

    def read(self, topic: str, partition: int, committed: bool = True) -> list[Stored]:
        """All records of a partition; with `committed` without those of aborted and open transactions, and none that
        lie behind an open one. Control records are never among them.
        """
        raise NotImplementedError

    def ends(self, committed: bool = False) -> dict[tuple[str, int], int]:
        """Where each partition ends: the next offset, or with `committed` the last stable offset."""
        raise NotImplementedError

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """The group's stable offsets."""
        raise NotImplementedError

    # ---- time

    def tick(self) -> None:
        """Do what is due by now: sessions and transactions that time out, markers that were late."""
        raise NotImplementedError

    def next_deadline(self) -> int | None:
        """When `tick` would next do something (ms), or None."""
        raise NotImplementedError

    # ---- faults

    def expire(self, group: str, instance: str) -> None:
        """The group loses this member as if its heartbeats had not arrived; the member finds out in `consume`."""
        raise NotImplementedError
