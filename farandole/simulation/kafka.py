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

from farandole.clients import SESSION_TIMEOUT_MS, TRANSACTION_TIMEOUT_MS
from farandole.partitioner import murmur2
from farandole.simulation.kafka_groups import Group, Member
from farandole.simulation.kafka_log import PartitionLog, Stored
from farandole.simulation.kafka_transactions import Transactions

Place = tuple[str, int]

LARGEST_RECORD = 1_048_588
"""Bytes of a record, with its overhead, that a topic takes unless it is said otherwise (max.message.bytes)."""

OVERHEAD = 73
"""Bytes around a record's key and value, in a batch of its own."""


class Cluster:
    """Topics, transactions and groups.

    Args:
        topics:  name → number of partitions
        now:     virtual time, milliseconds since 1970; never goes backwards
        choose:  (n, what) → 0 … n - 1; asked for every decision that a real cluster would leave to chance
        advance: let the virtual time pass to this moment, called when a client waits for something that only time
                 brings (a hanging transaction's time-out). Nobody else may run meanwhile. Without it such a wait times
                 out at once.
        largest: topic → max.message.bytes, where it is not the usual one
    """

    def __init__(
        self,
        topics: Mapping[str, int],
        now: Callable[[], int],
        choose: Callable[[int, str], int] = lambda n, what: 0,
        advance: Callable[[int], None] | None = None,
        largest: Mapping[str, int] | None = None,
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
        transaction_timeout_ms: int = TRANSACTION_TIMEOUT_MS,
    ) -> None:
        self.topics: dict[str, int] = {}
        self.now, self.choose, self._advance = now, choose, advance
        self.logs: dict[str, list[PartitionLog]] = {}
        self.groups: dict[str, Group] = {}
        self.transactions = Transactions(now, choose, transaction_timeout_ms, self._commit_offsets, self.touch)
        self.version = 0
        """Changes whenever a reader may find more than before."""
        self._session_timeout = session_timeout_ms
        self._silent: dict[Member, Group] = {}
        self._lost = 0
        self._hashes: dict[bytes, int] = {}
        for topic, partitions in topics.items():
            self.add_topic(topic, partitions, largest.get(topic) if largest else None)

    def add_topic(self, topic: str, partitions: int, largest: int | None = None) -> None:
        self.topics[topic] = partitions
        self.logs[topic] = [PartitionLog(topic, p, largest or LARGEST_RECORD) for p in range(partitions)]

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
        log = self.log_for(topic, key, -1 if partition is None else partition)
        stored = log.append(self.now(), key, value, tuple(headers))
        self.touch()
        return stored.partition, stored.offset

    def read(self, topic: str, partition: int, committed: bool = True) -> list[Stored]:
        """All records of a partition; with `committed` without those of aborted and open transactions, and none that
        lie behind an open one. Control records are never among them.
        """
        return self.logs[topic][partition].read(committed)

    def ends(self, committed: bool = False) -> dict[Place, int]:
        """Where each partition ends: the next offset, or with `committed` the last stable offset."""
        return {
            (topic, log.partition): log.stable_end if committed else len(log.records)
            for topic, logs in self.logs.items()
            for log in logs
        }

    def committed(self, group: str) -> dict[Place, int]:
        """The group's stable offsets."""
        return dict(self.group(group).offsets)

    def counts(self) -> dict[str, int]:
        """What has happened so far."""
        groups = self.groups.values()
        return {
            **self.transactions.counts,
            "rebalances": sum(group.generation for group in groups),
            "takeovers": sum(group.takeovers for group in groups),
            "sessions_lost": self._lost,
        }

    # ---- time

    def tick(self) -> None:
        """Do what is due by now: sessions and transactions that time out, markers that were late."""
        if not (self._silent or self.transactions.under_way):
            return
        now = self.now()
        self.transactions.tick(now)
        for member, group in list(self._silent.items()):
            assert member.silent_since is not None
            if now >= member.silent_since + self._session_timeout:
                self._lost += group.members.get(member.instance) is member
                self.remove(group, member)

    def next_deadline(self) -> int | None:
        """When `tick` would next do something (ms), or None."""
        deadlines = [m.silent_since + self._session_timeout for m in self._silent if m.silent_since is not None]
        transactions = self.transactions.next_deadline()
        if transactions is not None:
            deadlines.append(transactions)
        return min(deadlines, default=None)

    def wait(self, until: int) -> bool:
        """Let time pass to the next deadline; False if there is none before `until` (ms), and time has passed to
        that.
        """
        if self._advance is None:
            return False
        deadline = self.next_deadline()
        self._advance(min(until, deadline) if deadline is not None else until)
        if deadline is None or deadline > until:
            return False
        self.tick()
        return True

    # ---- faults

    def expire(self, group: str, instance: str) -> None:
        """The group loses this member as if its heartbeats had not arrived; the member finds out in `consume`."""
        found = self.group(group).members.get(instance)
        if found is not None:
            self._lost += 1
            self.remove(self.group(group), found)

    # ---- what the clients are made of

    def group(self, name: str) -> Group:
        found = self.groups.get(name)
        if found is None:
            found = self.groups[name] = Group(name, self.topics)
        return found

    def remove(self, group: Group, member: Member) -> None:
        """The member is no longer in its group, by its own wish or not."""
        self._silent.pop(member, None)
        group.remove(member)

    def silence(self, group: Group, member: Member) -> None:
        """No heartbeats from now on."""
        if member.silent_since is None and group.members.get(member.instance) is member:
            member.silent_since = self.now()
            self._silent[member] = group

    def speak(self, member: Member) -> None:
        """Heartbeats again, if the session is not over."""
        since = member.silent_since
        if since is not None:
            if self.now() >= since + self._session_timeout:
                self.tick()
            member.silent_since = None
            self._silent.pop(member, None)

    def log_for(self, topic: str, key: bytes | None, partition: int) -> PartitionLog:
        """The partition that a producer writes to: the given one, or the key's (murmur2)."""
        logs = self.logs[topic]
        if partition >= 0:
            return logs[partition]
        if key is None:
            return logs[self.choose(len(logs), "partition of a record without a key") if len(logs) > 1 else 0]
        hashed = self._hashes.get(key)
        if hashed is None:
            hashed = self._hashes[key] = murmur2(key) & 0x7FFFFFFF
        return logs[hashed % len(logs)]

    def touch(self) -> None:
        self.version += 1

    def _commit_offsets(self, group: str, positions: dict[Place, int]) -> None:
        self.group(group).offsets.update(positions)
