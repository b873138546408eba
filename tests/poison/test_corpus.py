"""The whole corpus through each service's processor, without Kafka: what becomes of each, and of the good ones between.

`test_poisoned_system.py` does the same with real workers on a real Kafka.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from farandole.assembly import assemble
from farandole.errors import CodecError
from farandole.partitioner import partition_of
from farandole.processor import Processor
from tests.poison import corpus
from tests.poison.corpus import BASES, PARTITIONS, Entry, Record

SERVICES = sorted(corpus.bindings())
NOW = 1_700_000_000_000


class Message:
    """A record as a service reads it."""

    def __init__(self, record: Record, offset: int, namespace: str) -> None:
        self.record, self._offset, self._namespace = record, offset, namespace

    def topic(self) -> str:
        return self._namespace + self.record.topic

    def partition(self) -> int:
        record = self.record
        if record.partition is not None:
            return record.partition
        return partition_of((record.key or b"").decode("utf-8", "replace"), PARTITIONS)

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self.record.key

    def value(self) -> bytes | None:
        return self.record.value

    def headers(self) -> Any:
        return self.record.headers or None

    def timestamp(self) -> tuple[int, int]:
        return 2, NOW


@contextmanager
def processor_of(service: str) -> Iterator[Processor]:
    processor = assemble(importlib.import_module(f"agents.{service}").app).processor
    processor.partition_count = PARTITIONS
    for partition in range(PARTITIONS):
        processor.add_partition(partition)
    try:
        yield processor
    finally:
        processor.rollback()
        for partition in range(PARTITIONS):
            processor.drop_partition(partition)


Outcome = tuple[list[Any], list[tuple[Any, ...]]]
"""(events, records but for the journal)"""


def run(processor: Processor, message: Message) -> tuple[Outcome, list[Any]]:
    processor.process([message])
    dead = list(processor.dead)
    try:
        processor.seal()
    except CodecError:  # a row that no topic takes: the engine would look for the culprit, which is this one
        processor.rollback()
        processor.condemn(message.topic(), message.partition(), message.offset())
        return run(processor, message)
    records: list[tuple[Any, ...]] = [each for each in processor.records if not each[0].endswith(".journal")]
    records += [tuple(letter) for letter in processor.letters]
    outcome = sorted(processor.events), records
    processor.commit(0)
    return outcome, dead


def goods(service: str) -> list[Record]:
    """A good record of each kind that begins something at this service."""
    beginning = {
        *("StockReceived", "PlaceOrder", "OrderPlaced", "InventoryReserved", "PaymentAuthorised", "OrderRefused"),
        *("OrderCancelRequested", "InventoryExpiryRequested", "PaymentDeclined", "ShippingCancelled"),
        *("BeginLogin", "LookUpUser", "UserRegistered", "StartTransfer", "OpenAccount"),
    }
    found: list[Record] = []
    for (_, hearer), (event, flow) in BASES.items():
        begins = beginning if service != "orchestrator" else {"OrderPlaced"}
        if hearer == service and type(event).__name__ in begins:
            named = {"PlaceOrder": corpus.place_order("base")[0], "StartTransfer": corpus.start_transfer("base")[0]}
            saga = named.get(type(event).__name__, f"good-{len(found)}")
            found.append(corpus.make(event, saga, flow).record)
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_each_entry_is_one_dead_letter_of_each_service_that_hears_it_or_rightly_ignored(service: str) -> None:
    entries = [entry for entry in corpus.corpus() if service in corpus.hearers(entry.record.topic)]
    assert len(entries) > 30  # a service that hears one topic has each form once
    wrong = []
    with processor_of(service) as processor:
        for offset, entry in enumerate(entries):
            message = Message(entry.record, offset, processor.namespace)
            (published, records), dead = run(processor, message)
            wrong += problems(service, entry, published, records, dead, processor)
    assert not wrong, "\n".join(wrong)


def problems(
    service: str, entry: Entry, published: list[Any], records: list[Any], dead: list[Any], processor: Processor
) -> list[str]:
    """What is not as the corpus says."""
    found = []
    letters = [record for record in records if record[0].endswith(f"{service}.dlq")]
    expected = [entry.dead[service]] if service in entry.dead else []
    if [reason for reason, *_ in dead] != expected or len(letters) != len(expected):
        found.append(f"{entry.name}: {[(d[0], str(d[3])[:80]) for d in dead]}, not {expected}")
    elif expected:
        _, value, key, _, headers = letters[0]
        said = dict(headers)["__dlq.errors.message"].decode()
        if (value, key, headers[: len(entry.record.headers)]) != (
            entry.record.value, entry.record.key, entry.record.headers
        ):  # fmt: skip
            found.append(f"{entry.name}: the dead letter is not the message as it was")
        if entry.says not in said or "object is not" in said or "KeyError" in said:
            found.append(f"{entry.name}: it says {said!r}")
        if published:
            found.append(f"{entry.name}: a dead letter, and yet it caused {published}")
    names = [processor.codec.decoders[value[:5]].type.cls.__name__ for _, value, _ in published]
    if (answer := entry.publishes.get(service)) and names != [answer]:
        found.append(f"{entry.name}: it caused {names}, not {answer}")
    parked = any(entry.saga in part.rows for part in processor.parked.table.parts.values())
    if parked != (entry.parks and service in entry.dead):
        found.append(f"{entry.name}: its saga is {'' if parked else 'not '}parked")
    return found


@pytest.mark.parametrize("service", SERVICES)
def test_good_records_among_poison_cause_to_the_byte_what_they_cause_alone(service: str) -> None:
    entries = [entry for entry in corpus.corpus() if service in corpus.hearers(entry.record.topic)]
    good = goods(service)
    assert good
    step = len(entries) // len(good)
    alone, among = {}, {}
    with processor_of(service) as processor:
        for number, record in enumerate(good):
            alone[number], dead = run(processor, Message(record, number * step, processor.namespace))
            assert not dead
    with processor_of(service) as processor:
        for number, record in enumerate(good):
            message = Message(record, number * step, processor.namespace)
            for entry in entries[number * step : (number + 1) * step]:
                spoiled = Message(entry.record, 1_000_000 + number, processor.namespace)
                if not entry.publishes:
                    run(processor, spoiled)
            among[number], dead = run(processor, message)
            assert not dead
    assert among == alone


def test_the_corpus_has_a_base_for_every_topic_and_service_that_hears_it() -> None:
    heard = {(topic, service) for topic in corpus.key_of() for service in corpus.hearers(topic)}
    assert heard == set(BASES)
    assert all(service in corpus.binders(type(event)) for (_, service), (event, _) in BASES.items())


def test_every_entry_has_a_name_and_a_saga_of_its_own() -> None:
    entries = corpus.corpus()
    assert len({entry.name for entry in entries}) == len({entry.saga for entry in entries}) == len(entries)
    assert all(entry.dead or entry.why_ignored for entry in entries)
