"""How a new worker takes over from an old one of the same name: it waits, ready to begin, until the old one has let go.

Two locks. Who runs holds `<path>`; who is to be next holds `<path>.next` while it waits for the first. The system frees
both however a process ends, so a successor that dies leaves no trace, and a predecessor that dies is succeeded at once.

Invariant: two workers of one name never run at a time. A worker that ends and has a successor does not leave its
consumer group: a member of the same name is back in a moment, and the group gives it the same partitions without
asking anybody else.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from farandole import config
from farandole.errors import ConfigError

LOOK_EVERY = 0.01
"""Seconds between looks whether the predecessor has let go: a part of the time for which nobody works."""

PROBED_WITHIN = 1.0
"""Seconds in which a lock that somebody only tries is free again."""


class Succession:
    """One worker's part. path: a file that all workers of the same name share."""

    def __init__(self, path: Path) -> None:
        self._path, self._next = path, Path(f"{path}.next")
        self._held: int | None = None
        self.succeeded = False
        """Whether there was a predecessor."""

    def enter(self) -> None:
        """Return when this worker is the one that runs. ConfigError if somebody else waits already."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        end = time.monotonic() + PROBED_WITHIN
        while (waiting := _locked(self._next)) is None:
            if time.monotonic() > end:
                raise ConfigError("another worker waits to take over", where=str(self._next), mend="stop one of them")
            time.sleep(LOOK_EVERY)
        try:
            while (held := _locked(self._path)) is None:
                self.succeeded = True
                time.sleep(LOOK_EVERY)
            self._held = held
        finally:
            os.close(waiting)

    def has_successor(self) -> bool:
        return is_locked(self._next)

    def leave(self) -> None:
        """Let the successor begin."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


class Alone(Succession):
    """A worker that nobody succeeds."""

    def __init__(self) -> None:
        super().__init__(Path())

    def enter(self) -> None:
        pass

    def has_successor(self) -> bool:
        return False


def succession(service: str) -> Succession:
    """As FARANDOLE_SUCCESSION says, which `farandole deploy` sets: the beginning of the path."""
    path = config.setting("FARANDOLE_SUCCESSION")
    return Succession(path_of(path, service)) if path else Alone()


def path_of(beginning: str, service: str) -> Path:
    """Where the workers of one name, in a process that may have several services, meet for one of them."""
    return Path(f"{beginning}.{service}")


def is_awaited(path: Path) -> bool:
    """Whether a successor is ready and waits."""
    return is_locked(Path(f"{path}.next"))


def is_locked(path: Path) -> bool:
    handle = _locked(path)
    if handle is None:
        return True
    os.close(handle)
    return False


def _locked(path: Path) -> int | None:
    """The file, locked; None if somebody else holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    return handle
