"""A service's engine inside its Faust worker: a `mode.Service` with one thread, started and stopped with the App.

Invariant: the engine ends with the App or ends the App. What can heal by itself (a broker that is away, a worker that was
fenced) begins anew from what Kafka has; what cannot, crashes the App with the reason, and whoever supervises it sees it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import events
import mode
from confluent_kafka import KafkaException

from farandole import config
from farandole.clients import KafkaClients
from farandole.codec import Codec
from farandole.engine import AgentSteps, Answer, Engine, Inconsistent
from farandole.errors import ConfigError, FlowError
from farandole.event import Event
from farandole.flow import Decision, Flow, load_flows
from farandole.membership import claim_instance
from farandole.outside import HttpPerformer, outside_urls
from farandole.processor import Processor
from farandole.table import Part
from farandole.topics import Topics

if TYPE_CHECKING:
    from farandole.app import App

log = logging.getLogger(__name__)

RETRY_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before an engine that lost its broker begins anew; the last one repeats."""

STOP_TIMEOUT = 30.0
"""Seconds that a stopping worker gives the batch under way."""


Binding = tuple[str, type[Event], Decision]
"""Flow key, event class, decision."""


def bindings_of(app: App, flows: dict[str, Flow]) -> list[Binding]:
    """(flow key, event class, decision) of all that a service hears. FlowError if it hears nothing."""
    found = [(flow.key, event, decision) for flow in flows.values() for event, decision in flow.of_service(app.conf.id)]
    if not found:
        raise FlowError(
            f"no flow binds a decision of {app.conf.id}",
            where=app.flows_package,
            mend=f'in flows/: flow.on(SomeEvent, {app.conf.id}.some_decision)',
        )
    return found


def with_planted_failures(bindings: list[Binding], planted: str) -> list[Binding]:
    """Make chosen decisions raise for chosen sagas: `service.decision@saga`, several with commas. To see what parking does.

    ConfigError if a decision named there is not bound.
    """
    sagas: dict[str, set[str]] = {}
    for plan in filter(None, planted.split(",")):
        name, _, saga = plan.strip().partition("@")
        sagas.setdefault(name, set()).add(saga)
    services = {decision.service for _, _, decision in bindings}
    names = {decision.name for _, _, decision in bindings}
    unknown = sorted(name for name in sagas if name.split(".")[0] in services and name not in names)
    if unknown:
        raise ConfigError(
            f"no decision is called {unknown[0]}", where="FARANDOLE_FAIL", mend=f"one of {', '.join(sorted(names))}"
        )
    return [
        (flow, event, failing(decision, sagas[decision.name]) if decision.name in sagas else decision)
        for flow, event, decision in bindings
    ]


def failing(decision: Decision, sagas: set[str]) -> Decision:
    """The decision, but for these sagas it raises."""

    def fail_or_decide(event: Event, *at: int) -> Any:
        if event.saga in sagas:
            raise RuntimeError(f"{decision.name} is made to fail for {event.saga} (FARANDOLE_FAIL)")
        return decision.function(event, *at)

    return dataclasses.replace(decision, function=fail_or_decide)


def pausable_topics(app: App, flows: dict[str, Flow], codec: Codec, namespace: str) -> frozenset[str]:
    """Topics that may be paused when too many calls are under way: they start calls, and no compensation waits on them."""
    starts: set[str] = set()
    needed: set[str] = set()
    for flow in flows.values():
        backwards = {compensation.function for compensation in flow.compensations.values()}
        for event, decision in flow.of_service(app.conf.id):
            topic = codec.type_of(event).topic
            (needed if decision.function in backwards or not decision.calls else starts).add(topic)
    return frozenset(namespace + topic for topic in starts - needed)


def _registry() -> Any:
    """The schema registry that is set, or None: ids are those of schemas/ids.json."""
    url = config.schema_registry_url()
    if url is None:
        return None
    from farandole.registry import SchemaRegistry

    return SchemaRegistry(url)


