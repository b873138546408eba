"""A comparison from its first order to its verdict: one system, one broker, all flows.

Invariant: it ends within its minutes, counted from the start of the command (farandole.compare.clock). Each act begins
only if it fits, going by what the last one of its kind took; what does not is left out, named in `skipped`, and the
audit is carried out all the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from farandole import audit, config
from farandole.audit.reading import PATIENCE, Reader
from farandole.cli.main import COMMANDS
from farandole.compare import asking, audience, costs, outages, rollback, step, subscribers
from farandole.compare.clock import Alarm, Clock
from farandole.compare.coupling import coupling
from farandole.compare.ends import WATCHED, Ends
from farandole.compare.facts import Facts, read
from farandole.compare.figures import STRETCHES, curve, percentile, spread, stretches
from farandole.compare.flows import BASE, FLOWS, WORDS, services
from farandole.compare.machine import Machine, averages, load
from farandole.compare.options import ASKED_SECONDS, FAILING, PATCHED_SECONDS, STAND_IN_SECONDS, Options
from farandole.compare.outcome import Outcome
from farandole.compare.placing import Placed, Placing, in_turns
from farandole.compare.standins import Done
from farandole.demo import runs
from farandole.demo.flows import order_services
from farandole.demo.plan import Kinds
from farandole.demo.stage import OwnStage, own_stage
from farandole.flow import load_flows
from farandole.load.endings import Endings
from farandole.load.figures import others_of
from farandole.load.over_kafka import deliver
from farandole.load.run import JVM, broker_pids
from farandole.machine import commit, machine, versions
from farandole.system import READY_WITHIN, Progress

STUCK_AT: Final = "shipping"
"""The service whose outage makes an order stuck, of which commands are asked."""

ROUNDS, PACE, SUBSCRIBERS, OUTAGES, ASKING, STEP = 0.4, 0.6, 0.65, 0.8, 0.9, 1.0
"""Parts of the time for measuring by which an act has to be over, so that something is left for those that follow."""

TOLD_BEFORE: Final = 5.0
"""Seconds before the alarm in which orders that do not end are given up: it could not say which they are."""


@contextmanager
def prepared(options: Options, progress: Progress, clock: Clock | None = None) -> Iterator[Comparison]:
    """Everything runs, and is stopped again. clock: began with the command; None: now"""
    clock = clock or Clock(options.minutes * 60)
    alarm = Alarm(clock)
    os.environ.setdefault("FARANDOLE_KAFKA_JVM", JVM)
    before = averages()
    with (
        alarm.set(),
        runs.new_run(kind="compare") as directory,
        own_stage({}, {}, directory, progress, services=order_services()) as stage,
        alarm.off_afterwards(),
        Comparison(options, stage, progress, before, clock) as comparison,
    ):
        yield comparison


class Comparison:
    """Enter it: at the end its thread is stopped. before: the machine's load averages before anything was started"""

    def __init__(
        self, options: Options, stage: OwnStage, progress: Progress, before: Sequence[float], clock: Clock
    ) -> None:
        self.options, self.stage, self.progress = options, stage, progress
        self.placing = Placing(stage.client_config, stage.namespace, stage.codec, stage.run, options.seed)
        self.services = services()
        self.ends = Ends()
        self.endings = Endings(self.ends, stage.client_config, stage.namespace, stage.topics, stage.codec, WATCHED)
        self.skipped: list[str] = []
        self.grace = outages.GRACE
        self._clock = clock
        self._before = before
        self._commit = commit(config.project_root())
        self._machine = Machine(self._pids, self._beside)
        self._others: dict[str, list[float]] = {"the rounds": [], "the steady pace": []}
        self._turns: list[costs.Turn] = []
        self._round_took = 0.0
        self._audience: audience.Audience | None = None
        self._heard: list[tuple[costs.Turn, Done]] = []
        self._paced: dict[str, list[Placed]] = {}
        self._meant: dict[str, float] = {}
        self._outages: list[outages.Outage] = []
        self._said: dict[str, list[tuple[asking.Said, str]]] = {word: [] for word in WORDS}
        self._failed: list[str] = []
        self._stuck: dict[str, dict[str, dict[str, bool]]] = {}
        self._step: dict[str, Any] = {}

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *_: object) -> None:
        self.endings.stop()

    def play(self) -> Outcome:
        stage = self.stage
        self.progress("delivering stock", 0, 0)
        deliver(self.placing.stock(), stage.client_config, stage.namespace, stage.codec, stage.run)
        self.endings.start()
        self._warm_up()
        self._run_rounds()
        self._run_paced()
        self._run_subscribers()
        slowest = max((self._latency(word)["p99"] or 0.0) for word in WORDS)
        self.grace = outages.grace_of(slowest, self.options.outage_seconds)
        self._run_outages()
        self._ask()
        self._patch()
        self.progress("auditing", 0, 0)
        report = audit.run(
            stage.client_config,
            stage.namespace,
            stage.system.root,
            settled=True,
            gateway=stage.outside_url("gateway"),
            patience=self._patience(),
            progress=self.progress,
        )
        return self._outcome(self._facts(), report.to_dict())

    # ---- the acts

    def _warm_up(self) -> None:
        orders = [each for of in self.placing.orders("warm", self.options.warm_up).values() for each in of]
        self.placing.backlog(orders)()
        self._wait(orders, "warming up")

    def _run_rounds(self) -> None:
        """The first one is cold, and not counted."""
        last = 0.0
        for number in range(self.options.rounds + 1):
            if number and not self._clock.fits(last, ROUNDS):
                self.skipped.append(f"{self.options.rounds + 1 - number} of {self.options.rounds} rounds")
                return
            began = time.monotonic()
            for turn, word in enumerate(costs.turns(WORDS, number)):
                orders = self.placing.orders(f"round{number}/{turn}", self.options.orders)[word]
                what = f"round {number} of {self.options.rounds}, {word}" if number else f"a cold round, {word}"
                found = self._turn(number, word, orders, what)
                if number:
                    self._turns.append(found)
                    self._others["the rounds"].append(found.others)
            last = self._round_took = time.monotonic() - began

    def _turn(self, number: int, flow: str, orders: Sequence[Placed], what: str) -> costs.Turn:
        release = self.placing.backlog(orders)

        def last_end() -> float:
            self._wait(orders, what)
            if self._audience is not None:
                self._audience.done()
            return max(self.ends.ended_at[each.saga][1] for each in orders)

        return costs.measured(number, flow, [each.saga for each in orders], release, last_end, self._machine)

    def _run_subscribers(self) -> None:
        """One round; the orders are of the flow to which the others are compared."""
        number, count = self.options.subscribers, self.options.orders
        if not self._clock.fits(self._round_took + 2 * len(audience.MODES) * STAND_IN_SECONDS, SUBSCRIBERS):
            self.skipped.append(f"{number} more subscribers")
            return
        stage = self.stage
        audience.create_topics(stage.client_config, stage.namespace, number)
        for turn, mode in enumerate(costs.turns(tuple(audience.MODES), 0)):
            orders = self.placing.orders(f"subscribers/{turn}", count)[BASE]
            what = f"{number} more subscribers, {mode}"
            self.progress(what, 0, 0)
            with audience.audience(
                mode, number, count, self._environment(), stage.system.directory, self._check
            ) as self._audience:
                found = self._turn(1, mode, orders, what)
                self._heard.append((found, self._audience.done()))
            self._audience = None

    def _run_paced(self) -> None:
        options = self.options
        if not self._clock.fits(options.paced_seconds, PACE):
            self.skipped.append("the steady pace: latency, failures, and the orders that commands tell of")
            return
        count = round(options.paced_seconds * options.rate / len(WORDS))
        self._paced = self.placing.orders("paced", count, FAILING)
        orders = in_turns(self._paced)
        before = self._machine.look()
        self._meant = self.placing.pace(orders, options.rate, self._looking("placing at a pace", len(orders)))
        self._wait(orders, "waiting for the last paced orders")
        self._others["the steady pace"].append(others_of([before, self._machine.look()]) or 0.0)

    def _run_outages(self) -> None:
        last = self.options.outage_seconds
        for part in (outages.NOBODY, *self.services, *outages.OUTSIDE):
            questions = self._row_of_questions() if part == STUCK_AT else 0.0
            if not self._clock.fits(last + questions, OUTAGES):
                more = ", and with it what commands say of an order that is stuck" if part == STUCK_AT else ""
                self.skipped.append(f"the outage of {part}{more}")
                continue
            began = time.monotonic()
            self._outage(part)
            last = time.monotonic() - began if part != STUCK_AT else last

    def _outage(self, part: str) -> None:
        options = self.options
        count = max(2, round(options.outage_seconds * options.outage_rate / len(WORDS)))
        orders = self.placing.orders(f"outage-{part}", count)
        placed = in_turns(orders)
        self._take_away(part)
        meant = self.placing.pace(placed, options.outage_rate, self._looking(f"{part} is down", len(placed)))
        enough = max(meant.values()) + 1 / options.outage_rate - self.grace
        until = time.time_ns() // 1_000_000
        counted = {word: [each.saga for each in of if meant[each.saga] <= enough] for word, of in orders.items()}
        self._outages.append(outages.Outage(part, counted, until))
        if part == STUCK_AT:
            self._ask_of_stuck({word: of[0] for word, of in counted.items() if of})
        self._bring_back(part)
        self._wait(placed, f"{part} is back")

    def _take_away(self, part: str) -> None:
        if part in outages.OUTSIDE:
            self.stage.set_faults(outages.OUTSIDE[part], outages.GONE)
        elif part != outages.NOBODY:
            self.stage.system.kill(part)

    def _bring_back(self, part: str) -> None:
        if part in outages.OUTSIDE:
            self.stage.set_faults(outages.OUTSIDE[part], {})
        elif part != outages.NOBODY:
            self.stage.system.restart(part)
            self.stage.system.wait_ready(max(1.0, min(READY_WITHIN, self._clock.last)))

    def _ask_of_stuck(self, sagas: dict[str, str]) -> None:
        for word, saga in sagas.items():
            self._stuck[word] = {}
            for command in asking.commands(COMMANDS):
                self.progress(f"asking about a stuck order: {command}", 0, 0)
                said = self._said_of(command, saga, "an order that is stuck")
                self._stuck[word][command] = asking.answers(said, STUCK_AT)

    def _ask(self) -> None:
        """Of orders that were completed, the last of the pace; of each flow one, then the next of each."""
        asked = [self._plain(word)[-self.options.asked :] for word in WORDS]
        last = self._row_of_questions()
        for number, row in enumerate(zip(*asked, strict=True)):
            if not self._clock.fits(last, ASKING):
                left = self.options.asked - number
                self.skipped.append(f"asking about {left} of {self.options.asked} orders of each flow")
                return
            began = time.monotonic()
            for word, saga in zip(WORDS, row, strict=True):
                for command in asking.commands(COMMANDS):
                    self.progress(f"asking about orders: {command}, {word}", 0, 0)
                    said = self._said_of(command, saga, "an order that was completed")
                    self._said[word].append((said, saga))
            last = time.monotonic() - began

    def _said_of(self, command: str, saga: str, what: str) -> asking.Said:
        """Of an order. A command that fails tells nothing of it, and that is not what it would be to know nothing."""
        within = max(1.0, min(asking.ANSWER_WITHIN, self._clock.left()))
        said = asking.ask(command, saga, self._environment(), self.stage.system.root, within)
        if said.late and within < asking.ANSWER_WITHIN:
            self.skipped.append(f"farandole {command}, asked about {what} ({saga}), was given {within:.0f} s only")
        elif said.problem:
            self._failed.append(f"farandole {command}, asked about {what} ({saga}), {said.problem}")
        return said

    def _patch(self) -> None:
        last = float(PATCHED_SECONDS)
        for word in WORDS:
            self.progress(f"putting a fraud check in: {word}", 0, 0)
            seconds = self._clock.left(STEP) if self._clock.fits(last, STEP) else 0.0
            began = time.monotonic()
            found = self._step[word] = step.put_in(word, self.stage.system, self.options.patched_orders, seconds)
            if found["trial"] is None:
                self.skipped.append(f"running the patched project, {word}")
            else:
                last = time.monotonic() - began

    # ---- the figures

    def _facts(self) -> Facts:
        stage = self.stage
        reader = Reader(stage.client_config, stage.namespace, stage.topics.topics, self._patience())
        try:
            return read(reader, stage.codec, stage.topics, self.progress)
        finally:
            reader.close()

    def _outcome(self, facts: Facts, report: dict[str, Any]) -> Outcome:
        names = {kind.cls: kind.name for kind in self.stage.codec if not kind.is_row}
        flows = load_flows()
        return Outcome(
            run={
                "name": self.stage.run,
                "commit": self._commit,
                "seconds": round(self._clock.passed, 1),
                "records": facts.records,
            },
            settings={**self.options.to_dict(), "grace": self.grace},
            machine={**machine(), **versions()},
            load=load(self._before, self._others),
            coupling={word: coupling(flows[key], names, self.stage.topics).to_dict() for word, key in FLOWS.items()},
            costs={word: costs.summary([each for each in self._turns if each.flow == word], facts) for word in WORDS},
            latency={word: self._latency(word) for word in WORDS},
            rollback={cause: self._rollbacks(facts, cause) for cause in rollback.CAUSES},
            outages=outages.table(facts, self._outages),
            visibility={word: self._visibility(facts, word) for word in WORDS},
            debugging=self._stuck,
            step=self._step,
            subscribers={
                word: subscribers.subscribers(flows[key], names, facts, self._plain(word))
                for word, key in FLOWS.items()
            },
            audience=audience.table(self.options.subscribers, self._heard, facts),
            audit=report,
            skipped=self.skipped,
            failed=self._failed,
        )

    def _latency(self, word: str) -> dict[str, Any]:
        orders = [
            1000 * (self.ends.ended_at[each.saga][1] - self._meant[each.saga]) if each.kind is Kinds.PLAIN else None
            for each in self._paced.get(word, ())
        ]
        took = [each for each in orders if each is not None]
        parts = stretches(orders, STRETCHES)
        of_parts = {f"p{percent}": [percentile(part, percent) for part in parts] for percent in (50, 99)}
        return {**spread(took), "curve": curve(took), "stretches": of_parts}

    def _plain(self, word: str) -> list[str]:
        return [each.saga for each in self._paced.get(word, ()) if each.kind is Kinds.PLAIN]

    def _rollbacks(self, facts: Facts, cause: str) -> dict[str, Any]:
        return {
            word: rollback.rollbacks(facts, [each.saga for each in self._paced.get(word, ())], cause) for word in WORDS
        }

    def _visibility(self, facts: Facts, word: str) -> dict[str, Any]:
        said = self._said[word]
        return {
            command: asking.visibility(
                [(each, facts.of.get(saga, [])) for each, saga in said if each.command == command]
            )
            for command in asking.commands(COMMANDS)
        }

    # ---- helpers

    def _wait(self, orders: Sequence[Placed], what: str) -> None:
        def looked(done: int, total: int) -> None:
            self.progress(f"{what}: {done} of {total} orders", done, total)

        self.ends.wait([each.saga for each in orders], self._check, looked, max(1.0, self._clock.last - TOLD_BEFORE))

    def _looking(self, what: str, total: int) -> Callable[[int], None]:
        def looked(done: int) -> None:
            self._check()
            self.progress(f"{what}: {done} of {total} orders", done, total)

        return looked

    def _check(self) -> None:
        self.endings.check()
        self.stage.check()

    def _pids(self) -> dict[str, int]:
        workers = [worker for service in self.services for worker in self.stage.system.workers[service]]
        audience = self._audience.pids if self._audience is not None else {}
        return {worker.name: worker.pid for worker in workers if worker.pid is not None} | broker_pids() | audience

    def _beside(self) -> dict[str, int]:
        """Of this run, but no figure."""
        return {"comparison": os.getpid(), **self.stage.system.sandbox.pids}

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.stage.system.environment}

    @staticmethod
    def _row_of_questions() -> float:
        """About how many seconds it takes to ask every command about one order of each flow."""
        return ASKED_SECONDS * len(WORDS) * len(asking.commands(COMMANDS))

    def _patience(self) -> float:
        """Seconds without a record after which a reading is given up."""
        return max(1.0, min(PATIENCE, self._clock.last))
