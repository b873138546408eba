"""Histories that the simulation made: the real engines and agents, everything going wrong on purpose, no Kafka."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from farandole.audit.records import LogRecord, Place
from farandole.simulation.plan import make_plan
from farandole.simulation.run import Run
from farandole.simulation.tape import Tape
from farandole.simulation.trial import trial
from farandole.simulation.workers import Workshop


class ModelSource:
    """The committed records of a run, read as `farandole.audit.reading.Reader` reads a cluster."""

    def __init__(self, run: Run) -> None:
        self.partitions: Mapping[str, int] = dict.fromkeys(run.workshop.topics.topics, run.plan.partitions)
        places = [(topic, p) for topic, count in self.partitions.items() for p in range(count)]
        self.log = {place: run.cluster.read(*place) for place in places}
        self.starts: dict[Place, int] = dict.fromkeys(places, 0)
        self._ends = run.cluster.ends()

    def ends(self) -> dict[Place, int]:
        return dict(self._ends)

    def at_time(self, time: int) -> dict[Place, int]:
        return {
            place: next((r.offset for r in records if r.timestamp >= time), self._ends[place])
            for place, records in self.log.items()
        }

    def read(
        self,
        first: Mapping[Place, int],
        end: Mapping[Place, int],
        take: Callable[[LogRecord], None],
        progress: Any,
        what: str,
    ) -> int:
        count = 0
        for place, last in end.items():
            for r in self.log[place]:
                if first[place] <= r.offset < last:
                    take(LogRecord(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers))
                    count += 1
        return count


def played(workshop: Workshop, seed: int) -> Run:
    """A run that held."""
    plan = make_plan(seed)
    found = trial(workshop, plan, Tape(seed, plan.rates))
    assert not found.violations
    return found.run


def quiet(what: str, done: int, total: int) -> None:
    """Nobody watches."""
