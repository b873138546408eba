"""A round: one side, freshly started, meets a backlog and then a steady pace.

Each round has topics of its own, so nothing is left over from the one before.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bench import load
from bench.children import Child, cpu_seconds, running
from bench.learning import Note, Templates, learn
from bench.observer import Observer
from bench.orders import Placed, deliveries, orders
from bench.raw import SAGA
from bench.records import Census, causes, census, every_record
from bench.stage import Stage
from farandole.codec import Codec

COMMANDS = "order.commands"

LEAD_SECONDS = 1.0
"""Of the paced orders, those of the first second are not counted."""

SETTLE_SECONDS = 0.5
"""Between loading a backlog and releasing it: the broker has then done what loading it costs."""

WARM_UP = 3_000
"""Orders before the first round, so that the broker's code is compiled and offsets have as many digits as later."""


@dataclass(frozen=True)
class Plan:
    """What a round consists of. rate: orders per second in its paced part."""

    orders: int
    paced_seconds: float
    rate: float


@dataclass(frozen=True)
class Side:
    """name: for people; module, arguments: of its process; saga_of: of the value of an event that is keyed by sku."""

    name: str
    module: str
    arguments: tuple[str, ...]
    saga_of: Callable[[bytes], str]


@dataclass(frozen=True)
class Sample:
    """What one side did in one round. CPU in seconds, latencies in milliseconds."""

    orders: int
    seconds: float
    cpu: float
    broker_cpu: float | None
    paced_orders: int
    paced_cpu: float
    paced_broker_cpu: float | None
    latencies: list[float]
    census: Census
    placed: int


@dataclass
class Session:
    """A side's process at work on one namespace, and somebody who watches."""

    stage: Stage
    codec: Codec
    namespace: str
    child: Child
    observer: Observer
    placed: int

    def place(self, name: str, count: int) -> None:
        """At once, and return when all have come to their end."""
        load.send(self.stage.kafka, self.namespace + COMMANDS, orders(self.codec, name, count))
        self.finish(count)

    def backlog(self, count: int) -> tuple[float, float, float | None]:
        """(seconds, CPU seconds, the broker's CPU seconds) from the first message of a backlog to its last."""
        backlog = load.Backlog(self.stage.kafka, self.namespace + COMMANDS, orders(self.codec, "backlog", count))
        time.sleep(SETTLE_SECONDS)
        begun, before = time.monotonic(), self._cpu()
        backlog.release()
        self.finish(count)
        return self.observer.last - begun, *self._cpu_since(before)

    def paced(self, placed: list[Placed], rate: float) -> tuple[dict[str, float], float, float | None]:
        """(order → latency in milliseconds, CPU seconds, the broker's CPU seconds)"""
        before = self._cpu()
        meant = load.pace(self.stage.kafka, self.namespace + COMMANDS, placed, rate)
        self.finish(len(placed))
        latencies = {order: (self.observer.completed[order] - due) * 1_000 for order, due in meant.items()}
        return latencies, *self._cpu_since(before)

    def finish(self, count: int) -> None:
        self.placed += count
        self.observer.wait(self.placed, self.child)

    def _cpu(self) -> tuple[float, float]:
        broker = self.stage.broker_pid
        return self.child.cpu(), cpu_seconds(broker) if broker else 0.0

    def _cpu_since(self, before: tuple[float, float]) -> tuple[float, float | None]:
        now = self._cpu()
        return now[0] - before[0], now[1] - before[1] if self.stage.broker_pid else None


@contextmanager
def session(
    stage: Stage, codec: Codec, namespace: str, module: str, arguments: tuple[str, ...] = (), placed: int = 0
) -> Iterator[Session]:
    """Start a side's process. It is ready when this yields: an order has gone all its way.

    placed: orders that went through this namespace before
    """
    partitions = stage.topics.topics[COMMANDS].partitions
    with (
        running(stage, namespace, module, arguments) as child,
        Observer(stage.kafka, namespace, partitions, codec) as observer,
    ):
        started = Session(stage, codec, namespace, child, observer, placed)
        started.place(f"first{placed}", 1)
        yield started


def run(stage: Stage, codec: Codec, side: Side, plan: Plan) -> Sample:
    """One side's round. BenchError if it did not do all that it was given."""
    with stage.namespace("round") as namespace:
        load.send(stage.kafka, namespace + "stock", deliveries(codec))
        with session(stage, codec, namespace, side.module, side.arguments) as at_work:
            seconds, cpu, broker_cpu = at_work.backlog(plan.orders)
            since_ms = time.time_ns() // 1_000_000
            paced = orders(codec, "paced", round(plan.paced_seconds * plan.rate))
            latencies, paced_cpu, paced_broker_cpu = at_work.paced(paced, plan.rate)
        counted = [each.key for each in paced[round(LEAD_SECONDS * plan.rate) :]]
        found = census(stage, namespace, codec, side.saga_of, set(counted), since_ms)
        found.check(side.name, at_work.placed)
        return Sample(
            orders=plan.orders,
            seconds=seconds,
            cpu=cpu,
            broker_cpu=broker_cpu,
            paced_orders=len(paced),
            paced_cpu=paced_cpu,
            paced_broker_cpu=paced_broker_cpu,
            latencies=[latencies[order] for order in counted],
            census=found,
            placed=at_work.placed,
        )


# ---- the two sides


def farandole(codec: Codec) -> Side:
    return Side("Farandole", "bench.worker", (), lambda value: codec.meta_of(value).saga)


def raw_loop(templates: Templates, path: Path) -> Side:
    templates.save(path)
    return Side("raw loop", "bench.raw", (str(path),), lambda value: value[SAGA].decode())


def learn_templates(stage: Stage, codec: Codec, warm_up: int = WARM_UP) -> Templates:
    """Let Farandole handle one order, one message at a time, and see what it writes."""
    notes = stage.home / "notes"
    with stage.namespace("learn") as namespace:
        load.send(stage.kafka, namespace + "stock", deliveries(codec))
        with session(stage, codec, namespace, "bench.worker") as at_work:
            at_work.place("warm", warm_up)
        with session(stage, codec, namespace, "bench.worker", ("--learn", str(notes)), at_work.placed) as at_work:
            at_work.place("learn", 1)
        topics = [name for name, topic in stage.topics.topics.items() if topic.events]
        log = {
            (message.topic().removeprefix(namespace), message.partition(), message.offset()): message.value()
            for message in every_record(stage, namespace, topics)
        }
    lines = [msgspec.json.decode(line, type=Note) for line in notes.read_bytes().splitlines()]
    return learn(lines, log, codec, causes(codec), namespace, orders(codec, "learn", 1)[0].key)
