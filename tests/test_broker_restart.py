"""Kafka goes away under running workers and comes back: they say so, wait, and lose nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

import events
from farandole.codec import Codec
from farandole.demo.flows import FLOW, services_of
from farandole.event import Meta
from farandole.kafka import EmbeddedKafka
from farandole.system import System
from tests.test_workers import place, request, status_of, wait_until

BACK_WITHIN = 60.0
"""Seconds from a broker's return to a worker's readiness: some of librdkafka's pauses between tries lie in it."""


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path / "kafka", brokers=1, port=0, guarded=True) as running:
        yield running


def readiness(system: System, service: str) -> tuple[int, Any]:
    return request("GET", system.url(service) + "/health")


def test_orders_that_were_under_way_when_kafka_died_end_once_it_is_back(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    config: dict[str, Any] = {"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0}
    with System(
        tmp_path / "system", namespace="restart.", services=services_of([FLOW]), client_config=config
    ) as system:
        codec = Codec.load(system.root / "schemas", events)
        producer = Producer({**config, "partitioner": "murmur2_random"})
        stock = events.StockReceived(sku="sku-1", quantity=10_000)
        producer.produce(
            "restart.stock", codec.encode(stock, Meta("test/stock", "delivery-1", "restock/1", "")), "sku-1"
        )
        assert producer.flush(10) == 0

        placed = [place(system, f"before-{n}")[1]["order"] for n in range(20)]
        kafka.kill(0)
        wait_until(lambda: readiness(system, "payment")[0] == 503, 20)
        time.sleep(3)  # a few tries meet nobody
        kafka.restart(0)

        for service in system.services:
            wait_until(lambda service=service: readiness(system, service)[0] == 200, BACK_WITHIN)  # type: ignore[misc]
        placed += [place(system, f"after-{n}")[1]["order"] for n in range(20)]
        for order in placed:
            wait_until(lambda order=order: status_of(system, order) == "completed", BACK_WITHIN)  # type: ignore[misc]
        assert not [worker.name for workers in system.workers.values() for worker in workers if worker.died], (
            "they wait for Kafka, they do not end"
        )
