"""What orders of one flow cost: a round is a backlog of plain orders of one flow, and the flows take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import psutil

from farandole.compare.facts import JOURNAL, MESSAGE, ROW, Facts
from farandole.compare.figures import middle

SETTLE: Final = 0.5
"""Seconds before a backlog is released and after its last order: what loading and ending cost is then over."""

BROKER: Final = "broker"

Pids = Callable[[], Mapping[str, int]]
"""Name of a process → its id."""


@dataclass(frozen=True)
class Round:
    """One flow's. seconds: from the release to the last end that was seen; cpu: process → seconds, settling included

    began, over: the broker's time in milliseconds, between which nothing but this round was written
    """

    flow: str
    orders: int
    seconds: float
    cpu: Mapping[str, float]
    began: int
    over: int


def cpu_of(pids: Mapping[str, int]) -> dict[str, float]:
    """User and system time so far, all threads. What has gone is left out."""
    found = {}
    for name, pid in pids.items():
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        found[name] = times.user + times.system
    return found


def measured(
    flow: str, sagas: Sequence[str], release: Callable[[], None], last_end: Callable[[], float], pids: Pids
) -> Round:
    """Release a backlog, and return when all is still. last_end: waits, and says when the last order ended"""
    time.sleep(SETTLE)
    wall, began, before = time.time_ns() // 1_000_000, time.monotonic(), cpu_of(pids())
    release()
    seconds = last_end() - began
    time.sleep(SETTLE)
    after = cpu_of(pids())
    spent = {name: after[name] - before[name] for name in after if name in before}
    return Round(flow, len(sagas), seconds, spent, wall, time.time_ns() // 1_000_000)


def turns(words: Sequence[str], rounds: int) -> list[list[str]]:
    """Who comes when: another one is first in each round."""
    return [[*words[at % len(words) :], *words[: at % len(words)]] for at in range(rounds)]


def summary(rounds: Iterable[Round], facts: Facts) -> dict[str, Any]:
    """Of one flow's rounds: medians over rounds, with the least and the most."""
    done = list(rounds)
    written = [facts.written(each.began, each.over) for each in done]

    def each_order(kind: str, place: int) -> dict[str, Any]:
        return middle([of.get(kind, (0, 0))[place] / round.orders for of, round in zip(written, done, strict=True)])

    services = [sum(cpu for name, cpu in each.cpu.items() if name != BROKER) for each in done]
    return {
        "rounds": len(done),
        "orders": sum(each.orders for each in done),
        "orders_per_second": middle([each.orders / each.seconds for each in done], 1),
        "cpu_ms": middle([1000 * cpu / each.orders for cpu, each in zip(services, done, strict=True)]),
        "broker_cpu_ms": middle([1000 * each.cpu[BROKER] / each.orders for each in done if BROKER in each.cpu]),
        "messages": each_order(MESSAGE, 0),
        "message_bytes": each_order(MESSAGE, 1),
        "rows": each_order(ROW, 0),
        "row_bytes": each_order(ROW, 1),
        "journal": each_order(JOURNAL, 0),
    }
