"""One load, from the first delivery to the verdict.

Invariant: it ends. Every wait has a limit; Ctrl-C stops the placing at once, and what was measured by then is reported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from farandole import config
from farandole.demo import runs
from farandole.demo.flows import FLOW, services_of
from farandole.demo.report import some
from farandole.demo.stage import ORDER_URL, OwnStage, RunningStage, own_stage
from farandole.errors import AuditError
from farandole.kafka import EmbeddedKafka
from farandole.load import figures, limit
from farandole.load.endings import Endings
from farandole.load.limit import Found, Probe
from farandole.load.options import KEEP_SECONDS, Options
from farandole.load.orders import Orders
from farandole.load.outcome import Outcome
from farandole.load.over_http import HttpSender
from farandole.load.over_kafka import KafkaSender, deliver
from farandole.load.recorder import Played, Recorder
from farandole.load.sampler import Sampler
from farandole.load.sending import Sender
from farandole.load.stages import Stage
from farandole.load.summary import summary
from farandole.system import Progress

LOOK_EVERY: Final = 0.2
STILL_FOR: Final = 1.0
STILL_WITHIN: Final = 60.0

LEAD: Final = 0.1
"""Seconds from now at which the first order of a group of stages is due."""

JVM: Final = "-Xms1g -Xmx1g -XX:+AlwaysPreTouch -XX:+UseParallelGC"
"""FARANDOLE_KAFKA_JVM of a Kafka that is started for a load, unless it is set: both compilers, and a heap that is
resident from the beginning, so that its memory says something.
"""

SANDBOX_OPERATIONS: Final = 5_000_000
"""That each system of the outside world remembers: an order is three of them."""

LOST_AFTER: Final = 3.0
LOST_SECONDS: Final = 2.0
"""A rate that is tried in a search is given up early, after so many seconds, when so many seconds' worth of orders
are open, and four times what the objective allows: it would only have to be drained.
"""

On = OwnStage | RunningStage


class _NotDrained(Exception):
    """There is no use in another rate before the last one's orders have ended."""


@contextmanager
def prepared(options: Options, progress: Progress) -> Iterator[Load]:
    """Everything is there and runs; what was started is stopped again."""
    options.check(services_of([FLOW]))
    if options.against:
        on = RunningStage(options.order_url or os.environ.get("ORDER_URL") or (ORDER_URL if _http(options) else ""))
        with Load(options, on, progress, prefix=f"{on.run}/") as load:
            yield load
        return
    keep = config.setting("FARANDOLE_KEEP_SECONDS", str(KEEP_SECONDS))
    os.environ.setdefault("FARANDOLE_KAFKA_JVM", JVM)
    with (
        runs.new_run(kind="load") as directory,
        own_stage(
            dict(options.workers),
            {"FARANDOLE_KEEP_SECONDS": keep},
            directory,
            progress,
            ("--limit", str(SANDBOX_OPERATIONS)),
            services_of([FLOW]),
        ) as own,
        Load(options, own, progress) as load,
    ):
        load.settings |= {"keep_seconds": keep, "kafka_jvm": os.environ["FARANDOLE_KAFKA_JVM"]}
        yield load


def _http(options: Options) -> bool:
    return options.via == "http"


