"""Many seeds, on one or more processes, and what came of them.

Invariants: which seeds are run does not depend on the number of processes; what was found so far is there at any
moment, also after Ctrl-C; no process outlives the one that started it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Final, NamedTuple

from farandole.simulation.plan import FLOWS, make_plan
from farandole.simulation.tape import Tape
from farandole.simulation.trial import settle_garbage, trial
from farandole.simulation.workers import Workshop

EVERY: Final = 0.2
"""Seconds between reports of a process."""

STOPPED_WITHIN: Final = 2.0

Progress = Callable[[str, int, int], None]


class Failed(NamedTuple):
    """A seed that failed, and the violation that says most."""

    seed: int
    check: str
    what: str


@dataclass
class Campaign:
    """What came of the seeds so far."""

    runs: int = 0
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    failed: list[Failed] = field(default_factory=list)
    interrupted: bool = False

    @property
    def per_second(self) -> float:
        return self.runs / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": not self.failed,
            "runs": self.runs,
            "seconds": round(self.seconds, 3),
            "runs_per_second": round(self.per_second, 1),
            "interrupted": self.interrupted,
            "counts": dict(self.counts),
            "failed": [failed._asdict() for failed in self.failed],
        }


def run_seed(
    workshop: Workshop, seed: int, orders: int | None, flows: Sequence[str] = FLOWS
) -> tuple[Counter[str], Failed | None]:
    plan = make_plan(seed, orders, flows)
    found = trial(workshop, plan, Tape(seed, plan.rates))
    first = found.violations[0] if found.violations else None
    return found.counts, Failed(seed, first.check, first.what) if first else None


def campaign(
    first: int,
    seeds: int,
    *,
    jobs: int = 1,
    orders: int | None = None,
    flows: Sequence[str] = FLOWS,
    keep_going: bool = False,
    progress: Progress,
) -> Campaign:
    """Run so many seeds from the first one on; until one fails, or all of them. Ctrl-C gives what there is."""
    result, began = Campaign(), time.monotonic()
    with _reports(first, seeds, max(1, min(jobs, seeds)), orders, flows) as reports:
        try:
            for runs, counts, failed in reports:
                result.runs += runs
                result.counts.update(counts)
                result.failed += failed
                result.seconds = time.monotonic() - began
                progress(_told(result), result.runs, seeds)
                if result.failed and not keep_going:
                    break
        except KeyboardInterrupt:
            result.interrupted = True
    result.seconds = time.monotonic() - began
    result.failed.sort()
    return result


def _told(result: Campaign) -> str:
    failures = f", {len(result.failed)} failed" if result.failed else ""
    return f"simulating: {result.runs:,} runs, {result.per_second:.0f} per second{failures}"


Report = tuple[int, Counter[str], list[Failed]]


def _stripe(first: int, last: int, step: int, orders: int | None, flows: Sequence[str]) -> Iterator[Report]:
    """Every `step`-th seed; a report every now and then."""
    workshop = Workshop()
    settle_garbage()
    runs, counts, failures, told = 0, Counter[str](), list[Failed](), time.monotonic()
    for seed in range(first, last, step):
        found, failed = run_seed(workshop, seed, orders, flows)
        runs += 1
        counts.update(found)
        if failed:
            failures.append(failed)
        if failed or time.monotonic() - told > EVERY:
            yield runs, counts, failures
            runs, counts, failures, told = 0, Counter[str](), [], time.monotonic()
    yield runs, counts, failures


@contextmanager
def _reports(first: int, seeds: int, jobs: int, orders: int | None, flows: Sequence[str]) -> Iterator[Iterator[Report]]:
    if jobs == 1:
        yield _stripe(first, first + seeds, 1, orders, flows)
        return
    context = multiprocessing.get_context("spawn")
    ends: list[Connection] = []
    processes = []
    try:
        for number in range(jobs):
            mine, its = context.Pipe(duplex=False)
            process = context.Process(
                target=_child, args=(its, os.getpid(), first + number, first + seeds, jobs, orders, flows), daemon=True
            )
            process.start()
            its.close()
            ends.append(mine)
            processes.append(process)
        yield _gathered(ends)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(STOPPED_WITHIN)
            if process.is_alive():
                process.kill()
                process.join()


def _gathered(ends: list[Connection]) -> Iterator[Report]:
    left = list(ends)
    while left:
        for end in wait(left):
            assert isinstance(end, Connection)
            try:
                report: Report = end.recv()
            except EOFError:
                left.remove(end)
            else:
                yield report


def _child(
    end: Connection, parent: int, first: int, last: int, step: int, orders: int | None, flows: Sequence[str]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        for report in _stripe(first, last, step, orders, flows):
            if os.getppid() != parent:
                return
            end.send(report)
    except BrokenPipeError:
        return
    finally:
        end.close()
