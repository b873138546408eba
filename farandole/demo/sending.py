"""How customers write to Kafka: one producer for all of them.

Invariant: who sends knows that all replicas have it when `send` returns, or gets an error.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from confluent_kafka import Producer

from farandole.codec import Codec
from farandole.config import ClientConfig
from farandole.errors import BrokerError
from farandole.event import Event, Meta

FLUSHED_WITHIN: Final = 10.0
POLL_EVERY: Final = 0.005


class Sender:
    """Commands and deliveries of one run.

    run: part of the ids of what is sent
    """

    def __init__(self, client_config: ClientConfig, namespace: str, codec: Codec, run: str) -> None:
        self._namespace, self._codec, self._run = namespace, codec, run
        self._numbers = itertools.count(1)
        self._users = 0
        self._producer = Producer(
            {
                **client_config,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 5,
                # What is not delivered is an error where it was sent; that Kafka is stopped at the end is no news.
                "log_level": 0,
            }
        )

    async def send(self, event: Event, saga: str, flow: str, key: str | None = None) -> tuple[int, int]:
        """Write an event as any client would; return partition and offset when all replicas have it. Only while
        `polling`.
        """
        meta = Meta(id=f"demo/{self._run}/{next(self._numbers)}", saga=saga, flow=flow, cause="")
        topic = self._namespace + self._codec.type_of(type(event)).topic
        done: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()

        def delivered(error: Any, message: Any) -> None:
            if done.done():
                return
            if error:
                done.set_exception(BrokerError(f"not written to {topic}: {error}"))
            else:
                done.set_result((message.partition(), message.offset()))

        self._producer.produce(topic, self._codec.encode(event, meta), key or saga, on_delivery=delivered)
        return await done

    def send_bytes(self, topic: str, key: bytes, value: bytes | None) -> None:
        self._producer.produce(self._namespace + topic, value, key)

    @asynccontextmanager
    async def polling(self) -> AsyncIterator[None]:
        """While this is entered, by anybody, delivery reports come in."""
        self._users += 1
        if self._users == 1:
            self._poller = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._poller.cancel()
                self._producer.flush(FLUSHED_WITHIN)

    async def _poll(self) -> None:
        while True:
            self._producer.poll(0)
            await asyncio.sleep(POLL_EVERY)
