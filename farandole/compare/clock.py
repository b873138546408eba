"""How much of a comparison's time is left, and what ends it when it is over.

The time is counted from the start of the command. Most of it is for measuring: what does not fit in there any more is
left out, and named. The rest is kept for reading the topics and for the audit, without which no figure counts. If they
do not fit either, or if anything hangs, the alarm ends the comparison with an error, early enough to stop the system.

Invariant: whatever happens, the alarm rings once at most, and not while the system is being stopped.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from farandole.errors import FarandoleError

MEASURED: Final = 0.8
"""Part of the time after which nothing more is measured. Reading and auditing a million records takes half a minute
where nothing else runs beside."""

LAST: Final = 0.925
"""Part of the time after which the alarm rings. Stopping workers, the sandbox and Kafka takes ten seconds."""


class Clock:
    """began: when the command did, by time.monotonic; None: now"""

    def __init__(self, seconds: float, began: float | None = None) -> None:
        self.began = time.monotonic() if began is None else began
        self.seconds = seconds

    @property
    def passed(self) -> float:
        return time.monotonic() - self.began

    def left(self, part: float = 1.0) -> float:
        """Seconds until so much of the time for measuring is over; below 0: it is."""
        return part * MEASURED * self.seconds - self.passed

    @property
    def last(self) -> float:
        """Seconds until the alarm."""
        return LAST * self.seconds - self.passed

    def fits(self, seconds: float, part: float = 1.0) -> bool:
        """Whether what takes about so long ends before so much of the time for measuring is over."""
        return self.left(part) >= seconds


class Alarm:
    """Rings in the main thread, as an error. Enter `set` around all of it, and `off_afterwards` around what is not
    there to stop something.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    @contextmanager
    def set(self) -> Iterator[None]:
        before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, max(0.01, self._clock.last))
        try:
            yield
        finally:
            self.off()
            signal.signal(signal.SIGALRM, before)

    @contextmanager
    def off_afterwards(self) -> Iterator[None]:
        """What follows is stopped, however long that takes."""
        try:
            yield
        finally:
            self.off()

    @staticmethod
    def off() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, number: int, frame: FrameType | None) -> None:
        raise FarandoleError(
            f"the comparison cannot end within {self._clock.seconds / 60:g} minutes: "
            f"after {self._clock.passed:.0f} s its figures are not audited yet",
            mend="give it a machine that does less beside it, or more --minutes",
        )
