"""Progress on standard error: a bar that moves where somebody watches, one line per step where nobody does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, int, int], None]


@contextmanager
def shown() -> Iterator[Report]:
    """A report (what is done, how much, of how much; 0 when that is not known) that is shown while it is entered."""
    with _bars() if sys.stderr.isatty() else _lines() as report:
        yield report


@contextmanager
def _bars() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(
            task, description=what, completed=done if total else 0, total=total or None
        )


@contextmanager
def _lines() -> Iterator[Report]:
    last = ""

    def line(what: str, done: int, total: int) -> None:
        nonlocal last
        if what != last:
            print(what, file=sys.stderr, flush=True)
        last = what

    yield line
