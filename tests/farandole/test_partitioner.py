"""A key lies where every other client looks for it."""

from __future__ import annotations

import uuid
from typing import Any

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from farandole.partitioner import murmur2, partition_of


def test_murmur2_agrees_with_the_java_clients_published_values() -> None:
    # Values of org.apache.kafka.common.utils.Utils.murmur2, from the UtilsTest of Apache Kafka.
    expected = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536, b"abc": 479470107}
    assert {key: murmur2(key) - (1 << 32 if murmur2(key) >> 31 else 0) for key in expected} == expected


def test_librdkafka_puts_a_key_where_partition_of_says(kafka: Any) -> None:
    topic = f"partitioner-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 7, 1)])[topic].result(10)
    found: dict[str, int] = {}

    def delivered(error: Any, message: Any) -> None:
        assert error is None
        found[message.key().decode()] = message.partition()

    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    keys = [f"o-{n}" * (n % 5 + 1) for n in range(200)] + ["ü", "x" * 300]
    for key in keys:
        producer.produce(topic, b"", key, on_delivery=delivered)
    producer.flush(10)
    assert found == {key: partition_of(key, 7) for key in keys}
