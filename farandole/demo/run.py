"""One demo, from the first delivery to the verdict.

Invariant: it ends. Every wait has a limit, and a part of the system that dies by itself ends the run with its last
words.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final

from farandole import config
from farandole.demo import mischief, report, runs, stage
from farandole.demo.flows import FLOW, order_services
from farandole.demo.mischief import Kill, Restart
from farandole.demo.place import Customers
from farandole.demo.plan import Kinds, Plan, Way, Wishes, make
from farandole.demo.report import Outcome, print_outcome
from farandole.demo.sending import Sender
from farandole.demo.stage import Stage
from farandole.demo.watch import Seen, Watcher
from farandole.errors import AuditError, ConfigError, FarandoleError
from farandole.system import Progress, checked_counts

__all__ = ["Demo", "Options", "prepared", "print_outcome"]

BROKEN_DECISION: Final = "inventory.hold"
"""What keeps failing for one order: on the sku's side, where other orders wait for the same sku."""

LOOK_EVERY: Final = 0.1
STILL_FOR: Final = 1.0
"""Seconds in which no topic grows and no outside call is under way: then what has ended is over."""

STILL_WITHIN: Final = 60.0
LOOKED_AT: Final = 20
"""Orders that are compared with what HTTP says about them."""

MOST_ORDERS: Final = 1_000_000


@dataclass(frozen=True)
class Options:
    """What the command line may choose.

    rate:    orders per second
    timeout: seconds for the last orders to end, after all were placed
    flows:   keys of the flows in which orders are placed, mixed
    """

    orders: int = 1_000
    seed: int = 0
    failures: bool = True
    kills: tuple[Kill, ...] = ()
    workers: tuple[tuple[str, int], ...] = ()
    ways: tuple[Way, ...] = ("http", "kafka")
    rate: float = 100.0
    timeout: float = 120.0
    use_running: bool = False
    order_url: str | None = None
    flows: tuple[str, ...] = (FLOW,)

    def check(self, services: Collection[str]) -> None:
        """ConfigError if they do not fit together, or name a service that there is not."""
        checked_counts(dict(self.workers), services)
        if not 1 <= self.orders <= MOST_ORDERS:
            raise ConfigError(f"{self.orders} orders cannot be placed", where="--orders", mend=f"1 to {MOST_ORDERS}")
        for kill in self.kills:
            if kill.service not in services:
                raise ConfigError(
                    f"no such service: {kill.service}", where="--kill", mend=f"one of {', '.join(services)}"
                )
            if kill.accepted > self.orders:
                raise ConfigError(
                    f"{kill.service} would be killed at {kill.accepted} accepted orders, there are {self.orders}",
                    where="--kill",
                    mend=f"--kill {kill.service}@{max(1, self.orders // 2)}, or more --orders",
                )
        if self.use_running and (self.kills or self.workers):
            raise ConfigError(
                "--kill and --workers are for a system that the demo starts itself",
                where="--use-running",
                mend="leave them out, or leave --use-running out",
            )


class Demo:
    """A stage, and the plan for it."""

    def __init__(self, options: Options, on: Stage, plan: Plan, began: float) -> None:
        self.options, self.stage, self.plan, self.began = options, on, plan, began

    def play(self, progress: Progress) -> Outcome:
        """Place, break, settle, audit. Raises only what leaves nothing to report."""
        return _Play(self, progress).run()

    def next_steps(self, kept: bool) -> list[str]:
        """Commands that show more. kept: it all still runs."""
        from farandole.demo import further

        return further.next_steps(self, kept)


@contextmanager
def prepared(options: Options, progress: Progress) -> Iterator[Demo]:
    """Everything is there and runs; at the end it is stopped again."""
    from agents.order import order_id

    began = time.monotonic()
    services = order_services()
    options.check(services)
    wishes = Wishes(
        run="",
        orders=options.orders,
        seed=options.seed,
        failures=options.failures,
        ways=options.ways,
        flows=options.flows,
    )
    if options.use_running:
        with stage.running_stage(options.order_url or None) as running:
            possible = _possible(running, options)
            yield Demo(
                options, running, make(_named(wishes, running.run, possible, f"{running.run}-"), order_id), began
            )
        return
    with runs.new_run() as directory:
        plan = make(_named(wishes, directory.name, frozenset(Kinds) - _unreachable(options), ""), order_id)
        environment = {"FARANDOLE_FAIL": f"{BROKEN_DECISION}@{plan.broken}"} if plan.broken else {}
        with stage.own_stage(dict(options.workers), environment, directory, progress, services=services) as own:
            yield Demo(options, own, plan, began)


