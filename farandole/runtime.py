"""A service's engine inside its Faust worker: a `mode.Service` with one thread, started and stopped with the App.

Invariant: the engine ends with the App or ends the App. What can heal by itself (a broker that is away, a worker
           that was
fenced) begins anew from what Kafka has; what cannot, crashes the App with the reason, and whoever supervises it sees
it.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import mode
from confluent_kafka import KafkaException

from farandole import config
from farandole.agent import AgentSteps
from farandole.assembly import assemble
from farandole.clients import KafkaClients
from farandole.engine import Engine
from farandole.kafkaerrors import Inconsistent
from farandole.membership import claim_instance
from farandole.onloop import OnLoop
from farandole.outside import HttpPerformer, load_fills, outside_urls
from farandole.ports import Answer
from farandole.succession import succession
from farandole.table import Changes

if TYPE_CHECKING:
    from farandole.app import App

log = logging.getLogger(__name__)

RETRY_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before an engine that lost its broker begins anew; the last one repeats."""

GC_THRESHOLDS = (50_000, 20, 10)
"""Python's default looks at the young objects every 700 allocations, a few messages; a third of an order's CPU. Larger
batches of garbage cost nothing that was measured: what an engine allocates dies with its batch, by reference counting.
"""

WELL_AFTER = 30.0
"""Seconds without a failure after which the next one counts as the first."""

HANGS_AFTER = 180.0
"""Seconds after which a transaction hangs: longer than all its time-outs together."""

LEAVES_WITHIN = 60.0
"""Seconds for the clients to be given up, before the process is ended. librdkafka has been seen not to come back from
that either, for as long as anybody looked.
"""

ENDS_WITHIN = 5.0
"""Seconds for the process to end after its engine has, before it is ended."""

PORT_WITHIN = 5.0
"""Seconds for a predecessor to close its HTTP port, after its engine has let go."""

STOP_TIMEOUT = 30.0
"""Seconds that a stopping worker gives the batch under way."""


