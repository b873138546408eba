"""Calls from another thread onto an asyncio loop: as many as wait, with one wake-up.

`call_soon_threadsafe` writes a byte into a pipe for each call, and signals come through the same pipe. While a loop is
busy some hundred calls fill it, and a signal that comes then is lost: a worker that was told to end went on working.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any


class OnLoop:
    """Calls in the order in which they were given, on the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: deque[tuple[Callable[..., Any], tuple[Any, ...]]] = deque()
        self._woken = False

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._waiting.append((function, arguments))
        if not self._woken:  # two threads at once wake it twice, which does no harm
            self._woken = True
            self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._woken = False  # before the first is taken: what is added from here on wakes it again
        while self._waiting:
            function, arguments = self._waiting.popleft()
            self._loop.call_soon(function, *arguments)
