"""Where Farandole's time goes: CPU time of each thread by stage of the transaction, and of each function.

Stages are measured in the process as it runs in a benchmark, by the thread's own CPU clock, so what waits costs
nothing. Functions are measured by cProfile, in a process for each service, because a process has one profiler; it makes
small functions look dearer than they are.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import load
from bench.children import running
from bench.orders import deliveries
from bench.rounds import Session, session
from bench.stage import Stage, tell
from bench.worker import SERVICES
from farandole.codec import Codec

STAGES = {
    "consume": ("Engine", "_consume"),
    "decide": ("Engine", "_decide"),
    "changelog and journal": ("Processor", "seal"),
    "produce": ("Engine", "_produce"),
    "after the commit": ("Engine", "_done"),
    "flush": ("Producer", "flush"),
    "send offsets": ("Producer", "send_offsets_to_transaction"),
    "commit": ("Producer", "commit_transaction"),
}
"""Stage → method whose CPU time it is. One that is not there any more is left out; none lies within another."""

OUTSIDE = "librdkafka's threads"
FUNCTIONS = 45


# ---- in the worker


class Clock:
    """CPU time of the stages, by thread; `snapshot` writes what has come together so far."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken: defaultdict[tuple[str, str], float] = defaultdict(float)

    def wrap(self, owner: Any, method: str, stage: str) -> None:
        inner, taken, clock, thread = getattr(owner, method), self._taken, time.thread_time, threading.current_thread

        def timed(*args: Any, **options: Any) -> Any:
            before = clock()
            try:
                return inner(*args, **options)
            finally:
                taken[thread().name.removeprefix("engine-"), stage] += clock() - before

        setattr(owner, method, timed)

    def snapshot(self, _: str = "") -> None:
        lines = [[service, stage, seconds] for (service, stage), seconds in list(self._taken.items())]
        lines.append(["", OUTSIDE, _librdkafka_seconds()])
        with self._path.open("a") as out:
            out.write(json.dumps(lines) + "\n")


def time_stages(path: Path) -> Clock:
    import confluent_kafka

    from farandole import clients, engine, processor

    class Producer(confluent_kafka.Producer):
        """A class of C takes no other methods."""

    clock = Clock(path)
    vars(clients).update(Producer=Producer)
    owners: dict[str, type] = {"Engine": engine.Engine, "Processor": processor.Processor, "Producer": Producer}
    for stage, (owner, method) in STAGES.items():
        if hasattr(owners[owner], method):
            clock.wrap(owners[owner], method, stage)
    return clock


def profile_engines(directory: Path) -> None:
    """Run each engine's thread under cProfile; the figures are written when it ends."""
    from farandole.runtime import EngineService

    run = EngineService._run

    def profiled(self: EngineService) -> None:
        profile = cProfile.Profile(time.thread_time)
        profile.runcall(run, self)
        profile.dump_stats(directory / f"{self.app.conf.id}.prof")

    EngineService._run = profiled  # type: ignore[method-assign]


def _librdkafka_seconds() -> float:
    """CPU time of the threads whose names begin with `rdk:`; 0 where the system does not tell."""
    ticks = 0
    for task in Path("/proc/self/task").glob("*"):
        try:
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:  # a thread that has just ended
            continue
        if name.startswith("rdk:"):
            fields = rest.split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


# ---- in the benchmark


def profile(stage: Stage, codec: Codec, orders: int) -> dict[str, Any]:
    """Both ways, with a backlog of so many orders each. All figures: CPU µs per order."""
    tell(f"stages: {orders} orders")
    stages = _stages(stage, codec, orders)
    tell(f"functions: {orders} orders, under a profiler")
    return {"orders": orders, "stages": stages, "functions": _functions(stage, codec, orders)}


def _stages(stage: Stage, codec: Codec, orders: int) -> list[dict[str, Any]]:
    path = stage.home / "stages"
    with stage.namespace("stages") as namespace:
        load.send(stage.kafka, namespace + "stock", deliveries(codec))
        with session(stage, codec, namespace, "bench.worker", ("--stages", str(path))) as at_work:
            at_work.place("warm", orders // 4)
            _ask_snapshot(at_work, path, 1)
            _, cpu, _ = at_work.backlog(orders)
            _ask_snapshot(at_work, path, 2)
    before, after = ({(service, name): took for service, name, took in json.loads(line)} for line in path.open())
    taken = [
        {
            "service": service,
            "stage": name,
            "us_per_order": (after[service, name] - before.get((service, name), 0)) / orders * 1e6,
        }
        for service, name in after
    ]
    rest = cpu / orders * 1e6 - sum(each["us_per_order"] for each in taken)
    return [*taken, {"service": "", "stage": "the rest: between stages, Faust's loop", "us_per_order": rest}]


def _ask_snapshot(at_work: Session, path: Path, lines: int) -> None:
    at_work.child.ask("snapshot")
    while not path.exists() or len(path.read_text().splitlines()) < lines:
        at_work.child.check()
        time.sleep(0.01)


def _functions(stage: Stage, codec: Codec, orders: int) -> list[dict[str, Any]]:
    with stage.namespace("functions") as namespace, ExitStack() as others:
        load.send(stage.kafka, namespace + "stock", deliveries(codec))
        arguments = ("--profile", str(stage.home))
        for service in SERVICES[1:]:
            others.enter_context(running(stage, namespace, "bench.worker", (*arguments, service)))
        with session(stage, codec, namespace, "bench.worker", (*arguments, SERVICES[0])) as at_work:
            at_work.backlog(orders)
    files = [str(path) for path in sorted(stage.home.glob("*.prof"))]
    return _top(pstats.Stats(*files), orders)


def _top(stats: pstats.Stats, orders: int) -> list[dict[str, Any]]:
    found: dict[Any, tuple[int, int, float, float, Any]] = stats.stats  # type: ignore[attr-defined]
    largest = sorted(found.items(), key=lambda item: -item[1][2])[:FUNCTIONS]
    return [
        {
            "function": _name(where),
            "calls_per_order": calls / orders,
            "us_per_order": own / orders * 1e6,
            "with_callees_us_per_order": all_in / orders * 1e6,
        }
        for where, (_, calls, own, all_in, _) in largest
    ]


def _name(where: tuple[str, int, str]) -> str:
    file, line, function = where
    return function if file == "~" else f"{Path(file).name}:{line} {function}"
