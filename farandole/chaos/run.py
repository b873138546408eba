"""One run, from the first broker to the verdict.

Invariant: it ends, and leaves nothing behind. Every wait has a limit; what was started is stopped, however it ends.
"""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from farandole import config
from farandole.chaos import report, schedule
from farandole.chaos.brokers import Brokers
from farandole.chaos.doomed import Doomed
from farandole.chaos.fault import Fault
from farandole.chaos.injecting import Done, Injector, mark_alone
from farandole.chaos.load import Load, Means, Source
from farandole.chaos.logins import Logins
from farandole.chaos.monitor import Monitor
from farandole.chaos.options import WARM_UP, Options, kinds
from farandole.chaos.ordering import check
from farandole.chaos.orders import Orders
from farandole.chaos.report import Outcome
from farandole.chaos.transfers import Transfers
from farandole.chaos.world import World
from farandole.demo import report as orders_report
from farandole.demo.sending import Sender
from farandole.demo.stage import load_codec
from farandole.demo.watch import Seen, Watcher
from farandole.errors import AuditError
from farandole.sandbox import SYSTEMS
from farandole.system import Progress, System
from farandole.topics import Topics

ENDED_FIRST: Final = 20
"""Sagas that have ended before the first fault: brokers that have just begun are slow."""

WARM_WITHIN: Final = 90.0
LOOK_EVERY: Final = 0.2
STILL_FOR: Final = 1.5
SETTLED_WITHIN: Final = 240.0
"""Seconds for the last sagas to end when everything is healed: the longest deadline and its compensation, twice."""

READY_AGAIN: Final = 120.0
KEPT: Final = 3
"""Runs whose logs are kept, and the brokers' data of those in which something was wrong."""


@contextmanager
def prepared(options: Options, progress: Progress) -> Iterator[Chaos]:
    """Everything is there and runs; at the end it is stopped again."""
    options.check()
    chosen = kinds(options)
    topics = _topics(options.partitions)
    directory = _new_directory()
    doomed = Doomed(directory.name, options.flows, options.partitions)
    began = time.monotonic()
    chaos: Chaos | None = None

    def forget() -> None:
        """What was wrong can be looked for only in what the brokers have."""
        if chaos is None or not chaos.wrong:
            shutil.rmtree(directory / "kafka", ignore_errors=True)

    with ExitStack() as stack:
        brokers = Brokers(directory / "kafka", progress)
        stack.callback(forget)
        stack.callback(_save_logs, directory)
        stack.callback(brokers.stop)
        brokers.start()
        system = System(
            directory,
            namespace=f"{directory.name}-",
            workers=dict.fromkeys(options.flows.services, options.workers),
            services=options.flows.services,
            environment={
                "KAFKA_BOOTSTRAP_SERVERS": brokers.workers_servers,
                "FARANDOLE_HOME": str(directory / "home"),
                "FARANDOLE_FAIL": doomed.setting,
            },
            client_config=brokers.client_config,
            progress=progress,
            topics=topics,
        )
        stack.enter_context(system)
        chaos = stack.enter_context(Chaos(options, chosen, directory, brokers, system, doomed, progress, began))
        yield chaos
        progress("stopping", 0, 0)


def _topics(partitions: int) -> Topics:
    """topics.yaml, with other numbers of partitions."""
    found = Topics.load(config.project_root() / "topics.yaml")
    fewer = {name: dataclasses.replace(topic, partitions=partitions) for name, topic in found.topics.items()}
    return dataclasses.replace(found, topics=fewer)


def _new_directory() -> Path:
    home = config.home() / "chaos"
    home.mkdir(parents=True, exist_ok=True)
    for old in sorted(home.glob("chaos-*"), key=lambda each: each.stat().st_mtime)[: -KEPT + 1]:
        shutil.rmtree(old, ignore_errors=True)
    stamp = time.strftime("chaos-%Y%m%d-%H%M%S")
    for number in range(1, 1_000):
        directory = home / (stamp if number == 1 else f"{stamp}.{number}")
        try:
            directory.mkdir()
            return directory
        except FileExistsError:
            continue
    raise AssertionError(f"a thousand runs in one second: {home}")


def _save_logs(directory: Path) -> None:
    """The brokers' logs stay when their data goes."""
    shutil.copytree(directory / "kafka" / "logs", directory / "brokers", dirs_exist_ok=True)


def sources_of(options: Options, means: Means) -> list[Source]:
    """The load: every flow has the same share of it."""
    flows = options.flows
    of: list[tuple[type[Source], tuple[str, ...]]] = [
        (Orders, flows.orders),
        (Transfers, flows.transfers),
        (Logins, flows.logins),
    ]
    share = options.rate / len(flows.keys)
    return [source(means, some, share * len(some)) for source, some in of if some]


