"""The process that keeps the workers of a local deployment alive.

    .farandole/deploy/desired.json      which workers there are to be, of which version; written by `farandole deploy`
    .farandole/deploy/observed.json     which there are; written by this
    .farandole/deploy/supervisor.lock   held as long as it lives, with its pid; freed by the system however it ends
    .farandole/deploy/logs/             a log for each worker, and its own

A worker of another version than desired is succeeded, not restarted: the new one gets ready beside the old one and
takes over when that has let go (farandole.succession). One that never gets ready takes over nothing.

Invariants: what is desired is there, or is begun again with growing pauses. A supervisor that is killed leaves its
workers at work, and the next one finds them by their environment and looks after them as before.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

import psutil

from farandole.deploy.state import write_json
from farandole.membership import place
from farandole.passcodes import environment_of
from farandole.succession import is_awaited, path_of

LOOK_EVERY: Final = 0.05
SEEN_EVERY: Final = 1.0
"""Seconds after which the file of what is observed is written again, though nothing changed."""

STOPPED_WITHIN: Final = 45.0
"""Seconds for a worker to end: it gives the batch under way 30."""

FIRST_PAUSE, LARGEST_PAUSE = 0.5, 30.0
"""Seconds before a worker that ended is begun again: doubled each time."""

WELL_AFTER: Final = 60.0
"""Seconds after which the next end counts as the first."""

TAKEN_WITHIN: Final = 1.0
"""Seconds in which a lock that somebody only tries is free again."""

MOST_LOG: Final = 20_000_000
"""Bytes of a worker's log after which it is put aside, when the worker is begun; one such is kept."""

MARK: Final = "FARANDOLE_DEPLOYED"
"""In the environment of each worker: `<directory>|<worker>|<version>`."""


@dataclass(frozen=True)
class Wanted:
    """One worker as it is to be."""

    service: str
    version: str
    port: int


@dataclass
class Slot:
    """One worker as it is.

    current, following: the process that works, and the one that is to take over
    told:     when the current one was told to end
    restarts: ends of the current one that nobody asked for
    failures: ends of followers, or of new ones that had not been well for a while
    """

    name: str
    service: str
    current: Process | None = None
    following: Process | None = None
    told: float = 0.0
    restarts: int = 0
    failures: int = 0
    again_at: float = 0.0

    def failed(self, now: float) -> None:
        self.failures += 1
        self.again_at = now + min(LARGEST_PAUSE, FIRST_PAUSE * 2 ** (self.failures - 1))


@dataclass(frozen=True)
class Process:
    """A worker's process, whoever started it."""

    pid: int
    version: str
    port: int
    started: float
    handle: psutil.Process = field(compare=False)

    @property
    def alive(self) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):  # it may end between the two looks
            return self.handle.is_running() and self.handle.status() != psutil.STATUS_ZOMBIE
        return False

    def serves(self, want: Wanted) -> bool:
        return (self.version, self.port) == (want.version, want.port)

    def signal(self, number: int) -> None:
        """To its session: a worker has no other processes."""
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if self.handle.is_running():
                os.killpg(self.pid, number)


