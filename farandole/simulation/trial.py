"""A run together with its judgement."""

from __future__ import annotations

import gc
import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from farandole.runtime import GC_THRESHOLDS
from farandole.simulation.checks import check
from farandole.simulation.plan import Plan
from farandole.simulation.run import Run, Violation
from farandole.simulation.tape import Tape
from farandole.simulation.workers import Workshop

Story = Callable[[int, str, str, str], None]
"""Told what happens: virtual time (ms since 1970), who, what, saga or nothing."""

QUIET: Final = logging.CRITICAL + 1


class Trial(NamedTuple):
    """violations: the most telling first; counts: what happened, in numbers"""

    run: Run
    violations: list[Violation]
    counts: Counter[str]

    @property
    def checks(self) -> set[str]:
        return {violation.check for violation in self.violations}

    def fingerprint(self) -> str:
        """Of every record that was ever written, aborted ones included: equal for equal runs."""
        digest = hashlib.blake2b(digest_size=16)
        cluster = self.run.cluster
        for topic, partition in sorted(cluster.ends()):
            for r in cluster.read(topic, partition, committed=False):
                digest.update(repr((topic, partition, r.offset, r.timestamp, r.key, r.value, r.headers)).encode())
        return digest.hexdigest()


def trial(workshop: Workshop, plan: Plan, tape: Tape, story: Story | None = None) -> Trial:
    """Play a run and judge it. What an engine logs is part of the story."""
    run = Run(workshop, plan, tape, story)
    with _logging(run, story):
        try:
            run.play()
            violations = check(run)
        except Violation as violation:
            violations = [violation]
    return Trial(run, violations, run.totals())


@contextmanager
def _logging(run: Run, story: Story | None) -> Iterator[None]:
    logger = logging.getLogger("farandole")
    level, propagate = logger.level, logger.propagate
    handler = _Telling(run)
    logger.propagate = False
    logger.setLevel(QUIET if story is None else logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
        logger.setLevel(level)


class _Telling(logging.Handler):
    """What engines log becomes part of the story."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run

    def emit(self, record: logging.LogRecord) -> None:
        who, _, what = record.getMessage().partition(": ")
        self._run.tell(who, what or who)


def settle_garbage() -> None:
    """What is compiled stays for good: look only at what runs leave behind, and not too often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
