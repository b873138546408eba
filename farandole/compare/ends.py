"""When orders ended, and when their customers were told: as an outsider sees it who reads committed records."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Final

from farandole.errors import FarandoleError
from farandole.load.endings import ENDINGS

TOLD: Final = {"notification.sent": "told"}
WATCHED: Final = {**ENDINGS, **TOLD}

PATIENCE: Final = 60.0
"""Seconds without any order coming to its end after which a run is given up."""

LOOK_EVERY: Final = 0.02


class Ends:
    """What farandole.load.endings tells. ended: saga → (how, when); told: saga → when, by time.monotonic"""

    def __init__(self) -> None:
        self.ended_at: dict[str, tuple[str, float]] = {}
        self.told_at: dict[str, float] = {}
        self.parked = 0

    def ended(self, saga: bytes, how: str, at: float) -> None:
        if how in TOLD.values():
            self.told_at.setdefault(saga.decode(), at)
        else:
            self.ended_at.setdefault(saga.decode(), (how, at))

    def park(self, saga: bytes, parked: bool) -> None:
        self.parked += 1 if parked else -1

    def wait(
        self,
        sagas: Iterable[str],
        check: Callable[[], None],
        looked: Callable[[int, int], None],
        within: float = math.inf,
    ) -> None:
        """Until all of them have ended and their customers know. FarandoleError if none does for a while.

        within: seconds after which they are given up, even if some end all the time
        """
        left, since = set(sagas), time.monotonic()
        until = since + within
        total = before = len(left)
        while left:
            check()
            left -= {saga for saga in left if saga in self.told_at and saga in self.ended_at}
            if len(left) != before:
                before, since = len(left), time.monotonic()
            now = time.monotonic()
            if now - since > PATIENCE or now > until:
                why = f"none has for {PATIENCE:.0f} s" if now <= until else f"{within:.0f} s are over"
                raise FarandoleError(
                    f"{len(left)} of {total} orders have not ended, and {why}",
                    where=min(left),
                    mend="farandole replay inspect --saga says how far that one came",
                )
            looked(total - len(left), total)
            time.sleep(LOOK_EVERY)
