"""Choosing what to break: only what is well, that nobody else has broken, and that the system can spare.

Invariant: what was chosen belongs to its fault until `release`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from farandole.chaos.fault import Refused
from farandole.chaos.world import World
from farandole.errors import FarandoleError
from farandole.system import Worker

BROKERS: Final = "the brokers"


class Picking:
    def __init__(self, world: World) -> None:
        self._world = world
        self._claims: list[str] = []

    @property
    def services(self) -> tuple[str, ...]:
        return self._world.system.services

    @property
    def partitions(self) -> int:
        """Of each topic."""
        return self._world.partitions

    def pick_worker(self, rng: Random, service: str | None = None) -> Worker:
        """A worker that is well, of a service that has another one that is, or never has. Refused: there is none at
        present."""
        services = [service] if service else rng.sample(self.services, len(self.services))
        for name in services:
            well = [worker for worker in self._world.workers(name) if self._is_well(worker)]
            if len(well) > self._world.spared:
                worker = well[rng.randrange(len(well))]
                if self._world.claim(worker.name, self):
                    self._claims.append(worker.name)
                    return worker
        raise Refused(f"no worker{' of ' + service if service else ''} can be spared")

    def pick_service(self, rng: Random, service: str | None = None) -> list[Worker]:
        """All workers of a service, all of them well: to be broken together."""
        name = service or rng.choice(self.services)
        workers = list(self._world.workers(name))
        for worker in workers:
            if not self._is_well(worker) or not self._world.claim(worker.name, self):
                raise Refused(f"not every worker of {name} is well")
            self._claims.append(worker.name)
        return workers

    def pick_broker(self, rng: Random) -> int:
        """Node id of any broker. Refused, as by all that choose a broker: not all of them are in sync."""
        return self._broker(lambda: rng.randint(1, 3))

    def pick_leader(self, topic: str, partition: int) -> int:
        """The leader of a partition; the topic's name as in topics.yaml."""
        return self._broker(lambda: self._world.brokers.leader(self._world.namespace + topic, partition))

    def pick_controller(self) -> int:
        return self._broker(self._world.brokers.controller)

    def pick_group_coordinator(self, service: str) -> int:
        group = self._world.namespace + service
        return self._broker(lambda: self._world.brokers.group_coordinator(group))

    def pick_transaction_coordinator(self, service: str, partition: int) -> int:
        """Who coordinates the transactions of the worker whose lowest partition this is."""
        id = f"{self._world.namespace}{service}-{partition}"
        return self._broker(lambda: self._world.brokers.transaction_coordinator(id))

    def _broker(self, choose: Callable[[], int]) -> int:
        if BROKERS not in self._claims:
            self._claim(BROKERS)
        try:
            if not self._world.brokers.in_sync():
                raise Refused("not every replica is in sync")
            return choose()
        except FarandoleError as error:
            raise Refused(str(error)) from error

    def _is_well(self, worker: Worker) -> bool:
        if self._world.claimed(worker.name) or worker.pid is None:
            return False
        health = worker.health()
        return health is not None and health.ready

    def _claim(self, what: str) -> None:
        if not self._world.claim(what, self):
            raise Refused(f"another fault has {what}")
        self._claims.append(what)

    def release(self) -> None:
        """Others may have it now."""
        for claim in self._claims:
            self._world.unclaim(claim, self)
        self._claims.clear()
