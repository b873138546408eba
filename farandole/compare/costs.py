"""What orders of one flow cost. In a turn a backlog of plain orders of one flow is released at once.

A round is a turn of each flow and then, the other way round, a second one of each (`a b c c b a`), so that what gets
slower or faster meanwhile does so for all of them. Another flow is first in each round.

Invariant: only figures of one round are compared with each other: a slow moment is in all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from farandole.compare.facts import JOURNAL, MESSAGE, ROW, Facts
from farandole.compare.figures import middle
from farandole.compare.machine import Machine
from farandole.load.figures import others_of

SETTLE: Final = 0.5
"""Seconds before a backlog is released and after its last order: what loading and ending cost is then over."""

BROKER: Final = "broker"
AUDIENCE: Final = "audience"
"""Processes of farandole.compare.audience."""
SERVICES: Final = "services"
"""All others whose CPU is counted."""


@dataclass(frozen=True)
class Turn:
    """One flow's. seconds: from the release to the last end that was seen; cpu: process → seconds, settling included

    began, over: the broker's time in milliseconds, between which nothing but this turn was written

    others: cores that everything else on the machine took meanwhile
    """

    number: int
    flow: str
    orders: int
    seconds: float
    cpu: Mapping[str, float]
    began: int
    over: int
    others: float = 0.0


def part_of(process: str) -> str:
    return next((part for part in (BROKER, AUDIENCE) if process.startswith(part)), SERVICES)


def measured(
    number: int,
    flow: str,
    sagas: Sequence[str],
    release: Callable[[], None],
    last_end: Callable[[], float],
    machine: Machine,
) -> Turn:
    """number: of the round. Release a backlog, and return when all is still.

    last_end: waits, and says when the last order ended
    """
    time.sleep(SETTLE)
    wall, began, before = time.time_ns() // 1_000_000, time.monotonic(), machine.look()
    release()
    seconds = last_end() - began
    time.sleep(SETTLE)
    after = machine.look()
    both = before.cpu.keys() & after.cpu.keys() & machine.counted().keys()
    spent = {name: after.cpu[name] - before.cpu[name] for name in both}
    others = others_of([before, after]) or 0.0
    return Turn(number, flow, len(sagas), seconds, spent, wall, time.time_ns() // 1_000_000, others)


def turns(words: Sequence[str], number: int) -> list[str]:
    """Who comes when in a round: there and back."""
    first = number % len(words)
    there = [*words[first:], *words[:first]]
    return [*there, *reversed(there)]


def summary(turns: Iterable[Turn], facts: Facts) -> dict[str, Any]:
    """Of one flow's turns: medians over rounds, with the least and the most, and each round's."""
    rounds: dict[int, list[Turn]] = {}
    for turn in turns:
        rounds.setdefault(turn.number, []).append(turn)
    done = [rounds[number] for number in sorted(rounds)]
    orders = [sum(turn.orders for turn in each) for each in done]

    def of_each(values: Iterable[float], digits: int = 2) -> dict[str, Any]:
        return middle([value / count for value, count in zip(values, orders, strict=True)], digits)

    def written(kind: str, place: int) -> dict[str, Any]:
        def lies(turn: Turn) -> int:
            return facts.written(turn.began, turn.over).get(kind, (0, 0))[place]

        return of_each(sum(lies(turn) for turn in each) for each in done)

    def cpu(part: str) -> dict[str, Any]:
        def spent(turn: Turn) -> float:
            return sum(seconds for name, seconds in turn.cpu.items() if part_of(name) == part)

        return of_each(1000 * sum(spent(turn) for turn in each) for each in done)

    known = all(BROKER in turn.cpu for each in done for turn in each)
    seconds = [sum(turn.seconds for turn in each) for each in done]
    return {
        "rounds": len(done),
        "orders": sum(orders),
        "orders_per_second": middle([count / took for count, took in zip(orders, seconds, strict=True)], 1),
        "cpu_ms": cpu(SERVICES),
        "broker_cpu_ms": cpu(BROKER) if known else middle([]),
        "audience_cpu_ms": cpu(AUDIENCE),
        "messages": written(MESSAGE, 0),
        "message_bytes": written(MESSAGE, 1),
        "rows": written(ROW, 0),
        "row_bytes": written(ROW, 1),
        "journal": written(JOURNAL, 0),
    }
