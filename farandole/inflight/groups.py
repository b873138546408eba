"""What the services' consumer groups have committed. It only asks: it joins no group and commits nothing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from farandole.audit.records import Place
from farandole.config import ClientConfig
from farandole.errors import BrokerError

ANSWER_WITHIN = 10.0


def committed(config: ClientConfig, namespace: str, services: Iterable[str]) -> dict[str, dict[Place, int]]:
    """Service → place (topics without the namespace) → its group's position. What is in a transaction that is not over
    yet does not count: so what that took is still unread. BrokerError if the cluster does not say.
    """
    admin = AdminClient({**config, "log_level": 0})
    return {service: _of_group(admin, config, namespace, service) for service in services}


def _of_group(admin: AdminClient, config: ClientConfig, namespace: str, service: str) -> dict[Place, int]:
    group = namespace + service
    asked: Any = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)], request_timeout=ANSWER_WITHIN)
    try:
        found = asked[group].result().topic_partitions
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return {}
        raise BrokerError(
            f"the cluster does not say what {group} has committed: {error.args[0].str()}",
            where=str(config.get("bootstrap.servers")),
            mend="this principal needs the right Describe on the group",
        ) from error
    return {
        (tp.topic[len(namespace) :], tp.partition): tp.offset
        for tp in found
        if tp.topic.startswith(namespace) and tp.offset >= 0 and tp.error is None
    }
