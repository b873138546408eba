"""Which worker owns which partition of a service, and where it answers HTTP: what the group's coordinator says.

It is asked with aiokafka, Faust's client, though everything else here goes through librdkafka: an assertion in
librdkafka's DescribeGroups ends the whole process when the connection breaks while it waits (its issue 4605, seen with
2.15 whenever a broker is killed).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError, for_code
from aiokafka.helpers import create_ssl_context

ANSWER_WITHIN = 5.0
"""Seconds for the coordinator's answer."""


class CoordinatorAway(Exception):
    """Nobody could say who owns what."""


class Owners:
    """Asks the coordinator of one consumer group.

    config: how to reach the cluster, as a librdkafka client takes it
    """

    def __init__(self, group: str, config: Mapping[str, Any]) -> None:
        self._group, self._settings = group, aiokafka_settings(config)
        self._client: AIOKafkaAdminClient | None = None
        self._asking = asyncio.Lock()

    async def ask(self) -> dict[int, str]:
        """Partition → the client id of its owner, which is the URL where it answers. CoordinatorAway if nobody says."""
        async with self._asking:
            try:
                return await asyncio.wait_for(self._ask(), ANSWER_WITHIN)
            except (KafkaError, TimeoutError, OSError, ValueError) as error:
                await self.close()
                raise CoordinatorAway(str(error)) from error

    async def _ask(self) -> dict[int, str]:
        if self._client is None:
            self._client = AIOKafkaAdminClient(**self._settings)
            await self._client.start()
        [response] = await self._client.describe_consumer_groups([self._group])
        [group] = response.to_object()["groups"]
        if group["error_code"]:
            raise for_code(group["error_code"])(self._group)
        return {
            partition: member["client_id"]
            for member in group["members"]
            if member["member_assignment"]
            for _, partitions in ConsumerProtocolMemberAssignment.decode(member["member_assignment"]).assignment
            for partition in partitions
        }

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()


def aiokafka_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same cluster and credentials, as aiokafka takes them."""
    protocol = str(config.get("security.protocol", "PLAINTEXT"))
    settings = {
        "bootstrap_servers": [server.strip() for server in str(config["bootstrap.servers"]).split(",")],
        "client_id": "farandole",
        "security_protocol": protocol,
        "request_timeout_ms": round(ANSWER_WITHIN * 1000),
    }
    if protocol.startswith("SASL_"):
        settings |= {
            "sasl_mechanism": config["sasl.mechanism"],
            "sasl_plain_username": config["sasl.username"],
            "sasl_plain_password": str(config["sasl.password"]),
        }
    if protocol.endswith("SSL"):
        settings["ssl_context"] = create_ssl_context(cafile=config.get("ssl.ca.location"))
    return settings
