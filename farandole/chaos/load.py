"""An open loop, for as long as faults go on: of each kind of load one wave after another.

Invariants: a wave begins when it is due, whatever became of the one before; the time of what is in it counts from when
it was meant to begin; what a wave needs is there before it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, Final

from farandole.chaos.doomed import Doom, Doomed
from farandole.codec import Codec
from farandole.config import ClientConfig
from farandole.demo.sending import Sender
from farandole.demo.watch import Seen
from farandole.event import Meta
from farandole.topics import Topics

WAVE_SECONDS: Final = 15.0

AHEAD: Final = 10.0
"""Seconds before its beginning in which a wave is prepared."""

ANSWER_WITHIN: Final = 12.0
"""Seconds after which a customer asks another worker: the one that was asked may have been stopped. Above what a worker
itself waits for a decision: who asks again before that multiplies the load when all is slow.
"""


@dataclass(frozen=True)
class Taken:
    """One saga that nothing was wrong with: when it was meant to begin (ms since 1970), seconds to its end, and the
    partitions of each service that it went through."""

    at: int
    seconds: float
    through: Mapping[str, frozenset[int]]


@dataclass(frozen=True)
class Wave:
    """size: how many are in it; prepare: what they need; begin: they count from now on; place: them, the first one when
    it is due (monotonic clock)
    """

    size: int
    prepare: Callable[[], Coroutine[Any, Any, None]]
    begin: Callable[[], None]
    place: Callable[[float], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Means:
    """What every kind of load needs.

    seen:  what becomes of it
    sagas: all that are looked for, and the flow of each; grows before they are begun
    urls:  service → of its workers, any of which answers for any saga
    mail:  where the mail sink tells what it has sent, at present
    """

    run: str
    seed: int
    partitions: int
    client_config: ClientConfig
    namespace: str
    topics: Topics
    codec: Codec
    sender: Sender
    seen: Seen
    sagas: dict[str, str]
    urls: Mapping[str, Sequence[str]]
    mail: Callable[[], str] = str


class Source(ABC):
    """A kind of load.

    what:  is placed, in words; flows: keys; rate: of them per second; least: in a wave, that there is one of each sort
    """

    what: str
    least: int

    def __init__(self, means: Means, flows: tuple[str, ...], rate: float) -> None:
        self.means, self.flows, self.rate = means, flows, rate

    @property
    def size(self) -> int:
        return max(self.least, round(self.rate * WAVE_SECONDS))

    def wave_seed(self, number: int) -> int:
        return self.means.seed * 1_000_003 + number

    def opened(self) -> AbstractAsyncContextManager[Any]:
        """While this is entered, waves may be prepared and placed."""
        return nullcontext()

    @abstractmethod
    def wave(self, number: int) -> Wave:
        """The wave with this number, from 0."""

    @abstractmethod
    def intended(self) -> int:
        """How many were to begin until now."""

    @abstractmethod
    def ended(self) -> int:
        """How many of them have come to an end."""

    @abstractmethod
    def counts(self) -> dict[str, dict[str, int]]:
        """Flow → what became of its sagas."""

    @abstractmethod
    def taken(self, monotonic_to_ms: float) -> Iterable[Taken]:
        """Of what nothing was wrong with and has ended. monotonic_to_ms: what the wall clock (ms) is ahead"""

    @abstractmethod
    def problems(self, audit: Mapping[str, Any] | None) -> list[str]:
        """Answers that are not promised, and ends that may not be. audit: what it has counted, if it could"""


class Load:
    """Places all that is to be placed from `start` to `finish`, in a thread of its own."""

    def __init__(self, sources: Sequence[Source], means: Means, doomed: Doomed) -> None:
        self.sources, self.doomed = sources, doomed
        self._means = means
        self._finish = threading.Event()
        self._thread = threading.Thread(target=self._in_thread, name="load", daemon=True)
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self.began = 0.0

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """The waves under way are the last."""
        self._finish.set()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it at once."""
        self._finish.set()
        if self._thread.is_alive() and self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(5)

    def check(self) -> None:
        """Raise what ended the load, if anything did."""
        if self._error is not None:
            raise self._error

    # ---- what is there

    def intended(self) -> str:
        """How much was to begin until now, in words."""
        return ", ".join(f"{each.intended()} {each.what}" for each in self.sources)

    def ended(self) -> int:
        return sum(each.ended() for each in self.sources)

    def open(self) -> int:
        """Sagas that are looked for and have neither ended nor are parked."""
        means = self._means
        seen, sagas = means.seen, means.sagas
        parked = sum(saga in sagas and saga not in seen.endings for saga in seen.parked_sagas)
        return len(sagas) - len(seen.endings) - parked

    def take_doomed(self, decision: str) -> Doom:
        """A saga that this decision fails on: looked for from now on."""
        doom = self.doomed.take(decision)
        self._means.sagas[doom.saga] = doom.flow
        return doom

    def encode(self, doom: Doom) -> tuple[str, str, bytes]:
        """(topic, key, value) of what begins it."""
        means = self._means
        topic = means.codec.type_of(type(doom.event)).topic
        field = means.topics.topics[topic].key
        key = doom.saga if field in (None, "saga") else getattr(doom.event, str(field))
        meta = Meta(id=f"chaos/{means.run}/{doom.saga}", saga=doom.saga, flow=doom.flow, cause="")
        return topic, key, means.codec.encode(doom.event, meta)

    # ---- in the thread

    def _in_thread(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._error = error

    async def _all(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._means.sender.polling())
            for source in self.sources:
                await stack.enter_async_context(source.opened())
            first = [source.wave(0) for source in self.sources]
            await asyncio.gather(*(wave.prepare() for wave in first))
            self.began = time.monotonic() + 0.5
            async with asyncio.TaskGroup() as group:
                for source, wave in zip(self.sources, first, strict=True):
                    group.create_task(self._keep_on(source, wave, group))

    async def _keep_on(self, source: Source, wave: Wave, group: asyncio.TaskGroup) -> None:
        begins, number = self.began, 0
        while True:
            wave.begin()
            group.create_task(wave.place(begins))
            begins += wave.size / source.rate
            number += 1
            await self._until(begins - AHEAD)
            upcoming = source.wave(number)
            if not self._finish.is_set():
                await upcoming.prepare()
            await self._until(begins)
            if self._finish.is_set():
                return
            wave = upcoming

    async def _until(self, at: float) -> None:
        while (left := at - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.2))
