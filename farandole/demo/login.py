"""`farandole demo --flow login`: visitors log in, guess, race, replay and flood; then the audit, and a look for codes.

Invariant: it ends. Every wait has a limit, and a part of the system that dies by itself ends the run with its last
words.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Final

import events
from farandole import config
from farandole.audit.records import Place
from farandole.demo import further, runs
from farandole.demo.mischief import Kill
from farandole.demo.sending import Sender
from farandole.demo.stage import OwnStage, Stage, own_stage, running_stage, url_of
from farandole.demo.visitors import Visitor, Visits, Ways, visitors
from farandole.errors import AuditError, ConfigError, FarandoleError
from farandole.inflight.groups import committed
from farandole.sandbox import ENVIRONMENT
from farandole.system import Progress, System, checked_counts, silent

if TYPE_CHECKING:
    from rich.console import Console

SERVICES: Final = ("login", "directory")
MOST_LOGINS: Final = 100_000
RATE: Final = 40.0
"""Visitors per second, and the most there may be. Each does more than one thing, and orders come faster."""

UNUSED: Final = ("--transport", "--timeout", "--order-url")

LOOK_EVERY: Final = 0.1
SETTLED_WITHIN: Final = 30.0
SHOWN: Final = 20
"""Problems that are shown."""


@dataclass(frozen=True)
class Options:
    """logins: visitors; rate: of them per second; kills: by logins that have begun; failures: whether the mail sink is
    slow and fails
    """

    logins: int = 500
    seed: int = 0
    rate: float = 20.0
    kills: tuple[Kill, ...] = ()
    failures: bool = True
    plain: bool = False

    def check(self) -> None:
        if not 1 <= self.logins <= MOST_LOGINS:
            raise ConfigError(f"{self.logins} logins cannot be made", where="--orders", mend=f"1 to {MOST_LOGINS}")
        if self.rate > RATE:
            raise ConfigError(f"{self.rate:g} visitors a second are too many", where="--rate", mend=f"{RATE:g} at most")
        for kill in self.kills:
            if kill.service not in SERVICES:
                raise ConfigError(
                    f"{kill.service} has no part in logins", where="--kill", mend=f"one of {', '.join(SERVICES)}"
                )
            if kill.accepted > self.logins:
                raise ConfigError(
                    f"{kill.service} would be killed at {kill.accepted} logins, there are {self.logins}",
                    where="--kill",
                    mend=f"--kill {kill.service}@{max(1, self.logins // 2)}",
                )


@dataclass
class Outcome:
    """What the run has to say. latency: milliseconds by kind of request; audit: None if it could not be carried out"""

    run: dict[str, Any]
    logins: dict[str, int]
    ways: dict[str, dict[str, int]]
    latency: dict[str, dict[str, float]]
    repeated: int
    restarts: dict[str, float]
    problems: list[str]
    audit: dict[str, Any] | None
    seconds: dict[str, float] = field(default_factory=dict)
    next_steps: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems and self.audit is not None and self.audit["ok"]

    def to_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


def latency_of(seconds: list[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else seconds * 99
    return {"p50_ms": round(cuts[49] * 1000, 1), "p99_ms": round(cuts[98] * 1000, 1)} if cuts else {}


async def register(on: Stage, guests: Sequence[Visitor]) -> None:
    """All but the strangers are in the directory, before anybody comes."""
    sender = Sender(on.client_config, on.namespace, on.codec, "register")
    async with sender.polling():
        written = await enrol(sender, guests)
    topic = on.codec.type_of(events.UserRegistered).topic
    last: dict[Place, int] = {}
    for partition, offset in written.values():
        last[topic, partition] = max(offset, last.get((topic, partition), 0))
    deadline = time.monotonic() + SETTLED_WITHIN
    while not await asyncio.to_thread(_has_heard, on, last):
        on.check()
        if time.monotonic() > deadline:
            raise FarandoleError(f"the directory has not heard of {len(written)} users in {SETTLED_WITHIN:.0f} s")
        await asyncio.sleep(LOOK_EVERY)


async def enrol(sender: Sender, guests: Sequence[Visitor]) -> dict[str, tuple[int, int]]:
    """Write all but the strangers down for the directory, which has yet to hear of them.

    Returns where (partition, offset) each user's registration lies. Only while the sender is polling.
    """
    known = [guest for guest in guests if guest.way is not Ways.STRANGER]
    registered = [events.UserRegistered(user=guest.user, address=guest.address) for guest in known]
    places = await asyncio.gather(
        *(sender.send(each, f"register-{each.user}", "register/1", key=each.user) for each in registered)
    )
    return {guest.user: place for guest, place in zip(known, places, strict=True)}


def _has_heard(on: Stage, last: dict[Place, int]) -> bool:
    """Whether the directory has handled these places up to these offsets."""
    positions = committed(on.client_config, on.namespace, ["directory"])["directory"]
    return all(positions.get(place, 0) > offset for place, offset in last.items())


class Demo:
    """Visitors, and a stage for them. urls: of the login service's workers"""

    def __init__(self, on: Stage, urls: Sequence[str], options: Options) -> None:
        self._on, self._options = on, options
        self._progress: Progress = silent
        self.problems: list[str] = []
        self.restarts: dict[str, float] = {}
        self.seconds: dict[str, float] = {}
        self.guests = visitors(options.logins, options.seed, options.plain, "" if on.own else f"{on.run}-")
        self._urls = urls
        self.visits = Visits(urls, lambda: on.outside_url("mail"), options.rate)

    @classmethod
    def of_system(cls, system: System, options: Options) -> Demo:
        """In a system that was started for it."""
        on = OwnStage(system.directory.name, system.directory, system)
        return cls(on, login_urls(system), options)

    def play(self, progress: Progress) -> Outcome:
        """Let them all in, or not; then audit."""
        self._progress, options = progress, self._options
        if options.failures:
            slow = {"lognormal": [0.008, 0.6]}
            mail = {"seed": options.seed, "latency": slow, "errors": {"rate": 0.05}, "lost": {"rate": 0.02}}
            self._on.set_faults("mail", mail)
        began = time.monotonic()
        asyncio.run(self._acts())
        self.seconds["logging_in"] = round(time.monotonic() - began, 2)
        told = self.visits.told
        if self._on.own:  # elsewhere it may never be still
            self._settle()
        audit = self._audit()
        self.problems = told.surprises[:SHOWN] + self.problems
        if len(told.surprises) > SHOWN:
            self.problems.append(f"and {len(told.surprises) - SHOWN} more visitors were surprised")
        run = {"namespace": self._on.namespace, "seed": options.seed, "directory": str(self._on.directory or "")}
        return Outcome(
            run=run,
            logins={"visitors": len(self.guests), "begun": told.begun, **dict(sorted(told.outcomes.items()))},
            ways={way: dict(counts) for way, counts in sorted(told.by_way.items())},
            latency={kind: latency_of(seconds) for kind, seconds in told.seconds.items()},
            repeated=told.repeated,
            restarts=self.restarts,
            problems=self.problems,
            audit=audit,
            seconds=self.seconds,
        )

    def next_steps(self, kept: bool) -> list[str]:
        """How to go on looking."""
        steps = further.first_steps(self._on, kept)
        if kept or not self._on.own:
            steps.append(f"""curl {self._urls[0]}/login -d '{{"user": "{self.guests[0].user}"}}'""")
            steps.append(f"curl {self._on.outside_url('mail')}/state")
        return [*steps, *further.logs(self._on, "login")]

    async def _acts(self) -> None:
        await register(self._on, self.guests)
        watching = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.visits.play(self.guests))
                for kill in self._options.kills:
                    group.create_task(self._kill(kill))
        finally:
            watching.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.to_thread(self._on.check)
            told = self.visits.told
            said = f"logging in: {told.begun} begun, {told.granted} granted"
            self._progress(said, told.begun, len(self.guests))
            await asyncio.sleep(LOOK_EVERY)

    async def _kill(self, kill: Kill) -> None:
        while self.visits.told.begun < kill.accepted:
            await asyncio.sleep(LOOK_EVERY / 5)
        # Not at the same moment of a login each time.
        await asyncio.sleep(random.Random(f"kill {self._options.seed} {kill}").uniform(0, 0.2))
        restart = await self._on.kill_and_restart(kill)
        self.restarts[str(kill.service)] = round(restart.moving or restart.ready or 0.0, 2)

    def _settle(self) -> None:
        """Until no call is under way and nobody handles anything any more."""
        deadline, before, since = time.monotonic() + SETTLED_WITHIN, None, time.monotonic()
        while time.monotonic() - since < 1.0:
            now = committed(self._on.client_config, self._on.namespace, SERVICES)
            if now != before or self._on.calls_under_way():
                before, since = now, time.monotonic()
            if time.monotonic() > deadline:
                self.problems.append(f"it is not at rest {SETTLED_WITHIN:.0f} s after the last visitor")
                return
            time.sleep(LOOK_EVERY)

    def _audit(self) -> dict[str, Any] | None:
        from farandole import audit

        self._progress("auditing", 0, 0)
        on = self._on
        try:
            found = audit.run(
                on.client_config,
                on.namespace,
                config.project_root(),
                settled=on.own,
                mail=on.outside_url("mail"),
            )
        except AuditError as error:
            self.problems.append(f"the audit could not be carried out: {error}")
            return None
        self.problems += [f"audit, {finding}" for finding in found.findings[:SHOWN]]
        granted = found.figures.get("login", {}).get("granted", 0)
        if granted < self.visits.told.granted:
            self.problems.append(f"{self.visits.told.granted} were told that they are in, {granted} are")
        return found.to_dict()


