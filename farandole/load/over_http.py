"""Orders over HTTP, each when it is due: one thread keeps the pace, another one has the connections.

Invariant: a request without an answer, or answered with 503, is repeated with the same idempotency key while its
order's clock runs; an order that is not accepted in the end is counted and named.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence
from typing import Final

import aiohttp

from farandole.demo.place import REPEAT_PAUSES, body_of
from farandole.errors import FarandoleError
from farandole.load.orders import Order, Orders
from farandole.load.recorder import Played, Recorder
from farandole.load.sending import Cpu, Pace
from farandole.onloop import OnLoop

MOST_CONNECTIONS: Final = 500
"""At once. Beyond it requests wait for one, and their clocks run."""

ANSWER_WITHIN: Final = 20.0
GIVE_UP_AFTER: Final = 60.0
"""Seconds of trying for one order."""

STOPPED_WITHIN: Final = 5.0
LOOK_EVERY: Final = 0.1
"""Seconds between looks at whether it is to end."""


class HttpSender:
    """Asks the order service's workers in turn.

    others_cpu: CPU seconds of the generator's other Python threads
    """

    def __init__(self, orders: Orders, recorder: Recorder, *, urls: Sequence[str], others_cpu: Cpu) -> None:
        self._recorder, self._urls = recorder, itertools.cycle(urls)
        self._loop = asyncio.new_event_loop()
        self._on_loop = OnLoop(self._loop)
        self._cpu = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._pace = Pace(orders, recorder, self._place, lambda: self._cpu + others_cpu())
        self._connections = threading.Thread(target=self._run, name="http", daemon=True)
        self._thread = threading.Thread(target=self._pace.run, args=(time.sleep,), name="sender", daemon=True)
        self._error: BaseException | None = None
        self._halt = threading.Event()

    def start(self) -> None:
        self._connections.start()
        self._thread.start()

    def play(self, played: Played) -> None:
        self._pace.add(played)

    def cut(self) -> None:
        self._pace.cut()

    def stop(self) -> None:
        self._pace.halted.set()
        if self._thread.is_alive():
            self._thread.join()
        self._halt.set()
        if self._connections.is_alive():
            self._connections.join(STOPPED_WITHIN)

    def check(self) -> None:
        error = self._pace.error or self._error
        if error is not None:
            raise FarandoleError(f"no more orders can be placed: {error}") from error

    # ---- in the pace's thread

    def _place(self, order: Order, due: float, played: Played) -> None:
        self._recorder.placed(order.saga.encode(), due, played)
        self._on_loop.call(self._begin, order, due, played)

    # ---- in the connections' thread

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        connector = aiohttp.TCPConnector(limit=MOST_CONNECTIONS)
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._http:
            while not self._halt.is_set():
                self._cpu = time.thread_time()
                await asyncio.sleep(LOOK_EVERY)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, order: Order, due: float, played: Played) -> None:
        task = self._loop.create_task(self._order(order, due, played))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _order(self, order: Order, due: float, played: Played) -> None:
        accepted = await self._ask("/orders", body_of(order.command), {200, 201, 202}, played)
        if not accepted:
            self._recorder.failed(order.saga.encode(), "not accepted over HTTP")
            return
        played.answers.add(time.monotonic() - due)
        if order.cancel_after is not None:
            await asyncio.sleep(order.cancel_after)
            await self._ask(f"/orders/{order.saga}/cancel", b"{}", {202, 404, 409}, played)

    async def _ask(self, path: str, body: bytes, fine: set[int], played: Played) -> bool:
        give_up = time.monotonic() + GIVE_UP_AFTER
        for attempt in itertools.count(1):
            try:
                async with self._http.post(next(self._urls) + path, data=body) as response:
                    await response.read()
                    said, status = str(response.status), response.status
            except (aiohttp.ClientError, TimeoutError) as error:
                said, status = type(error).__name__, 503
            played.statuses[said] += 1
            if status != 503:
                return status in fine
            if time.monotonic() > give_up:
                return False
            await asyncio.sleep(REPEAT_PAUSES[min(attempt, len(REPEAT_PAUSES)) - 1])
        raise AssertionError("unreachable")
