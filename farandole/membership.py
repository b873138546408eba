"""Who a worker is: a name that a restarted worker takes up again, so its partitions come back without a rebalance.

Invariant: two live workers never have the same name. In one checkout a file lock sees to that (the kernel frees it,
however the worker dies); the checkout's path and the host's name tell it from others. `FARANDOLE_INSTANCE` overrides
all of it where names are given out, as in Kubernetes.
"""

from __future__ import annotations

import fcntl
import hashlib
import socket
from pathlib import Path
from typing import IO

from farandole import config
from farandole.errors import ConfigError

MOST_WORKERS = 1_000
"""Workers of one service on one machine."""


def claim_instance(group: str, home: Path) -> tuple[str, IO[str] | None]:
    """A static membership id for a worker of `group`, and the lock that holds it (keep it until the worker ends)."""
    given = config.setting("FARANDOLE_INSTANCE")
    if given:
        return f"{group}-{given}", None
    folder = home / "instances"
    folder.mkdir(parents=True, exist_ok=True)
    for slot in range(MOST_WORKERS):
        lock = (folder / f"{group}.{slot}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return f"{group}-{place(folder)}-{slot}", lock
    raise ConfigError(f"{MOST_WORKERS} workers of {group} run on this machine", where=str(folder), mend="stop some")


def place(folder: Path) -> str:
    """A name that tells what is here from what is in another directory or on another machine."""
    return f"{socket.gethostname()}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:6]}"
