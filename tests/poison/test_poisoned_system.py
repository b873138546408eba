"""The corpus through real workers on a real Kafka, among good orders.

Every entry is one dead letter of each service that has to see it, with its reason; the good orders complete; no worker
dies; and transactions that abort are bounded.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer

from events import StockReceived
from farandole.system import System
from tests.farandole.rig import read_all
from tests.poison import corpus, unclean
from tests.poison.conftest import NAMESPACE
from tests.poison.corpus import Record
from tests.test_workers import place, status_of, wait_until

SERVICES = sorted(corpus.bindings())
PATIENCE = 90.0
MOST_ABORTS = 5
"""Of one worker. Nothing of the corpus makes a transaction abort; a broker under load may."""

TRIES = 80
"""Halving a batch of 4,000 until the culprit stands alone takes 12, and each success beside it doubles the next one."""

Place = tuple[str, int, int]
"""Topic, partition, offset."""


class Poisoned(NamedTuple):
    """What was sent. expected: place → service → reason class of its one dead letter there."""

    system: System
    names: dict[Place, str]
    expected: dict[Place, dict[str, str]]
    good: list[str]
    refused: list[str]
    pids: dict[str, int | None]


@pytest.fixture(scope="module")
def poisoned(system: System, kafka: Any) -> Poisoned:
    send = Sender(kafka.config)
    stock = corpus.make(StockReceived(sku="sku-1", quantity=100_000), "delivery-good", "restock/1")
    send(stock.record)
    pids = {worker.name: worker.pid for workers in system.workers.values() for worker in workers}
    good = [str(place(system, f"before-{n}", worker=n % 2)[1]["order"]) for n in range(10)]
    entries = corpus.corpus()
    dated = corpus.strangely_dated()
    sent: list[tuple[str, dict[str, str], Record]] = [(entry.name, dict(entry.dead), entry.record) for entry in entries]
    for number, (_, _, record) in enumerate(sent):
        send(record)
        if number % 50 == 0:
            good.append(str(place(system, f"among-{number}", worker=number // 50 % 2)[1]["order"]))
    for record in dated:
        send(record)
        assert record.key
        good.append(record.key.decode())
    places = send.places()
    names = {where: name for where, (name, _, _) in zip(places[1:], sent, strict=False)}
    expected = {where: dead for where, (_, dead, _) in zip(places[1:], sent, strict=False)}
    by_all = dict.fromkeys(corpus.hearers("inventory"), "unreadable")
    topic = NAMESPACE + "inventory"
    unclean_ones = {
        "a header's name that is not UTF-8": unclean.send_with_a_headers_name_that_is_not_utf8(kafka.config, topic, 0),
        "a record that grows to 30 MB": unclean.send_what_grows(kafka.config, topic, 1, 30),
        "a record that grows to 110 MB": unclean.send_what_grows(kafka.config, topic, 2, 110),
    }
    for partition, (name, offset) in enumerate(unclean_ones.items()):
        names["inventory", partition, offset] = name
        expected["inventory", partition, offset] = by_all
    good += [str(place(system, f"after-{n}", worker=n % 2)[1]["order"]) for n in range(12)]
    refused = [entry.saga for entry in entries if entry.publishes]
    return Poisoned(system, names, expected, good, refused, pids)


class Sender:
    """Sends records exactly as they are, and knows where each came to lie."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._producer = Producer({**config, "partitioner": "murmur2_random", "message.max.bytes": 2_000_000})
        self._places: dict[int, Place] = {}
        self._count = 0

    def __call__(self, record: Record) -> None:
        number, self._count = self._count, self._count + 1

        def delivered(error: Any, message: Any) -> None:
            assert error is None, error
            topic = message.topic().removeprefix(NAMESPACE)
            self._places[number] = (topic, message.partition(), message.offset())

        further: dict[str, Any] = {} if record.partition is None else {"partition": record.partition}
        further |= {} if record.timestamp < 0 else {"timestamp": record.timestamp}
        headers: Any = record.headers
        topic = NAMESPACE + record.topic
        self._producer.produce(topic, record.value, record.key, headers=headers, on_delivery=delivered, **further)
        self._producer.poll(0)

    def places(self) -> list[Place]:
        assert self._producer.flush(30) == 0
        return [self._places[number] for number in range(self._count)]


