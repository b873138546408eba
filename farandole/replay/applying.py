"""*rebuild --apply*: tables from history in the place of the live ones: their changelogs are brought to say the same.

Invariants:
- No worker of the service lives: its group has no members, and every transactional id that one could still write with
  is fenced before the first record is written. One that starts meanwhile fences this in turn, and it stops.
- A partition is changed in one transaction, or not. Doing it again does what is left.
- Nothing is written unless the journal ends where the rebuilt tables stand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from confluent_kafka import KafkaException

from farandole.audit.reading import Progress, Source
from farandole.clients import KafkaClients
from farandole.config import ClientConfig
from farandole.errors import ReplayError
from farandole.owners import ANSWER_WITHIN, aiokafka_settings
from farandole.replay.rebuilding import Live, Rebuilt
from farandole.replay.replica import Replica

COMMIT_WITHIN = 60.0
"""Seconds for a transaction to be committed."""

UNKNOWN_GROUP = 69
"""Kafka's code for a group that there is not: it has no members."""

Change = tuple[str, bytes, bytes | None]
"""Table, key, and the row as it is to be; None: there is none."""


def changes(live: Live, rebuilt: Rebuilt, partition: int) -> Iterator[Change]:
    """What makes the live rows of a partition the rebuilt ones."""
    for (table, p), theirs in live.rows.items():
        if p == partition:
            ours = rebuilt.rows[table, p]
            for key in sorted(ours.keys() | theirs.keys()):
                if ours.get(key) != theirs.get(key):
                    yield table, key, ours.get(key)


def check_stopped(config: ClientConfig, group: str) -> None:
    """ReplayError while a worker is a member of the group."""
    count = asyncio.run(asyncio.wait_for(_members(config, group), 2 * ANSWER_WITHIN))
    if count:
        raise ReplayError(
            f"{count} worker{'s' if count > 1 else ''} of {group} run: tables are not changed under them",
            where=f"consumer group {group}",
            mend="stop them; one that was killed leaves its group after the session time-out, 6 s",
        )


async def _members(config: ClientConfig, group: str) -> int:
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import for_code

    client = AIOKafkaAdminClient(**aiokafka_settings(config))
    await client.start()
    try:
        [response] = await client.describe_consumer_groups([group])
        [found] = response.to_object()["groups"]
    finally:
        await client.close()
    if found["error_code"] not in (0, UNKNOWN_GROUP):
        raise ReplayError(f"nobody says who is in {group}: {for_code(found['error_code']).__name__}", where=group)
    return len(found["members"])


class Applier:
    """config: how to reach the cluster; namespace: prefix of its topics and groups"""

    def __init__(self, config: ClientConfig, namespace: str, source: Source, replica: Replica) -> None:
        self._config, self._namespace, self._source, self._replica = config, namespace, source, replica
        self._group = namespace + replica.service

    def apply(self, live: Live, rebuilt: Rebuilt, progress: Progress) -> int:
        """Bring the changelogs to say what was rebuilt. Returns how many rows were written."""
        check_stopped(self._config, self._group)
        partitions = range(self._replica.partitions)
        clients = KafkaClients(dict(self._config), self._group, f"{self._group}-rebuild")
        written = 0
        try:
            producers = {p: clients.producer(f"{self._group}-{p}") for p in partitions}
            check_stopped(self._config, self._group)
            self._check_positions(rebuilt)
            for p, producer in producers.items():
                progress(f"writing tables of {self._replica.service}", p, len(producers))
                written += self._write(producer, p, list(changes(live, rebuilt, p)))
        except KafkaException as error:
            raise ReplayError(
                f"the tables were not all written: {error.args[0].str()}",
                where=self._group,
                mend="stop every worker of the service and do it again: what was written stays, the rest follows",
            ) from error
        return written

    def _check_positions(self, rebuilt: Rebuilt) -> None:
        """Fenced by now: where the journal ends it stays."""
        ends = self._source.ends()
        for p, position in rebuilt.position.items():
            end = ends[f"{self._replica.service}.journal", p]
            if end != position:
                raise ReplayError(
                    "the service has worked since its tables were rebuilt",
                    where=f"{self._replica.service}.journal/{p}: rebuilt up to {position}, it ends at {end}",
                    mend="do it again",
                )

    def _write(self, producer: Any, partition: int, wanted: list[Change]) -> int:
        if not wanted:
            return 0
        topics = {table: self._namespace + topic for topic, table in self._replica.processor.changelog_topics().items()}
        producer.begin_transaction()
        for table, key, value in wanted:
            while True:
                try:
                    producer.produce(topics[table], value, key, partition)
                    break
                except BufferError:
                    producer.poll(0.1)
        producer.commit_transaction(COMMIT_WITHIN)
        return len(wanted)