def _named(wishes: Wishes, run: str, possible: frozenset[Kinds], prefix: str) -> Wishes:
    return replace(wishes, run=run, prefix=prefix, possible=possible)


def _unreachable(options: Options) -> frozenset[Kinds]:
    return frozenset() if "kafka" in options.ways else frozenset({Kinds.BAD})


def _possible(on: Stage, options: Options) -> frozenset[Kinds]:
    """In a system that runs already nobody can be made to fail, and the outside world only if it is the sandbox."""
    missing = {Kinds.BROKEN} | _unreachable(options)
    if "gateway" not in on.systems:
        missing |= {Kinds.UNANSWERED, Kinds.DECLINED, Kinds.EXPIRING}
    if "carrier" not in on.systems:
        missing |= {Kinds.UNBOOKED, Kinds.NOWHERE}
    return frozenset(Kinds) - missing


class _Play:
    def __init__(self, demo: Demo, progress: Progress) -> None:
        self.options, self.stage, self.plan, self.began = demo.options, demo.stage, demo.plan, demo.began
        self.progress = progress
        self.problems: list[str] = []
        self.restarts: list[Restart] = []
        self.seconds: dict[str, float] = {}
        self.phase = "preparing"
        on = self.stage
        orders = frozenset(placement.order for placement in self.plan.placements)
        self.seen = Seen(orders)
        self.watcher = Watcher(self.seen, on.client_config, on.namespace, on.topics, on.codec, everything=on.own)
        failures = self.options.failures
        self.customers = Customers(
            self.plan,
            urls=on.order_urls,
            sender=Sender(on.client_config, on.namespace, on.codec, self.plan.run),
            seen=self.seen,
            rate=self.options.rate,
            outage=self._outage,
            noise=mischief.noise(self.options.seed) if failures else (),
        )

    def run(self) -> Outcome:
        self.seconds["setting_up"] = time.monotonic() - self.began
        self.watcher.start()
        try:
            asyncio.run(self._watched(self._acts()))
        finally:
            self.watcher.stop()
        audit = self._timed("auditing", self._audit)
        self.seconds["total"] = time.monotonic() - self.began
        return self._outcome(audit)

    # ---- the acts

    async def _acts(self) -> None:
        if self.options.failures:
            self._set_faults()
        await self.customers.deliver_stock()
        await self._act("placing", self._place())
        await self._act("settling", self._settle())
        if "http" in self.options.ways:
            await self.customers.look_at(self._sample())

    async def _act(self, name: str, act: Coroutine[Any, Any, None]) -> None:
        self.phase, began = name, time.monotonic()
        await act
        self.seconds[name] = time.monotonic() - began

    async def _place(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.customers.place_all())
            for kill in self.options.kills:
                group.create_task(self._kill(kill))

    async def _kill(self, kill: Kill) -> None:
        while len(self.seen.placed) < kill.accepted:
            await asyncio.sleep(LOOK_EVERY / 5)
        self.restarts.append(await self.stage.kill_and_restart(kill))

    async def _settle(self) -> None:
        """Until every order has ended or is parked, and then until what came of that is over, too."""
        deadline = time.monotonic() + self.options.timeout
        while (left := self.seen.counts()["open"]) and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_EVERY)
        if left:
            self.problems.append(f"{left} orders had not ended {self.options.timeout:.0f} s after the last was placed")
        elif self.stage.own:  # elsewhere it may never be still
            await self._be_still()

    async def _be_still(self) -> None:
        deadline, still_since, before = time.monotonic() + STILL_WITHIN, time.monotonic(), None
        while time.monotonic() - still_since < STILL_FOR:
            now = await asyncio.to_thread(lambda: (self.watcher.ends(), self.stage.calls_under_way()))
            if now != before or now[1]:
                before, still_since = now, time.monotonic()
            if time.monotonic() > deadline:
                self.problems.append(
                    f"topics still grow, or calls are under way, {STILL_WITHIN:.0f} s after the last end"
                )
                return
            await asyncio.sleep(LOOK_EVERY)

    def _sample(self) -> dict[str, str]:
        ended = (
            (order, each.how) for order, each in list(self.seen.endings.items()) if order in self.customers.intended
        )
        return dict(itertools.islice(ended, LOOKED_AT))

    # ---- beside the acts

    async def _watched(self, acts: Coroutine[Any, Any, None]) -> None:
        """The acts, while somebody sees to it that all parts of the system live, and tells how far it is."""
        playing, watching = asyncio.create_task(acts), asyncio.create_task(self._watch())
        try:
            await asyncio.wait({playing, watching}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (playing, watching):
                task.cancel()
            said = await asyncio.gather(playing, watching, return_exceptions=True)
        errors = [each for each in said if isinstance(each, BaseException) and not _is_cancelled(each)]
        if errors:
            # What the watch says is the reason of what the acts say: a dead worker answers nobody.
            raise _first(errors[-1])

    async def _watch(self) -> None:
        while True:
            await asyncio.to_thread(self.stage.check)
            self.watcher.check()
            counts, total = self.seen.counts(), len(self.plan.placements)
            said = ", ".join(f"{number} {what}" for what, number in counts.items())
            self.progress(f"{self.phase}: {said}", total - counts["open"], total)
            await asyncio.sleep(LOOK_EVERY)

    # ---- what goes wrong

    def _set_faults(self) -> None:
        for system, plan in mischief.faults(self.options.seed).items():
            if system in self.stage.systems:
                self.stage.set_faults(system, plan)

    async def _outage(self) -> None:
        plan = mischief.outage(self.options.seed, refuse=self.stage.own)
        await asyncio.to_thread(self.stage.set_faults, "gateway", plan)

    # ---- the end

    def _timed(self, name: str, act: Callable[[], Any]) -> Any:
        began = time.monotonic()
        self.progress(name, 0, 0)
        result = act()
        self.seconds[name] = time.monotonic() - began
        return result

    def _audit(self) -> dict[str, Any] | None:
        from farandole import audit

        on = self.stage
        try:
            found = audit.run(
                on.client_config,
                on.namespace,
                config.project_root(),
                settled=on.own,
                gateway=on.outside_url("gateway") or None,
            )
        except AuditError as error:
            self.problems.append(f"the audit could not be carried out: {error}")
            return None
        if not found.ok:
            said = [f"audit, {each.check}: {each.what} {each.saga} {each.where}".rstrip() for each in found.findings]
            self.problems += report.some(said)
        result = found.to_dict()
        if on.own:
            self.problems += report.disagreements(result, self.seen)
        return result

    def _outcome(self, audit: dict[str, Any] | None) -> Outcome:
        placements, seen, customers = self.plan.placements, self.seen, self.customers
        self.problems += report.some(customers.surprises)
        self.problems += [
            f"the {system} was asked {number} times for what may never happen"
            for system, number in self.stage.violations().items()
            if number
        ]
        self.problems += report.some(report.impossible_endings(placements, seen))
        return Outcome(
            run={
                "name": self.stage.run,
                "namespace": self.stage.namespace,
                "seed": self.options.seed,
                "orders": self.options.orders,
                "failures": self.options.failures,
                "kafka": str(self.stage.client_config["bootstrap.servers"]),
                "directory": str(self.stage.directory or ""),
            },
            orders={"placed": len(placements), "accepted": len(seen.placed), **seen.counts()},
            rows=report.rows_of(placements, seen, customers.intended),
            kinds=report.kinds_of(placements, seen),
            flows=report.flows_of(placements, seen),
            latency=report.latency_of(placements, seen, customers.intended),
            rates=report.rates_of(seen, customers.began, customers.ended),
            parked=[each for each in seen.parked.values() if each.saga in seen.orders or self.stage.own],
            dead_letters=report.nested(seen.letter_counts),
            letters=seen.letters,
            requests=report.nested(customers.answers),
            restarts=self.restarts,
            problems=self.problems,
            seconds={name: round(seconds, 2) for name, seconds in self.seconds.items()},
            audit=audit,
        )


def _is_cancelled(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_is_cancelled(each) for each in error.exceptions)
    return isinstance(error, asyncio.CancelledError)


def _first(error: BaseException) -> BaseException:
    """Out of a group the first error that was not merely the cancellation of the others; users' errors before ours."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    found = [_first(each) for each in error.exceptions if not _is_cancelled(each)]
    return next((each for each in found if isinstance(each, FarandoleError)), found[0])
