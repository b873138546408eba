"""The way in from HTTP: commands go to Kafka, questions to the worker that owns the saga's partition.

Invariant: a request is answered by the owner of its saga, from what has been committed, whichever worker was asked. So
two requests with one idempotency key meet in one place. That something is not there is said only by who owns the
partition at this moment, as the group's coordinator has it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from yarl import URL

from farandole.answers import error
from farandole.errors import CodecError
from farandole.event import Event, Meta
from farandole.owners import CoordinatorAway, Owners
from farandole.partitioner import partition_of

if TYPE_CHECKING:
    from farandole.app import App

OWNERS_FRESH = 1.0
"""Seconds for which the group's assignment is believed before it is asked again."""

FORWARD_TIMEOUT = 20.0
"""Seconds that a forwarded request may take; above what the owner itself waits: for Kafka to take the command, then for
its decision.
"""

FULL_FOR = 60
"""Seconds after which to try again where too much is under way."""

_COMMANDS = {
    "enable.idempotence": True,
    "partitioner": "murmur2_random",
    "linger.ms": 1,
    # To be acknowledged in less time than a client waits for its answer.
    "message.timeout.ms": 8_000,
}

HOP = "X-Farandole-Forwarded"
"""Header of a forwarded request: forwarded once, never in a circle."""


class NoOwner(Exception):
    """The partition has no reachable owner right now: a rebalance or a restart is under way. Ask again."""


class Misdirected(NoOwner):
    """A forwarded request met a worker that does not own its saga either: it is not forwarded again."""


class Unknown(Exception):
    """A request may have been done, or not: whoever sent it is not to be told to send the same again."""


class Full(Exception):
    """So much is under way that commands of this kind wait on the broker. Nothing was written."""


