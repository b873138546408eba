"""An address that can refuse connections and still be ours.

Invariant: from `reserve` to `release` no other program gets the port, whether anybody listens or not. So an outage that
refuses connections ends at the same address, and so does a restart after kill -9.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web

from farandole.errors import ConfigError

BACKLOG = 1_024
"""Connections that wait to be accepted."""

REOPEN_AGAIN = 1.0
"""Seconds until the next try, should the port be taken after an outage (only where there is no guard)."""

log = logging.getLogger("farandole.sandbox")


@dataclass
class Port:
    """A reserved port. The guard is bound and never listens: Linux lets another socket listen beside it, and refuses
    connections when none does. Elsewhere there is no guard, and the port is only remembered.
    """

    host: str
    number: int
    guard: socket.socket | None = field(default=None, repr=False)

    @classmethod
    def reserve(cls, host: str, port: int) -> Port:
        """ConfigError if the port cannot be had. port 0: a free one."""
        try:
            guard = _bound(host, port)
        except OSError as error:
            raise ConfigError(
                f"the port cannot be used: {error.strerror or error}",
                where=f"{host}:{port}",
                mend="stop what listens there, or pass another --port (0: a free one)",
            ) from error
        number = guard.getsockname()[1]
        if sys.platform != "linux":
            guard.close()
            return cls(host, number)
        return cls(host, number, guard)

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.host == "0.0.0.0" else self.host
        return f"http://[{host}]:{self.number}" if ":" in host else f"http://{host}:{self.number}"

    def release(self) -> None:
        if self.guard:
            self.guard.close()


def _bound(host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


class Address:
    """A port with a web server that can be opened and closed again and again.

    protocol: makes the handler of one connection, as aiohttp's `web.Server` does
    """

    def __init__(self, port: Port, server: web.Server, protocol: Callable[[], asyncio.Protocol]) -> None:
        self.port, self._server, self._protocol = port, server, protocol
        self._listening: asyncio.Server | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()

    async def open(self) -> None:
        self._cancel_reopening()
        async with self._lock:
            if self._listening is None:
                listener = _bound(self.port.host, self.port.number)
                listener.setblocking(False)
                self._listening = await asyncio.get_running_loop().create_server(
                    self._protocol, sock=listener, backlog=BACKLOG
                )

    def refuse(self, seconds: float, spared: object = None) -> None:
        """Cut every connection but `spared`, and refuse new ones for so long."""
        self._cancel_reopening()
        if self._listening:
            self._listening.close()
            self._listening = None
        for connection in self._server.connections:
            if connection is not spared and connection.transport is not None:
                connection.transport.abort()
        self._reopening = asyncio.get_running_loop().call_later(seconds, self._reopen)

    async def close(self, patience: float) -> None:
        """Stop listening, wait `patience` seconds for answers that are under way, cut what is left."""
        self._cancel_reopening()
        if self._listening:
            self._listening.close()
        await self._server.shutdown(patience)
        self.port.release()

    def _cancel_reopening(self) -> None:
        if self._reopening:
            self._reopening.cancel()
            self._reopening = None

    def _reopen(self) -> None:
        async def open_again() -> None:
            try:
                await self.open()
            except OSError:
                log.warning("port %d is taken, trying again", self.port.number)
                self._reopening = asyncio.get_running_loop().call_later(REOPEN_AGAIN, self._reopen)

        self._opening = asyncio.get_running_loop().create_task(open_again())