@contextmanager
def prepared(options: Any, progress: Progress) -> Iterator[Demo]:
    """Everything is there and runs; at the end it is stopped again. options: those of `farandole demo`"""
    options.check_running()
    asked = Options(
        logins=options.orders,
        seed=options.seed,
        rate=options.rate,
        kills=options.kills,
        failures=options.failures,
    )
    asked.check()
    if options.use_running:
        with running_stage("") as running:
            if "mail" not in running.systems:
                raise ConfigError(
                    "nobody could read the passcodes: the sandbox's mail sink does not answer",
                    where=ENVIRONMENT["mail"],
                    mend="name its address, as in http://127.0.0.1:7803",
                )
            yield Demo(running, [url_of("login")], asked)
        return
    workers = checked_counts(dict(options.workers), SERVICES)
    with runs.new_run() as directory, own_stage(workers, {}, directory, progress, services=SERVICES) as own:
        yield Demo(own, login_urls(own.system), asked)


def login_urls(system: System) -> list[str]:
    """Of the login service's workers."""
    return [worker.port.url for worker in system.workers["login"]]


def print_outcome(outcome: Outcome, console: Console) -> None:
    """Tables for people."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(("whoever", "came to", "")):
        table.add_column(column, justify="right" if number == 2 else "left")
    for way, counts in outcome.ways.items():
        for said, count in sorted(counts.items()):
            table.add_row(way, said, f"{count:,}")
    console.print(table)
    for kind, figures in outcome.latency.items():
        if figures:
            console.print(f"{kind}: p50 {figures['p50_ms']:.0f} ms, p99 {figures['p99_ms']:.0f} ms")
    for service, seconds in outcome.restarts.items():
        console.print(f"{service} was killed, and was there again after {seconds:.1f} s")
    if outcome.audit is not None:
        ended = Counter(outcome.audit["flows"].get("login", {}))
        console.print("challenges: " + ", ".join(f"{count:,} {how}" for how, count in sorted(ended.items())))
    for problem in outcome.problems:
        console.print(problem, style="red", markup=False)
    if outcome.ok:
        said = "every challenge has ended once, or lives; nobody was let in twice; no passcode is in any topic"
        console.print(said, style="green")
    for step in outcome.next_steps:
        console.print(f"  {step}", markup=False, highlight=False)
