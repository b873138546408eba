"""Performing outside calls: many at once, each with its idempotency key, retries, backoff and deadline.

Invariants:
- A call is repeated with the same key until there is an answer or its deadline has passed; so the outside does it at
  most once.
- A deadline does not mean "not done": it gives the outcome "unknown", and the service has to find out.
- One call's wait is no other call's wait: backoff holds no connection.
- What is filled in when a call is sent (`Fill`) is in no table, record or log, nor is what the other side says to it,
  as it may repeat it.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp
import msgspec
from msgspec.structs import replace

from events import FarandoleCall
from farandole.errors import ConfigError
from farandole.onloop import OnLoop
from farandole.ports import Answer

log = logging.getLogger(__name__)

CONNECTIONS = 256
"""Calls to one outside system that are on the wire at the same time."""

ATTEMPT_TIMEOUT = 5.0
"""Seconds after which one attempt is given up and repeated."""

FIRST_BACKOFF, LARGEST_BACKOFF = 0.1, 30.0
"""Seconds between attempts: doubled from the first to the largest, with jitter, for as long as the call lives."""

STUCK_AFTER = 60.0
"""Seconds without an answer after which a call counts as stuck."""

RETRIED = {401, 403, 407, 408, 425, 429}
"""4xx that say "not now" and not "no". Wrong credentials are our mistake: taken for a refusal they would cancel every
order, so they count as no answer until somebody has mended them.
"""

MAX_ANSWER = 64 * 1024
"""Bytes of an answer that are read."""

MAX_REFERENCE = 1_000
"""Characters of a reference or reason that are kept."""

FILLED_AFTER, FILLED_WITHIN = 0.05, 0.25
"""Seconds, at least and at the most, of the pause before a call that is filled in, at random. Whether there is
something to send may be a secret: by then the answer to whoever brought the call about has left, and takes as long
either way.
"""

Fill = Callable[[Mapping[str, Any]], Mapping[str, Any] | None]
"""From the body of a call, as its table has it, to what is sent: the same each time. None: nothing is, and the outcome
is "accepted".
"""


def load_fills(named: Mapping[str, str]) -> dict[str, Fill]:
    """Outside system → what fills in its calls, by `module:function`. ConfigError if something is missing for it."""
    fills: dict[str, Fill] = {}
    for outside, name in named.items():
        module, _, function = name.partition(":")
        fills[outside] = getattr(importlib.import_module(module), function)()
    return fills


def outside_urls(outsides: Mapping[str, str], environ: Mapping[str, str], service: str) -> dict[str, str]:
    """Base URL of each outside system. ConfigError names the variable that is not set."""
    missing = sorted(env for env in outsides.values() if not environ.get(env))
    if missing:
        raise ConfigError(
            f"{service} calls systems whose address is unknown: {', '.join(missing)}",
            where="environment",
            mend=f"export {missing[0]}=http://…, or run `farandole sandbox all`, which prints addresses to use",
        )
    return {name: environ[env].rstrip("/") for name, env in outsides.items()}


class _Performance:
    """One call under way. Forgetting and starting a key again makes a new one, so neither can undo the other."""

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.cancelled = False
        self.since = 0.0

    def cancel(self) -> None:
        self.cancelled = True
        if self.task is not None:
            self.task.cancel()


class HttpPerformer:
    """Performs calls on an asyncio loop; the engine's thread starts and stops them.

    Args:
        urls:     outside system → base URL
        answered: takes each answer; called on the loop's thread
        fills:    outside system → what fills in the bodies of its calls
    """

    def __init__(
        self, urls: Mapping[str, str], answered: Callable[[Answer], None], fills: Mapping[str, Fill] | None = None
    ) -> None:
        self._urls, self._answered, self._fills = urls, answered, dict(fills or {})
        self._loop = asyncio.get_running_loop()
        self._on_loop = OnLoop(self._loop)
        self._slots = {name: asyncio.Semaphore(CONNECTIONS) for name in urls}
        self._session: aiohttp.ClientSession | None = None
        self._tasks: dict[tuple[int, str], _Performance] = {}

    # ---- called from the engine's thread

    def start(self, partition: int, key: str, call: FarandoleCall) -> None:
        if (partition, key) not in self._tasks:
            performance = self._tasks[partition, key] = _Performance()
            self._on_loop.call(self._begin, performance, partition, key, call)

    def stop(self, partition: int, key: str) -> None:
        performance = self._tasks.pop((partition, key), None)
        if performance is not None:
            self._on_loop.call(performance.cancel)

    def forget(self, partition: int) -> None:
        for where in [where for where in list(self._tasks) if where[0] == partition]:
            self.stop(*where)

    def under_way(self) -> int:
        return len(self._tasks)

    # ---- on the loop

    def _begin(self, performance: _Performance, partition: int, key: str, call: FarandoleCall) -> None:
        if not performance.cancelled:
            performance.since = self._loop.time()
            performance.task = self._loop.create_task(self._perform(partition, key, call))

    async def close(self) -> None:
        for performance in list(self._tasks.values()):
            performance.cancel()
        self._tasks.clear()
        if self._session is not None:
            await self._session.close()

    def stuck(self) -> list[tuple[str, float]]:
        """Idempotency keys and seconds of the calls that have waited longer than STUCK_AFTER."""
        now = self._loop.time()
        waits = [(key, now - each.since) for (_, key), each in list(self._tasks.items()) if each.since]
        return [(key, seconds) for key, seconds in waits if seconds > STUCK_AFTER]

    async def _perform(self, partition: int, key: str, call: FarandoleCall) -> None:
        fill = self._fills.get(call.outside)
        if fill is None:
            self._answered(Answer(partition, key, *await self._outcome(key, call)))
            return
        await asyncio.sleep(random.uniform(FILLED_AFTER, FILLED_WITHIN))
        filled = fill(msgspec.json.decode(call.body))
        outcome = "accepted"
        if filled is not None:
            outcome, _, _ = await self._outcome(key, replace(call, body=msgspec.json.encode(filled)))
        self._answered(Answer(partition, key, outcome, "", "" if outcome == "accepted" else f"it was {outcome}"))

    async def _outcome(self, key: str, call: FarandoleCall) -> tuple[str, str, str]:
        """(outcome, reference, reason), however long it takes."""
        end = self._loop.time() + call.deadline if call.deadline else None
        pause = FIRST_BACKOFF
        outcome = None
        while outcome is None:
            async with self._slots[call.outside]:
                left = ATTEMPT_TIMEOUT if end is None else min(ATTEMPT_TIMEOUT, end - self._loop.time())
                if left > 0:
                    outcome = await self._attempt(key, call, left)
            if left <= 0:
                outcome = ("unknown", "", f"no answer within {call.deadline:g} s")
                break
            if outcome is None:
                rest = pause if end is None else min(pause, max(0.0, end - self._loop.time()))
                await asyncio.sleep(rest * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LARGEST_BACKOFF)
        return outcome

    async def _attempt(self, key: str, call: FarandoleCall, timeout: float) -> tuple[str, str, str] | None:
        """(outcome, reference, reason), or None: ask again. A redirect is no answer: following it would ask a page."""
        try:
            async with self._client().post(
                f"{self._urls[call.outside]}/{call.operation}",
                data=call.body,
                headers={"Idempotency-Key": key, "Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(total=timeout),
                allow_redirects=False,
            ) as response:
                if response.status // 100 not in (2, 4) or response.status in RETRIED:
                    return None
                said = _read_answer(await _read_body(response))
                if response.status < 300:
                    return "accepted", _text(said.get("reference")), _text(said.get("outcome"))
                return "refused", "", _text(said.get("reason")) or f"HTTP {response.status}"
        except Exception as error:
            # Whatever it was, there is no answer; giving up here would leave the saga waiting for ever.
            log.info("%s/%s %s: no answer: %s: %s", call.outside, call.operation, key, type(error).__name__, error)
            return None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        return self._session


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    """MAX_ANSWER bytes of it at the most. A stream's `read` gives what has come so far, which may be half of it."""
    body = bytearray()
    while len(body) < MAX_ANSWER and (some := await response.content.read(MAX_ANSWER - len(body))):
        body += some
    return bytes(body)


def _read_answer(body: bytes) -> dict[str, Any]:
    """The JSON object that an answer holds; empty if it holds none, for the status says the outcome."""
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return answer if isinstance(answer, dict) else {}


def _text(value: Any) -> str:
    """What may be written into a record: short, and Unicode that can be encoded."""
    return "" if value is None else str(value)[:MAX_REFERENCE].encode("utf-8", "replace").decode()
