"""What the machine and the services do meanwhile: lag by service, CPU and memory by process, orders in flight.

Invariants: a sample that cannot be had is a gap, not a zero and not the end of the run; CPU is kept as seconds so far,
so that samples can be thinned without losing any; their number has a bound (MOST_SAMPLES).

Lag is counted in offsets: the end of a topic less what the service's group has committed. The markers of transactions
have offsets too, so a service that has read everything may have one left in each partition.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psutil
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from farandole.config import ClientConfig
from farandole.load.recorder import Recorder

EVERY: Final = 1.0
"""Seconds between samples at first."""

MOST_SAMPLES: Final = 1_200
"""Then every other one goes, and they come half as often."""

ANSWER_WITHIN: Final = 5.0

Pids = Callable[[], Mapping[str, int]]
"""Name of a process → its id, now: a worker that is started again has another one."""

END: Final = -1
"""The time that stands for the end of a partition."""

Place = tuple[str, int]
"""Topic, with the namespace, and partition."""


@dataclass(frozen=True)
class Sample:
    """One moment.

    at:     seconds since the recorder began
    lag:    service → offsets; empty if nobody said
    cpu:    process → CPU seconds so far; rss: process → bytes of resident memory
    busy:   CPU seconds of the whole machine so far, whoever used them; stolen: by other machines on the same host
    """

    at: float
    in_flight: int
    lag: Mapping[str, int]
    cpu: Mapping[str, float]
    rss: Mapping[str, int]
    busy: float
    stolen: float


class Sampler:
    """Looks once a second, in a thread of its own.

    groups: service → consumer group
    pids:   of the processes that are measured
    """

    def __init__(
        self, recorder: Recorder, client_config: ClientConfig, namespace: str, groups: Mapping[str, str], pids: Pids
    ) -> None:
        self._recorder, self._groups, self._pids = recorder, groups, pids
        self._admin = AdminClient({**client_config, "log_level": 0})
        # A client cannot be made without a group; this one is asked where topics end, and joins nothing.
        self._consumer = Consumer({**client_config, "group.id": f"{namespace}load-sampler", "log_level": 0})
        self._every = EVERY
        self._processes: dict[int, psutil.Process] = {}
        self.samples: list[Sample] = []
        self.gaps = 0
        """Samples in which the lag could not be had."""
        self.cpu = 0.0
        """CPU seconds of its thread so far."""
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._halt.set()
        if self._thread.is_alive():
            self._thread.join()

    def between(self, began: float, over: float) -> list[Sample]:
        """Samples of a stretch of the monotonic clock."""
        first, last = began - self._recorder.began, over - self._recorder.began
        return [sample for sample in list(self.samples) if first <= sample.at <= last]

    # ---- in the thread

    def _run(self) -> None:
        due = time.monotonic()
        while not self._halt.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._every, time.monotonic())
            self.samples.append(self._sample())
            if len(self.samples) >= MOST_SAMPLES:
                self.samples = self.samples[::2]
                self._every *= 2
            self.cpu = time.thread_time()

    def _sample(self) -> Sample:
        lag = self._lag()
        cpu, rss = {}, {}
        for name, pid in self._pids().items():
            try:
                process = self._processes.setdefault(pid, psutil.Process(pid))
                with process.oneshot():
                    times = process.cpu_times()
                    cpu[name], rss[name] = times.user + times.system, process.memory_info().rss
            except psutil.Error:
                self._processes.pop(pid, None)
        busy, stolen = machine_cpu()
        return Sample(
            at=time.monotonic() - self._recorder.began,
            in_flight=self._recorder.open,
            lag=lag,
            cpu=cpu,
            rss=rss,
            busy=busy,
            stolen=stolen,
        )

    def ends(self) -> dict[Place, int] | None:
        """Where every topic ends that a service reads: while it does not change, nothing happens. None: nobody said."""
        try:
            return self._ask()[1]
        except KafkaException:
            return None

    def _lag(self) -> dict[str, int]:
        try:
            committed, ends = self._ask()
        except KafkaException:
            self.gaps += 1
            return {}
        return {
            service: sum(max(0, ends[place] - offset) for place, offset in each.items())
            for service, each in committed.items()
        }

    def _ask(self) -> tuple[dict[str, dict[Place, int]], dict[Place, int]]:
        """(service → where its group stands, where those topics end)"""
        asked = {
            service: self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group)], request_timeout=ANSWER_WITHIN
            )[group]
            for service, group in self._groups.items()
        }
        committed = {
            service: {(tp.topic, tp.partition): tp.offset for tp in future.result().topic_partitions if tp.offset >= 0}
            for service, future in asked.items()
        }
        wanted = {place for each in committed.values() for place in each}
        if not wanted:
            return committed, {}
        # Not AdminClient.list_offsets: a load that used it has crashed within librdkafka 2.15 while the broker stood
        # still, with which call is not known; this one is the older and simpler way.
        found = self._consumer.offsets_for_times([TopicPartition(*place, END) for place in wanted], ANSWER_WITHIN)
        for tp in found:
            if tp.error is not None:
                raise KafkaException(tp.error)
        return committed, {(tp.topic, tp.partition): tp.offset for tp in found}


def machine_cpu() -> tuple[float, float]:
    """CPU seconds of the whole machine so far, whoever used them, and those of other machines on the same host."""
    machine: Any = psutil.cpu_times()
    stolen = getattr(machine, "steal", 0.0)
    # A guest's time is in that of the user already.
    not_busy = machine.idle + getattr(machine, "iowait", 0.0) + stolen + getattr(machine, "guest", 0.0)
    return sum(machine) - not_busy, stolen


def cpu_times(pids: Mapping[str, int]) -> dict[str, float]:
    """User and system seconds so far, all threads. What has gone is left out."""
    found = {}
    for name, pid in pids.items():
        try:
            times = psutil.Process(pid).cpu_times()
        except psutil.Error:
            continue
        found[name] = times.user + times.system
    return found


def growing(points: list[tuple[float, float]], rate: float) -> bool:
    """Whether a backlog grows: by more than a twentieth of `rate` a second, and by more than half a second's worth.

    points: (seconds, how much there is); the mean of the last third is compared with the mean of the first
    """
    if len(points) < 6:
        return False
    third = len(points) // 3
    first, last = points[:third], points[-third:]
    rise = _mean([much for _, much in last]) - _mean([much for _, much in first])
    took = _mean([at for at, _ in last]) - _mean([at for at, _ in first])
    return rise > rate / 2 and rise / took > rate / 20


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
