"""The shortest story that still fails: a smaller plan, and a tape on which as little as possible goes wrong.

Invariant: what is returned fails the same check as what was given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from msgspec.structs import replace

from farandole.simulation.plan import OrderPlan, Plan
from farandole.simulation.tape import Recorded
from farandole.simulation.trial import Trial, trial
from farandole.simulation.workers import Workshop

SECONDS: Final = 20.0

PARTS: Final = ("orders", "deliveries", "transfers", "accounts", "logins", "nonsense", "failures", "moves", "repairs")
"""Fields of a plan that are lists of what is to happen."""


def silent(what: str, done: int, total: int) -> None:
    """Reports progress to nobody."""


class Shrinker:
    """check: the class of violation to keep"""

    def __init__(
        self,
        workshop: Workshop,
        plan: Plan,
        answers: Sequence[int],
        check: str,
        seconds: float = SECONDS,
        progress: Callable[[str, int, int], None] = silent,
    ) -> None:
        self._workshop, self._check, self._progress = workshop, check, progress
        self.plan, self.answers = plan, list(answers)
        self.tries = 0
        self._began, self._seconds = time.monotonic(), seconds

    def shrink(self) -> tuple[Plan, list[int]]:
        """The smallest plan and tape that were found in time."""
        before = None
        while before != (self.plan, self.answers) and not self._late():
            before = self.plan, list(self.answers)
            self._shrink_plan()
            self._shrink_tape()
        return self.plan, self.answers

    def _late(self) -> bool:
        return time.monotonic() - self._began > self._seconds

    def _fails(self, plan: Plan, answers: Sequence[int]) -> bool:
        """Try it, and keep it if it fails the same check."""
        if self._late():
            return False
        self.tries += 1
        passed = round(time.monotonic() - self._began)
        self._progress(
            f"shrinking: {len(self.plan.orders)} orders, {self._faults()} faults", passed, round(self._seconds)
        )
        tape = Recorded(answers)
        found: Trial = trial(self._workshop, plan, tape)
        if self._check not in found.checks:
            return False
        # What was really asked for: answers that were too large are cut, those that nobody asked for are gone.
        self.plan, self.answers = plan, _stripped(tape.answers)
        return True

    def _faults(self) -> int:
        return sum(answer != 0 for answer in self.answers)

    # ---- the plan

    def _shrink_plan(self) -> None:
        for part in PARTS:
            at = 0
            while at < len(getattr(self.plan, part)):
                kept = getattr(self.plan, part)
                fewer = (*kept[:at], *kept[at + 1 :])
                nobody = not (fewer or self.plan.transfers) if part == "orders" else False
                if nobody or not self._fails(replace(self.plan, **{part: fewer}), self.answers):
                    at += 1
        for smaller in self._simpler(self.plan):
            self._fails(smaller(self.plan), self.answers)
        for at in range(len(self.plan.orders)):
            for name, plain in _plain_fields():
                orders = self.plan.orders
                if getattr(orders[at], name) != plain:
                    simpler = replace(orders[at], **{name: plain})
                    self._fails(replace(self.plan, orders=(*orders[:at], simpler, *orders[at + 1 :])), self.answers)
            order = self.plan.orders[at]
            while len(order.lines) > 1:
                orders = self.plan.orders
                simpler = replace(order, lines=order.lines[:-1])
                if not self._fails(replace(self.plan, orders=(*orders[:at], simpler, *orders[at + 1 :])), self.answers):
                    break
                order = simpler

    @staticmethod
    def _simpler(plan: Plan) -> Iterator[Callable[[Plan], Plan]]:
        if plan.mends:
            yield lambda plan: replace(plan, mends=False)
        if plan.partitions > 1:
            yield lambda plan: replace(plan, partitions=1)
        for service, count in plan.workers.items():
            if count > 1:
                yield lambda plan, service=service: replace(plan, workers=plan.workers | {service: 1})  # type: ignore[misc]

    # ---- the tape

    def _shrink_tape(self) -> None:
        self._fails(self.plan, [])
        self._zero(self._positions())
        for at in self._positions():
            if at < len(self.answers) and self.answers[at] > 1:
                answers = list(self.answers)
                answers[at] = 1
                self._fails(self.plan, answers)
        self._delete()

    def _positions(self) -> list[int]:
        return [at for at, answer in enumerate(self.answers) if answer]

    def _zero(self, positions: list[int]) -> None:
        """Let as many decisions as possible be the plain ones: halves, quarters … single ones."""
        size = max(1, len(positions) // 2)
        while positions and not self._late():
            at = 0
            while at < len(positions):
                answers = list(self.answers)
                for position in positions[at : at + size]:
                    if position < len(answers):
                        answers[position] = 0
                if answers != self.answers and self._fails(self.plan, answers):
                    positions = self._positions()
                else:
                    at += size
            if size == 1:
                return
            size = max(1, size // 2)

    def _delete(self) -> None:
        """Take stretches of plain decisions out, so that what goes wrong goes wrong sooner."""
        size = max(1, len(self.answers) // 2)
        while size >= 4 and not self._late():
            at = 0
            while at < len(self.answers):
                if any(self.answers[at : at + size]) or not self._fails(
                    self.plan, self.answers[:at] + self.answers[at + size :]
                ):
                    at += size
            size //= 2


def _plain_fields() -> list[tuple[str, Any]]:
    plain = OrderPlan(0, 0, ())
    names = (
        "card",
        "ship_to",
        "email",
        "currency",
        "reserve_for",
        "copies",
        "conflicts",
        "cancels",
        "insists",
        "write_offs",
    )
    return [(name, getattr(plain, name)) for name in names] + [("at", 0)]


def _stripped(answers: list[int]) -> list[int]:
    while answers and answers[-1] == 0:
        answers.pop()
    return answers
