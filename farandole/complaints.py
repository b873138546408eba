"""Log lines about bad messages, at a rate that a log can bear: a flood of poison fills the dead letter queue, not the
disk.

Invariant: every complaint is a line, or is counted in one; what was only counted is said within a second or two,
whether or not another complaint comes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LINES_A_SECOND = 10
"""Complaints of one service that are logged one by one in one second; the others of that second are counted."""


class Complaints:
    """What one engine says about messages. `subject` begins the line that counts: `order: 12 more dead letters …`."""

    def __init__(self, log: logging.Logger, subject: str, now: Callable[[], float] = time.monotonic) -> None:
        self._log, self._subject, self._now = log, subject, now
        self._second = now()
        self._lines = self._unsaid = 0

    def say(self, text: str, *details: object) -> None:
        """Log it, or count it. `text` and `details` as for a logger."""
        self.settle()
        if self._lines < LINES_A_SECOND:
            self._lines += 1
            self._log.error(text, *details)
        else:
            self._unsaid += 1

    def settle(self) -> None:
        """Say how many were only counted, if their second is over. To be called now and then."""
        if not self._lines or (now := self._now()) - self._second < 1.0:
            return
        if self._unsaid:
            self._log.error("%s: %d more dead letters, each with its reason in the queue", self._subject, self._unsaid)
        self._second, self._lines, self._unsaid = now, 0, 0
