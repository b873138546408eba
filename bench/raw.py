"""The other side: a loop on librdkafka that moves and persists the same records as Farandole, and does nothing else.

    python -m bench.raw TEMPLATES

One process; for each service a thread with a consumer and a transactional producer, made by farandole.clients, so
that their settings are Farandole's; the garbage collector is set as in Farandole's worker. Of a message it looks at
the five bytes that name its schema, and writes what Farandole was seen to write for such a message (bench.learning):
same topics, keys, sizes and partitions. It decodes nothing, keeps no table, could not go on after a crash, and writes
no journal. It remembers one thing: of which orders it has heard the first of two messages that have to come together.
Batches, waits and the order of the transaction's calls are the engine's.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import TopicPartition

from bench.children import end_with_parent
from bench.learning import Output, Templates
from bench.orders import SAGA_BYTES, SKUS
from farandole import config
from farandole.clients import KafkaClients
from farandole.engine import AHEAD_MS, BATCH, IDLE_WAIT
from farandole.transactions import COMMIT_TIMEOUT

SAGA = slice(5, 5 + SAGA_BYTES)
"""Where the value of an event that is keyed by sku carries its saga: behind the prefix, over what the body would be."""

PARTITION_MISSING = -1001


class Event(NamedTuple):
    """head, tail: of an event that carries its saga; head alone otherwise."""

    topic: str
    head: bytes
    tail: bytes | None


class Row(NamedTuple):
    topic: str
    value: bytes | None
    suffix: bytes


class Known(NamedTuple):
    """What to write for one type of event. carries: its saga is in its value, its key is the sku."""

    carries: bool
    joined: bool
    events: Sequence[Event]
    rows: list[Row]
    sku_rows: list[Row]
    answers: list[Row]


class Service:
    """One service's thread."""

    def __init__(self, name: str, templates: Templates, namespace: str, halt: threading.Event) -> None:
        self._group, self._halt = namespace + name, halt
        self._topics = [namespace + topic for topic in templates.topics[name]]
        carrying = templates.carrying()
        self._known = {
            bytes.fromhex(prefix): Known(
                prefix in carrying,
                reaction.joined,
                [_event(each, namespace) for each in reaction.events],
                [_row(each, namespace) for each in reaction.rows if each.by == "saga"],
                [_row(each, namespace) for each in reaction.rows if each.by == "sku"],
                [_row(each, namespace) for each in reaction.answers],
            )
            for prefix, reaction in templates.reactions[name].items()
        }
        self._clients = KafkaClients(config.kafka_client_config(), self._group, f"{self._group}-0")
        self._assigned: list[TopicPartition] = []
        self._positions: dict[tuple[str, int], int] = {}
        self._silent_since = 0.0
        self._pending: list[tuple[int, bytes, list[Row]]] = []
        self._waiting: set[bytes] = set()
        self._hot: dict[tuple[str, int, bytes], bytes | None] = {}

    def run(self) -> None:
        self._producer = self._clients.producer(f"{self._group}-0")
        self._clients.open_consumer(self._topics, self._assign, _ignore, _ignore)
        while not self._halt.is_set():
            self._step()
        self._clients.close()

    def _assign(self, consumer: Any, assignment: list[TopicPartition]) -> None:
        """From the beginning: this group is never older than its topics."""
        for partition in assignment:
            partition.offset = 0
        consumer.assign(assignment)
        self._assigned, self._positions = assignment, dict.fromkeys(map(_where, assignment), 0)

    def _step(self) -> None:
        consume = self._clients.consumer.consume
        messages = consume(BATCH, 0)
        if not messages and not self._pending:
            messages = consume(1, IDLE_WAIT)
            if messages:
                messages += consume(BATCH - 1, 0)
        late = bool(self._silent_since) and time.monotonic() - self._silent_since >= AHEAD_MS / 1000
        if messages or self._pending or late:
            self._transact(messages, late)

    def _transact(self, messages: list[Any], late: bool) -> None:
        """One transaction; a batch that causes nothing waits for the next one, as with Farandole."""
        known, answers = self._known, self._pending
        if not (late or answers or any(message.value()[:5] in known for message in messages)):
            self._silent_since = self._silent_since or time.monotonic()
            return
        self._pending, self._silent_since = [], 0.0
        producer = self._producer
        producer.begin_transaction()
        self._write(messages)
        self._answer(answers)
        producer.flush()
        offsets = self._offsets()
        producer.send_offsets_to_transaction(offsets, self._clients.consumer.consumer_group_metadata(), COMMIT_TIMEOUT)
        producer.commit_transaction(COMMIT_TIMEOUT)

    def _write(self, messages: list[Any]) -> None:
        produce, get, hot, waiting = self._producer.produce, self._known.get, self._hot, self._waiting
        for message in messages:
            value = message.value()
            known = get(value[:5])
            if known is None:
                continue
            carries, joined, events, rows, sku_rows, answers = known
            key, partition = message.key(), message.partition()
            saga = value[SAGA] if carries else key
            if joined and saga not in waiting:
                waiting.add(saga)
                events = ()
            elif joined:
                waiting.discard(saga)
            for topic, head, tail in events:
                if tail is None:
                    produce(topic, head, saga)
                else:
                    produce(topic, head + saga + tail, SKUS[message.offset() % len(SKUS)])
            for topic, row, suffix in rows:
                produce(topic, row, saga + suffix, partition)
            for topic, row, _ in sku_rows:
                hot[topic, partition, key] = row
            if answers:
                self._pending.append((partition, saga, answers))
        # One record for each sku and batch, not for each message: so does Farandole.
        for (topic, partition, key), row in hot.items():
            produce(topic, row, key, partition)
        hot.clear()

    def _answer(self, pending: list[tuple[int, bytes, list[Row]]]) -> None:
        produce = self._producer.produce
        for partition, saga, answers in pending:
            for topic, value, suffix in answers:
                produce(topic, value, saga + suffix, partition)

    def _offsets(self) -> list[TopicPartition]:
        """Positions that have moved; of one partition at least, or the transaction would not be fenced."""
        positions = self._positions
        moved = [
            partition
            for partition in self._clients.consumer.position(self._assigned)
            if partition.offset not in (PARTITION_MISSING, positions[_where(partition)])
        ]
        positions.update((_where(partition), partition.offset) for partition in moved)
        return moved or [TopicPartition(*where, offset) for where, offset in list(positions.items())[:1]]


def _event(output: Output, namespace: str) -> Event:
    assert output.value is not None
    if output.by == "saga":
        return Event(namespace + output.topic, output.value, None)
    return Event(namespace + output.topic, output.value[: SAGA.start], output.value[SAGA.stop :])


def _row(output: Output, namespace: str) -> Row:
    return Row(namespace + output.topic, output.value, output.suffix.encode())


def _where(partition: TopicPartition) -> tuple[str, int]:
    return partition.topic, partition.partition


def _ignore(*_: Any) -> None: ...


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    end_with_parent()
    templates, halt = Templates.load(Path(sys.argv[1])), threading.Event()
    templates.collector.apply()
    signal.signal(signal.SIGTERM, lambda *_: halt.set())
    services = [Service(name, templates, config.namespace(), halt) for name in templates.topics]
    threads = [threading.Thread(target=_or_die, args=(service,)) for service in services]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _or_die(service: Service) -> None:
    """A loop with one service missing would finish nothing, and say nothing."""
    try:
        service.run()
    except BaseException:
        logging.exception("the raw loop ends")
        os._exit(1)


if __name__ == "__main__":
    main()
