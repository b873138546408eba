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
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:

        def show(what: str, done: int, total: int) -> None:
            if not progress.tasks or progress.tasks[0].description != what:
                for task in progress.task_ids:
                    progress.remove_task(task)
                progress.add_task(what, total=total or None)
            progress.update(progress.task_ids[0], completed=done)

        yield show


@contextmanager
def _lines() -> Iterator[Report]:
    last = ""

    def line(what: str, done: int, total: int) -> None:
        nonlocal last
        if what != last:
            print(what, file=sys.stderr, flush=True)
        last = what

    yield line
