"""A history that is made one transaction at a time, with flows of the test's own, so that it can be counted midway."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from events import OrderRefused
from farandole import assembly
from farandole.audit.records import Place
from farandole.errors import CodecError
from farandole.flow import Flow
from farandole.inflight.asking import told_by
from farandole.inflight.counting import Count, Told, count
from farandole.replay.replica import Replica
from farandole.simulation.workers import Workshop
from tests.replay.maker import Maker, _Turn
from tests.replay.model import quiet

Outcome = Callable[[str, str], tuple[str, str, str]]


def order_2(first: Flow, *, without: type[Any] = OrderRefused) -> Flow:
    """`order/2`: as `order/1`, but nobody is told of a refusal."""
    second = Flow("order", version=2)
    for (service, event), decision in first.bindings.items():
        if (service, event) != ("notification", without):
            second.on(event, inspect.unwrap(decision.function))
    second.compensations.update(first.compensations)
    return second


class Stepwise(Maker):
    """flows: that its services know; outcome: as `Maker.settle` takes it"""

    def __init__(self, workshop: Workshop, flows: Mapping[str, Flow], outcome: Outcome, batch: int = 3) -> None:
        super().__init__(workshop, partitions=2, batch=batch)
        self.flows, self._outcome = dict(flows), outcome
        self.project = workshop.project._replace(flows=self.flows)
        self.turns: list[_Turn] = []
        self._told = told_by(self.project, workshop.topics)  # now: while it runs, the tables are the replicas'

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for name, service in self.workshop.services.items():
                replica = Replica(name, self.project, self._count, assembly.bindings_of(service.app, self.flows))
                stack.enter_context(replica.entered())
                for p in range(self._count):
                    replica.processor.add_partition(p)
                self.turns += [_Turn(self, replica, p, self._outcome) for p in range(self._count)]
            yield

    def steps(self) -> Iterator[None]:
        """A transaction after the other, until nothing is left to do."""
        moved = True
        while moved:
            moved = False
            for turn in self.turns:
                if turn.take():
                    moved = True
                    yield

    def positions(self) -> dict[str, dict[Place, int]]:
        """What the services' groups would have committed."""
        found: dict[str, dict[Place, int]] = {}
        for turn in self.turns:
            at = {(topic, turn._partition): offset for topic, offset in turn._cursor.items()}
            found.setdefault(turn._replica.service, {}).update(at)
        return found

    def told(self, flows: Mapping[str, Flow] | None = None) -> Told:
        """As a checkout with these flows says it."""
        return self._told if flows is None else dataclasses.replace(self._told, flows=dict(flows))

    def counted(self, flows: Mapping[str, Flow] | None = None) -> Count:
        return count(self, self.told(flows), self.positions(), quiet)

    def at_time(self, time: int) -> dict[Place, int]:
        """As `Reader.at_time`."""
        return {
            place: next((record.offset for record in records if record.time >= time), len(records))
            for place, records in self.log.items()
        }

    def sagas_since(self, before: Mapping[Place, int]) -> set[str]:
        """Sagas of which something was published, or an answer recorded, after these ends."""
        found = set()
        for place, records in self.log.items():
            for record in records[before[place] :]:
                with contextlib.suppress(CodecError):
                    if record.value is not None and not place[0].endswith((".dlq", "-changelog")):
                        found.add(self.codec.meta_of(record.value).saga)
        return found

    def of_saga(self, saga: str) -> list[Any]:
        """The events of a saga, in order of time."""
        found = []
        for (topic, _), records in self.log.items():
            for record in records:
                if topic.endswith((".dlq", "-changelog", ".journal", ".operations")):
                    continue
                event = self.codec.decode(record.value)[1]
                if event.saga == saga:
                    found.append((record.time, event))
        return [event for _, event in sorted(found, key=lambda each: each[0])]
