"""The group coordinator: static members, generations, range assignment, committed offsets.

Invariants:
- A generation begins when every member has joined again; until then its positions may still be committed.
- Nobody but a member of the present generation, under its present member id, commits positions.
- An instance that joins again before its session is over takes over id, generation and partitions without a
  rebalance; whoever had the instance before is fenced.

What it leaves out: the leader that computes the assignment (partitions are assigned the moment the last member has
joined), and the limit on how long a live member may go without consuming.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import KafkaError

Place = tuple[str, int]


class Metadata(NamedTuple):
    """What `consumer_group_metadata` captures."""

    group: str
    instance: str
    member: str
    generation: int


class Member:
    """One life of an instance in its group."""

    __slots__ = ("assignment", "fresh", "generation", "id", "instance", "joined", "silent_since", "topics")

    def __init__(self, instance: str, id: str, topics: tuple[str, ...]) -> None:
        self.instance, self.id, self.topics = instance, id, topics
        self.generation = -1
        self.assignment: list[Place] = []
        self.fresh = False
        """The assignment has not been handed to the application yet."""
        self.joined = False
        """It has joined the generation that is being prepared."""
        self.silent_since: int | None = None
        """Since when no heartbeat comes; None: heartbeats come."""


class Group:
    """Args: name; partitions: topic → how many."""

    def __init__(self, name: str, partitions: Mapping[str, int]) -> None:
        self.name, self._partitions = name, partitions
        self.members: dict[str, Member] = {}
        self.generation = self.takeovers = 0
        self.preparing = False
        self.offsets: dict[Place, int] = {}
        self.version = 0
        """Changes whenever a member may have something to find out."""
        self._serial = 0

    # ---- membership

    def join(self, instance: str, topics: tuple[str, ...]) -> Member:
        """A new life of this instance."""
        self._serial += 1
        former = self.members.get(instance)
        member = self.members[instance] = Member(instance, f"{instance}-{self._serial}", topics)
        self.version += 1
        if former is not None and not self.preparing and former.topics == topics:
            member.generation, member.assignment, member.fresh = self.generation, former.assignment, True
            self.takeovers += 1
            return member
        self._prepare()
        self.rejoin(member)
        return member

    def rejoin(self, member: Member) -> None:
        """The member has given back its partitions and waits for the next generation."""
        member.joined = True
        self._complete()

    def remove(self, member: Member) -> None:
        """It left, or its session is over. Nothing if another life has its instance now."""
        if self.members.get(member.instance) is member:
            del self.members[member.instance]
            self.version += 1
            self._prepare()
            self._complete()

    def _prepare(self) -> None:
        if not self.preparing:
            self.preparing = True
            self.version += 1
            for member in self.members.values():
                member.joined = False

    def _complete(self) -> None:
        if not all(member.joined for member in self.members.values()):
            return
        self.preparing = False
        self.generation += 1
        self.version += 1
        assigned = self._range()
        for member in self.members.values():
            member.generation, member.assignment, member.fresh = self.generation, assigned[member.instance], True

    def _range(self) -> dict[str, list[Place]]:
        """Per topic: the members in the order of their instances, each a stretch, longer ones first."""
        assigned: dict[str, list[Place]] = {instance: [] for instance in self.members}
        for topic in sorted({topic for member in self.members.values() for topic in member.topics}):
            hearers = sorted(instance for instance, member in self.members.items() if topic in member.topics)
            each, more = divmod(self._partitions[topic], len(hearers))
            first = 0
            for number, instance in enumerate(hearers):
                last = first + each + (number < more)
                assigned[instance] += [(topic, partition) for partition in range(first, last)]
                first = last
        return assigned

    # ---- who may commit

    def refusal(self, metadata: Metadata) -> int | None:
        """The error code for whoever is not a member of the present generation."""
        member = self.members.get(metadata.instance)
        if member is None:
            return int(KafkaError.UNKNOWN_MEMBER_ID)
        if member.id != metadata.member:
            return int(KafkaError.FENCED_INSTANCE_ID)
        if metadata.generation != self.generation:
            return int(KafkaError.ILLEGAL_GENERATION)
        return None