class Supervisor:
    """home: .farandole/deploy; stays until it is told to end."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.slots: dict[str, Slot] = {}
        self.ending = False
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._written: tuple[Any, float] = (None, 0.0)
        self._serial = -1

    # ---- the cycle

    def run(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.adopt()
        while not (self.ending and not self.slots):
            self.step(time.time())
            time.sleep(LOOK_EVERY)
        self.tell(time.time())

    def _told(self, number: int, frame: FrameType | None) -> None:
        self.ending = True

    def step(self, now: float) -> None:
        """Look at everything once."""
        for child in list(self._children.values()):
            if child.poll() is not None:
                del self._children[child.pid]
        wanted = {} if self.ending else self.desired()
        for name, want in wanted.items():
            self.slots.setdefault(name, Slot(name, want.service))
        for slot in list(self.slots.values()):
            self._look(slot, wanted.get(slot.name), now)
            if slot.name not in wanted and slot.current is None:
                del self.slots[slot.name]
        self.tell(now)

    def _look(self, slot: Slot, want: Wanted | None, now: float) -> None:
        if slot.following is not None and not slot.following.alive:
            slot.following = None
            slot.failed(now)
        current = slot.current
        if current is not None and not current.alive:
            if not slot.told and (want is None or current.serves(want)):  # else it is succeeded a little sooner
                slot.restarts += 1
                if now - current.started > WELL_AFTER:
                    slot.failures = 0
                slot.failed(now)
            # Whoever waited has the lock already.
            slot.current, slot.following, slot.told = slot.following, None, 0.0
        if want is None:
            self._end(slot, now)
        elif slot.current is None:
            if now >= slot.again_at:
                slot.current = self._spawn(slot, want)
        elif not slot.current.serves(want):
            self._succeed(slot, want, now)
        else:
            self._spare(slot)
            if now - slot.current.started > WELL_AFTER:
                slot.failures = 0
        if slot.told and slot.current is not None and now - slot.told > STOPPED_WITHIN:
            slot.current.signal(signal.SIGKILL)

    def _spare(self, slot: Slot) -> None:
        """A follower that is not wanted any more goes, unless it takes over at this moment."""
        if slot.following is not None and not slot.told:
            slot.following.signal(signal.SIGKILL)
            slot.following = None

    def _succeed(self, slot: Slot, want: Wanted, now: float) -> None:
        """The new worker gets ready; then the old one is told to end."""
        if slot.following is not None and not slot.following.serves(want):
            self._spare(slot)
        if slot.following is None:
            if now >= slot.again_at and not slot.told:
                slot.following = self._spawn(slot, want)
        elif not slot.told and is_awaited(self._succession(slot)):
            self._tell_to_end(slot, now)

    def _end(self, slot: Slot, now: float) -> None:
        self._spare(slot)
        if slot.current is not None and not slot.told:
            self._tell_to_end(slot, now)

    def _tell_to_end(self, slot: Slot, now: float) -> None:
        assert slot.current is not None
        slot.told = now
        slot.current.signal(signal.SIGTERM)

    # ---- processes

    def _succession(self, slot: Slot) -> Path:
        return path_of(str(self.home / "succession" / slot.name), slot.service)

    def _spawn(self, slot: Slot, want: Wanted) -> Process:
        directory = self.home / "versions" / want.version
        log = self.home / "logs" / f"{slot.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > MOST_LOG:
            os.replace(log, log.with_suffix(".log.1"))
        environment = {
            **environment_of(want.service, os.environ),
            MARK: f"{self.home}|{slot.name}|{want.version}",
            "PYTHONPATH": str(directory),
            "FARANDOLE_PROJECT": str(directory),
            "FARANDOLE_HOME": str(self.home.parent),
            "FARANDOLE_SCHEMAS": str(self.home / "schemas"),
            "FARANDOLE_INSTANCE": f"{place(self.home)}-{slot.name}",
            "FARANDOLE_SUCCESSION": str(self.home / "succession" / slot.name),
        }
        command = [sys.executable, "-m", "farandole.cli.main", "worker", want.service, "--web-port", str(want.port)]
        started = time.time()
        with log.open("ab") as out:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=directory,
                env=environment,
                start_new_session=True,
            )
        self._children[child.pid] = child
        return Process(child.pid, want.version, want.port, started, psutil.Process(child.pid))

    def adopt(self) -> None:
        """Find the workers that another supervisor left behind."""
        found: dict[str, list[tuple[str, Process]]] = {}
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                home, _, rest = each.environ().get(MARK, "").partition("|")
                name, _, version = rest.partition("|")
                arguments = each.cmdline()
                if home == str(self.home) and "worker" in arguments:
                    port = int(arguments[arguments.index("--web-port") + 1])
                    process = Process(each.pid, version, port, each.create_time(), each)
                    found.setdefault(name, []).append((arguments[arguments.index("worker") + 1], process))
        for name, processes in found.items():
            processes.sort(key=lambda pair: pair[1].started)
            slot = self.slots[name] = Slot(name, processes[0][0])
            slot.current = processes[0][1]
            if len(processes) > 1:
                slot.following = processes[1][1]

    # ---- files

    def desired(self) -> dict[str, Wanted]:
        """What was desired last; nothing if nobody has desired anything yet."""
        try:
            raw = json.loads((self.home / "desired.json").read_text())
        except FileNotFoundError:
            return {}
        if raw["serial"] != self._serial:
            self._serial = raw["serial"]
            for slot in self.slots.values():  # somebody acts: what failed is tried at once
                slot.failures, slot.again_at = 0, 0.0
        return {name: Wanted(**each) for name, each in raw["workers"].items()}

    def tell(self, now: float) -> None:
        workers = {slot.name: _told_of(slot) for slot in self.slots.values()}
        if workers != self._written[0] or now - self._written[1] > SEEN_EVERY:
            self._written = workers, now
            seen = {"pid": os.getpid(), "at": now, "serial": self._serial, "workers": workers}
            write_json(self.home / "observed.json", seen)


def _told_of(slot: Slot) -> dict[str, Any]:
    def said(process: Process | None) -> dict[str, Any] | None:
        if process is None:
            return None
        return {"pid": process.pid, "version": process.version, "port": process.port, "started": process.started}

    return {
        "service": slot.service,
        "current": said(slot.current),
        "following": said(slot.following),
        "ending": bool(slot.told),
        "restarts": slot.restarts,
        "failures": slot.failures,
    }


def _lock(home: Path) -> int | None:
    """The supervisor's lock, held; None if another one has it."""
    home.mkdir(parents=True, exist_ok=True)
    handle = os.open(home / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle


def pid_of(home: Path) -> int | None:
    """The supervisor's process, or None if there is none."""
    if not (home / "supervisor.lock").exists():
        return None
    handle = _lock(home)
    if handle is not None:
        os.close(handle)
        return None
    try:
        return int((home / "supervisor.lock").read_text())
    except ValueError:
        return None  # it has begun at this moment


def main() -> None:
    home = Path(sys.argv[1])
    end = time.monotonic() + TAKEN_WITHIN
    while (handle := _lock(home)) is None:
        if time.monotonic() > end:
            raise SystemExit("another supervisor is there")
        time.sleep(LOOK_EVERY)
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    Supervisor(home).run()


if __name__ == "__main__":
    main()