class Load:
    """A system, and all that is needed to load it. Enter it: at the end its threads are stopped."""

    def __init__(self, options: Options, on: On, progress: Progress, prefix: str = "") -> None:
        self.options, self.stage, self.progress = options, on, progress
        self.settings: dict[str, Any] = {}
        self.recorder = Recorder()
        self.orders = Orders(options.mix, on.run, options.seed, prefix)
        self.endings = Endings(self.recorder, on.client_config, on.namespace, on.topics, on.codec)
        groups = {name: on.namespace + on.topics.services[name].group for name in services_of([FLOW])}
        self._broker_pids = broker_pids() if isinstance(on, OwnStage) else {}
        self.sampler = Sampler(self.recorder, on.client_config, on.namespace, groups, self._pids)
        self.sender = self._sender()
        self.problems: list[str] = []
        self.found: Found | None = None
        self.soak: list[Played] = []
        self.drained: float | None = None
        self.interrupted = False
        self._cold = True
        """Whether nothing has been placed yet."""

    def _sender(self) -> Sender:
        on = self.stage

        def others_cpu() -> float:
            return self.endings.cpu + self.sampler.cpu

        if self.options.via == "http":
            return HttpSender(self.orders, self.recorder, urls=on.order_urls, others_cpu=others_cpu)
        return KafkaSender(
            self.orders,
            self.recorder,
            client_config=on.client_config,
            namespace=on.namespace,
            codec=on.codec,
            run=on.run,
            others_cpu=others_cpu,
        )

    def _pids(self) -> Mapping[str, int]:
        found = {figures.GENERATOR: os.getpid(), **self._broker_pids}
        if isinstance(self.stage, OwnStage):
            system = self.stage.system
            workers = [worker for workers in system.workers.values() for worker in workers]
            found |= {worker.name: worker.pid for worker in workers if worker.pid is not None}
            found |= system.sandbox.pids
        return found

    def __enter__(self) -> Load:
        return self

    def __exit__(self, *_: object) -> None:
        self.sender.stop()
        self.endings.stop()
        self.sampler.stop()

    # ---- the acts

    def play(self) -> Outcome:
        """Deliver, place, drain, audit. Raises only what leaves nothing to report."""
        audit = None
        try:
            self._begin()
            self._acts()
            self._settle()
            self._stop_measuring()
            audit = self._audit()
        except KeyboardInterrupt:
            self.interrupted = True
            self.progress("interrupted: stopping", 0, 0)
            self._stop_measuring()
        return summary(self, audit)

    def _begin(self) -> None:
        on = self.stage
        self.progress("delivering stock", 0, 0)
        deliver(self.orders.stock(), on.client_config, on.namespace, on.codec, on.run)
        self.endings.start()
        self.sampler.start()
        self.sender.start()

    def _stop_measuring(self) -> None:
        self.sender.stop()
        self.endings.stop()
        self.sampler.stop()

    def _acts(self) -> None:
        options = self.options
        if not options.find_limit:
            played = self._play(options.planned())
            self._drain(options.timeout)
            if options.burst and not self.recorder.open:
                self.drained = played[-1].last_end - played[-1].began
            return
        try:
            self.found = limit.search(self._probe, options.first_rate, options.highest, options.precision)
        except _NotDrained as stuck:
            self.problems.append(f"the search was given up: {stuck}")
            return
        if options.soak_minutes and self.found.rate is not None:
            self.soak = self._play(options.soak(self.found.rate))
            self._drain(options.timeout)

    def _play(self, stages: Sequence[Stage], lost: Callable[[Played], bool] | None = None) -> list[Played]:
        """Play them one behind the other.

        lost: says that a stage is to be cut short
        """
        began = at = time.monotonic() + LEAD
        played = []
        for stage in stages:
            played.append(self.recorder.begin(stage, at))
            at += stage.seconds
        for each in played:
            self.sender.play(each)
        for each in played:
            while not each.over:
                self._look(each, began, at)
                if lost is not None and lost(each):
                    self.sender.cut()
        return played

    def _look(self, played: Played, began: float, over: float) -> None:
        self._check()
        now = time.monotonic()
        p99 = played.latency.percentile(99.0) if played.latency.count else None
        said = f"in flight {self.recorder.open}" + (f", p99 {p99 * 1000:,.0f} ms" if p99 is not None else "")
        left = max(0, round(over - now))
        self.progress(
            f"placing, {played.stage.name}: {said}, {left // 60}:{left % 60:02} to go",
            round(now - began),
            max(1, round(over - began)),
        )
        time.sleep(LOOK_EVERY)

    def _check(self) -> None:
        self.sender.check()
        self.endings.check()
        self.stage.check()

    def _drain(self, seconds: float) -> bool:
        """Until every order has ended or is parked. Whether they have."""
        deadline, most = time.monotonic() + seconds, max(1, self.recorder.open)
        while (left := self.recorder.open) and time.monotonic() < deadline:
            self._check()
            self.progress(f"draining: {left} orders open", max(0, most - left), most)
            time.sleep(LOOK_EVERY / 4)
        return not left

    def _settle(self) -> None:
        """Until what came of the orders' ends is over, too."""
        if self.recorder.open:
            return  # that is a problem, and said
        before, since, deadline = None, time.monotonic(), time.monotonic() + STILL_WITHIN
        while self.stage.own and time.monotonic() - since < STILL_FOR:
            self._check()
            self.progress("settling", 0, 0)
            now = (self.sampler.ends(), self.stage.calls_under_way())
            if now != before or now[1] or now[0] is None:
                before, since = now, time.monotonic()
            if time.monotonic() > deadline:
                self.problems.append(f"topics grow, or calls are under way, {STILL_WITHIN:.0f} s after the last end")
                return
            time.sleep(LOOK_EVERY)

    def _audit(self) -> dict[str, Any] | None:
        from farandole import audit

        on = self.stage
        try:
            found = audit.run(
                on.client_config,
                on.namespace,
                config.project_root(),
                settled=on.own and not self.recorder.open,
                gateway=on.outside_url("gateway") or None,
                progress=self.progress,
            )
        except AuditError as error:
            self.problems.append(f"the audit could not be carried out: {error}")
            return None
        said = [f"audit, {each.check}: {each.what} {each.saga} {each.where}".rstrip() for each in found.findings]
        self.problems += some(said)
        return found.to_dict()

    # ---- the search

    def _probe(self, rate: float, confirming: bool) -> Probe:
        """Try one rate, and have what it leaves behind drained."""
        objective = self.options.wanted
        assert objective is not None
        played = self._play(self.options.probe(rate, confirming, cold=self._cold), self._lost)
        self._cold = False
        counted = played[-1]
        self._drain(2 * objective.seconds)  # what is open longer has missed it, whenever it ends
        row = figures.stage_of(counted, self.recorder, self.sampler, objective)
        if not self._drain(self.options.timeout):
            raise _NotDrained(f"what {rate:g} orders/s left behind was not gone within {self.options.timeout:.0f} s")
        why = figures.missed_by({**row, "failed": counted.failed}, objective)  # some fail while they are drained
        return Probe(
            rate,
            held=not why,
            why="; ".join(why),
            # Lateness is part of the latency: a rate that was held in spite of it is held.
            valid=not why or not row["generator"]["bottleneck"],
            kept_up=not row["generator"]["bottleneck"],
            figures={"latency": row["latency"], "placed": counted.placed},
        )

    def _lost(self, played: Played) -> bool:
        objective = self.options.wanted
        if objective is None or time.monotonic() - played.began < LOST_AFTER:
            return False
        return self.recorder.open > played.stage.rate * max(LOST_SECONDS, 4 * objective.seconds)


def broker_pids() -> dict[str, int]:
    """Of the embedded Kafka, if that is the one that is used."""
    if config.setting("KAFKA_BOOTSTRAP_SERVERS"):
        return {}
    brokers = EmbeddedKafka(config.kafka_home()).brokers
    names = ["broker"] if len(brokers) == 1 else [f"broker[{place}]" for place in range(len(brokers))]
    return {name: broker.pid for name, broker in zip(names, brokers, strict=True) if broker.pid}


def reports_home() -> Path:
    """Where reports are kept: they outlive the runs."""
    return config.home() / "reports"
