"""One outside system over HTTP: `POST /{operation}` for callers; /state, /health, /metrics and /faults beside it.

Invariants:
- A request is performed in one go, between two awaits: no other request is ever half-way through.
- The caller hanging up stops nothing: a request that is under way still takes effect, late, as it would in the world.
- Nothing that a caller sent is logged or repeated in an error, so no card token is, not even one in malformed HTTP.
- Two addresses: one for callers, which an outage can close, and one for who looks and breaks, which stays.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from farandole.sandbox.address import Address, Port
from farandole.sandbox.carrier import Carrier
from farandole.sandbox.faults import NO_FAULTS, UNHARMED, Fate, Faults, Plan
from farandole.sandbox.gateway import Gateway
from farandole.sandbox.journal import Journal
from farandole.sandbox.mail import Mail
from farandole.sandbox.system import LIMIT, Answer, System, reason

KINDS: dict[str, type[System]] = {"gateway": Gateway, "carrier": Carrier, "mail": Mail}

MAX_BODY = 64 * 1024
"""Bytes of a request's body; more is answered 413."""

MAX_UNDER_WAY = 10_000
"""Requests that are slowed down or wait for their late answer at the same time; more are answered 503."""

MAX_LOG_LINES = 1_000
"""Warnings that one process writes; the metrics go on counting."""

NO_ACCESS_LOG: dict[str, Any] = {"access_log": None}
"""aiohttp takes None; its types do not say so."""

PATIENCE = 0.5
"""Seconds that requests under way are given when the process stops."""

STATE_LINES = 500
"""Lines of /state written at once, so that a long state does not stop the requests beside it."""

log = logging.getLogger("farandole.sandbox")


@dataclass(frozen=True)
class Settings:
    """One system as it is started.

    port:       0: a free one
    data:       directory of the journal; None: a restart forgets
    faults:     plan in force from the start
    until_eof:  stop when standard input ends: so no sandbox outlives who started it
    """

    system: str
    host: str = "127.0.0.1"
    port: int = 0
    data: Path | None = None
    limit: int = LIMIT
    faults: Plan = NO_FAULTS
    until_eof: bool = False
    as_json: bool = False


