"""The outside world on this machine: a payment gateway, a carrier and a mail sink, each a process of its own.

    with Sandbox.start(directory) as sandbox:
        os.environ |= sandbox.environment
        sandbox.faults("gateway", seed=7, lost={"rate": 0.2}, outage={"lasts": 5})
        ...
        sandbox.state("gateway").violations

Invariants: a system keeps its address and, with a directory, all that it did, through kill and restart; no process
outlives the one that started it.
"""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from farandole.errors import ConfigError, FarandoleError
from farandole.sandbox.address import Port
from farandole.sandbox.journal import Operation

SYSTEMS = {"gateway": 7801, "carrier": 7802, "mail": 7803}
"""The systems and their usual ports."""

ENVIRONMENT = {"gateway": "PAYMENT_GATEWAY_URL", "carrier": "CARRIER_URL", "mail": "MAIL_URL"}
"""The variables in which the services look for them."""

READY_WITHIN, STOPPED_WITHIN, ANSWERED_WITHIN = 30.0, 5.0, 30.0
"""Seconds for a process to start, to stop by itself, and to answer about itself."""

__all__ = ["ENVIRONMENT", "SYSTEMS", "Operation", "Sandbox", "State"]


class State(msgspec.Struct, frozen=True):
    """All that one system has done, oldest first, and what of it may never happen."""

    system: str
    operations: list[Operation]

    @property
    def violations(self) -> list[Operation]:
        return [operation for operation in self.operations if operation.violation]


class _Process:
    """One system. `ready` has to be called before `url` and `admin` are known."""

    def __init__(self, system: str, arguments: Sequence[str], log: Path | None) -> None:
        self.system, self.log = system, log
        self.url = self.admin = ""
        errors = log.open("ab") if log else None
        # Its standard input is a pipe from us: when we end, however, the pipe does, and so does the process.
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "farandole.cli.main", "sandbox", system, "--json", "--until-eof", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        if errors:
            errors.close()

    def ready(self) -> None:
        """Wait until it listens. FarandoleError with what it said if it does not."""
        assert self.popen.stdout
        # poll, not select: a process with many connections has file numbers that select cannot take.
        wait = select.poll()
        wait.register(self.popen.stdout, select.POLLIN)
        line = self.popen.stdout.readline() if wait.poll(READY_WITHIN * 1000) else b""
        if not line:
            self.stop()
            raise FarandoleError(
                f"the {self.system} did not start{self._last_words()}",
                where=str(self.log or ""),
                mend="see what it wrote to the log" if self.log else "see what it wrote above",
            )
        said = json.loads(line)
        self.url, self.admin = said["url"], said["admin"]

    def _last_words(self) -> str:
        if not self.log or not self.log.exists():
            return ""
        lines = self.log.read_text(errors="replace").strip().splitlines()[-3:]
        return ":\n" + "\n".join(lines) if lines else ""

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not heard."""
        if self.popen.poll() is None:
            self.popen.terminate()
        try:
            self.popen.wait(STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe
            pipe.close()


class Sandbox:
    """The three processes. Use `Sandbox.start`.

    directory: journals and logs; None: nothing is kept, and logs go to standard error
    """

    def __init__(self, directory: Path | None, ports: Mapping[str, Port], options: Sequence[str]) -> None:
        self.directory, self._ports, self._options = directory, ports, list(options)
        self._processes: dict[str, _Process] = {}

    @classmethod
    def start(
        cls,
        directory: Path | None = None,
        *,
        host: str = "127.0.0.1",
        ports: Mapping[str, int] | None = None,
        options: Sequence[str] = (),
    ) -> Sandbox:
        """Start all systems and wait until they listen (about two seconds).

        ports:   by system; 0 or not named: a free one. A taken one is a ConfigError
        options: more of what `farandole sandbox gateway` takes, for each of them
        """
        taken: dict[str, Port] = {}
        try:
            for system in SYSTEMS:
                taken[system] = Port.reserve(host, (ports or {}).get(system, 0))
        except ConfigError:
            for port in taken.values():
                port.release()
            raise
        sandbox = cls(directory, taken, options)
        try:
            sandbox._launch(*SYSTEMS)
        except BaseException:
            sandbox.stop()
            raise
        return sandbox

    @property
    def urls(self) -> dict[str, str]:
        return {system: process.url for system, process in self._processes.items()}

    @property
    def admin_urls(self) -> dict[str, str]:
        """Where /state and /faults answer also while `urls` refuse connections."""
        return {system: process.admin for system, process in self._processes.items()}

    @property
    def pids(self) -> dict[str, int]:
        return {system: process.popen.pid for system, process in self._processes.items()}

    @property
    def environment(self) -> dict[str, str]:
        """What the services need to find the systems."""
        return {ENVIRONMENT[system]: url for system, url in self.urls.items()}

    def faults(self, system: str, **plan: Any) -> dict[str, Any]:
        """Set what goes wrong from now on (docs/sandbox.md); without arguments nothing. Returns what is in force."""
        return dict(json.loads(self._ask(system, "/faults", "PUT", json.dumps(plan).encode())))

    def state(self, system: str) -> State:
        _, *lines = self._ask(system, "/state").splitlines()
        return State(system, [msgspec.json.decode(line, type=Operation) for line in lines])

    def kill(self, system: str, number: int = signal.SIGKILL) -> None:
        """Send a signal; after SIGKILL the process is gone when this returns."""
        process = self._processes[system].popen
        process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait()

    def restart(self, system: str) -> None:
        """Start a system again, at its address, with its journal. Faults are those of the options."""
        self._processes[system].stop()
        self._launch(system)

    def dead(self) -> list[str]:
        """Systems whose process has ended."""
        return [system for system, process in self._processes.items() if process.popen.poll() is not None]

    def stop(self) -> None:
        """Stop all. Calling it again does nothing."""
        for process in self._processes.values():
            if process.popen.poll() is None:
                process.popen.terminate()
        for process in self._processes.values():
            process.stop()
        self._processes = {}
        for port in self._ports.values():
            port.release()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _launch(self, *systems: str) -> None:
        for system in systems:
            port = self._ports[system]
            arguments = ["--port", str(port.number), "--host", port.host, *self._options]
            if self.directory:
                self.directory.mkdir(parents=True, exist_ok=True)
                arguments += ["--data", str(self.directory)]
            log = self.directory / f"{system}.log" if self.directory else None
            self._processes[system] = _Process(system, arguments, log)
        for system in systems:
            self._processes[system].ready()

    def _ask(self, system: str, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
        request = urllib.request.Request(self._processes[system].admin + path, body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWERED_WITHIN) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            raise ConfigError(
                f"the {system} refused: {json.loads(error.read())['reason']}", where=f"{method} {path}"
            ) from error
        except OSError as error:
            raise FarandoleError(
                f"the {system} does not answer: {error}", where=request.full_url, mend="restart it"
            ) from error
