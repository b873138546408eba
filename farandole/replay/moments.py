"""Moments at which work under way may be stopped, and noted: between two pieces of it.

Invariants:
- Whoever asks for a stop in the middle of a piece is heard when the piece is done.
- A note is taken between two pieces, and whole: a stop that is asked for meanwhile waits for it, too.
- After a piece that failed in the middle nothing is fit to be noted any more: `broken` says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

EVERY: Final = 60.0
"""Seconds between two notes: what a kill -9 may cost."""

SHARE: Final = 10
"""After a note that took long so many times as long passes until the next one: they cost a tenth of the time."""


class Moments:
    """note: takes a note of how far the work is; None: nobody wants one. every: seconds between two of them"""

    def __init__(self, every: float = EVERY, now: Callable[[], float] = time.monotonic) -> None:
        self.note: Callable[[], None] | None = None
        self.broken = False
        self._every, self._now = every, now
        self._due = now() + every
        self._inside = False
        self._stop: Callable[[], None] | None = None

    def interrupt(self, stop: Callable[[], None]) -> None:
        """Stop, but not in the middle of a piece. For signal handlers."""
        if self._inside:
            self._stop = stop
        else:
            stop()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """What is done within is one piece."""
        self._inside = True
        try:
            yield
            if self.note is not None and self._stop is None and self._now() >= self._due:
                self._take(self.note)
        except BaseException:
            self.broken = True
            raise
        finally:
            self._inside = False
        stop, self._stop = self._stop, None
        if stop is not None:
            stop()

    def last(self) -> None:
        """The work was stopped: note how far it came."""
        if self.note is not None and not self.broken:
            self.note()

    def finish(self) -> None:
        """The work is done: note that, and nothing of what follows."""
        with self.whole():
            if self.note is not None:
                self.note()
        self.note = None

    def _take(self, note: Callable[[], None]) -> None:
        begun = self._now()
        note()
        done = self._now()
        self._due = done + max(self._every, SHARE * (done - begun))