class Door:
    """What HTTP views of one service need: send a command, reach the owner, read a committed row.

    Args:
        app: the service
        topic: a topic that the service hears, keyed by saga; its partition count is the service's
        fleeting: a command is worth nothing when its request has been given up, and two are not one: none is written
            where it would have to wait for others to end (Full), and no request is forwarded again that may have had an
            effect
    """

    def __init__(self, app: App, topic: str, fleeting: bool = False) -> None:
        self.app, self._topic, self._fleeting = app, topic, fleeting
        app.doors.append(self)
        self._producer: Producer | None = None
        self._session: aiohttp.ClientSession | None = None
        self._partitions = 0
        self._owners: Owners | None = None
        self._known: dict[int, str] = {}
        self._asked = 0.0
        self._outstanding = 0
        self._sent: dict[str, tuple[Event, asyncio.Future[None]]] = {}
        self._poller: asyncio.Task[None] | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._owners is not None:
            await self._owners.close()

    # ---- commands

    async def send(self, command: Event, saga: str, flow: str) -> None:
        """Write a command, acknowledged by all replicas. Raises KafkaException if it could not be."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def delivered(error: Any, message: Any) -> None:
            if not done.done():
                done.set_exception(KafkaException(error)) if error else done.set_result(None)

        processor = self.app.engine.processor
        kind = processor.codec.type_of(type(command))
        value = processor.codec.encode(command, Meta(id=f"request/{uuid.uuid4()}", saga=saga, flow=flow, cause=""))
        self._outstanding += 1
        try:
            field = processor.key_of[kind.topic]
            key = saga if field == "saga" else getattr(command, field)
            self._commands().produce(processor.namespace + kind.topic, value, key, on_delivery=delivered)
            self._keep_polling()
            await done
        finally:
            self._outstanding -= 1

    async def send_and_wait(
        self, command: Event, saga: str, flow: str, table: str, timeout: float, settled: Callable[[], bool]
    ) -> bool:
        """Write a command and wait until commits have changed the saga's row in `table` so that it is `settled`. False
        if that takes too long. Nothing is sent if it is settled by then.

        For the owner of the saga's partition only: nobody else sees the commits. Full: see `fleeting`.
        """
        if self._fleeting and await self._has_to_wait(command, saga):
            raise Full
        watch = self.app.engine.watch
        with watch(table, saga) as changed:
            if settled():  # by another request, between the caller's look and this one
                return True
            async with self._sent_once(command, saga, flow):
                try:
                    async with asyncio.timeout(timeout):
                        await changed
                        while True:
                            with watch(table, saga) as again:
                                if settled():
                                    return True
                                await again
                except TimeoutError:
                    return False

    async def _has_to_wait(self, command: Event, saga: str) -> bool:
        engine, processor = self.app.engine.engine, self.app.engine.processor
        topic = processor.namespace + processor.codec.type_of(type(command)).topic
        return bool(engine.waits_for_room(topic, await self.partition(saga)))

    @asynccontextmanager
    async def _sent_once(self, command: Event, saga: str, flow: str) -> AsyncIterator[None]:
        """The command is written, once for all requests that wait for the same: who asks again because it takes long
        is not to make it take longer.
        """
        earlier = self._sent.get(saga)
        if earlier is not None and earlier[0] == command:
            await asyncio.shield(earlier[1])
            yield
            return
        sending = asyncio.ensure_future(self.send(command, saga, flow))
        self._sent[saga] = mine = (command, sending)
        try:
            await asyncio.shield(sending)
            yield
        finally:
            if self._sent.get(saga) is mine:
                del self._sent[saga]

    def _commands(self) -> Producer:
        if self._producer is None:
            self._producer = Producer({**self.app.engine.broker, **_COMMANDS})
        return self._producer

    def _keep_polling(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.get_running_loop().create_task(self._poll())

    async def _poll(self) -> None:
        while self._outstanding and self._producer is not None:
            self._producer.poll(0)
            await asyncio.sleep(0.002)

    # ---- owners

    async def partition(self, saga: str) -> int:
        if not self._partitions:
            try:
                self._partitions = await asyncio.to_thread(self._count_partitions)
            except KafkaException:
                raise NoOwner from None
        return partition_of(saga, self._partitions)

    async def at_owner(
        self, request: Any, saga: str, here: Callable[[int], Awaitable[tuple[int, Any]]]
    ) -> tuple[int, Any]:
        """(status, JSON) of `here(partition)` if this worker owns the saga, else the owner's answer to the same
        request.

        NoOwner: nobody can answer right now. Unknown: see `fleeting`.
        """
        partition = await self.partition(saga)
        engine = self.app.engine.engine  # None until it has been started
        if engine is not None and partition in engine.owned:
            try:
                status, said = await here(partition)
            except KeyError:
                raise NoOwner from None  # it left while the request was under way
            # A worker that slept, or is cut off, does not know yet what another one has accepted in its place.
            if status != HTTPStatus.NOT_FOUND or await self._owner(partition, fresh=True) == self.app.address():
                return status, said
        if HOP in request.headers:
            raise Misdirected
        for fresh in (False, True):
            url = await self._owner(partition, fresh)
            if url and url != self.app.address():
                try:
                    return await self._forward(url, request)
                except (aiohttp.ClientConnectorError, NoOwner):
                    continue  # the owner that was known is not the owner any more: ask once more who is
                except (aiohttp.ClientError, TimeoutError, ValueError):
                    if self._fleeting:
                        raise Unknown from None
        raise NoOwner

    async def _forward(self, url: str, request: Any) -> tuple[int, Any]:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=FORWARD_TIMEOUT))
        # The answer to HEAD has no body to pass on; whoever asked gets none of GET's either.
        async with self._session.request(
            "GET" if request.method == "HEAD" else request.method,
            URL(url + request.rel_url.raw_path_qs, encoded=True),
            data=await request.read(),
            headers={HOP: "1", "Content-Type": "application/json"},
        ) as response:
            if response.status == HTTPStatus.MISDIRECTED_REQUEST:
                raise NoOwner
            said = await response.json()
            if not isinstance(said, dict):
                raise ValueError("the owner's answer is no JSON object")
            return response.status, said

    async def _owner(self, partition: int, fresh: bool) -> str | None:
        if fresh or time.monotonic() - self._asked > OWNERS_FRESH:
            self._asked = time.monotonic()
            if self._owners is None:
                self._owners = Owners(self.app.engine.processor.group, self.app.engine.broker)
            try:
                self._known = await self._owners.ask()
            except CoordinatorAway:
                raise NoOwner from None
        return self._known.get(partition)

    def _count_partitions(self) -> int:
        topic = self.app.engine.processor.namespace + self._topic
        return len(AdminClient(self.app.engine.broker).list_topics(topic, timeout=10).topics[topic].partitions)


async def replied(what: str, web: Any, request: Any, answer: Awaitable[tuple[int, dict[str, Any]]]) -> Any:
    """A view's response: its answer, or in words why there is none. An error has `problems` and needs no more.

    what: whose partition it is about, such as "order"
    """
    headers = {}
    said: dict[str, Any]
    try:
        status, said = await answer
    except CodecError as refused:
        status, said = 422, {"problems": [refused.what]}
    except Misdirected:
        status, said = 421, {"problems": [f"a forwarded request that is about another worker's {what}"]}
    except Full:
        said = {"problems": [f"too much is under way beside this {what}"], "retry_after": FULL_FOR}
        status, said["mend"] = 503, "wait for as many seconds as Retry-After says"
    except Unknown:
        said = {"problems": ["what became of this is not known in time; it may have been done"], "retry_after": 1}
        status, said["mend"] = 503, "look what became of it, or begin anew: the same again would be another request"
    except (NoOwner, KafkaException):
        # To the worker that forwarded it, so that it looks for the owner once more; a 503 of its own is an answer.
        status = 421 if HOP in request.headers else 503
        said = {"problems": [f"the {what}'s partition is being handed over"], "retry_after": 1}
    if "retry_after" in said:
        headers = {"Retry-After": str(said["retry_after"])}
    if status >= 400 and "what" not in said:  # a forwarded answer has it all
        said = error(status, "; ".join(said["problems"])[:500], request, said)
    return web.json(said, status=status, headers=headers)
