"""A member of a consumer group, as librdkafka makes one.

Invariant: the application learns of gained, revoked and lost partitions inside `consume` or `close`, nowhere else, and
           gets no message of a partition that is not its own by then; but in the very call in which partitions go,
           as librdkafka was seen to do, some of theirs that were fetched before may still come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import OFFSET_INVALID, KafkaError, TopicPartition

from farandole.simulation.kafka import Cluster
from farandole.simulation.kafka_errors import timed_out
from farandole.simulation.kafka_fetch import Fetcher
from farandole.simulation.kafka_groups import Member, Metadata
from farandole.simulation.kafka_log import Notice

Callback = Callable[["Consumer", list[TopicPartition]], None]


class Consumer(Fetcher):
    """Args: as those of ModelClients; touch(point): announces a point, gives a fault or None."""

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        instance: str,
        topics: list[str],
        callbacks: tuple[Callback, Callback, Callback],
        touch: Callable[[str], str | None],
        ends: bool,
    ) -> None:
        super().__init__(cluster, ends, shuffled=True)
        self.group, self._instance, self._topics = cluster.group(group), instance, tuple(topics)
        self._on_assign, self._on_revoke, self._on_lost = callbacks
        self._touch = touch
        self.member: Member | None = None
        self._seen = -1
        self._fenced = False

    # ---- messages

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Any]:
        """At most so many messages and notices; `timeout` is for the runner to spend."""
        fault = self._touch("consume")
        self._cluster.tick()
        stale: list[Any] = []
        if self.group.version != self._seen:
            if self._cursors and self._cluster.choose(2, "messages fetched before a rebalance come after it"):
                stale = self._fetch(num_messages)
            before = self._cursors
            notices = self._attend()
            if notices:
                return notices
            if self._cursors is not before:  # else there was no rebalance for this member, and they are its own
                stale = [m for m in stale if (m.topic(), m.partition()) not in self._cursors]
        if fault == "fail":  # what was fetched already is delivered all the same
            return [*stale, Notice(KafkaError(KafkaError._TRANSPORT, "planted", False, True, False))]
        return stale + self._fetch(num_messages - len(stale)) if self._cursors else stale

    # ---- the group

    def _attend(self) -> list[Notice]:
        """Whatever the group wants of this member."""
        group, member = self.group, self.member
        if self._fenced:
            return []
        if member is not None:
            present = group.members.get(self._instance)
            if present is None:
                self.member = None
                self._give_back(self._on_lost)
            elif present is not member:
                # librdkafka says so once, takes the partitions without a callback, and is of no use any more.
                self._fenced = True
                self.unassign()
                code, name = KafkaError._FATAL, "static consumer fenced by other consumer with same group.instance.id"
                return [Notice(KafkaError(code, f"Fatal error: {name}"))]
            elif group.preparing and not member.joined:
                self._give_back(self._on_revoke)
                if group.members.get(self._instance) is member:
                    group.rejoin(member)
        if self.member is None:
            self._touch("join")
            self.member = group.join(self._instance, self._topics)
        member = self.member
        self._seen = group.version
        if member.fresh and group.members.get(self._instance) is member and not group.preparing:
            member.fresh = False
            self._on_assign(self, [TopicPartition(t, p, OFFSET_INVALID) for t, p in member.assignment])
        return []

    def _give_back(self, callback: Callback) -> None:
        if self._cursors:
            try:
                callback(self, self.assignment())
            finally:
                self.unassign()

    def consumer_group_metadata(self) -> Metadata:
        member = self.member
        if member is None:
            return Metadata(self.group.name, self._instance, "", -1)
        return Metadata(self.group.name, self._instance, member.id, member.generation)

    def memberid(self) -> str | None:
        return self.member.id if self.member else None

    # ---- positions

    def committed(self, partitions: Iterable[TopicPartition], timeout: float = -1) -> list[TopicPartition]:
        """The group's stable offsets. Waits while a transaction holds one that is not decided."""
        fault = self._touch("committed")
        cluster, wanted = self._cluster, [(tp.topic, tp.partition) for tp in partitions]
        cluster.tick()
        until = cluster.now() + round(timeout * 1000)
        while cluster.transactions.is_pending(self.group.name, wanted):
            if not cluster.wait(until):
                raise timed_out("Failed to get committed offsets")
        if fault == "fail":
            raise timed_out("Failed to get committed offsets")
        offsets = self.group.offsets
        return [TopicPartition(topic, p, offsets.get((topic, p), OFFSET_INVALID)) for topic, p in wanted]

    def close(self) -> None:
        """Without leaving the group: a static member's place is kept until its session is over."""
        try:
            lost = self.member is not None and self.group.members.get(self._instance) is not self.member
            self._give_back(self._on_lost if lost else self._on_revoke)
        finally:
            if self.member is not None:
                self._cluster.silence(self.group, self.member)
