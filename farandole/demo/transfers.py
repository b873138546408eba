"""The demo of `transfer/1`: accounts are opened and funded, money moves between them, much of it at the wrong moment or
to the wrong place on purpose; then the audit.

Invariants are those of farandole.demo.run. With --use-running, TRANSFERS_URL and ACCOUNTS_URL name the services.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from farandole import config
from farandole.demo import further, report, runs, stage
from farandole.demo.run import RATE, Options, _Play
from farandole.demo.sending import Sender
from farandole.demo.stage import Stage
from farandole.demo.transfer_customers import Bank
from farandole.demo.transfer_plan import COMPLETED, ENDS, REFUNDED, TransferPlan, make
from farandole.demo.transfer_report import Outcome, impossible, print_outcome, rows_of
from farandole.demo.watch import Seen, Watcher
from farandole.errors import AuditError
from farandole.system import Progress

SERVICES: Final = ("transfers", "accounts")

UNUSED: Final = ("--order-url",)

PAUSED_FOR: Final = 3.0
"""Seconds for which the accounts service stands still: longer than some deadlines, shorter than its session."""

__all__ = ["RATE", "UNUSED", "prepared", "print_outcome"]


class Demo:
    """A stage with addresses of both services, and the plan for it."""

    def __init__(
        self, options: Options, on: Stage, urls: Mapping[str, list[str]], plan: TransferPlan, began: float
    ) -> None:
        self.options, self.stage, self.urls, self.plan, self.began = options, on, urls, plan, began

    def play(self, progress: Progress) -> Outcome:
        """Open, fund, move, break, settle, audit. Raises only what leaves nothing to report."""
        outcome: Any = _Transfers(self, progress).run()
        return outcome  # type: ignore[no-any-return]

    def next_steps(self, kept: bool) -> list[str]:
        """Commands that show more. kept: it all still runs."""
        first = self.plan.placements[0]
        steps = [*further.first_steps(self.stage, kept), further.command(self.stage, f"story {first.order}")]
        if kept or not self.stage.own:
            steps.append(f"curl {self.urls['transfers'][0]}/transfers/{first.order}")
            steps.append(f"curl {self.urls['accounts'][0]}/accounts/{first.command.source}")
        return [*steps, *further.logs(self.stage, "transfers")]


@contextmanager
def prepared(options: Options, progress: Progress) -> Iterator[Demo]:
    """The services of transfers are there and run; at the end they are stopped again."""
    began = time.monotonic()
    options.check(SERVICES)
    if options.use_running:
        urls = {service: [stage.url_of(service)] for service in SERVICES}
        with stage.running_stage("") as running:
            yield Demo(options, running, urls, _plan(options, running.run, f"{running.run}-", planted=False), began)
        return
    with runs.new_run() as directory:
        plan = _plan(options, directory.name, "", planted=True)
        environment = {"FARANDOLE_FAIL": f"accounts.credit@{plan.broken}"} if plan.broken else {}
        with stage.own_stage(dict(options.workers), environment, directory, progress, services=SERVICES) as own:
            urls = {service: [each.port.url for each in own.system.workers[service]] for service in SERVICES}
            yield Demo(options, own, urls, plan, began)


def _plan(options: Options, run: str, prefix: str, planted: bool) -> TransferPlan:
    return make(run, prefix, options.orders, options.seed, options.failures, options.ways, planted)


class _Transfers(_Play):
    def __init__(self, demo: Demo, progress: Progress) -> None:
        self.options, self.stage, self.began, self.progress = demo.options, demo.stage, demo.began, progress
        self.plan: Any = demo.plan
        self.problems, self.restarts, self.seconds, self.phase = [], [], {}, "preparing"
        on = demo.stage
        self.seen = Seen(frozenset(each.order for each in demo.plan.placements), ENDS)
        self.watcher = Watcher(self.seen, on.client_config, on.namespace, on.topics, on.codec, everything=on.own)
        self.bank = Bank(
            demo.plan, demo.urls, Sender(on.client_config, on.namespace, on.codec, demo.plan.run), self.seen
        )

    # ---- the acts

    async def _acts(self) -> None:
        async with self.bank.open():
            await self._act("opening accounts", self.bank.open_accounts())
            await self._act("moving money", self._move())
            await self._act("settling", self._settle())
            await self.bank.look(self.options.ways)

    async def _move(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.bank.move_all(self.options.rate))
            for kill in self.options.kills:
                group.create_task(self._kill(kill))
            if self.options.failures and self.stage.own and not self.options.kills:
                group.create_task(self._pause())

    async def _pause(self) -> None:
        """The accounts service stands still in the middle, so that credits come after their deadline."""
        while len(self.seen.placed) < len(self.plan.placements) // 2:
            await asyncio.sleep(0.02)
        own: Any = self.stage
        own.system.kill("accounts", number=signal.SIGSTOP)
        try:
            await asyncio.sleep(PAUSED_FOR)
        finally:
            own.system.kill("accounts", number=signal.SIGCONT)

    # ---- the end

    def _audit(self) -> dict[str, Any] | None:
        from farandole import audit

        on = self.stage
        try:
            found = audit.run(on.client_config, on.namespace, config.project_root(), settled=on.own)
        except AuditError as error:
            self.problems.append(f"the audit could not be carried out: {error}")
            return None
        said = [f"audit, {each.check}: {each.what} {each.saga} {each.where}".rstrip() for each in found.findings]
        self.problems += report.some(said)
        result = found.to_dict()
        if on.own:
            ours = {COMPLETED: self.seen.ended[COMPLETED], "failed and refunded": self.seen.ended[REFUNDED]}
            for end, number in ours.items():
                if result["transfers"].get(end, 0) != number:
                    self.problems.append(f"the audit counts {result['transfers'].get(end, 0)} {end}, the demo {number}")
        return result

    def _outcome(self, audit: dict[str, Any] | None) -> Any:
        plan, seen = self.plan, self.seen
        self.problems += report.some(self.bank.surprises) + report.some(list(impossible(plan, seen)))
        taken = report.latencies(plan.placements, seen, self.bank.intended)
        return Outcome(
            run={
                "name": self.stage.run,
                "namespace": self.stage.namespace,
                "seed": self.options.seed,
                "transfers": self.options.orders,
                "failures": self.options.failures,
                "directory": str(self.stage.directory or ""),
            },
            transfers={"asked": len(plan.placements), **seen.counts()},
            rows=rows_of(plan, seen, self.bank.intended),
            latency={"p50_ms": report.percentile(taken, 0.5), "p99_ms": report.percentile(taken, 0.99)},
            parked=list(seen.parked.values()),
            requests=report.nested(self.bank.answers),
            restarts=self.restarts,
            problems=self.problems,
            seconds={name: round(seconds, 2) for name, seconds in self.seconds.items()},
            audit=audit,
            answered=self.bank.answered,
        )