class EngineService(mode.Service):  # type: ignore[misc]
    """Runs one service's engine for the lifetime of its App."""

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
        self._loop = asyncio.get_running_loop()
        self._ready = asyncio.Event()
        self.performer = HttpPerformer(self._urls, self._answered)
        self.engine = self._make_engine(self.performer)
        self._thread = threading.Thread(target=self._run, name=f"engine-{self.app.conf.id}", daemon=True)
        self._thread.start()
        await self.wait_for_stopped(self._ready.wait())

    async def on_stop(self) -> None:
        self._halt.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, STOP_TIMEOUT)
        if self.performer is not None:
            await self.performer.close()

    def _prepare(self) -> None:
        """All that can be wrong before anything is started: settings, schemas, flows, the port, the broker."""
        app, service = self.app, self.app.conf.id
        self.broker = config.kafka_client_config()
        config.check_broker(self.broker)
        app.check_port()
        namespace = config.namespace()
        root = config.project_root()
        codec = Codec.load(root / "schemas", events, _registry())
        flows = load_flows(app.flows_package)
        bindings = with_planted_failures(bindings_of(app, flows), config.setting("FARANDOLE_FAIL"))
        self.topics = Topics.load(root / "topics.yaml")
        self.processor = Processor(
            service=service,
            tables=[table.local for table in app.rows.values()],
            log=app.undo_log,
            bindings=bindings,
            codec=codec,
            key_of=self.topics.keys(),
            flows=flows,
            namespace=namespace,
        )
        agent = app.batch_agent()
        instance, self._lock = claim_instance(self.processor.group, config.home())
        timed = any(decision.timers for _, _, decision in bindings)
        self.clients = KafkaClients(
            self.broker,
            self.processor.group,
            instance,
            address=app.address(),
            timed=timed,
            on_delivery_error=lambda error, message: self.engine and self.engine.delivery_failed(error, message),
        )
        self._urls = outside_urls(app.outsides, {env: config.setting(env) for env in app.outsides.values()}, service)
        self._pausable = pausable_topics(app, flows, codec, namespace)
        self._timed, self._agent = timed, agent

    def _make_engine(self, performer: HttpPerformer) -> Engine:
        return Engine(
            processor=self.processor,
            agent=AgentSteps(self._agent.name, self._agent.fun),
            clients=self.clients,
            performer=performer,
            now=lambda: time.time_ns() // 1_000_000,
            committed=self._committed,
            pausable=self._pausable,
            timed=self._timed,
        )

    # ---- the engine's thread

    def _run(self) -> None:
        try:
            self._cycle()
        except BaseException as error:
            log.critical("%s: the engine ends: %s", self.app.conf.id, error)
            asyncio.run_coroutine_threadsafe(self.crash(error), self._loop)
            self._loop.call_soon_threadsafe(self._ready.set)

    def _cycle(self) -> None:
        assert self.engine is not None
        failures = 0
        while not self._halt.is_set():
            try:
                self.engine.open()
                while not self._halt.is_set():
                    self.engine.step()
                    if self.engine.assigned:
                        failures = 0
                        if not self._ready.is_set():
                            self._loop.call_soon_threadsafe(self._ready.set)
                self.engine.close()
            except (KafkaException, Inconsistent) as error:
                pause = RETRY_PAUSES[min(failures, len(RETRY_PAUSES) - 1)]
                failures += 1
                log.warning("%s: beginning anew in %.1f s: %s", self.app.conf.id, pause, error)
                self.engine.abandon()
                self._halt.wait(pause)

    def _committed(self, changed: list[tuple[Part, str, Any]]) -> None:
        if self._waiters:
            for part, key, _ in changed:
                if (part.table, key) in self._waiters:
                    self._loop.call_soon_threadsafe(self._wake, (part.table, key))

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
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiters.setdefault((table, key), []).append(future)
        try:
            yield future
        finally:
            waiting = self._waiters.get((table, key), [])
            if future in waiting:
                waiting.remove(future)
                if not waiting:
                    del self._waiters[table, key]