def letters(system: System, service: str) -> list[tuple[Place, dict[str, bytes]]]:
    found = []
    for message in read_all(dict(system.client_config), f"{NAMESPACE}{service}.dlq"):
        said = dict(message.headers())  # the last one of a name counts: a forged one comes before ours
        where = said["__dlq.errors.topic"], said["__dlq.errors.partition"], said["__dlq.errors.offset"]
        found.append(((where[0].decode(), int(where[1]), int(where[2])), said))
    return found


def health(system: System, service: str, index: int = 0) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {system.metrics_key}"}
    asked = urllib.request.Request(f"{system.url(service, index)}/health", headers=headers)
    with urllib.request.urlopen(asked, timeout=10) as response:
        return dict(json.load(response))


def until(happened: Callable[[], bool]) -> None:
    wait_until(happened, PATIENCE)


def test_good_orders_among_poison_complete(poisoned: Poisoned) -> None:
    for order in poisoned.good:
        until(lambda order=order: status_of(poisoned.system, order) == "completed")  # type: ignore[misc]


def test_each_entry_is_one_dead_letter_of_each_service_that_must_see_it(poisoned: Poisoned) -> None:
    for service in SERVICES:
        due = sum(service in dead for dead in poisoned.expected.values())
        end = time.monotonic() + PATIENCE
        while len(found := letters(poisoned.system, service)) < due and time.monotonic() < end:
            time.sleep(0.5)
        wanted = {where: dead[service] for where, dead in poisoned.expected.items() if service in dead}
        reasons = {where: said["__dlq.reason"].decode() for where, said in found}
        wrong = {
            poisoned.names.get(where, str(where)): (reasons.get(where), wanted.get(where))
            for where in reasons.keys() | wanted.keys()
            if reasons.get(where) != wanted.get(where)
        }
        assert not wrong, (service, wrong)
        assert not [where for where, count in Counter(where for where, _ in found).items() if count > 1]


def test_a_bad_order_is_refused_and_no_dead_letter(poisoned: Poisoned) -> None:
    for order in poisoned.refused:
        until(lambda order=order: status_of(poisoned.system, order) == "refused")  # type: ignore[misc]


def test_no_worker_died_and_aborts_are_bounded(poisoned: Poisoned) -> None:
    assert not poisoned.system.dead()
    pids = {worker.name: worker.pid for workers in poisoned.system.workers.values() for worker in workers}
    assert pids == poisoned.pids
    for service, workers in poisoned.system.workers.items():
        for index, worker in enumerate(workers):
            assert health(poisoned.system, service, index)["aborts"] <= MOST_ABORTS, service
            assert worker.log.read_text().count("cannot be written down") <= TRIES * (service == "payment")


def test_a_flood_of_poison_does_not_flood_the_log(poisoned: Poisoned) -> None:
    for service, workers in poisoned.system.workers.items():
        lines = [line for worker in workers for line in worker.log.read_text().splitlines()]
        written = sum("is a dead letter" in line for line in lines)
        counted = sum(int(line.split(":")[-1].split()[0]) for line in lines if "more dead letters" in line)
        assert written + counted == len(letters(poisoned.system, service))
        assert written < counted or service == "notification"


def test_what_cannot_be_carried_over_is_told_in_the_letter(poisoned: Poisoned) -> None:
    found = {poisoned.names[where]: said for where, said in letters(poisoned.system, "payment")}
    assert found["a header's name that is not UTF-8"]["__dlq.headers.unreadable"] == b"true"
    assert found["a record that grows to 30 MB"]["__dlq.truncated"] == b"true"
    assert b"cannot unpack" in found["a record that grows to 110 MB"]["__dlq.errors.message"]
