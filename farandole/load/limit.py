"""The search for the highest rate that a system holds: up in steps, then halving what is between.

Invariants: a rate counts as held only if a probe has held it, and the one that is reported was held by the last and
longest probe; what is reported as missed has been seen to miss, twice if it was tried twice: a pause of the machine, or
a system that has just begun, would bound the search for good. It ends: every probe makes the gap smaller, and their
number has a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

MOST_PROBES: Final = 40

STEP: Final = 2.0
"""From one rate to the next while all are held."""

BACK: Final = 0.05
"""Of a rate that was held once and missed when it was tried again: so far below it is tried next, then twice as far."""

MOST_AGAIN: Final = 4


@dataclass(frozen=True)
class Probe:
    """One rate, and whether it was held; why it was not.

    valid:   the generator could place so many, or they were held in spite of it
    kept_up: the generator was not the bottleneck at all
    """

    rate: float
    held: bool
    why: str = ""
    valid: bool = True
    kept_up: bool = True
    figures: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "held": self.held,
            "why": self.why,
            "valid": self.valid,
            "kept_up": self.kept_up,
            **self.figures,
        }


@dataclass
class Found:
    """rate: the highest that was held when it was confirmed; None: none was. missed: the lowest that was not held"""

    rate: float | None
    missed: float | None
    probes: list[Probe]
    said: str = ""

    @property
    def sure(self) -> bool:
        """There is a rate, confirmed by a generator that kept up, and one above it that the system does not hold."""
        return self.rate is not None and self.missed is not None and self.probes[-1].kept_up

    def to_dict(self) -> dict[str, Any]:
        return {
            "rate": self.rate,
            "missed": self.missed,
            "sure": self.sure,
            "said": self.said,
            "probes": [each.to_dict() for each in self.probes],
        }


def search(
    probe: Callable[[float, bool], Probe], start: float, highest: float, precision: float, lowest: float = 1.0
) -> Found:
    """Find it.

    probe:     tries a rate; the second argument says that it is the confirmation, which may take longer
    start:     the first rate; highest: none above it is tried
    precision: how far the rate that is held may be below the one that is missed, as a share of that
    """
    return _Search(probe, highest, precision, lowest).run(start)


class _Search:
    def __init__(self, probe: Callable[[float, bool], Probe], highest: float, precision: float, lowest: float) -> None:
        self._probe, self._highest, self._precision, self._lowest = probe, highest, precision, lowest
        self.probes: list[Probe] = []
        self._misses: set[float] = set()
        self._twice: set[float] = set()
        self.bound = ""

    @property
    def missed(self) -> float | None:
        """The lowest rate that was missed, and not held since."""
        return min(self._misses, default=None)

    def run(self, start: float) -> Found:
        held = self._down(start) if not self._try(start) else self._up(start)
        if held is None:
            return Found(None, self.missed, self.probes, self._nothing())
        held = self._second_chance(self._between(held))
        confirmed = self._confirm(held)
        return Found(confirmed, self.missed, self.probes, self._said(confirmed))

    def _try(self, rate: float, confirming: bool = False) -> bool:
        done = self._probe(rate, confirming)
        self.probes.append(done)
        if not done.valid:
            self.bound = f"the generator could not place {rate:g} orders/s"
        elif done.held:
            self._misses = {each for each in self._misses if each > rate}
        else:
            self._misses.add(rate)
        return done.held and done.valid

    def _up(self, held: float) -> float:
        while held < self._highest and len(self.probes) < MOST_PROBES:
            rate = min(self._highest, held * STEP)
            if not self._try(rate):
                return held
            held = rate
        self.bound = self.bound or f"{self._highest:g} orders/s is the highest that was tried"
        return held

    def _down(self, missed: float) -> float | None:
        rate = missed / STEP
        while rate >= self._lowest and len(self.probes) < MOST_PROBES:
            if self._try(rate):
                return rate
            rate /= STEP
        return None

    def _between(self, held: float) -> float:
        """Halve what is between the highest that is held and the lowest that is not."""
        top = self.missed if self.missed is not None else self._top()
        while top is not None and top - held > self._precision * top and len(self.probes) < MOST_PROBES:
            rate = _round(held, (held + top) / 2, top)
            if self._try(rate):
                held = rate
            else:
                top = rate
        return held

    def _second_chance(self, held: float) -> float:
        """The lowest that was missed is tried again, and the search goes on from there if it is held."""
        while (missed := self.missed) is not None and missed not in self._twice and len(self.probes) < MOST_PROBES:
            self._twice.add(missed)
            if not self._try(missed):
                break
            held = self._between(missed if self._misses else self._up(missed))
        return held

    def _top(self) -> float | None:
        """Where the generator gave up, if it did."""
        return min((each.rate for each in self.probes if not each.valid), default=None)

    def _confirm(self, held: float) -> float | None:
        rate = held
        for number in range(MOST_AGAIN):
            if self._try(rate, confirming=True):
                return rate
            rate = round(rate * (1 - BACK * 2**number), 1)
        return None

    def _nothing(self) -> str:
        if self.missed is None:  # no probe says anything of the system
            return f"no rate is known to be held: {self.bound}"
        return f"not even {self.missed:g} orders/s are held"

    def _said(self, confirmed: float | None) -> str:
        if confirmed is None:
            return "what was held once was not held again: the figures are not steady enough for an answer"
        doubt = "" if self.probes[-1].kept_up else "; not sure: the generator was the bottleneck when it was confirmed"
        if self.missed is None:
            return f"{confirmed:g} orders/s are held; {self.bound}, so the limit may be higher{doubt}"
        return f"{confirmed:g} orders/s are held, {self.missed:g} are not{doubt}"


def _round(low: float, rate: float, high: float) -> float:
    """To whole orders per second where there is room."""
    whole = float(round(rate))
    return whole if low < whole < high else rate
