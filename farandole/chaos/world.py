"""All parts of a run in one place: brokers, system, load, what watches them, and who has broken what.

Invariant: a worker that ends by itself is started again, as a supervisor would, and is reported with its last words; a
broker or a part of the outside world that ends by itself ends the run.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Producer

from farandole.chaos.brokers import Brokers
from farandole.chaos.doomed import Doom
from farandole.chaos.flows import bound_events
from farandole.chaos.load import Load
from farandole.chaos.monitor import Monitor, Source
from farandole.codec import Codec
from farandole.demo import mischief
from farandole.demo.watch import Seen, Watcher
from farandole.errors import BrokerError, CodecError, FarandoleError
from farandole.system import System, Worker

TEND_EVERY: Final = 0.5
AGAIN_AFTER: Final = 1.0
"""Seconds after which a worker that ended by itself is started again."""

SENT_WITHIN: Final = 60.0
MOST_PROBLEMS: Final = 200
MOST_DEATHS: Final = 1_000


@dataclass(frozen=True)
class Death:
    """A worker that ended by itself; at: monotonic clock."""

    worker: str
    at: float
    words: str


class World:
    """Made when everything runs.

    callers: system of the outside world → services of this run that call it
    spared:  workers of each service that a fault leaves well
    """

    def __init__(
        self,
        brokers: Brokers,
        system: System,
        load: Load,
        watcher: Watcher,
        monitor: Monitor,
        codec: Codec,
        *,
        seed: int,
        callers: Mapping[str, Sequence[str]],
        spared: int,
    ) -> None:
        self.brokers, self.system, self.load, self.watcher, self.monitor = brokers, system, load, watcher, monitor
        self.callers, self.spared = callers, spared
        self.namespace = system.namespace
        self.partitions = system.topics.topics["order"].partitions
        self.problems: list[str] = []
        self.deaths: list[Death] = []
        self._usual = mischief.faults(seed)
        self._claims: dict[str, object] = {}
        self._lock = threading.Lock()
        self._halt = threading.Event()
        self._again: dict[str, float] = {}
        self._codec = codec
        self._bound = bound_events(system.services)
        self._heard = {
            service: {codec.type_of(event).topic for event in bound} for service, bound in self._bound.items()
        }
        self._producer = Producer(
            {**brokers.client_config, "partitioner": "murmur2_random", "linger.ms": 0, "log_level": 0}
        )

    # ---- the end

    @property
    def halted(self) -> bool:
        return self._halt.is_set()

    def halt(self) -> None:
        self._halt.set()

    def wait(self, seconds: float) -> None:
        self._halt.wait(seconds)

    def problem(self, what: str) -> None:
        with self._lock:
            if len(self.problems) < MOST_PROBLEMS:
                self.problems.append(what)

    # ---- what is there

    @property
    def seen(self) -> Seen:
        return self.watcher.seen

    def workers(self, service: str) -> list[Worker]:
        return list(self.system.workers.get(service, ()))

    def every_worker(self) -> list[Worker]:
        return [worker for service in self.system.services for worker in self.workers(service)]

    def hears(self, topic: str) -> list[str]:
        return sorted(service for service, topics in self._heard.items() if topic in topics)

    def heard_topics(self) -> list[str]:
        return sorted({topic for topics in self._heard.values() for topic in topics})

    def readers(self, topic: str, value: bytes | None) -> list[str]:
        """Services that look into such a record of a topic: its hearers, but for an event that they do not bind."""
        try:
            kind = self._codec.decoder_for(value).type
        except CodecError:
            return self.hears(topic)
        if kind.topic != topic:
            return self.hears(topic)
        return sorted(service for service, bound in self._bound.items() if kind.cls in bound)

    def calls_under_way(self) -> int:
        return sum(health.calls for worker in self.every_worker() if (health := worker.health()))

    # ---- who has broken what

    def claim(self, what: str, who: object) -> bool:
        with self._lock:
            return self._claims.setdefault(what, who) is who

    def claimed(self, what: str) -> bool:
        return what in self._claims

    def unclaim(self, what: str, who: object) -> None:
        with self._lock:
            if self._claims.get(what) is who:
                del self._claims[what]

    # ---- what is done to it

    def set_faults(self, system: str, plan: Mapping[str, Any] | None = None) -> None:
        """What is always wrong with a part of the outside world, and this."""
        self.system.sandbox.faults(system, **{**self._usual[system], **(plan or {})})

    def send(
        self, topic: str, value: bytes | None, key: bytes | None, partition: int = -1, headers: Any = None
    ) -> Source:
        """Write a record and wait until all replicas have it."""
        found: list[Source] = []
        failed: list[str] = []

        def delivered(error: Any, message: Any) -> None:
            if error:
                failed.append(str(error))
            else:
                found.append((topic, message.partition(), message.offset()))

        self._producer.produce(
            self.namespace + topic, value, key, partition, on_delivery=delivered, headers=headers or []
        )
        deadline = time.monotonic() + SENT_WITHIN
        while not found and not failed and time.monotonic() < deadline and not self.halted:
            self._producer.poll(0.1)
        if not found:
            raise BrokerError(f"a record was not written to {topic}: {failed[0] if failed else 'no answer'}")
        return found[0]

    def begin(self, doom: Doom) -> None:
        """Write what begins a saga, as a client would."""
        topic, key, value = self.load.encode(doom)
        self.send(topic, value, key.encode())

    # ---- looking after it

    def tend(self) -> None:
        """Until it is halted: raise for what nobody may do without, start workers again that have ended."""
        while not self.halted:
            self._tend_workers()
            self._check()
            self.wait(TEND_EVERY)

    def _check(self) -> None:
        self.watcher.check()
        self.monitor.check()
        self.load.check()
        if not self.brokers.network.running:
            raise FarandoleError("the proxy between workers and brokers died")
        gone = [node for node in self.brokers.dead() if node not in self.brokers.away]
        if gone and not self.halted:
            raise FarandoleError(f"broker {gone[0]} died by itself", mend="see its log in the run's directory")
        for system in self.system.sandbox.dead():
            if not self.claimed(system) and not self.halted:
                raise FarandoleError(f"the sandbox's {system} died by itself")

    def _tend_workers(self) -> None:
        for worker in self.every_worker():
            if not worker.died:
                continue
            now = time.monotonic()
            at = self._again.get(worker.name)
            if at is None:
                self._again[worker.name] = now + AGAIN_AFTER
                if len(self.deaths) < MOST_DEATHS:
                    self.deaths.append(Death(worker.name, now, worker.last_words()))
            elif now >= at:
                del self._again[worker.name]
                self.system.restart(worker.service, worker.index)
