"""`python -m bench.handover`: for how long orders wait while a service goes from one worker to a new one, three ways.

    in place    the old worker ends, the new one is started
    beside      the new one joins the group, then the old one ends
    succession  the new one gets ready without joining and takes over the old one's name (farandole.succession)

Each way has its turns on a system of its own, all on one broker, while orders come at the same rate. What is measured
is what `farandole deploy` prints: the longest time between two committed records of one order.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from confluent_kafka import Producer

from bench.orders import codec, deliveries, orders
from bench.stage import Stage, stage, tell
from farandole.deploy.manifest import manifest_of
from farandole.deploy.waits import Waits
from farandole.succession import is_awaited, path_of
from farandole.system import System

BEFORE, AFTER = 4.0, 6.0
"""Seconds of orders before a handover, and after it."""

INSTANCE = "bench"


def in_place(system: System, service: str) -> None:
    system.restart(service)
    system.wait_ready()


def beside(system: System, service: str) -> None:
    old = system.worker(service)
    system.add(service)
    system.wait_ready()
    system.remove(old)


def succession(system: System, service: str) -> None:
    old = system.worker(service)
    system.add(service)
    path = path_of(str(system.directory / INSTANCE), service)
    while not is_awaited(path):
        system.check()
        time.sleep(0.01)
    system.remove(old)
    system.wait_ready()


WAYS: dict[str, Callable[[System, str], None]] = {"in place": in_place, "beside": beside, "succession": succession}


def _turns(on: Stage, way: str, services: list[str], rate: float) -> list[float]:
    with on.namespace("handover") as namespace:
        directory = on.home / namespace
        environment = {"FARANDOLE_HOME": str(directory / "home")}
        if way == "succession":
            environment |= {"FARANDOLE_INSTANCE": INSTANCE, "FARANDOLE_SUCCESSION": str(directory / INSTANCE)}
        with System(directory, namespace=namespace, environment=environment, client_config=on.kafka) as system:
            found = []
            for number, service in enumerate(services):
                found.append(_turn(on, system, WAYS[way], service, rate, f"{way[:2]}{number:02}"))
                tell(f"{way}, {service}: {found[-1]:.2f} s")
            return found


def _turn(on: Stage, system: System, way: Callable[[System, str], None], service: str, rate: float, name: str) -> float:
    enough = threading.Event()
    placing = threading.Thread(target=_place, args=(on, system.namespace, rate, name, enough))
    waits = Waits(on.kafka, system.namespace, manifest_of(Path(system.root)), codec())
    placing.start()
    try:
        time.sleep(BEFORE)
        waits.start()
        way(system, service)
        time.sleep(AFTER)
    finally:
        enough.set()
        placing.join()
    time.sleep(AFTER)
    return waits.end().seconds or 0.0


def _place(on: Stage, namespace: str, rate: float, name: str, enough: threading.Event) -> None:
    """In an open loop: an order is placed when it is due, whatever became of the others."""
    producer = Producer({**on.kafka, "partitioner": "murmur2_random", "linger.ms": 0})
    for each in deliveries(codec()):
        producer.produce(f"{namespace}stock", each.value, each.key)
    began = time.monotonic()
    for number, order in enumerate(orders(codec(), name, round(rate * 600))):
        if enough.wait(max(0.0, began + number / rate - time.monotonic())):
            break
        producer.produce(f"{namespace}order.commands", order.value, order.key)
        producer.poll(0)
    producer.flush(30)


def command(
    rate: Annotated[float, typer.Option(min=1, help="Orders per second.")] = 200.0,
    service: Annotated[list[str] | None, typer.Option(help="Whose worker; payment and inventory if not given.")] = None,
    turns: Annotated[int, typer.Option(min=1, help="Handovers of each service.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure for how long orders wait while a worker is replaced, in three ways.

    Example: python -m bench.handover --rate 100 --turns 1
    """
    found: dict[str, Any] = {}
    with stage() as where:
        for way in WAYS:
            found[way] = _turns(where, way, (service or ["payment", "inventory"]) * turns, rate)
    if as_json:
        print(json.dumps(found))
        return
    for way, seconds in found.items():
        print(f"{way:12} {', '.join(f'{each:.2f}' for each in seconds)} s", file=sys.stdout)


if __name__ == "__main__":
    typer.run(command)
