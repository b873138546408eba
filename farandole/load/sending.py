"""What both ways of placing orders have in common: the pace.

Invariants: an order is due when its stage says so, and is placed then or as soon after as this process can; nothing
that the system does slows it down but the bound of orders in flight, and both kinds of lateness are recorded.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Protocol

import psutil

from farandole.load.orders import Order, Orders
from farandole.load.recorder import MOST_IN_FLIGHT, Played, Recorder

LONGEST_NAP: Final = 0.02
"""Seconds: so often cancellations, delivery reports and the wish to stop are looked at, at the least."""

Cpu = Callable[[], float]
"""CPU seconds of some threads so far."""


class Sender(Protocol):
    """Whoever places orders."""

    def start(self) -> None: ...

    def play(self, played: Played) -> None:
        """Place the stage's orders, in a thread of its own, behind the stages that it was given before."""
        ...

    def cut(self) -> None:
        """The stage that is being played ends now, and the next one begins."""
        ...

    def stop(self) -> None: ...

    def check(self) -> None:
        """Raise what ended the placing, if anything did."""
        ...


class Pace:
    """The loop that both senders have in common: one stage behind the other, each order when it is due.

    place: is given an order when it is due, and comes back at once
    others_cpu: CPU seconds of the generator's other Python threads
    """

    def __init__(
        self, orders: Orders, recorder: Recorder, place: Callable[[Order, float, Played], None], others_cpu: Cpu
    ) -> None:
        self._orders, self._recorder, self._place, self._others_cpu = orders, recorder, place, others_cpu
        self._stages: SimpleQueue[Played] = SimpleQueue()
        self._cut = threading.Event()
        self.halted = threading.Event()
        self.error: BaseException | None = None
        self.thread_cpu = 0.0

    def add(self, played: Played) -> None:
        self._stages.put(played)

    def cut(self) -> None:
        self._cut.set()

    def run(self, idle: Callable[[float], None]) -> None:
        """In the thread. idle(seconds): wait for so long, or less, and do what has to be done besides."""
        cut = False
        try:
            while (played := self._next(idle)) is not None:
                self._cut.clear()
                if cut:
                    played.began = min(played.began, time.monotonic())
                self._play(played, idle)
                cut = played.cut
        except BaseException as error:
            self.error = error

    def _next(self, idle: Callable[[float], None]) -> Played | None:
        while self._stages.empty():
            if self.halted.is_set():
                return None
            idle(LONGEST_NAP)
        return self._stages.get()

    def _play(self, played: Played, idle: Callable[[float], None]) -> None:
        before = None
        recorder, stopped = self._recorder, self._stopped
        for since in played.stage.dues():
            order, due = self._orders.next(), played.began + since
            while (left := due - time.monotonic()) > 0 and not stopped():
                idle(min(left, LONGEST_NAP))
            if before is None:
                before = self._cpu()
            if len(recorder.in_flight) >= MOST_IN_FLIGHT:
                played.held_back += 1
                while len(recorder.in_flight) >= MOST_IN_FLIGHT and not stopped():
                    idle(LONGEST_NAP)
            if stopped():
                played.cut = True
                break
            self._place(order, due, played)
        end = played.began + played.stage.seconds
        while not played.cut and (left := end - time.monotonic()) > 0:
            if stopped():
                played.cut = True
            idle(min(left, LONGEST_NAP))
        now = self._cpu()
        played.cpu = (now[0] - before[0], now[1] - before[1]) if before else (0.0, 0.0)
        played.over = time.monotonic()

    def _stopped(self) -> bool:
        return self._cut.is_set() or self.halted.is_set()

    def _cpu(self) -> tuple[float, float]:
        """CPU seconds so far: of the Python threads that share one interpreter lock, and of the whole process."""
        self.thread_cpu = time.thread_time()
        times = psutil.Process().cpu_times()
        return self.thread_cpu + self._others_cpu(), times.user + times.system
