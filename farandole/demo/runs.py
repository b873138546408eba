"""The directories of runs: `.farandole/demo/<run>`, with the logs of every process; `.farandole/load/<run>` of loads.

Invariants: two runs never share a directory, and so never a namespace, nor does one's namespace begin with another's;
old runs are cleared away, their topics with them, on the project's own embedded Kafka only, and only if nobody is using
them. A cluster of the user's keeps every topic.
"""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from farandole import config

KEPT: Final = 2
"""Runs whose topics are kept: the new one and the last. A broker opens the 240 partitions of each when it starts."""

DELETED_WITHIN: Final = 30.0


@contextmanager
def new_run(started: float | None = None, kind: str = "demo") -> Iterator[Path]:
    """A new run's directory, named `<kind>-<date>-<time>`. While it is entered, nobody clears it away."""
    home = config.home() / kind
    home.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime(f"{kind}-%Y%m%d-%H%M%S", time.localtime(started))
    for number in range(1, 1_000):
        directory = home / (stamp if number == 1 else f"{stamp}.{number}")
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        with _locked(directory) as lock:
            assert lock is not None, f"somebody holds {directory}, which did not exist"
            yield directory
        return
    raise AssertionError(f"a thousand runs in one second: {home}")


def namespace_of(directory: Path) -> str:
    """Prefix of a run's topics and groups."""
    return directory.name + "-"


def clear_old(client_config: config.ClientConfig, kind: str = "demo") -> list[str]:
    """Delete the topics and directories of old runs; returns their names. Kafka's refusal is no failure."""
    runs = sorted((config.home() / kind).glob(f"{kind}-*"), key=lambda each: each.stat().st_mtime)
    cleared = []
    for directory in runs[:-KEPT]:
        with _locked(directory) as lock:
            if lock is None:
                continue
            with contextlib.suppress(KafkaException):
                _delete_topics(client_config, namespace_of(directory))
            for left in (config.home() / "instances").glob(f"{namespace_of(directory)}*.lock"):
                left.unlink(missing_ok=True)
            shutil.rmtree(directory, ignore_errors=True)
            cleared.append(directory.name)
    return cleared


def _delete_topics(client_config: config.ClientConfig, namespace: str) -> None:
    admin = AdminClient(dict(client_config))
    topics = [name for name in admin.list_topics(timeout=DELETED_WITHIN).topics if name.startswith(namespace)]
    if topics:
        for future in admin.delete_topics(topics, request_timeout=DELETED_WITHIN).values():
            with contextlib.suppress(KafkaException):
                future.result()


@contextmanager
def _locked(directory: Path) -> Iterator[IO[str] | None]:
    """The directory's lock; None if somebody holds it."""
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield lock
