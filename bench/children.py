"""The processes that are measured: started, watched, their CPU time read, and ended.

Invariant: none outlives the benchmark. It ends them; if it cannot any more, they see their standard input close.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import psutil

from bench.errors import BenchError
from bench.stage import Stage

STOP_SECONDS = 20.0
LAST_LINES = 15


def cpu_seconds(pid: int) -> float:
    """User and system time of a process, all its threads, librdkafka's included."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


class Child:
    """A process that runs one of the two sides; what it prints goes to a file."""

    def __init__(self, stage: Stage, namespace: str, module: str, arguments: Iterable[str]) -> None:
        self.name = module
        self._log = stage.home / f"{namespace}{'-'.join([module, *arguments]).replace('/', '')}.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.PIPE, stdout=output, stderr=output,
                env=stage.environment(namespace), cwd=stage.directory(), start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu(self) -> float:
        """Seconds of CPU time so far."""
        self.check()
        return cpu_seconds(self.pid)

    def check(self) -> None:
        """BenchError if it has ended."""
        if self._process.poll() is not None:
            raise BenchError(f"{self.name} ended with {self._process.returncode}:\n{self.last_words()}")

    def last_words(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-LAST_LINES:])

    def ask(self, what: str) -> None:
        """A line on its standard input."""
        assert self._process.stdin is not None
        self._process.stdin.write(what.encode() + b"\n")
        self._process.stdin.flush()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdin:
            self._process.stdin.close()


@contextmanager
def running(stage: Stage, namespace: str, module: str, arguments: Iterable[str] = ()) -> Iterator[Child]:
    child = Child(stage, namespace, module, arguments)
    try:
        yield child
    finally:
        child.stop()


def unheard(what: str) -> None:
    """For a child that is asked nothing."""


def end_with_parent(asked: Callable[[str], None] = unheard) -> None:
    """In the child: when the benchmark is gone, so is this process. `asked` gets what the benchmark says before."""

    def watch() -> None:
        for line in sys.stdin:
            asked(line.strip())
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent").start()
