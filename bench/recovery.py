"""How soon work goes on after a crash: tables rebuilt, a killed worker back, a transaction that a dead one left open.

The tables are compared with a loop that consumes and decodes the same records with the same settings and keeps nothing;
both have their turns in one run, and the ratio of their rates is the result.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from confluent_kafka import IsolationLevel, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from bench.stage import Stage, tell
from events import StockLevel
from farandole.assembly import assemble
from farandole.clients import KafkaClients, _read_until
from farandole.codec import Codec
from farandole.processor import Processor
from farandole.system import System

SERVICE = "inventory"
TABLE = "levels"
TURNS = 3


def measure(stage: Stage, codec: Codec, rows: int) -> dict[str, Any]:
    """Figures of the three recoveries. rows: of the table that is rebuilt."""
    return {"tables": _tables(stage, codec, rows), **_crashes(stage)}


# ---- tables


def _tables(stage: Stage, codec: Codec, rows: int) -> dict[str, Any]:
    with stage.namespace("recovery") as namespace, _environment(stage, namespace):
        from agents.inventory import app

        topic = f"{namespace}{SERVICE}-{TABLE}-changelog"
        partitions = stage.topics.topics[f"{SERVICE}-{TABLE}-changelog"].partitions
        tell(f"recovery: writing a table of {rows:,} rows")
        _write(stage, codec, topic, partitions, rows)
        rates: dict[str, list[float]] = {"farandole": [], "raw": []}
        for turn in range(TURNS):
            for side, work in (("farandole", _restore), ("raw", _only_decode)):
                processor = assemble(app).processor
                for partition in range(partitions):
                    processor.add_partition(partition)
                clients = KafkaClients(dict(stage.kafka), processor.group, f"recovery-{turn}")
                producer = clients.producer("bench-recovery")  # a worker has one when it restores
                # Each turn of ours leaves a mark in each partition of each table, a record like any other.
                marks = turn * len(processor.changelog_topics()) if side == "farandole" else turn + 1
                expected = rows + marks * partitions
                begun = time.monotonic()
                count = work(clients, processor, topic, set(range(partitions)), producer)
                rates[side].append(count / (time.monotonic() - begun))
                if count != expected:
                    raise AssertionError(f"{side} read {count:,} of {expected:,} records")
                for partition in range(partitions):
                    processor.drop_partition(partition)
            tell(f"  turn {turn + 1} of {TURNS}: {rates['farandole'][-1]:,.0f} and {rates['raw'][-1]:,.0f} rows/s")
    turns = [ours / raw for ours, raw in zip(rates["farandole"], rates["raw"], strict=True)]
    return {
        "rows": rows,
        "rows_per_second": round(median(rates["farandole"])),
        "raw_rows_per_second": round(median(rates["raw"])),
        "rate_ratio": round(median(turns), 3),
        "rate_ratios": [round(each, 3) for each in turns],
    }


def _write(stage: Stage, codec: Codec, topic: str, partitions: int, rows: int) -> None:
    encode = codec.type_of(StockLevel).encode_row
    producer = Producer({**stage.kafka, "linger.ms": 50, "queue.buffering.max.messages": 2_000_000})
    for number in range(rows):
        value = encode(StockLevel(available=number, held=number % 7, sold=number % 11))
        producer.produce(topic, value, f"sku-{number:09}", number % partitions)
        if number % 100_000 == 0:
            producer.poll(0)
    producer.flush()


def _restore(clients: KafkaClients, processor: Processor, topic: str, partitions: set[int], producer: Any) -> int:
    return clients.restore(processor, partitions, producer)


def _only_decode(clients: KafkaClients, processor: Processor, topic: str, partitions: set[int], producer: Any) -> int:
    """What any consumer would have to do to read the records, and no more."""
    decode = processor.codec.type_of(StockLevel).decode_row

    def take(key: bytes, value: bytes | None, at: int) -> None:
        if value is not None:
            decode(value)

    ends = clients.end_offsets([(topic, partition) for partition in partitions])
    left = {where for where, end in ends.items() if end > 0}
    with clients._reader(left) as reader:
        return _read_until(reader, set(left), dict.fromkeys(left, take), ends)


# ---- crashes


def _crashes(stage: Stage) -> dict[str, Any]:
    """A killed worker's restart; a transaction that hangs until its owner is back, or until another takes over."""
    with (
        stage.namespace("crash") as namespace,
        System(stage.home / "crash", namespace=namespace, workers={"payment": 2}, client_config=stage.kafka) as system,
    ):
        tell("recovery: killing workers")
        back = [_seconds_until_back(system, "inventory") for _ in range(TURNS)]
        alone = [_seconds_until_released(stage, system, namespace, "inventory", restart=True) for _ in range(TURNS)]
        shared = _seconds_until_released(stage, system, namespace, "payment", restart=False)
    return {
        "restart_seconds": [round(each, 2) for each in back],
        "hanging_transaction_seconds": {
            "owner_restarted": [round(each, 2) for each in alone],
            "another_worker_takes_over": round(shared, 2),
        },
    }


def _seconds_until_back(system: System, service: str) -> float:
    """From its start to owning its partitions with its tables restored."""
    system.kill(service)
    worker = system.restart(service)
    system.wait_ready()
    return time.monotonic() - worker.started


def _seconds_until_released(stage: Stage, system: System, namespace: str, service: str, restart: bool) -> float:
    """From a worker's death with a transaction open to the moment when readers are held up no more."""
    owned = system.health(service)
    assert owned is not None
    assert owned.partitions, service
    partition = min(owned.partitions)
    topic = f"{namespace}{service}"
    system.kill(service)
    # What it would have left behind if it had died a moment later.
    dead = Producer({**stage.kafka, "transactional.id": f"{namespace}{service}-{partition}"})
    dead.init_transactions(30)
    dead.begin_transaction()
    dead.produce(topic, b"left behind", b"", partition)
    dead.flush()
    begun = time.monotonic()
    if restart:
        system.restart(service)
    _wait(lambda: _is_readable(stage, topic, partition))
    seconds = time.monotonic() - begun
    if not restart:
        system.restart(service)
    system.wait_ready()
    return seconds


def _is_readable(stage: Stage, topic: str, partition: int) -> bool:
    where = TopicPartition(topic, partition)
    admin = AdminClient({**stage.kafka, "log_level": 0})

    def end(level: IsolationLevel) -> int:
        found = admin.list_offsets({where: OffsetSpec.latest()}, isolation_level=level)  # type: ignore[no-untyped-call]
        return int(found[where].result().offset)

    return end(IsolationLevel.READ_COMMITTED) == end(IsolationLevel.READ_UNCOMMITTED)


def _wait(happened: Callable[[], bool], patience: float = 60.0) -> None:
    end = time.monotonic() + patience
    while not happened():
        if time.monotonic() > end:
            raise TimeoutError(f"it did not happen within {patience:g} s")
        time.sleep(0.02)


@contextmanager
def _environment(stage: Stage, namespace: str) -> Iterator[None]:
    """This process reads the project as a worker of the namespace would."""
    wanted = stage.environment(namespace)
    names = [name for name in wanted if name.startswith(("FARANDOLE_", "KAFKA_"))]
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: wanted[name] for name in names})
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
