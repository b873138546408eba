"""Progress on standard error: a bar that moves where somebody watches, lines where nobody does.

A report is told what is done, how much, of how much (0 when that is not known). What stands behind a colon in the text
are counts: they change all the time, the work is the same.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Report = Callable[[str, int, int], None]

WIDE = 160
"""Columns of a table where there is no terminal to ask."""

LINE_EVERY = 5.0
"""Seconds between lines that tell counts of the same work."""


@contextmanager
def shown(eta: bool = False) -> Iterator[Report]:
    """A report that is shown while it is entered. eta: with the time that is left, where a total is known."""
    with _bars(eta) if sys.stderr.isatty() else _lines() as report:
        yield report


@contextmanager
def _bars(eta: bool) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns: list[Any] = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20)]
    columns += [TextColumn("{task.percentage:>3.0f}%"), TimeRemainingColumn()] if eta else []
    columns.append(TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar, work = progress.add_task("", total=None), ""

        def show(what: str, done: int, total: int) -> None:
            nonlocal work
            if eta and what.partition(": ")[0] != work:  # what the last work took tells nothing of this one
                work = what.partition(": ")[0]
                progress.reset(bar)
            progress.update(bar, description=what, completed=done, total=total or None)

        yield show


@contextmanager
def _lines() -> Iterator[Report]:
    last = ("", 0.0)

    def line(what: str, done: int, total: int) -> None:
        nonlocal last
        work, _, counts = what.partition(": ")
        if work != last[0] or (counts and time.monotonic() - last[1] >= LINE_EVERY):
            last = work, time.monotonic()
            print(what, file=sys.stderr, flush=True)

    yield line


def until_interrupted() -> None:
    """Leave everything running."""
    try:
        while True:
            time.sleep(3_600)
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)


def show_outcome(outcome: Any, as_json: bool, print_outcome: Callable[[Any, Any], None]) -> None:
    """On standard output: one JSON object, or tables for people."""
    if as_json:
        print(json.dumps(outcome.to_dict()), flush=True)
        return
    from rich.console import Console

    print_outcome(outcome, Console(width=None if sys.stdout.isatty() else WIDE))


def terminated(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends a command as Ctrl-C does: everything that it started is stopped."""
    raise SystemExit(128 + number)
