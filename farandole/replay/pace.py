"""How fast records are taken: as fast as the machine goes, or at a rate."""

from __future__ import annotations

import time
from collections.abc import Callable

EARLY = 0.02
"""Seconds ahead of its time that are not worth a pause."""


class Pace:
    """rate: records per second; 0: as fast as it goes"""

    def __init__(
        self,
        rate: float = 0.0,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.rate, self._now, self._sleep = rate, now, sleep
        self._count, self._begun = 0, 0.0

    def step(self) -> None:
        """One more record; returns when it is its turn."""
        if not self.rate:
            return
        if not self._count:
            self._begun = self._now()
        self._count += 1
        ahead = self._begun + self._count / self.rate - self._now()
        if ahead > EARLY:
            self._sleep(ahead)
