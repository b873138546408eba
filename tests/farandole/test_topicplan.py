"""What a cluster of several brokers says in the moment after a change."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from farandole import topicplan
from farandole.topics import Topics

ROOT = Path(__file__).parents[2]


def test_a_topic_that_the_asked_broker_does_not_know_yet_is_not_there_yet() -> None:
    topics = Topics.load(ROOT / "topics.yaml")

    def describe_configs(resources: list[Any], **options: Any) -> dict[Any, Future[Any]]:
        answers = {resource: Future[Any]() for resource in resources}
        for answer in answers.values():
            answer.set_exception(KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART)))
        return answers

    cluster = topicplan._Cluster({"bootstrap.servers": "127.0.0.1:1", "log_level": 0})
    admin: Any = SimpleNamespace(describe_configs=describe_configs)
    cluster.admin = admin
    there = {name: SimpleNamespace(partitions={}) for name in topics.topics}
    assert cluster.describe("", topics, there) == {}
