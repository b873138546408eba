"""How soon a login is answered: over HTTP and Kafka, exactly-once, at a steady rate.

Each visitor begins a login, gets the passcode by mail, and enters it. Counted are the two answers, each from the moment
at which the request was due; not the mail.
"""

from __future__ import annotations

from statistics import median
from typing import Any, Final

from bench.errors import BenchError
from bench.stage import Stage, tell
from farandole.demo.login import SERVICES, Demo, Options, Outcome, latency_of
from farandole.demo.visitors import Told
from farandole.system import System, silent

RATE: Final = 20.0
AIM_MS: Final = 150.0


def measure(where: Stage, seconds: float) -> dict[str, Any]:
    """BenchError unless every login came to its end as it has to, and the audit holds."""
    tell(f"logins at {RATE:.0f} per second for {seconds:g} s")
    directory = where.home / "logins"
    with (
        where.namespace("logins") as namespace,
        System(directory, namespace=namespace, services=SERVICES, client_config=where.kafka) as system,
    ):
        asked = Options(logins=round(RATE * seconds), rate=RATE, failures=False, plain=True)
        demo = Demo.of_system(system, asked)
        return figures(demo.play(silent), demo.visits.told)


def figures(found: Outcome, told: Told) -> dict[str, Any]:
    """begin and verify: p50 and p99 in milliseconds; p50_ms: of both together, visitor by visitor.

    BenchError if something is not as it has to be: what is quick and wrong measures nothing
    """
    if not found.ok:
        raise BenchError(f"logins: {found.problems or found.audit}", mend="try again on a quieter machine")
    p50 = round(median(told.took.values()) * 1000, 1)
    return {
        "rate": RATE,
        "logins": len(told.took),
        "p50_ms": p50,
        "aim_ms": AIM_MS,
        "aim_met": p50 <= AIM_MS,
        "begin": latency_of(told.seconds["begin"]),
        "verify": latency_of(told.seconds["verify"]),
    }