class _Protocol(web.RequestHandler):
    """aiohttp's HTTP, except that its error texts and tracebacks, which quote the request, are not shown."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        self.log_exception(exc_info=exc)
        answer = _json(Answer(status, reason("the request could not be read" if status < 500 else "internal error")))
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        error = kw.get("exc_info")
        at = traceback.extract_tb(error.__traceback__)[-1:] if isinstance(error, BaseException) else []
        where = f" at {Path(at[0].filename).name}:{at[0].lineno}" if at else ""
        log.warning("request not handled: %s%s", type(error).__name__, where)


def _address(port: Port, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> Address:
    server, loop = web.Server(handler), asyncio.get_running_loop()
    return Address(port, server, lambda: _Protocol(server, loop=loop, **NO_ACCESS_LOG))


class _FewLines(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.left = MAX_LOG_LINES

    def filter(self, record: logging.LogRecord) -> bool:
        self.left -= 1
        return self.left >= 0


def _json(answer: Answer) -> web.Response:
    return web.Response(status=answer.status, body=answer.body, content_type="application/json")


class Server:
    """One system on its two addresses."""

    def __init__(self, system: System, faults: Faults, host: str, port: int) -> None:
        self.system, self.faults = system, faults
        self._port, self._admin_port = Port.reserve(host, port), Port.reserve(host, 0)
        self._under_way = 0
        self._aside: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
            "/health": self._health,
            "/metrics": self._metrics,
            "/state": self._state,
            "/faults": self._faults,
        }
        self._count_up()

    def _count_up(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "sandbox_requests", "Requests by operation and answer.", ["operation", "answer"], registry=self._registry
        )
        self._met = Counter("sandbox_faults", "Faults that requests met, by kind.", ["kind"], registry=self._registry)
        for name, text, value in (
            ("sandbox_operations", "Operations kept.", lambda: len(self.system)),
            ("sandbox_operations_limit", "Operations kept at most.", lambda: self.system.limit),
            ("sandbox_violations", "What callers did that may never happen.", lambda: self.system.violations),
            ("sandbox_under_way", "Requests that are slowed down.", lambda: self._under_way),
        ):
            Gauge(name, text, registry=self._registry).set_function(value)

    @property
    def url(self) -> str:
        return self._port.url

    @property
    def admin_url(self) -> str:
        return self._admin_port.url

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        self._callers = _address(self._port, self._handle)
        self._watchers = _address(self._admin_port, self._handle_aside)
        await self._watchers.open()
        await self._begin_plan()
        try:
            yield self
        finally:
            await asyncio.gather(self._callers.close(PATIENCE), self._watchers.close(PATIENCE))

    async def _begin_plan(self, asker: object = None) -> None:
        """Open or close the callers' address, as the plan in force has it. The connection of `asker` is left open."""
        outage = self.faults.plan.outage
        if outage and outage.refuse:
            self._callers.refuse(outage.lasts, spared=asker)
        else:
            await self._callers.open()

    # ---- requests of callers

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path in self._aside:
            return await self._handle_aside(request)
        operation = request.path[1:]
        if request.method != "POST":
            return _json(Answer(405, reason("operations are called with POST")))
        try:
            body = await _body(request)
        except (ConnectionError, web.RequestPayloadError):
            return _json(Answer(400, reason("the body did not arrive whole")))
        if body is None:
            return _json(Answer(413, reason(f"the body has more than {MAX_BODY} bytes")))
        return await self._answer(request, operation, request.headers.get("Idempotency-Key", ""), body)

    async def _answer(self, request: web.BaseRequest, operation: str, key: str, body: bytes) -> web.StreamResponse:
        known = operation if operation in self.system.bodies else "unknown"
        fate = self.faults.meet(operation, key)
        if fate.delay:
            self._met.labels("latency").inc()
            if not await self._wait(fate.delay):
                return self._answered(known, "busy", Answer(503, reason("too many requests are under way")))
        if self.faults.out_of_order():
            self._met.labels("outage").inc()
            return self._answered(known, "fault", Answer(503, reason("out of order")))
        if fate.status:
            self._met.labels("errors").inc()
            return self._answered(known, "fault", Answer(fate.status, reason("a fault that was asked for")))
        answer = self.system.perform(operation, key, body)
        response = self._answered(known, _word(answer), answer)
        return response if fate is UNHARMED else await self._lose(request, fate, response)

    async def _lose(self, request: web.BaseRequest, fate: Fate, response: web.Response) -> web.StreamResponse:
        if fate.lost or fate.answer_after:
            self._met.labels("lost").inc()
        if fate.answer_after:
            await self._wait(fate.answer_after)
        if fate.lost and request.transport is not None:
            request.transport.close()
        return response

    async def _wait(self, seconds: float) -> bool:
        if self._under_way >= MAX_UNDER_WAY:
            return False
        self._under_way += 1
        try:
            await asyncio.sleep(seconds)
        finally:
            self._under_way -= 1
        return True

    def _answered(self, operation: str, word: str, answer: Answer) -> web.Response:
        self._requests.labels(operation, word).inc()
        return _json(answer)

    # ---- who looks and breaks

    async def _handle_aside(self, request: web.BaseRequest) -> web.StreamResponse:
        handler = self._aside.get(request.path)
        if handler is None:
            return _json(Answer(404, reason(f"here are {', '.join(self._aside)}")))
        if request.method != "GET" and handler != self._faults:
            return _json(Answer(405, reason("only GET")))
        return await handler(request)

    async def _health(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(
            {
                "system": self.system.name,
                "status": "full" if len(self.system) >= self.system.limit else "ok",
                "operations": len(self.system),
                "limit": self.system.limit,
                "violations": self.system.violations,
                "outage_left": round(self.faults.outage_left(), 3),
            }
        )

    async def _metrics(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _state(self, request: web.BaseRequest) -> web.StreamResponse:
        """First a line about the whole, then a line per operation; `?after=N&limit=M` for a page."""
        try:
            after, limit = int(request.query.get("after", 0)), request.query.get("limit")
            lines = self.system.operations(max(after, 0), None if limit is None else max(int(limit), 0))
        except ValueError:
            return _json(Answer(400, reason("after and limit are whole numbers")))
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        head = {"system": self.system.name, "last": len(self.system), "violations": self.system.violations}
        chunk = [json.dumps(head).encode()]
        for line in lines:
            chunk.append(msgspec.json.encode(line))
            if len(chunk) == STATE_LINES:
                await response.write(b"\n".join(chunk) + b"\n")
                chunk = []
        await response.write(b"\n".join([*chunk, b""]))
        await response.write_eof()
        return response

    async def _faults(self, request: web.BaseRequest) -> web.StreamResponse:
        """GET: what is in force. PUT: this plan instead. DELETE: nothing."""
        if request.method == "PUT":
            try:
                plan = msgspec.json.decode(await _body(request) or b"", type=Plan)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                return _json(Answer(400, reason(str(error))))
            await self._change(plan, request)
        elif request.method == "DELETE":
            await self._change(NO_FAULTS, request)
        elif request.method != "GET":
            return _json(Answer(405, reason("GET, PUT or DELETE")))
        return web.json_response(self.faults.report())

    async def _change(self, plan: Plan, request: web.BaseRequest) -> None:
        self.faults.put(plan)
        await self._begin_plan(asker=request.protocol)


def _word(answer: Answer) -> str:
    """How the metrics name an answer: few words, so few series."""
    if answer.status == 507:
        return "full"
    if answer.repeated:
        return "repeated"
    return "accepted" if answer.status == 200 else "refused"


async def _body(request: web.BaseRequest) -> bytes | None:
    """None if it is too large."""
    if (request.content_length or 0) > MAX_BODY:
        return None
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return None
    return body if len(body) <= MAX_BODY else None


def serve(settings: Settings) -> None:
    """Run one system until SIGTERM, Ctrl-C or (`until_eof`) the end of standard input."""
    logging.basicConfig(format=f"%(asctime)s {settings.system}: %(message)s", level=logging.WARNING)
    log.addFilter(_FewLines())
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.until_eof:
        loop.add_reader(sys.stdin.fileno(), _stop_at_eof, stop)
    journal = Journal(settings.data, settings.system) if settings.data else None
    system = KINDS[settings.system](journal, limit=settings.limit)
    try:
        async with Server(system, Faults(settings.faults), settings.host, settings.port).running() as server:
            _announce(settings, server)
            await stop.wait()
    finally:
        system.close()


def _stop_at_eof(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1024):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()


def _announce(settings: Settings, server: Server) -> None:
    said = {"system": settings.system, "url": server.url, "admin": server.admin_url, "pid": os.getpid()}
    if settings.as_json:
        print(json.dumps(said), flush=True)
    else:
        print(f"{settings.system} listens on {server.url}; /state and /faults also on {server.admin_url}", flush=True)
