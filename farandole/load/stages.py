"""When orders are to be placed: a load is stages, a stage a time with a rate that stays, rises or falls.

Invariant: the times follow from the stage alone, never from what became of earlier orders (an open loop).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from farandole.errors import ConfigError

MOST_RATE: Final = 20_000.0
"""Orders per second. One Python process places a few thousand."""

MOST_SECONDS: Final = 7 * 86_400.0
"""Of one stage."""

MOST_STAGES: Final = 1_000

MOST_AT_ONCE: Final = 400_000
"""Orders of a burst: below what may be in flight."""


@dataclass(frozen=True)
class Stage:
    """A stretch of time.

    seconds: how long; 0: everything at once
    rate:    orders per second when it begins
    until:   orders per second when it ends
    measured: whether its figures count; those of a warm-up do not
    burst:   orders at once, in place of a rate
    """

    name: str
    seconds: float
    rate: float
    until: float
    measured: bool = True
    burst: int = 0

    @property
    def orders(self) -> int:
        return self.burst or math.floor(self.seconds * (self.rate + self.until) / 2 + 1e-6)

    def dues(self) -> Iterator[float]:
        """When each order is due, in seconds from the stage's beginning."""
        if self.burst:
            yield from (0.0 for _ in range(self.burst))
            return
        slope = (self.until - self.rate) / self.seconds
        for number in range(self.orders):
            yield _inverse(number, self.rate, slope)

    def to_dict(self) -> dict[str, float | str | bool | int]:
        return {
            "name": self.name,
            "seconds": self.seconds,
            "from": self.rate,
            "to": self.until,
            "measured": self.measured,
            "orders": self.orders,
        }

    def __str__(self) -> str:
        if self.burst:
            return f"{self.burst:,} orders at once"
        rate = f"{self.rate:g}" if self.rate == self.until else f"{self.rate:g} to {self.until:g}"
        return f"{rate} orders/s for {self.seconds:g} s"


def _inverse(number: int, rate: float, slope: float) -> float:
    """The time at which `number` orders have been due, when the rate is `rate` + `slope` · time."""
    if abs(slope) < 1e-9:
        return number / rate
    return (math.sqrt(max(0.0, rate * rate + 2 * slope * number)) - rate) / slope


def steady(name: str, rate: float, seconds: float, *, measured: bool = True) -> Stage:
    return checked(Stage(name, seconds, rate, rate, measured))


def burst(orders: int) -> Stage:
    if not 1 <= orders <= MOST_AT_ONCE:
        raise ConfigError(
            f"{orders} orders cannot be placed at once", where="--burst", mend=f"1 to {MOST_AT_ONCE}, or a high --rate"
        )
    return Stage("burst", 0.0, 0.0, 0.0, burst=orders)


def checked(stage: Stage, where: str = "--rate, --minutes, --steps") -> Stage:
    """ConfigError if it cannot be."""
    for rate in (stage.rate, stage.until):
        if not 0 <= rate <= MOST_RATE:
            raise ConfigError(f"a rate of {rate:g} orders/s", where=where, mend=f"0 to {MOST_RATE:g}")
    if not 0 < stage.seconds <= MOST_SECONDS:
        raise ConfigError(f"a stage of {stage.seconds:g} s", where=where, mend=f"more than 0, at most {MOST_SECONDS:g}")
    if not stage.rate and not stage.until:
        raise ConfigError(f"the stage {stage.name} places no order", where=where, mend="give it a rate")
    return stage


def with_warm_up(stages: Sequence[Stage], seconds: float) -> list[Stage]:
    """The stages, and before them some time at the first one's rate that does not count."""
    first = stages[0]
    if first.burst or not first.measured or seconds <= 0 or not first.rate:
        return list(stages)
    return [steady("warm-up", first.rate, seconds, measured=False), *stages]
