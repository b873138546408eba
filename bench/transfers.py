"""How soon a transfer has ended: over HTTP and Kafka, exactly-once, at a steady rate.

Open loop: a transfer counts from the moment at which it was due to the HTTP answer that says that it is completed. Five
transactions of two services lie in between.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from bench.errors import BenchError
from bench.stage import Stage, tell
from farandole.demo.report import percentile
from farandole.demo.run import Options
from farandole.demo.stage import OwnStage
from farandole.demo.transfer_plan import COMPLETED, make
from farandole.demo.transfer_report import Outcome
from farandole.demo.transfers import SERVICES, Demo
from farandole.system import System, silent

RATE: Final = 20.0
AIM_MS: Final = 250.0
WARM_UP: Final = 2.0
"""Seconds whose transfers are not counted."""


def measure(where: Stage, seconds: float) -> dict[str, Any]:
    """BenchError unless every transfer was completed, and the audit holds: what is quick and wrong measures nothing."""
    tell(f"transfers at {RATE:.0f} per second for {seconds:g} s")
    count = round(RATE * (seconds + WARM_UP))
    options = Options(orders=count, failures=False, ways=("http",), rate=RATE)
    plan = make("bench", "", count, 0, failures=False, ways=("http",), planted=False)
    directory = where.home / "transfers"
    with (
        where.namespace("transfers") as namespace,
        System(directory, namespace=namespace, client_config=where.kafka, services=SERVICES) as system,
    ):
        urls = {service: [worker.port.url for worker in system.workers[service]] for service in SERVICES}
        demo = Demo(options, OwnStage("bench", directory, system), urls, plan, time.monotonic())
        outcome = demo.play(silent)
    counted = [asked.order for asked in plan.placements][round(RATE * WARM_UP) :]
    return figures(outcome, count, counted)


def figures(outcome: Outcome, count: int, counted: Sequence[str]) -> dict[str, Any]:
    """count: of all transfers; counted: the ids of those whose answers are. BenchError as `measure` says."""
    if not outcome.ok or outcome.transfers[COMPLETED] != count:
        raise BenchError(f"transfers: {outcome.problems or outcome.transfers}", mend="try again on a quieter machine")
    answered = [outcome.answered[order] for order in counted]
    p50 = percentile(answered, 0.5)
    return {
        "rate": RATE,
        "transfers": len(counted),
        "p50_ms": p50,
        "p99_ms": percentile(answered, 0.99),
        "aim_ms": AIM_MS,
        "aim_met": p50 is not None and p50 <= AIM_MS,
    }
