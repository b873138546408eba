"""How fast recorded history is read again, beside a consumer that only decodes the same records.

Both have their turns in one run, over what a worker has left of some thousand orders, and the ratio of their rates is
the result. A whole shadow replay, which also decides everything anew and compares, is timed once, beside it.
"""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from bench import load
from bench.children import running
from bench.observer import Observer
from bench.orders import deliveries, orders
from bench.rounds import COMMANDS
from bench.stage import Stage, tell
from farandole.assembly import Project
from farandole.audit.reading import Offsets, Reader
from farandole.audit.records import Place
from farandole.codec import Codec
from farandole.replay.history import History
from farandole.replay.recorded import events, journals
from farandole.replay.replica import Replica
from farandole.replay.runs import QuickReader
from farandole.replay.shadowing import shadow

TURNS = 5
BATCH = 5_000


def measure(stage: Stage, codec: Codec, count: int) -> dict[str, Any]:
    """Figures for the history of `count` orders."""
    with stage.namespace("replay") as namespace:
        tell(f"replay: working off {count:,} orders")
        load.send(stage.kafka, namespace + "stock", deliveries(codec))
        load.send(stage.kafka, namespace + COMMANDS, orders(codec, "replay", count))
        partitions = stage.topics.topics[COMMANDS].partitions
        with (
            running(stage, namespace, "bench.worker") as child,
            Observer(stage.kafka, namespace, partitions, codec) as observer,
        ):
            observer.wait(count, child)
        return _compare(stage, codec, namespace, count)


def _compare(stage: Stage, codec: Codec, namespace: str, count: int) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"farandole": [], "raw": []}
    cpu: dict[str, list[float]] = {"farandole": [], "raw": []}
    records = 0
    for turn in range(TURNS):
        for side, work in (("farandole", _read), ("raw", _only_decode)):
            before = time.process_time()
            begun, seen = work(stage, codec, namespace)
            cpu[side].append((time.process_time() - before) / seen * 1e6)
            rates[side].append(seen / (time.monotonic() - begun))
            if records not in (0, seen):
                raise AssertionError(f"{side} read {seen:,} records, not {records:,}")
            records = seen
        tell(f"  turn {turn + 1} of {TURNS}: {rates['farandole'][-1]:,.0f} and {rates['raw'][-1]:,.0f} records/s")
    whole = _shadow(stage, namespace)
    turns = [ours / raw for ours, raw in zip(rates["farandole"], rates["raw"], strict=True)]
    return {
        "orders": count,
        "records": records,
        "records_per_second": round(median(rates["farandole"])),
        "raw_records_per_second": round(median(rates["raw"])),
        "rate_ratio": round(median(turns), 3),
        "rate_ratios": [round(each, 3) for each in turns],
        "cpu_us_per_record": round(median(cpu["farandole"]), 2),
        "raw_cpu_us_per_record": round(median(cpu["raw"]), 2),
        "shadow_seconds": round(whole.seconds, 2),
        "shadow_records_per_second": round(whole.records / whole.seconds),
        "shadow_differing": len(whole.differing),
    }


def _read(stage: Stage, codec: Codec, namespace: str) -> tuple[float, int]:
    """As a replay reads: kept where it can be looked up. When it began, and how many."""
    reader = QuickReader(stage.kafka, namespace, stage.topics.topics)
    try:
        with History(reader) as history:
            begun = time.monotonic()
            for names in _names(stage):  # the journals first, as a shadow replay does
                ends = {place: end for place, end in reader.ends().items() if place[0] in names}
                history.read(reader.starts, ends, _unseen, "")
            return begun, history.records
    finally:
        reader.close()


def _names(stage: Stage) -> tuple[set[str], set[str]]:
    """What a shadow replay reads: the journals, and every topic of events."""
    return journals(stage.topics.services), events(stage.topics)


def _only_decode(stage: Stage, codec: Codec, namespace: str) -> tuple[float, int]:
    """What any consumer would have to do to decode the same records, with the same settings, and no more."""
    reader = QuickReader(stage.kafka, namespace, stage.topics.topics)
    try:
        begun = time.monotonic()
        wanted = set[str]().union(*_names(stage))
        ends = {place: end for place, end in reader.ends().items() if place[0] in wanted}
        return begun, _consume(reader, codec, {place: reader.starts[place] for place in ends}, ends, namespace)
    finally:
        reader.close()


def _consume(reader: Reader, codec: Codec, first: Offsets, ends: dict[Place, int], namespace: str) -> int:
    from confluent_kafka import KafkaError, TopicPartition

    left = {(namespace + topic, p): end for (topic, p), end in ends.items() if first[topic, p] < end}
    consumer: Any = reader._consumer
    decoders = codec.decoders
    consumer.assign([TopicPartition(topic, p, first[topic[len(namespace) :], p]) for topic, p in left])
    count = 0
    while left:
        for message in consumer.consume(BATCH, 0.2):
            error = message.error()
            if error is None:
                value = message.value()
                decoders[value[:5]].decode(value)
                count += 1
            elif error.code() == KafkaError._PARTITION_EOF:
                left.pop((message.topic(), message.partition()), None)
    consumer.unassign()
    return count


def _shadow(stage: Stage, namespace: str) -> Any:
    project = Project.read()
    reader = QuickReader(stage.kafka, namespace, stage.topics.topics)
    try:
        replicas = {
            service: Replica(service, project, reader.partitions[f"{service}.journal"])
            for service in stage.topics.services
        }
        return shadow(reader, stage.topics, replicas, _unseen)
    finally:
        reader.close()


def _unseen(what: str, done: int, total: int) -> None:
    """Nobody watches: it would be measured."""
