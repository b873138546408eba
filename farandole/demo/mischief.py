"""What goes wrong on purpose: in the outside world, in the topics, and to the workers.

Invariant: every fault follows from the seed and ends by itself.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from farandole.demo.plan import UNANSWERED_MARK, UNBOOKED_MARK
from farandole.errors import ConfigError

OUTAGE_SECONDS: Final = 3.0
"""Shorter than the deadline of an authorisation (10 s), so that it delays orders and stops only those that expire."""

LOST_AFTER_OUTAGE: Final = 8.0
"""Seconds from the beginning of the outage in which a quarter of the gateway's answers are lost."""

NOISY_TOPICS: Final = ("order.commands", "order", "inventory", "stock", "payment", "shipping")

Faults = dict[str, dict[str, Any]]
"""System of the sandbox → its plan of faults (docs/sandbox.md)."""


def faults(seed: int) -> Faults:
    """What is wrong with the outside world all the time."""
    slow = {"lognormal": [0.008, 0.6]}
    return {
        "gateway": {
            "seed": seed,
            "latency": slow,
            "errors": {"rate": 1.0, "keys": UNANSWERED_MARK, "operations": ["authorise", "charge"]},
            "lost": {"rate": 0.01},
        },
        "carrier": {
            "seed": seed,
            "latency": slow,
            "lost": {"rate": 1.0, "keys": UNBOOKED_MARK, "operations": ["book"]},
        },
        "mail": {"seed": seed, "errors": {"rate": 0.05}},
    }


def outage(seed: int, refuse: bool) -> dict[str, Any]:
    """The gateway is gone for a time; when it is back, answers are lost.

    refuse: it refuses connections, otherwise it answers 503
    """
    return faults(seed)["gateway"] | {
        "outage": {"lasts": OUTAGE_SECONDS, "refuse": refuse},
        "lost": {"rate": 0.25, "lasts": LOST_AFTER_OUTAGE},
    }


def noise(seed: int) -> list[tuple[str, bytes, bytes | None]]:
    """(topic, key, value) of records that nobody can read: whoever hears the topic has to put them aside and go on."""
    draw = random.Random(f"noise {seed}")
    known_type_cut_short = b"\0\0\0\0\1" + draw.randbytes(3)
    values = [
        None,
        b"",
        b"{}",
        b"\0",
        draw.randbytes(50),
        known_type_cut_short,
        b"\0\xff\xff\xff\xff" + draw.randbytes(20),
        b"\0\0\0\0\1" + b"\xff" * 30,
    ]
    return [
        (topic, f"noise-{number}".encode(), values[number % len(values)])
        for number, topic in enumerate(NOISY_TOPICS * 2)
    ]


class Kill(NamedTuple):
    """kill -9 a worker of `service` when `accepted` orders have been accepted, and start it again."""

    service: str
    accepted: int

    @classmethod
    def parse(cls, text: str) -> Kill:
        """From `payment@2000`."""
        service, _, number = text.partition("@")
        if not service or not number.isdecimal() or int(number) < 1:
            raise ConfigError(f"not a kill: {text}", where="--kill", mend="SERVICE@N, such as payment@2000")
        return cls(service, int(number))


@dataclass(frozen=True)
class Restart:
    """A worker that was killed and started again.

    accepted: orders that had been accepted then
    ready:    seconds from its start until it owned its partitions; None: it never did
    serving:  seconds from its start until it had handled a message; None: there was none for it
    moving:   seconds from the kill until it had
    """

    service: str
    accepted: int
    ready: float | None
    serving: float | None
    moving: float | None


def parse_workers(text: str) -> tuple[str, int]:
    """From `payment=2`."""
    service, _, number = text.partition("=")
    if not service or not number.isdecimal():
        raise ConfigError(f"not a number of workers: {text}", where="--workers", mend="SERVICE=N, such as payment=2")
    return service, int(number)
