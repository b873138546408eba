"""What a fault may touch, what the system bears, and how it is put right again.

Invariants: whatever was broken through a stage is put right by `heal`, in reverse order; what is broken belongs to one
fault at a time; the last worker of a service that is well is nobody's to break, unless it is the only one or the fault
asks for the whole service; never more than one broker is away (farandole.chaos.brokers). What is not borne is refused,
with the reason.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

from farandole.chaos.fault import Refused
from farandole.chaos.monitor import CALLS, Source
from farandole.chaos.picking import BROKERS, Picking
from farandole.chaos.world import World
from farandole.system import Worker

AWAKE_FOR_MS: Final = 5_000
"""Until a broker that is back has learnt what has become of it: longer than its session."""

SENT_WITHIN: Final = 30.0

Watch = Callable[[], int | None]
"""Record time (ms) at which something worked again; None: not yet."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Stage(Picking):
    """What one fault has in its hands.

    targets: what it has broken, in words
    affects: service → partitions that stood still
    healed:  record time (ms) of the healing; None before
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.targets: list[str] = []
        self.affects: dict[str, set[int]] = {}
        self.began: int | None = None
        self.healed: int | None = None
        self._undo: list[Callable[[], None]] = []
        self._watches: list[Watch] = []
        self._whole: list[Callable[[], bool]] = []

    # ---- workers

    def kill(self, *workers: Worker) -> None:
        """kill -9; started again by the healing."""
        owned = [(worker, self._partitions(worker)) for worker in workers]
        for worker, partitions in owned:
            self._broke(worker.name)
            self._later(partial(self._restart, worker))
            worker.signal(signal.SIGKILL)
            self._stands_still(worker.service, partitions)
            self._well_again(worker)

    def stop(self, worker: Worker) -> None:
        """SIGSTOP: it keeps its connections and hears nothing. The healing wakes it up: beyond the session time-out
        it is a zombie then."""
        partitions = self._partitions(worker)
        self._broke(worker.name)
        self._later(lambda: worker.signal(signal.SIGCONT))
        worker.signal(signal.SIGSTOP)
        self._stands_still(worker.service, partitions)
        self._well_again(worker)

    def leave(self, worker: Worker) -> None:
        """SIGTERM: it hands over and ends. Started again by the healing."""
        partitions = self._partitions(worker)
        self._broke(worker.name)
        self._later(lambda: self._restart(worker))
        worker.signal(signal.SIGTERM)
        if not worker.wait_ended(SENT_WITHIN):
            worker.signal(signal.SIGKILL)
            self._world.problem(f"{worker.name} did not end within {SENT_WITHIN:.0f} s of SIGTERM")
        self._stands_still(worker.service, partitions)
        self._well_again(worker)

    def join(self, service: str) -> Worker:
        """One more worker of a service. It leaves with the healing."""
        worker = self._world.system.add(service)
        self._claim(worker.name)
        self._broke(f"{service}, one more")
        self._later(lambda: self._world.system.remove(worker))
        since = now_ms()

        def owns() -> int | None:
            if self._partitions(worker):
                return self._moved(service, range(self._world.partitions), since)
            if self.healed:  # on a slow machine it may have left before it owned any
                return self._moved(service, range(self._world.partitions), self.healed)
            return None

        self.watch(owns)
        return worker

    def _restart(self, worker: Worker) -> None:
        if not self._world.halted:
            self._world.system.restart(worker.service, worker.index)

    def _partitions(self, worker: Worker) -> tuple[int, ...]:
        health = worker.health()
        return health.partitions if health else ()

    def _well_again(self, worker: Worker) -> None:
        def well() -> bool:
            health = worker.health() if worker.pid else None
            return health is not None and health.ready

        self._whole.append(well)

    # ---- brokers

    def kill_broker(self, node: int) -> None:
        """kill -9; started again by the healing. `node` comes from one of the `pick_` methods."""
        self._away(node, signal.SIGKILL, lambda: self._world.brokers.restart(node))

    def shut_broker(self, node: int) -> None:
        """SIGTERM: it hands its partitions over and ends. Started again by the healing."""
        self._away(node, signal.SIGTERM, lambda: self._world.brokers.restart(node))

    def stop_broker(self, node: int) -> None:
        """SIGSTOP: it keeps its connections and answers nobody. The healing wakes it up."""
        self._away(node, signal.SIGSTOP, lambda: self._world.brokers.signal(node, signal.SIGCONT))

    def _away(self, node: int, number: signal.Signals, back: Callable[[], None]) -> None:
        brokers = self._world.brokers
        if BROKERS not in self._claims:
            raise Refused("choose the broker by one of the pick_ methods: they see to it that the cluster bears it")
        self._broke(f"broker {node}")
        brokers.away.add(node)

        def healed() -> None:
            if not self._world.halted:
                back()
            brokers.away.discard(node)

        self._later(healed)
        brokers.signal(node, number)
        since: list[int] = []

        def led() -> int | None:
            """Every partition has a leader that runs, and every service has moved everywhere since."""
            if not since:
                if brokers.unled():
                    return None
                since.append(now_ms())
            times = [self._moved(service, range(self._world.partitions), since[0]) for service in self.services]
            return None if None in times else max(time for time in times if time is not None)

        def in_sync() -> bool:
            """A broker that wakes up tells for a moment what it knew before it slept: that all are in sync."""
            return self.healed is not None and now_ms() - self.healed >= AWAKE_FOR_MS and brokers.in_sync()

        self.watch(led)
        self._whole.append(in_sync)
        for service in self.services:
            self.affects[service] = set(range(self._world.partitions))

    # ---- the network between workers and brokers

    def cut(self, worker: Worker | None = None, mode: str = "drop", brokers: Iterable[int] | None = None) -> None:
        """Cut a worker off (None: all workers) from these brokers (node ids; None: all).

        mode: drop: silence, both ways; reset: connections end, and new ones too. Healed by the healing.
        """
        self._interfere(worker, mode, brokers)

    def slow_down(self, seconds: float, worker: Worker | None = None, brokers: Iterable[int] | None = None) -> None:
        """Everything between a worker (None: all) and these brokers (None: all) takes so much longer, each way."""
        self._interfere(worker, "delay", brokers, seconds)

    def _interfere(self, worker: Worker | None, mode: str, brokers: Iterable[int] | None, delay: float = 0.0) -> None:
        network = self._world.brokers.network
        nodes = None if brokers is None else list(brokers)
        partitions = self._partitions(worker) if worker else ()
        number, _ = network.cut(
            mode,
            pids=None if worker is None else [pid for pid in [worker.pid] if pid],
            brokers=None if nodes is None else [node - 1 for node in nodes],
            delay=delay,
        )
        self._later(lambda: network.heal(number))
        who = worker.name if worker else "all workers"
        whom = "" if nodes is None else f" from {', '.join(f'broker {node}' for node in nodes)}"
        self._broke(f"{who}{whom}")
        if worker is None or mode == "delay" or nodes is not None:
            for service in [worker.service] if worker else self.services:
                self._moves_after_healing(service, partitions or range(self._world.partitions))
        else:
            self._stands_still(worker.service, partitions)
        if worker is not None:
            self._well_again(worker)

    # ---- the outside world

    def outside(self, systems: Iterable[str]) -> list[str]:
        """Those of these systems that some service of this run calls."""
        return [system for system in systems if system in self._world.callers]

    def break_outside(self, system: str, **plan: Any) -> None:
        """Set a plan of faults (docs/sandbox.md) for `gateway`, `carrier` or `mail`, on top of what is always wrong
        there. Lifted by the healing."""
        self._called(system)
        self._claim(system)
        self._broke(system)
        self._later(lambda: self._world.set_faults(system))
        self._world.set_faults(system, plan)
        self._answers_after_healing(system)

    def kill_outside(self, system: str) -> None:
        """kill -9 of `gateway`, `carrier` or `mail`; started again, with what it had done, by the healing."""
        self._called(system)
        self._claim(system)
        self._broke(system)

        def restart() -> None:
            if not self._world.halted:
                self._world.system.sandbox.restart(system)
                self._world.set_faults(system)

        self._later(restart)
        self._world.system.sandbox.kill(system)
        self._answers_after_healing(system)

    def _called(self, system: str) -> None:
        if system not in self._world.callers:
            raise Refused(f"no service of this run calls {system}")

    def _answers_after_healing(self, system: str) -> None:
        callers, everywhere = self._world.callers[system], range(self._world.partitions)
        for service in callers:
            self.affects.setdefault(service, set()).update(everywhere)

        def answered(service: str) -> int | None:
            if self.healed is None:
                return None
            times = [self._world.monitor.first_after(f"{service}{CALLS}", p, self.healed) for p in everywhere]
            return min((time for time in times if time is not None), default=None)

        for service in callers:
            self.watch(partial(answered, service))

    # ---- messages and sagas

    def hears(self, topic: str) -> list[str]:
        """Services that hear a topic."""
        return self._world.hears(topic)

    def topics(self) -> list[str]:
        """Topics that some service hears, as topics.yaml names them."""
        return self._world.heard_topics()

    def send(
        self, topic: str, value: bytes | None, key: bytes | None, *, partition: int = -1, headers: Any = None
    ) -> Source:
        """Write a record as any client could; returns where it lies."""
        self._broke(topic)
        return self._world.send(topic, value, key, partition, headers)

    def poison(self, topic: str, value: bytes | None, key: bytes | None, *, headers: Any = None) -> Source:
        """Write a record that nobody can read. Recovered when every service that hears the topic, and would read it,
        has a dead letter: an event that a service has no use for it does not look into."""
        source = self.send(topic, value, key, headers=headers)
        for service in self._world.readers(topic, value):
            self.expect_letter(service, source)
        return source

    def expect_letter(self, service: str, source: Source) -> None:
        """Recovered only when this record is in that service's dead letter queue."""
        self.watch(lambda: now_ms() if self._world.monitor.has_letter(service, source) else None)

    def decisions(self) -> list[str]:
        """Decisions that `place_doomed` can make fail, such as `payment.capture`."""
        return self._world.load.doomed.left()

    def place_doomed(self, decision: str) -> str:
        """Begin an order, a transfer or a login on which this decision always fails; returns its id.

        Recovered when it is parked; or has ended, because another fault stopped it before it came to that decision.
        """
        if decision not in self.decisions():
            raise Refused(f"nothing is left on which {decision} fails")
        doom = self._world.load.take_doomed(decision)
        self._broke(f"{decision} of {doom.saga}")
        seen, service = self._world.seen, decision.partition(".")[0]
        self._world.begin(doom)
        self.watch(lambda: now_ms() if (service, doom.saga) in seen.parked or doom.saga in seen.endings else None)
        return doom.saga

    # ---- in general

    @property
    def namespace(self) -> str:
        return self._world.namespace

    @property
    def client_config(self) -> dict[str, Any]:
        """For a Kafka client of one's own, past the proxy."""
        return dict(self._world.brokers.client_config)

    def sleep(self, seconds: float) -> None:
        """Wait; less if the run ends."""
        self._world.wait(seconds)

    def broke(self, target: str, undo: Callable[[], None] | None = None) -> None:
        """Say that something else was broken, and how it is put right."""
        self._broke(target)
        if undo is not None:
            self._later(undo)

    def watch(self, watch: Watch) -> None:
        """One more thing that has to work again: returns the time (ms since 1970) at which it did, or None."""
        self._watches.append(watch)

    def recovered(self) -> bool:
        """Whether everything works again that was broken through this stage, healed or taken over by others."""
        return self.recovered_at() is not None

    def recovered_at(self) -> int | None:
        """When the last of it did, ms since 1970; None: not all of it does. What was broken without being watched
        recovers with the healing."""
        if not self._watches:
            return self.healed
        times = [watch() for watch in self._watches]
        return None if None in times else max(time for time in times if time is not None)

    def whole(self) -> bool:
        """Whether all that was broken is there again and well, not merely replaced."""
        return all(well() for well in self._whole)

    def heal(self) -> list[str]:
        """Put right what was broken, in reverse order. Returns what could not be."""
        failed = []
        while self._undo:
            try:
                self._undo.pop()()
            except Exception as error:  # one failure must not keep the rest broken
                failed.append(f"{', '.join(self.targets)} cannot be put right: {error}")
        self.healed = now_ms()
        return failed

    def _broke(self, target: str) -> None:
        if self.began is None:
            self.began = now_ms()
        if target not in self.targets:
            self.targets.append(target)

    def _later(self, undo: Callable[[], None]) -> None:
        self._undo.append(undo)

    def _moved(self, service: str, partitions: Iterable[int], since: int) -> int | None:
        return self._world.monitor.moved(service, partitions, since)

    def _stands_still(self, service: str, partitions: Iterable[int]) -> None:
        since, owned = now_ms(), tuple(partitions)
        self.affects.setdefault(service, set()).update(owned)
        self.watch(lambda: self._moved(service, owned, since))

    def _moves_after_healing(self, service: str, partitions: Iterable[int]) -> None:
        owned = tuple(partitions)
        self.affects.setdefault(service, set()).update(owned)
        self.watch(lambda: None if self.healed is None else self._moved(service, owned, self.healed))
