"""Where a service's group stands in its topics, asked when partitions arrive or a transaction's fate is unknown.

Invariant: a group begins at the beginning on purpose, and only if it is new. Positions that are gone, or topics that
do not fit each other, are refused in words.
"""

from __future__ import annotations

import logging
from typing import Any, NoReturn

from confluent_kafka import KafkaException, TopicPartition

from farandole.errors import BrokerError
from farandole.ports import Clients
from farandole.processor import Processor

log = logging.getLogger(__name__)

TRIES = 20
"""Times that a group's stable offsets are asked for, some seconds each; a transaction's time-out is over by then."""

Offsets = dict[tuple[str, int], int]
"""(topic, partition) → offset of the next record."""


def check_co_partitioned(processor: Processor, assignment: list[TopicPartition], partitions: set[int]) -> None:
    """BrokerError if a partition comes without its siblings of the service's other topics."""
    have = {(tp.topic, tp.partition) for tp in assignment}
    missing = sorted(f"{t}[{p}]" for t in processor.topics for p in partitions if (t, p) not in have)
    if missing:
        raise BrokerError(
            f"{processor.group}: the topics of a service must have equal partition counts; not assigned with "
            f"their siblings: {', '.join(missing[:5])}",
            where="topics.yaml and the cluster",
            mend="farandole topics plan",
        )


def positions_of_group(
    processor: Processor, clients: Clients, consumer: Any, assignment: list[TopicPartition]
) -> Offsets:
    """Where to read on in each partition. BrokerError if that is lost."""
    if not assignment:
        return {}
    positions = stable_offsets(consumer, assignment, processor.group)
    journal = f"{processor.namespace}{processor.service}.journal"
    worked_on = {partition for partition in _without(positions) if clients.has_history(journal, partition)}
    if worked_on:
        # Somebody else may have owned them, and committed, since the group was asked: this worker is too late
        # then, and will be told so. Positions that are gone are gone the second time, too.
        positions = stable_offsets(consumer, assignment, processor.group)
        for partition in sorted(worked_on & _without(positions)):
            _refuse(processor.group, journal, partition)
    return positions | clients.first_offsets([where for where, offset in positions.items() if offset < 0])


def _without(positions: Offsets) -> set[int]:
    """Partitions in none of whose topics the group has a position."""
    return {p for _, p in positions} - {p for (_, p), offset in positions.items() if offset >= 0}


def _refuse(group: str, journal: str, partition: int) -> NoReturn:
    raise BrokerError(
        f"{group} has worked on partition {partition} before, but the group's committed "
        "positions are gone; beginning at the beginning would do everything twice",
        where=f"consumer group {group}, journal {journal}",
        mend="set the group's offsets from the journal's last lines, or delete journal and changelogs to begin anew",
    )


def stable_offsets(consumer: Any, partitions: list[TopicPartition], group: str) -> Offsets:
    """What the group has committed; waits while a pending transaction of a former owner may still change it."""
    for attempt in range(TRIES):
        try:
            offsets: list[TopicPartition] = consumer.committed(partitions, timeout=5.0)
            for tp in offsets:
                if tp.error is not None:
                    raise KafkaException(tp.error)
            return {(tp.topic, tp.partition): tp.offset for tp in offsets}
        except KafkaException as error:
            if attempt == TRIES - 1:
                raise
            log.warning("%s: waiting for stable offsets: %s", group, error.args[0])
    raise AssertionError("unreachable")