class EngineService(mode.Service):
    """Runs one service's engine for the lifetime of its App.

    make_performer: what performs outside calls; benchmarks and tests put their own in its place
    """

    make_performer: Callable[..., Any] = HttpPerformer

    def __init__(self, app: App, **options: Any) -> None:
        super().__init__(**options)
        self.app = app
        self.engine: Engine | None = None
        self.performer: HttpPerformer | None = None
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._waiters: dict[tuple[str, str], list[asyncio.Future[None]]] = {}
        app.engine = self
        self._prepare()

    # ---- lifecycle, on Faust's loop

    async def on_start(self) -> None:
        self._faust_loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._on_loop = OnLoop(self._faust_loop)
        gc.set_threshold(*GC_THRESHOLDS)
        filled = {"fills": self._fills} if self._fills else {}
        self.performer = self.make_performer(self._urls, self._answered, **filled)
        self.engine = self._make_engine(self.performer)
        self._thread = threading.Thread(target=self._run, name=f"engine-{self.app.service_name}", daemon=True)
        self._thread.start()
        self.add_future(self._watch())

    async def on_stop(self) -> None:
        self._halt.set()
        for waiting in list(self._waiters.values()):
            for future in waiting:
                if not future.done():
                    future.set_exception(TimeoutError())
        for door in self.app.doors:
            await door.close()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, STOP_TIMEOUT)
        if self.performer is not None:
            await self.performer.close()
        if self._thread is None or not self._thread.is_alive():
            self.succession.leave()  # else a successor begins when this process is gone, and not before

    def _prepare(self) -> None:
        """All that can be wrong before anything is started: settings, schemas, flows, the port, the broker."""
        app = self.app
        self.broker = config.kafka_client_config()
        config.check_broker(self.broker)
        self.succession = succession(app.service_name)
        self.parts = assemble(app)
        self.processor = self.parts.processor
        self._agent = app.batch_agent()
        self._urls = outside_urls(
            app.outsides, {env: config.setting(env) for env in app.outsides.values()}, app.service_name
        )
        self._fills = load_fills(app.fills)
        # All that takes time has been done: only now is the predecessor, if there is one, waited for.
        self.succession.enter()
        app.check_port(PORT_WITHIN if self.succession.succeeded else 0.0)
        instance, self._lock = claim_instance(self.processor.group, config.home())
        self.clients = KafkaClients(
            self.broker,
            self.processor.group,
            instance,
            address=app.address(),
            timed=self.processor.reads_ends,
            stays=self.succession.has_successor,
        )

    def _make_engine(self, performer: Any) -> Engine:
        return Engine(
            processor=self.processor,
            agent=AgentSteps(self._agent.name, self._agent.fun),
            clients=self.clients,
            performer=performer,
            now=lambda: time.time_ns() // 1_000_000,
            committed=self._committed,
            pausable=self.parts.pausable,
            most_open=config.open_sagas(),
        )

    async def _watch(self) -> None:
        """End the process when a transaction hangs: librdkafka has been seen not to return after a broker's restart,
        whatever its time-outs. And when the engine has ended, and the process does not: a consumer that nobody polls
        keeps its partitions for minutes. Whoever supervises the worker starts it again, and it begins anew from what
        Kafka has.
        """
        ended: float | None = None
        while not self._halt.is_set():
            await asyncio.sleep(1.0)
            since = self.engine.busy_since if self.engine is not None else None
            if since is not None and time.monotonic() - since > HANGS_AFTER:
                log.critical("%s: a transaction hangs for %.0f s: ending", self.app.service_name, HANGS_AFTER)
                os._exit(70)
            leaving = self.engine.leaving_since if self.engine is not None else None
            if leaving is not None and time.monotonic() - leaving > LEAVES_WITHIN:
                log.critical("%s: leaving hangs for %.0f s: ending", self.app.service_name, LEAVES_WITHIN)
                os._exit(70)
            if self._thread is not None and not self._thread.is_alive():
                ended = ended or time.monotonic()
                if time.monotonic() - ended > ENDS_WITHIN:
                    log.critical("%s: the engine has ended, and the process does not: ending", self.app.service_name)
                    os._exit(70)

    # ---- the engine's thread

    def _run(self) -> None:
        try:
            self._cycle()
        except BaseException as error:
            log.critical("%s: the engine ends: %s", self.app.service_name, error)
            asyncio.run_coroutine_threadsafe(self.crash(error), self._faust_loop)

    def _cycle(self) -> None:
        assert self.engine is not None
        failures = 0
        while not self._halt.is_set():
            try:
                opened = time.monotonic()
                self.engine.open()
                while not self._halt.is_set():
                    self.engine.step()
                    if failures and time.monotonic() - opened > WELL_AFTER:
                        failures = 0
                self.engine.close()
            # SystemError: confluent-kafka 2.15 logs from inside librdkafka while an exception of its own is pending.
            except (KafkaException, Inconsistent, SystemError) as error:
                pause = RETRY_PAUSES[min(failures, len(RETRY_PAUSES) - 1)]
                failures += 1
                log.warning("%s: beginning anew in %.1f s: %s", self.app.service_name, pause, error)
                self.engine.abandon()
                self._halt.wait(pause)

    def _committed(self, changed: Changes) -> None:
        for table, key in list(self._waiters):
            if any(key in rows for part, rows in changed.items() if part.table == table):
                self._on_loop.call(self._wake, (table, key))

    # ---- what the loop's side asks

    def _answered(self, answer: Answer) -> None:
        if self.engine is not None:
            self.engine.answers.append(answer)

    def _wake(self, where: tuple[str, str]) -> None:
        for future in self._waiters.pop(where, []):
            if not future.done():
                future.set_result(None)

    @contextmanager
    def watch(self, table: str, key: str) -> Iterator[asyncio.Future[None]]:
        """A future that is done when a commit has changed this row."""
        future: asyncio.Future[None] = self._faust_loop.create_future()
        self._waiters.setdefault((table, key), []).append(future)
        try:
            yield future
        finally:
            waiting = self._waiters.get((table, key), [])
            if future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._waiters[table, key]
