"""Every order from when it was meant to be placed to its end, as figures by second and by stage.

Invariants: a latency counts from the intended start to the moment in which a committed record of the order's end was
received, both on this process's monotonic clock, whatever the order waited for meanwhile (no coordinated omission). Of
an order that has ended nothing is kept but what it adds to the figures: memory is bounded by the orders in flight
(MOST_IN_FLIGHT) and the number of intervals (MOST_INTERVALS), which grow longer in a long run.

Why not the broker's own time of the record: that is when the record was appended, and nobody sees it before its
transaction has committed. And two clocks would be compared.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from farandole.load.histogram import Histogram
from farandole.load.stages import Stage

MOST_IN_FLIGHT: Final = 500_000
"""Orders placed and not ended: a few hundred bytes each. Beyond it the next one is late, and the run not valid."""

MOST_INTERVALS: Final = 600
"""Of a run; then each two become one, twice as long."""

FIRST_WIDTH: Final = 1.0
"""Seconds of an interval at first."""


@dataclass
class Interval:
    """intended, latency: of the orders that were due in it; placed, ended: what was done in it"""

    intended: int = 0
    placed: int = 0
    ended: int = 0
    latency: Histogram = field(default_factory=Histogram)

    def add(self, other: Interval) -> None:
        self.intended += other.intended
        self.placed += other.placed
        self.ended += other.ended
        self.latency.add_all(other.latency)


@dataclass
class Played:
    """A stage, and what became of its orders.

    began, over: monotonic clock; over: when its last order was due, or it was cut short; 0: not yet
    late:    how much later than intended orders were placed
    answers: time to the answer, over HTTP
    held_back: orders that waited because as many were in flight as may be
    cpu:     CPU seconds of the generator's own Python threads, and of its whole process, while the stage lasted
    """

    stage: Stage
    began: float
    over: float = 0.0
    placed: int = 0
    failed: int = 0
    held_back: int = 0
    cut: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    late: Histogram = field(default_factory=Histogram)
    answers: Histogram = field(default_factory=Histogram)
    statuses: Counter[str] = field(default_factory=Counter)
    cpu: tuple[float, float] = (0.0, 0.0)
    last_end: float = 0.0

    @property
    def ended(self) -> int:
        return self.latency.count

    @property
    def seconds(self) -> float:
        """For which it placed orders."""
        return self.over - self.began if self.over else 0.0


class Recorder:
    """Written by the sender's and the watcher's thread, read by anybody.

    began:    monotonic clock, what intervals count from
    began_at: the same moment in seconds since 1970, for people
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.began, self.began_at = clock(), time.time()
        self.width = FIRST_WIDTH
        self.intervals: list[Interval] = []
        self.played: list[Played] = []
        self.in_flight: dict[bytes, tuple[float, Played]] = {}
        """Saga → when it was due, and its stage."""
        self.parked: set[bytes] = set()
        """Of those in flight: some service handles them no more."""
        self.problems: Counter[str] = Counter()
        self._lock = threading.Lock()

    def begin(self, stage: Stage, at: float) -> Played:
        played = Played(stage, at)
        self.played.append(played)
        return played

    # ---- the sender's

    def placed(self, saga: bytes, due: float, played: Played) -> None:
        """It is placed now."""
        now = self._clock()
        self.in_flight[saga] = (due, played)
        played.placed += 1
        played.late.add(now - due)
        with self._lock:
            self._at(due).intended += 1
            self._at(now).placed += 1

    def failed(self, saga: bytes, why: str) -> None:
        """It was not placed after all."""
        due_and_stage = self.in_flight.pop(saga, None)
        self.problems[why] += 1
        if due_and_stage is not None:
            due_and_stage[1].failed += 1

    # ---- the watcher's

    def ended(self, saga: bytes, how: str, at: float) -> None:
        """A committed record of its end was received. Records of orders that are not looked for change nothing."""
        found = self.in_flight.pop(saga, None)
        if found is None:
            return
        due, played = found
        self.parked.discard(saga)
        played.outcomes[how] += 1
        played.latency.add(at - due)
        played.last_end = at
        with self._lock:
            self._at(at).ended += 1
            self._at(due).latency.add(at - due)

    def park(self, saga: bytes, parked: bool) -> None:
        if not parked:
            self.parked.discard(saga)
        elif saga in self.in_flight:
            self.parked.add(saga)

    # ---- anybody's

    @property
    def open(self) -> int:
        """Orders that have neither ended nor are parked."""
        return len(self.in_flight) - len(self.parked)

    def rows(self) -> tuple[float, list[Interval]]:
        """(seconds of an interval, the intervals), as they are now."""
        with self._lock:
            return self.width, list(self.intervals)

    def _at(self, when: float) -> Interval:
        place = int(max(0.0, when - self.began) / self.width)
        while place >= MOST_INTERVALS:
            self._halve()
            place = int(max(0.0, when - self.began) / self.width)
        while place >= len(self.intervals):
            self.intervals.append(Interval())
        return self.intervals[place]

    def _halve(self) -> None:
        pairs = [self.intervals[at : at + 2] for at in range(0, len(self.intervals), 2)]
        for first, *second in pairs:
            for each in second:
                first.add(each)
        self.intervals = [pair[0] for pair in pairs]
        self.width *= 2
