"""How far a service is behind: what its consumer group has not committed yet.

Invariant: it only asks. It joins no group and commits nothing.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from farandole.config import ClientConfig
from farandole.deploy.manifest import Manifest
from farandole.errors import BrokerError

ANSWER_WITHIN: Final = 10.0
SAID_WITHIN: Final = 30.0
AGAIN_AFTER: Final = 0.3

T = TypeVar("T")


def lags(client_config: ClientConfig, namespace: str, manifest: Manifest, services: Iterable[str]) -> dict[str, int]:
    """Service → messages that it has not committed. BrokerError if the cluster does not say."""
    return asked(client_config, lambda: _lags(client_config, namespace, manifest, list(services)))


def asked(client_config: ClientConfig, ask: Callable[[], T]) -> T:
    """What `ask` returns, with new clients each time. BrokerError if the cluster does not say it in a while.

    Topics that were altered a moment ago have leaders of whom not everybody knows.
    """
    deadline = time.monotonic() + SAID_WITHIN
    while True:
        try:
            return ask()
        except KafkaException as error:
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"the cluster does not answer: {error.args[0].str()}",
                    where=str(client_config["bootstrap.servers"]),
                    mend="is it well? The same command goes on from here",
                ) from error
        time.sleep(AGAIN_AFTER)


def _lags(client_config: ClientConfig, namespace: str, manifest: Manifest, services: Iterable[str]) -> dict[str, int]:
    admin = AdminClient({**client_config, "log_level": 0})
    heard = {topic for service in services for topic in manifest.hears[service]}
    spec: Any = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    wanted = {
        TopicPartition(namespace + topic, partition): spec
        for topic in heard
        for partition in range(manifest.topics[topic].partitions)
    }
    found = admin.list_offsets(wanted, request_timeout=ANSWER_WITHIN)
    ends = {(tp.topic, tp.partition): future.result().offset for tp, future in found.items()}
    return {each: _lag(client_config, namespace + each, _of(manifest, namespace, each), ends) for each in services}


def _of(manifest: Manifest, namespace: str, service: str) -> list[TopicPartition]:
    return [
        TopicPartition(namespace + topic, partition)
        for topic in manifest.hears[service]
        for partition in range(manifest.topics[topic].partitions)
    ]


def _lag(
    client_config: ClientConfig, group: str, partitions: list[TopicPartition], ends: Mapping[tuple[str, int], int]
) -> int:
    consumer = Consumer({**client_config, "group.id": group, "enable.auto.commit": False, "log_level": 0})
    with contextlib.closing(consumer):
        committed = consumer.committed(partitions, timeout=ANSWER_WITHIN)
    return sum(max(0, ends[tp.topic, tp.partition] - max(0, tp.offset)) for tp in committed)
