"""Who owns what, asked of a real coordinator; and that nobody asks librdkafka."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

import farandole
from farandole.config import Secret
from farandole.owners import CoordinatorAway, Owners, aiokafka_settings

URL = "http://127.0.0.1:1"


def test_the_owner_of_each_partition_is_told_by_its_client_id(kafka: Any, namespace: str) -> None:
    topic, group = f"{namespace}topic", f"{namespace}group"
    admin = AdminClient(kafka.config)
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result(10)
    consumer = Consumer({**kafka.config, "group.id": group, "client.id": URL, "partition.assignment.strategy": "range"})
    consumer.subscribe([topic])
    while not consumer.assignment():
        consumer.poll(0.1)

    async def ask() -> list[dict[int, str]]:
        owners = Owners(group, kafka.config)
        try:
            found = [await owners.ask(), *await asyncio.gather(owners.ask(), owners.ask())]
            consumer.close()
            return [*found, await owners.ask()]
        finally:
            await owners.close()

    everything = dict.fromkeys(range(3), URL)
    assert asyncio.run(ask()) == [everything, everything, everything, {}]


def test_a_cluster_that_does_not_answer_is_said_so_and_asked_anew(kafka: Any) -> None:
    async def ask() -> None:
        owners = Owners("group", {"bootstrap.servers": "127.0.0.1:9"})
        with pytest.raises(CoordinatorAway):
            await owners.ask()
        owners._settings = aiokafka_settings(kafka.config)
        assert await owners.ask() == {}
        await owners.close()

    asyncio.run(ask())


def test_credentials_are_the_ones_that_librdkafka_gets() -> None:
    config = {
        "bootstrap.servers": "a:1, b:2",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": "u",
        "sasl.password": Secret("p"),
    }
    settings = aiokafka_settings(config)
    assert settings["bootstrap_servers"] == ["a:1", "b:2"]
    assert (settings["security_protocol"], settings["sasl_mechanism"]) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (settings["sasl_plain_username"], settings["sasl_plain_password"]) == ("u", "p")
    assert isinstance(settings["ssl_context"], ssl.SSLContext)
    assert "ssl_context" not in aiokafka_settings({"bootstrap.servers": "a:1"})


def test_no_worker_asks_librdkafka_about_groups() -> None:
    """Its requests to a coordinator end the process when the connection breaks (librdkafka issues 4605 and 3663)."""
    asked = ("describe_consumer_groups", "list_consumer_group_offsets", "alter_consumer_group_offsets")
    in_a_worker = Path(farandole.__file__).parent.glob("*.py")
    found = {path.name for path in in_a_worker if any(name in path.read_text() for name in asked)}
    assert found == {"owners.py"}
