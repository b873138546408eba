"""Workers: several of one service in one process, each with tables, engine and clients of its own.

Invariants:
- Decisions read and write the tables of the worker whose turn it is: entering a turn points the App's tables at them,
  leaving it points them back, also when turns are nested (a worker that is frozen while others go on).
- What a worker kept in memory is gone when it dies. What is compiled is kept: it is the same in every life.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaException

from events import FarandoleCall
from farandole import assembly, config
from farandole.agent import AgentSteps
from farandole.app import App
from farandole.engine import Engine
from farandole.event import Event
from farandole.flow import Decision
from farandole.kafkaerrors import Inconsistent
from farandole.simulation import logins, transfers
from farandole.simulation.clients import ModelClients
from farandole.simulation.kafka import Cluster
from farandole.simulation.outside import Books, Performer, Scheduler
from farandole.simulation.plan import SERVICES
from farandole.table import Partitioned, UndoLog
from farandole.topics import Topics

RETRY_PAUSES_MS: Final = (100, 500, 1_000, 2_000, 5_000)
"""As farandole.runtime has them."""


class Crashed(BaseException):
    """kill -9 at this point."""


class Service:
    """What all workers of one service share.

    failing: decision → orders for which it raises
    """

    def __init__(self, name: str, project: assembly.Project) -> None:
        self.name, self.project = name, project
        self.app: App = importlib.import_module(f"agents.{name}").app
        self.agent = self.app.batch_agent()
        self.failing: dict[str, set[str]] = {}
        self.bindings: list[assembly.Binding] = [
            (flow, event, self._may_fail(decision))
            for flow, event, decision in assembly.bindings_of(self.app, project.flows)
        ]
        self.workers: dict[int, Worker] = {}

    def _may_fail(self, decision: Decision) -> Decision:
        return assembly.failing(decision, self.failing.setdefault(decision.name, set()))

    def worker(self, index: int) -> Worker:
        """Made once; `Worker.begin` makes it as new."""
        if index not in self.workers:
            self.workers[index] = Worker(self, index)
        return self.workers[index]

    def hears(self) -> set[tuple[str, type[Event]]]:
        return {(flow, event) for flow, event, _ in self.bindings}


class Workshop:
    """The project, read and compiled once per process: what runs are made of."""

    def __init__(self) -> None:
        self.project = assembly.Project.read()
        self.topics = Topics.load(config.project_root() / "topics.yaml")
        names = (*SERVICES, *transfers.SERVICES, *logins.SERVICES)
        self.services = {name: Service(name, self.project) for name in names}

    def fail(self, decision: str, saga: str) -> None:
        self.services[decision.split(".")[0]].failing[decision].add(saga)

    def heal(self) -> None:
        for service in self.services.values():
            for sagas in service.failing.values():
                sagas.clear()


class Worker:
    """A worker of a service in one run: it lives, dies, and comes back.

    up:      it has a process; down_until: when the next one starts
    opened:  the engine has joined its group; rests_until: when it tries anew
    asleep:  its last turn found nothing to do
    """

    def __init__(self, service: Service, index: int) -> None:
        self.service, self.index = service, index
        self.name = f"{service.name}[{index}]"
        self._log: UndoLog = []
        tables = list(service.app.rows.values())
        self._tables = [(table, Partitioned(table.name, table.row, self._log)) for table in tables]
        own = [local for _, local in self._tables]
        self.processor, self._pausable = assembly.build(service.app, service.project, service.bindings, own, self._log)

    def begin(self, run: Scheduler, cluster: Cluster, books: Books, hook: Callable[[Worker, str], str | None]) -> None:
        """A new run: nothing is left of earlier ones."""
        self._run, self._cluster, self._books, self._hook = run, cluster, books, hook
        self.up = self.opened = self.busy = self.asleep = False
        self.rests_until = self.turn = self.failures = 0
        self.totals = dict.fromkeys(("messages", "transactions", "aborts", "dead_letters", "events"), 0)
        self.clients: ModelClients | None = None

    def start(self) -> None:
        """A new process."""
        self._forget()
        self.up, self.opened, self.asleep, self.failures = True, False, False, 0
        self.clients = ModelClients(
            self._cluster,
            self.processor.group,
            f"{self.processor.group}-{self.index}",
            lambda point: self._hook(self, point),
            timed=self.processor.reads_ends,
        )
        self.performer = Performer(self._run, self._books, self.name, self._answered)
        self.engine = Engine(
            processor=self.processor,
            agent=AgentSteps(self.service.agent.name, self.service.agent.fun),
            clients=self.clients,
            performer=self.performer,
            now=lambda: self._run.now,
            pausable=self._pausable,
            sleep=self._run.sleep,
        )

    def _answered(self, answer: Any) -> None:
        self.engine.answers.append(answer)

    def die(self) -> None:
        """kill -9."""
        assert self.clients is not None
        self.clients.kill()
        self._end()

    def _end(self) -> None:
        for name, count in self.engine.counts.items():
            self.totals[name] += count
        self.performer.alive = False
        self.up = self.opened = False

    def _forget(self) -> None:
        processor = self.processor
        processor.rollback()
        for partition in set(processor.partitions):
            processor.drop_partition(partition)
        processor._condemned.clear()
        processor.partition_count = 0

    # ---- a turn

    def step(self) -> bool:
        """One turn of the engine, as farandole.runtime takes it. False if there was nothing to do."""
        with _Entered(self._tables):
            try:
                if not self.opened:
                    self.engine.open()
                    self.opened = True
                busy = self.engine.step()
                if busy:
                    self.failures = 0
                return busy
            except (KafkaException, Inconsistent) as error:
                self._begin_anew(error)
                return True

    def _begin_anew(self, error: Exception) -> None:
        pause = RETRY_PAUSES_MS[min(self.failures, len(RETRY_PAUSES_MS) - 1)]
        self.failures += 1
        self.opened = False
        self.rests_until = self._run.now + pause
        self._run.tell(self.name, f"begins anew: {error}")
        self.engine.abandon()

    def leave(self) -> None:
        """An orderly end."""
        with _Entered(self._tables):
            try:
                if self.opened:
                    self.engine.close()
            except (KafkaException, Inconsistent) as error:
                self._run.tell(self.name, f"ends without farewell: {error}")
                self.die()
                return
        self._end()

    # ---- what it waits for

    def has_news(self) -> bool:
        """Whether its consumer would find something, or has to learn something of its group."""
        consumer = self.engine.clients.consumer
        if consumer.group.version != consumer._seen:
            return True
        if consumer._idle_since == self._cluster.version:
            return False
        for cursor in consumer._cursors.values():
            log = cursor.log
            if cursor.position < len(log.records) and cursor.position < log.stable_end and not cursor.paused:
                return True
            # A timer may wait for the end of a partition, which is told by the next look.
            if self.engine._barriers and consumer.has_end_to_tell(cursor):
                return True
        return False

    def wake_at(self) -> int | None:
        """When time alone gives it something to do."""
        if not self.opened:
            return self.rests_until
        engine, found = self.engine, []
        if engine._ahead:
            found.append(engine._ahead_since + 1_000)
        if self.processor.timed:
            for partition in self.processor.partitions - engine._barriers.keys():
                due = self.processor.timers.next_due(partition)
                if due is not None:
                    found.append(due)
        return min(found, default=None)


class _Entered:
    """The App's tables are this worker's."""

    __slots__ = ("_before", "_tables")

    def __init__(self, tables: list[tuple[Any, Any]]) -> None:
        self._tables = tables

    def __enter__(self) -> None:
        self._before = [table.local for table, _ in self._tables]
        for table, local in self._tables:
            table.local = local

    def __exit__(self, *_: object) -> None:
        for (table, _), before in zip(self._tables, self._before, strict=True):
            table.local = before


def calls_of(worker: Worker) -> dict[str, FarandoleCall]:
    """Outside calls that wait for their answer, by key."""
    parts = worker.processor.calls.table.parts.values()
    return {key: row for part in parts for key, row in part.rows.items()}
