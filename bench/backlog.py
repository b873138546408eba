"""What a worker's memory does under a backlog: a million orders lie on the broker, and it takes them as it can.

What has ended goes from the tables after KEEP seconds, so that they come to a steady size within the measurement; a
real system keeps rows for days, and its tables grow with the orders of these days (docs/limits.md says how much).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil

from bench import load
from bench.children import Child, running
from bench.errors import BenchError
from bench.observer import Observer
from bench.orders import deliveries, orders
from bench.rounds import COMMANDS
from bench.stage import Stage, tell
from farandole.codec import Codec

KEEP = "15"
"""FARANDOLE_KEEP_SECONDS of the worker."""

WARM_UP = 0.2
"""Share of the orders after which the worker counts as warm: several times KEEP."""

CHUNK = 50_000
SAMPLE_SECONDS = 0.05
TELL_SECONDS = 30.0


class Sample(NamedTuple):
    """seconds since the start; orders that have come to their end; resident memory in bytes."""

    seconds: float
    ended: int
    resident: int


def measure(stage: Stage, codec: Codec, count: int) -> dict[str, Any]:
    """Resident memory while `count` orders are worked off, all of them placed before the worker starts."""
    with stage.namespace("backlog") as namespace, _keep():
        tell(f"backlog: placing {count:,} orders")
        load.send(stage.kafka, namespace + "stock", deliveries(codec))
        for begin in range(0, count, CHUNK):
            chunk = orders(codec, f"b{begin // CHUNK}", min(CHUNK, count - begin))
            load.send(stage.kafka, namespace + COMMANDS, chunk)
        partitions = stage.topics.topics[COMMANDS].partitions
        with (
            running(stage, namespace, "bench.worker") as child,
            Observer(stage.kafka, namespace, partitions, codec) as observer,
            _watching(child, observer) as samples,
        ):
            observer.wait(count, child)
    return figures(samples, count)


def figures(samples: list[Sample], count: int) -> dict[str, Any]:
    """ratio: the most memory after the warm-up, to what it was when that was over."""
    warm = [each for each in samples if each.ended >= WARM_UP * count]
    if len(warm) < 2:
        raise BenchError("the backlog was gone before memory could be measured", mend="give more --backlog orders")
    most = max(warm, key=lambda each: each.resident)
    return {
        "orders": count,
        "orders_per_second": round(warm[-1].ended / warm[-1].seconds),
        "warm_mb": _mb(warm[0]),
        "most_mb": _mb(most),
        "ratio": round(most.resident / warm[0].resident, 3),
    }


def _mb(sample: Sample) -> int:
    return round(sample.resident / 1_000_000)


@contextmanager
def _watching(child: Child, observer: Observer) -> Iterator[list[Sample]]:
    samples: list[Sample] = []
    done, begun, process = threading.Event(), time.monotonic(), psutil.Process(child.pid)

    def watch() -> None:
        told = begun
        while not done.wait(SAMPLE_SECONDS):
            try:
                resident = process.memory_info().rss
            except psutil.NoSuchProcess:
                return
            samples.append(Sample(time.monotonic() - begun, observer.sent, resident))
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                tell(f"  {observer.sent:,} orders ended, {_mb(samples[-1]):,} MB resident")

    watcher = threading.Thread(target=watch, name="memory", daemon=True)
    watcher.start()
    try:
        yield samples
    finally:
        done.set()
        watcher.join()


@contextmanager
def _keep() -> Iterator[None]:
    name = "FARANDOLE_KEEP_SECONDS"
    before = os.environ.get(name)
    os.environ[name] = KEEP
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
