"""A TCP proxy in front of every broker, so that the network between a worker and a broker can be cut.

    python -m farandole.chaos.proxy 20001 20002 20003      the brokers' ports, behind it

It is a process of its own: what it forwards must not wait for the harness, nor the harness for it. It prints its ports
as one line of JSON, then obeys lines of JSON on standard input (farandole.chaos.network) and ends with it.

Invariants: what is forwarded keeps its order and loses nothing; a cut of mode `drop` is silence, not an end, and what
was sent meanwhile arrives when it is healed, as TCP has it; who a connection belongs to is found by its client's port.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
from collections.abc import Iterable
from typing import Any, Final, cast

import msgspec
import psutil

HOST: Final = "127.0.0.1"
AT_ONCE: Final = struct.pack("ii", 1, 0)
"""Linger for no time."""


class Rule(msgspec.Struct, frozen=True):
    """What is done to connections.

    mode:    drop (silence), reset (ended at once, and new ones too), delay
    pids:    of these processes; None: of all
    brokers: to these (0 is the first); None: to all
    delay:   seconds, each way
    """

    mode: str
    pids: tuple[int, ...] | None = None
    brokers: tuple[int, ...] | None = None
    delay: float = 0.0


class Side(asyncio.Protocol):
    """One end of a connection; what it receives goes to the other end."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.transport: asyncio.Transport | None = None
        self.full = False
        """The other end cannot take more at present."""
        self._due = 0.0

    @property
    def other(self) -> Side:
        return self.link.broker if self is self.link.client else self.link.client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.link.made(self)

    def data_received(self, data: bytes) -> None:
        delay, loop = self.link.delay, self.link.proxy.loop
        now = loop.time()
        if not delay and self._due <= now:
            self.other.send(data)
            return
        self._due = max(self._due, now + delay)  # a delay that is lifted lets nothing overtake
        loop.call_at(self._due, self.other.send, data)

    def send(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def pause_writing(self) -> None:
        self.other.full = True
        self.link.settle()

    def resume_writing(self) -> None:
        self.other.full = False
        self.link.settle()

    def connection_lost(self, error: Exception | None) -> None:
        self.link.lost(self)

    def read(self, wanted: bool) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if wanted and not self.transport.is_reading():
            self.transport.resume_reading()
        elif not wanted and self.transport.is_reading():
            self.transport.pause_reading()


class Link:
    """A connection from a worker to a broker."""

    def __init__(self, proxy: Proxy, index: int) -> None:
        self.proxy, self.index = proxy, index
        self.client, self.broker = Side(self), Side(self)
        self.port = 0
        self.held = False
        self.delay = 0.0

    def made(self, side: Side) -> None:
        assert side.transport is not None
        if side is self.client:
            self.port = side.transport.get_extra_info("peername")[1]
            side.transport.pause_reading()  # until the broker is reached
            self.proxy.opened(self)
            return
        self.settle()

    async def reach(self) -> None:
        try:
            await self.proxy.loop.create_connection(lambda: self.broker, HOST, self.proxy.brokers[self.index])
        except OSError:
            self.end()

    def settle(self) -> None:
        """Read from whom there is a reason to."""
        reached = self.broker.transport is not None
        self.client.read(reached and not self.held and not self.client.full)
        self.broker.read(not self.held and not self.broker.full)

    def lost(self, side: Side) -> None:
        transport = side.other.transport
        if transport is not None:
            transport.close()
        self.proxy.links.discard(self)

    def end(self) -> None:
        for side in (self.client, self.broker):
            if side.transport is not None:
                # At once, unsent data or not: a reset.
                side.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
                side.transport.abort()
        self.proxy.links.discard(self)


class Proxy:
    """All connections, and what is wrong with which."""

    def __init__(self, brokers: list[int]) -> None:
        self.brokers = brokers
        self.loop = asyncio.get_running_loop()
        self.links: set[Link] = set()
        self.rules: dict[int, Rule] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def listen(self) -> list[int]:
        """The ports, one for each broker."""
        ports = []
        for index in range(len(self.brokers)):
            server = await self.loop.create_server(lambda at=index: Link(self, at).client, HOST, 0)  # type: ignore[misc]
            ports.append(server.sockets[0].getsockname()[1])
        return ports

    def opened(self, link: Link) -> None:
        self.links.add(link)
        self._apply([link])
        if link in self.links:
            task = self.loop.create_task(link.reach())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Set or lift a rule; says how many connections it concerns."""
        number = int(order["id"])
        before = self.rules.pop(number, None)
        if "rule" in order:
            self.rules[number] = before = msgspec.convert(order["rule"], Rule)
        concerned = sum(before is not None and self._concerns(before, link) for link in self._with_owners(before))
        self._apply(list(self.links))
        return {"id": number, "links": concerned}

    def _with_owners(self, rule: Rule | None) -> list[Link]:
        self._ports = {pid: _ports_of(pid) for pid in (rule.pids or () if rule else ())}
        return list(self.links)

    def _concerns(self, rule: Rule, link: Link) -> bool:
        if rule.brokers is not None and link.index not in rule.brokers:
            return False
        return rule.pids is None or any(link.port in self._ports.get(pid, ()) for pid in rule.pids)

    def _apply(self, links: Iterable[Link]) -> None:
        self._ports = {pid: _ports_of(pid) for rule in self.rules.values() for pid in rule.pids or ()}
        for link in links:
            rules = [rule for rule in self.rules.values() if self._concerns(rule, link)]
            if any(rule.mode == "reset" for rule in rules):
                link.end()
                continue
            link.held = any(rule.mode == "drop" for rule in rules)
            link.delay = max((rule.delay for rule in rules if rule.mode == "delay"), default=0.0)
            link.settle()


def _ports_of(pid: int) -> set[int]:
    """Local ports of a process's connections."""
    try:
        return {each.laddr.port for each in psutil.Process(pid).net_connections("tcp4") if each.laddr}
    except psutil.Error:
        return set()


async def _serve(brokers: list[int]) -> None:
    proxy = Proxy(brokers)
    print(json.dumps(await proxy.listen()), flush=True)
    orders = asyncio.StreamReader()
    await proxy.loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        print(json.dumps(proxy.obey(json.loads(line))), flush=True)


if __name__ == "__main__":
    try:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve([int(port) for port in sys.argv[1:]]))
    except BrokenPipeError:  # whoever started it has gone meanwhile: that is how it is told to end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