class Chaos:
    """A run that is ready to begin."""

    def __init__(
        self,
        options: Options,
        chosen: dict[str, type[Fault]],
        directory: Path,
        brokers: Brokers,
        system: System,
        doomed: Doomed,
        progress: Progress,
        began: float,
    ) -> None:
        self.options, self.directory, self.progress = options, directory, progress
        self.brokers, self.system = brokers, system
        self.wrong = False
        """Whether something was, as far as is known."""
        self.seconds: dict[str, float] = {"setting_up": time.monotonic() - began}
        self._started = began
        self.codec = load_codec(system.root, system.namespace)
        self.sagas: dict[str, str] = {}
        """All that are looked for, and the flow of each."""
        self.seen = Seen(self.sagas.keys())
        self.watcher = Watcher(
            self.seen, brokers.client_config, system.namespace, system.topics, self.codec, everything=True
        )
        means = self._means()
        self.load = Load(sources_of(options, means), means, doomed)
        self.monitor = Monitor(brokers.client_config, system.namespace, system.topics)
        self.world = World(
            brokers,
            system,
            self.load,
            self.watcher,
            self.monitor,
            self.codec,
            seed=options.seed,
            callers=options.flows.callers,
            spared=min(1, options.workers - 1),
        )
        left = max(1.0, options.seconds - WARM_UP)
        self.injector = Injector(
            self.world,
            schedule.plan(chosen, options.seed),
            options.wanted if chosen else 0,
            left / max(1, options.wanted),
            options.at_once,
        )
        self._failed: list[BaseException] = []

    def _means(self) -> Means:
        system, config = self.system, self.brokers.client_config
        return Means(
            run=self.directory.name,
            seed=self.options.seed,
            partitions=self.options.partitions,
            client_config=config,
            namespace=system.namespace,
            topics=system.topics,
            codec=self.codec,
            sender=Sender(config, system.namespace, self.codec, self.directory.name),
            seen=self.seen,
            sagas=self.sagas,
            urls={service: [worker.port.url for worker in workers] for service, workers in system.workers.items()},
            mail=lambda: system.sandbox.admin_urls["mail"],
        )

    def __enter__(self) -> Chaos:
        return self

    def __exit__(self, *_: object) -> None:
        self.world.halt()
        self.load.stop()
        self.injector.join(10)
        self.watcher.stop()
        self.monitor.stop()

    def play(self) -> Outcome:
        """Load, break, heal, settle, audit. Raises only what leaves nothing to report."""
        self.watcher.start()
        self.monitor.start()
        for system in SYSTEMS:
            self.world.set_faults(system)
        tending = threading.Thread(target=self._tend, name="tending", daemon=True)
        tending.start()
        for each in self.load.doomed.needed():
            self.world.begin(each)
        ms = time.time_ns() / 1e6
        monotonic = time.monotonic() * 1000
        self.load.start()
        self._timed("faults", self._faults)
        self._timed("settling", self._settle)
        tried = self.world.problems
        done = self.injector.done
        ordering = self._timed("checking_order", self._check_order)
        audit = self._timed("auditing", self._audit)
        self.seconds["total"] = time.monotonic() - self._started
        self.world.halt()
        outcome = self._outcome(done, tried, ordering, audit, ms - monotonic)
        self.wrong = not outcome.ok
        return outcome

    # ---- the acts

    def _faults(self) -> None:
        started = time.monotonic()
        self._wait(lambda: bool(self.load.began) and time.monotonic() - self.load.began >= WARM_UP, "warming up")
        self._wait(
            lambda: self.load.ended() >= ENDED_FIRST or time.monotonic() - started > WARM_WITHIN,
            "warming up",
        )
        self.injector.start()
        until = self.load.began + self.options.seconds
        self._wait(lambda: not self.injector.running and time.monotonic() >= until, "breaking")
        self.load.finish()
        self._wait(lambda: not self.load.running, "placing the last ones")

    def _settle(self) -> None:
        self._ready_again()
        deadline = time.monotonic() + SETTLED_WITHIN
        self._wait(lambda: not self.load.open() or time.monotonic() > deadline, "settling")
        if left := self.load.open():
            self.world.problem(f"{left} sagas had not ended {SETTLED_WITHIN:.0f} s after everything was healed")
            return
        before, since = None, time.monotonic()
        while time.monotonic() - since < STILL_FOR:
            now = (self.watcher.ends(), self.world.calls_under_way())
            if now != before or now[1]:
                before, since = now, time.monotonic()
            if time.monotonic() > deadline:
                self.world.problem(f"topics still grow, or calls are under way, after {SETTLED_WITHIN:.0f} s")
                return
            self._look("settling")

    def _ready_again(self) -> None:
        deadline = time.monotonic() + READY_AGAIN

        def not_ready() -> list[str]:
            return [
                worker.name
                for worker in self.world.every_worker()
                if not ((health := worker.health()) and health.ready)
            ]

        self._wait(lambda: not not_ready() or time.monotonic() > deadline, "healing")
        if missing := not_ready():
            self.world.problem(f"not ready {READY_AGAIN:.0f} s after the last fault: {', '.join(missing)}")

    # ---- waiting

    def _wait(self, happened: Callable[[], bool], phase: str) -> None:
        while not happened():
            self._look(phase)

    def _look(self, phase: str) -> None:
        if self._failed:
            raise self._failed[0]
        done = len(self.injector.done)
        now = ", ".join(list(self.injector.under_way.values()))
        placed = f"{self.load.intended()} placed, {self.load.ended()} ended"
        wanted = self.injector.wanted
        self.progress(
            f"{phase}: {done} of {wanted} faults, {placed}" + (f"; now {now}" if now else ""),
            done,
            wanted,
        )
        time.sleep(LOOK_EVERY)

    def _tend(self) -> None:
        try:
            self.world.tend()
        except BaseException as error:
            if not self.world.halted:
                self._failed.append(error)

    def _timed(self, name: str, act: Callable[[], Any]) -> Any:
        began = time.monotonic()
        try:
            return act()
        finally:
            self.seconds[name] = time.monotonic() - began

    # ---- the verdict

    def _check_order(self) -> dict[str, Any] | None:
        try:
            found = check(
                self.brokers.client_config, self.system.namespace, self.system.root, self.codec, self.progress
            )
        except AuditError as error:
            self.world.problem(f"the order check could not be carried out: {error}")
            return None
        for each in orders_report.some(found.found):
            self.world.problem(f"order, {each}")
        return found.to_dict()

    def _audit(self) -> dict[str, Any] | None:
        from farandole import audit

        try:
            found = audit.run(
                self.brokers.client_config,
                self.system.namespace,
                self.system.root,
                settled=True,
                gateway=self.system.sandbox.admin_urls["gateway"] if "gateway" in self.world.callers else None,
                mail=self.system.sandbox.admin_urls["mail"] if self.options.flows.logins else None,
                progress=self.progress,
            )
        except AuditError as error:
            self.world.problem(f"the audit could not be carried out: {error}")
            return None
        said = [f"audit, {each.check}: {each.what} {each.saga} {each.where}".rstrip() for each in found.findings]
        for each in orders_report.some(said):
            self.world.problem(each)
        return found.to_dict()

    def _outcome(
        self,
        done: list[Done],
        problems: list[str],
        ordering: dict[str, Any] | None,
        audit: dict[str, Any] | None,
        monotonic_to_ms: float,
    ) -> Outcome:
        for source in self.load.sources:
            problems += source.problems(audit)
        for system in SYSTEMS:
            if number := len(self.system.sandbox.state(system).violations):
                problems.append(f"the {system} was asked {number} times for what may never happen")
        mark_alone(done)
        sources = self.load.sources
        taken = sorted((each for of in sources for each in of.taken(monotonic_to_ms)), key=lambda each: each.at)
        flows = {flow: counts for source in sources for flow, counts in source.counts().items()}
        began = int(self.load.began * 1000 + monotonic_to_ms)
        rows = [report.row_of(each, taken, began) for each in sorted(done, key=lambda each: each.at)]
        return Outcome(
            run={
                "name": self.directory.name,
                "flows": list(self.options.flows.keys),
                "seed": self.options.seed,
                "rate": self.options.rate,
                "workers": self.options.workers,
                "at_once": self.options.at_once,
                "directory": str(self.directory),
            },
            orders=report.total(flows[flow] for flow in self.options.flows.orders),
            flows=flows,
            faults=rows,
            kinds=report.kinds_of(rows, taken, {each.number: each for each in done}),
            latency=report.latency_of(taken, done),
            refused=self.injector.refused,
            deaths=[
                {"worker": each.worker, "at": round(each.at - self.load.began, 1), "words": each.words}
                for each in self.world.deaths
            ],
            problems=problems,
            seconds={name: round(seconds, 1) for name, seconds in self.seconds.items()},
            ordering=ordering,
            audit=audit,
        )
