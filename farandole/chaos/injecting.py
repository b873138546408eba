"""One fault from beginning to end, and several of them at the same time.

Invariant: whatever happens inside a fault, what it broke is put right and belongs to nobody afterwards; what it raised
is a problem of the run, and so is a system that has not recovered in time.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from farandole.chaos.fault import Fault, Refused
from farandole.chaos.schedule import Planned
from farandole.chaos.stage import Stage, now_ms
from farandole.chaos.world import World
from farandole.errors import FarandoleError

ASK_EVERY: Final = 0.25
"""Seconds between two questions whether the system has recovered."""

REFUSED_FOR: Final = 90.0
"""Seconds for which a fault that is refused is tried again; then another one takes its place."""

MOST_REFUSED: Final = 10
"""Faults in a row that patience ended for: then nothing can be broken any more, and that is a problem."""

WHOLE_WITHIN: Final = 90.0
"""Seconds after the recovery in which what was broken has to be there again."""


@dataclass
class Done:
    """What was done, and how long it took to get well.

    at:         when it was injected, ms since 1970
    healed:     when it was put right
    recovered:  when the system worked again, by record time where it is known
    whole:      when what was broken was there again
    affects:    service → partitions that stood still
    alone:      no other fault was on meanwhile
    """

    number: int
    name: str
    target: str
    at: int
    healed: int = 0
    recovered: int | None = None
    whole: int | None = None
    affects: dict[str, set[int]] = field(default_factory=dict)
    problem: str = ""
    alone: bool = True

    @property
    def until(self) -> int:
        """End of its effects, as far as they are known."""
        return max(self.healed, self.recovered or 0, self.whole or 0)

    @property
    def recovery(self) -> float | None:
        """Seconds from the injection until the system worked again."""
        return None if self.recovered is None else max(0.0, (self.recovered - self.at) / 1000)


class Injector:
    """Takes faults from a plan, each when it is due, at most so many at a time.

    wanted:   how many
    interval: seconds between two of them, if no earlier one keeps its place
    """

    def __init__(self, world: World, planned: Iterator[Planned], wanted: int, interval: float, at_once: int) -> None:
        self.done: list[Done] = []
        self.under_way: dict[int, str] = {}
        self.refused: dict[str, int] = {}
        self.wanted = wanted
        self._world, self._planned, self._interval = world, planned, interval
        self._lock = threading.Lock()
        self._taken = self._in_a_row = 0
        self._began = 0.0
        self._threads = [
            threading.Thread(target=self._work, name=f"faults-{number}", daemon=True) for number in range(at_once)
        ]

    def start(self) -> None:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def join(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    # ---- in the threads

    def _next(self) -> tuple[Planned, float] | None:
        with self._lock:
            if self._taken >= self.wanted or self._in_a_row >= MOST_REFUSED or self._world.halted:
                return None
            self._taken += 1
            return next(self._planned), self._began + (self._taken - 1) * self._interval

    def _work(self) -> None:
        while (found := self._next()) is not None:
            planned, due = found
            self._world.wait(max(0.0, due - time.monotonic()))
            if self._world.halted:
                return
            try:
                if not self._one(planned):
                    with self._lock:  # it never came about: another one takes its place
                        self._taken -= 1
            finally:
                self.under_way.pop(planned.number, None)

    def _one(self, planned: Planned) -> bool:
        """False: it was refused until patience ended, or the run did."""
        deadline = time.monotonic() + REFUSED_FOR
        while True:
            stage, fault = Stage(self._world), planned.kind()
            done = Done(planned.number, planned.kind.name, "", now_ms())
            try:
                fault.inject(stage, planned.rng())
                break
            except Refused:
                self._put_right(fault, stage, done, injected=False)
                stage.release()
                if time.monotonic() > deadline or self._world.halted:
                    self._count_refusal(done.name)
                    return False
                self._world.wait(1.0)
            except Exception as error:
                done.problem = f"inject raised {type(error).__name__}: {error}"
                break
        self._in_a_row = 0
        done.at = stage.began or done.at
        done.target = ", ".join(stage.targets)
        self.under_way[done.number] = f"{done.name} {done.target}".strip()
        try:
            self._see_through(planned, fault, stage, done)
        finally:
            done.affects = stage.affects
            stage.release()
            with self._lock:
                self.done.append(done)
            if done.problem and not self._world.halted:
                self._world.problem(f"fault {done.number}, {done.name} {done.target}: {done.problem}")
        return True

    def _count_refusal(self, name: str) -> None:
        with self._lock:
            self.refused[name] = self.refused.get(name, 0) + 1
            self._in_a_row += 1
            hopeless = self._in_a_row == MOST_REFUSED
        if hopeless and not self._world.halted:
            self._world.problem(f"{MOST_REFUSED} faults in a row were refused, the last one {name}: no more are tried")

    def _see_through(self, planned: Planned, fault: Fault, stage: Stage, done: Done) -> None:
        heal_at = time.monotonic() + (0.0 if done.problem else planned.lasts)
        failed = bool(done.problem)
        give_up = None
        while not self._world.halted:
            if done.recovered is None and not failed:
                try:
                    if fault.recovered(stage):
                        done.recovered = stage.recovered_at() or now_ms()
                except FarandoleError:
                    pass  # a cluster that does not answer has not recovered yet
                except Exception as error:
                    done.problem, failed = f"recovered raised {type(error).__name__}: {error}", True
            if not done.healed and time.monotonic() >= heal_at:
                self._put_right(fault, stage, done, injected=not failed)
                give_up = time.monotonic() + planned.kind.within
            elif give_up is not None and (done.recovered is not None or failed):
                if self._is_whole(stage):
                    done.whole = now_ms()
                    return
                if time.monotonic() > give_up + WHOLE_WITHIN:
                    done.problem = done.problem or "what was broken is not there again"
                    return
            elif give_up is not None and time.monotonic() > give_up:
                done.problem, failed = f"not recovered {planned.kind.within:.0f} s after its healing", True
            self._world.wait(ASK_EVERY if done.healed else min(ASK_EVERY, max(0.0, heal_at - time.monotonic())))
        if not done.healed:
            self._put_right(fault, stage, done, injected=not failed)

    def _put_right(self, fault: Fault, stage: Stage, done: Done, *, injected: bool) -> None:
        if injected:
            try:
                fault.heal(stage)
            except Exception as error:
                done.problem = done.problem or f"heal raised {type(error).__name__}: {error}"
        failed = stage.heal()
        if failed and not self._world.halted:
            done.problem = done.problem or failed[0]
        done.healed = stage.healed or now_ms()

    def _is_whole(self, stage: Stage) -> bool:
        try:
            return stage.whole()
        except Exception:  # a cluster that does not answer is not whole
            return False


def mark_alone(done: list[Done]) -> None:
    """Say of each whether another one was on at the same time."""
    for each in done:
        each.alone = not any(other is not each and other.at <= each.until and each.at <= other.until for other in done)
