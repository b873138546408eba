"""What every HTTP view of a worker gets for nothing: bounds on what is read and awaited, and errors in words.

Invariant: a request is answered, in bounded time and memory, with what was asked for or with a JSON object that has
`what`, `where` and `mend`. Only what is no HTTP at all is answered by the server's parser, in plain text.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

log = logging.getLogger(__name__)

MAX_BODY = 256 * 1024
"""Bytes of a request's body, unpacked. An order of a hundred lines takes some ten thousand."""

BODY_WITHIN = 10.0
"""Seconds for a client to send its body."""

ANSWERED_WITHIN = 40.0
"""Seconds for a view: above what the owner waits, also after forwarding. A second try may be cut short."""

MAX_WAITING = 1_000
"""Requests of one worker that are under way; more are told to come again. Each may hold a body and wait."""

HEALTH = "/health"
"""Answered however many others wait."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_MENDS = {
    405: "use a method that the header Allow names",
    408: f"send the whole body within {BODY_WITHIN:.0f} seconds",
    413: f"send at most {MAX_BODY} bytes",
    429: "wait for as many seconds as Retry-After says",
    503: "send the same request again in a moment",
}


def error(status: int, what: str, request: Any, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """The JSON of an error, with what the view has to say besides. All text becomes Unicode that can be sent,
    whatever it was made of.
    """
    mend = _pages_of(request) if status == 404 else _MENDS.get(status, "mend the request as `problems` says")
    said = {"what": what, "where": where_of(request), "mend": mend}
    return _clean({"problems": [what]} | said | (more or {}))  # type: ignore[no-any-return]


def _clean(said: Any) -> Any:
    if isinstance(said, str):
        return said.encode("utf-8", "replace").decode()
    if isinstance(said, dict):
        return {name: _clean(each) for name, each in said.items()}
    return [_clean(each) for each in said] if isinstance(said, list) else said


def _pages_of(request: Any) -> str:
    """What this worker answers besides, as its own routes have it."""
    paths = {resource.canonical.rstrip("/") for resource in request.app.router.resources()}
    here = ", ".join(sorted(path for path in paths if path))
    return f"check the id and the path; this worker has {here}" if here else "check the id and the path"


def where_of(request: Any) -> str:
    return f"{request.method} {request.path}"[:200]


def guard() -> Any:
    """The middleware of one worker's web server."""
    logging.getLogger("aiohttp.server").addFilter(_is_our_fault)
    waiting = 0
    told = 0.0

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal waiting, told
        if waiting >= MAX_WAITING and request.path != HEALTH:
            if time.monotonic() - told > 1.0:
                told = time.monotonic()
                log.warning("%d requests are under way: more are told to come again", waiting)
            return _answer(request, 503, "too many requests are under way", {"Retry-After": "1"})
        waiting += 1
        try:
            return await _handled(request, handler)
        finally:
            waiting -= 1

    return guarded


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Whether an error of the server is worth a traceback: not what strangers send that is no HTTP."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


async def _handled(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        async with asyncio.timeout(BODY_WITHIN):
            await request.read()  # kept for the view
    except TimeoutError:
        return _answer(request, 408, "the body did not come", {"Connection": "close"})
    except web.HTTPRequestEntityTooLarge:
        return _answer(request, 413, f"the body has more than {MAX_BODY} bytes", {"Connection": "close"})
    except (RequestPayloadError, HttpProcessingError, ValueError) as failure:
        return _answer(request, 400, f"the body cannot be read: {failure}"[:200], {"Connection": "close"})
    try:
        async with asyncio.timeout(ANSWERED_WITHIN):
            return await handler(request)
    except TimeoutError:
        return _answer(request, 503, "it was not answered in time", {"Retry-After": "1"})
    except web.HTTPException as refusal:
        if refusal.status < 400:
            raise
        allow = {"Allow": refusal.headers["Allow"]} if "Allow" in refusal.headers else {}
        return _answer(request, refusal.status, refusal.reason, allow)


def _answer(request: web.Request, status: int, what: str, headers: dict[str, str]) -> web.Response:
    said = error(status, what, request)
    return web.json_response(said, status=status, headers=headers)
