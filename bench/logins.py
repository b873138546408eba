"""How soon a login is answered: over HTTP and Kafka, exactly-once, at a steady rate.

Each visitor begins a login, gets the passcode by mail, and enters it. Counted are the two answers, each from the moment
at which the request was due; not the mail.
"""

from __future__ import annotations

from statistics import median
from typing import Any, Final

from bench.stage import Stage, tell
from farandole.demo.login import SERVICES, Demo, Options, latency_of
from farandole.system import System, silent

RATE: Final = 20.0
AIM_MS: Final = 150.0


def measure(where: Stage, seconds: float) -> dict[str, Any]:
    """begin and verify: p50 and p99 in milliseconds; p50_ms: of both together, visitor by visitor."""
    tell(f"logins at {RATE:.0f} per second for {seconds:g} s")
    directory = where.home / "logins"
    with (
        where.namespace("logins") as namespace,
        System(directory, namespace=namespace, services=SERVICES, client_config=where.kafka) as system,
    ):
        asked = Options(logins=round(RATE * seconds), rate=RATE, failures=False, plain=True)
        demo = Demo.of_system(system, asked)
        found = demo.play(silent)
        told = demo.visits.told
    return {
        "rate": RATE,
        "logins": len(told.took),
        "ok": found.ok,
        "problems": found.problems,
        "p50_ms": round(median(told.took.values()) * 1000, 1),
        "aim_ms": AIM_MS,
        "begin": latency_of(told.seconds["begin"]),
        "verify": latency_of(told.seconds["verify"]),
    }
