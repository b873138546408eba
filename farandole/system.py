"""A whole system on this machine: Kafka, the outside world, and the services' workers, each a process of its own.

    with System(directory, namespace="try-") as system:
        urllib.request.urlopen(system.url("order") + "/health")
        system.kill("payment")                    # kill -9
        system.restart("payment")                 # same address, same log
        system.wait_ready()

Used by the demo, by tests that kill, and by load tests.

Invariants: no process outlives the one that started it, however that ends; a Kafka that was running already is left
running, and its data is kept in any case; a worker that ends unasked is an error with its last words.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from farandole import config, passcodes
from farandole.errors import ConfigError, FarandoleError
from farandole.kafka import EmbeddedKafka
from farandole.sandbox import Sandbox
from farandole.sandbox.address import Port
from farandole.topics import Topics

HOST = "127.0.0.1"

READY_WITHIN = 90.0
"""Seconds for all workers to own their partitions. On an idle machine it takes five."""

STOPPED_WITHIN = 5.0
"""Seconds for workers to hand over after SIGTERM; then they are killed. It takes one and a half."""

HEALTH_WITHIN = 2.0
"""Seconds for a worker to answer about itself."""

LOOK_EVERY = 0.05

LAST_LINES = 12
"""Lines of a dead worker's log that are shown."""

MOST_WORKERS = 20
"""Of one service. A guard against a slip of the finger: each takes some 100 MB."""

Progress = Callable[[str, int, int], None]
"""Is told what is being done, how much of it, of how much (0: not known)."""


def silent(what: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


class Health(NamedTuple):
    """What a worker says about itself.

    ready:      it owns its partitions
    partitions: those
    messages:   handled since it started
    calls:      outside calls under way
    """

    ready: bool
    partitions: tuple[int, ...]
    messages: int
    calls: int


class Worker:
    """One process of one service. Killed and spawned again it has the same address and writes to the same log."""

    def __init__(self, service: str, index: int, directory: Path, environment: Mapping[str, str], root: Path) -> None:
        self.service, self.index = service, index
        self.log = directory / f"{service}-{index}.log"
        self.port = Port.reserve(HOST, 0)
        self.started = 0.0
        """When it was last spawned, on the monotonic clock."""
        self._environment, self._root = dict(environment), root
        self._popen: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._told_to_end = False

    @property
    def name(self) -> str:
        return f"{self.service}[{self.index}]"

    @property
    def pid(self) -> int | None:
        """The process, or None if it does not run."""
        return self._popen.pid if self._popen and self._popen.poll() is None else None

    @property
    def died(self) -> bool:
        """It has ended, and nobody told it to."""
        return self._popen is not None and self._popen.poll() is not None and not self._told_to_end

    def spawn(self) -> None:
        """Start it and come back at once. A session of its own: no terminal's Ctrl-C reaches it."""
        command = [sys.executable, "-m", "farandole.cli.main", "worker", self.service]
        self.started = time.monotonic()
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [*command, "--web-port", str(self.port.number)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._root,
                env=self._environment,
                start_new_session=True,
            )
        self._told_to_end = False  # only now: until there is the new process, the end of the old one is no surprise
        self._guard = _guard(self._popen.pid)

    def signal(self, number: int) -> None:
        """Send a signal. One that ends it is an order, and so its end no surprise; after SIGKILL it is gone."""
        if self._popen is None or self._popen.poll() is not None:
            return
        if number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            self._told_to_end = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)
        if number == signal.SIGKILL:
            self._reap(STOPPED_WITHIN)

    def wait_ended(self, seconds: float) -> bool:
        return self._popen is None or self._reap(seconds)

    def _reap(self, seconds: float) -> bool:
        assert self._popen is not None
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None
        return True

    def health(self) -> Health | None:
        """What it says about itself; None: it does not answer."""
        try:
            with urllib.request.urlopen(self._asks_for_health(), timeout=HEALTH_WITHIN) as response:
                said = json.load(response)
        except urllib.error.HTTPError as not_yet:
            try:
                said = json.load(not_yet)
            except ValueError:
                return None
        except (OSError, ValueError):
            return None
        return Health(said["ready"], tuple(said["partitions"]), said.get("messages", 0), said["calls"])

    def _asks_for_health(self) -> urllib.request.Request:
        key = self._environment.get(config.METRICS_KEY, "")
        return urllib.request.Request(f"{self.port.url}/health", headers={"Authorization": f"Bearer {key}"})

    def last_words(self) -> str:
        """The end of its log."""
        try:
            lines = self.log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:]
        except OSError:
            lines = []
        return "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"


def _guard(pid: int) -> subprocess.Popen[bytes]:
    """A process that kills the group `pid` when this one is gone, even by kill -9: then its end of the pipe closes."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -s KILL -- -{pid}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


class System:
    """Kafka, the sandbox and the workers of every service. Enter it, or call `start` and `stop`.

    directory:     logs of all processes, and what the sandbox remembers
    namespace:     prefix of topics and groups; systems with different ones do not see each other
    workers:       service → number of workers, where it is not 1
    environment:   for the workers, beside their addresses (FARANDOLE_FAIL, …)
    client_config: of a Kafka that runs; None: the one that KAFKA_BOOTSTRAP_SERVERS names, else the project's embedded
                   one, which is started if it does not run
    progress:      told what is being started
    topics:        to be created; None: those of topics.yaml
    services:      those whose workers are started; None: all there are
    sandbox_options: more of what `farandole sandbox gateway` takes, for each system of the outside world
    """

    def __init__(
        self,
        directory: Path,
        *,
        namespace: str,
        workers: Mapping[str, int] | None = None,
        environment: Mapping[str, str] | None = None,
        client_config: config.ClientConfig | None = None,
        progress: Progress = silent,
        topics: Topics | None = None,
        sandbox_options: Sequence[str] = (),
        services: Sequence[str] | None = None,
    ) -> None:
        self.directory, self.namespace = directory, namespace
        self.root = config.project_root()
        self.topics = topics or Topics.load(self.root / "topics.yaml")
        self.services = tuple(self.topics.services if services is None else services)
        self.passcode_key = secrets.token_hex(32)
        chosen = {**os.environ, **(environment or {})}
        self.metrics_key = config.setting(config.METRICS_KEY, secrets.token_hex(32), chosen)
        self._counts = dict.fromkeys(self.services, 1) | checked_counts(workers or {}, self.services)
        self._environment, self._progress = dict(environment or {}), progress
        self._client_config = client_config
        self._sandbox_options = sandbox_options
        self._kafka: EmbeddedKafka | None = None
        self._sandbox: Sandbox | None = None
        self._starting: Future[Sandbox] | None = None
        self._lock = threading.Lock()
        self.workers: dict[str, list[Worker]] = {}

    # ---- start and stop

    def start(self) -> Self:
        """Return when every worker owns its partitions. What was started is stopped again if that fails."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self) -> None:
        with ThreadPoolExecutor(1) as beside:
            self._starting = beside.submit(Sandbox.start, self.directory, options=self._sandbox_options)
            self._start_kafka()
            self._progress("creating topics", 0, 0)
            self.topics.apply(self.client_config, self.namespace)
            self._sandbox = self._starting.result()
        for service, count in self._counts.items():
            self.workers[service] = [self._new_worker(service, index) for index in range(count)]
        for worker in self._all():
            worker.spawn()
        self.wait_ready()

    def _new_worker(self, service: str, index: int) -> Worker:
        environment = {passcodes.KEY: self.passcode_key, **os.environ, **self.environment, **self._environment}
        environment[config.METRICS_KEY] = self.metrics_key
        return Worker(service, index, self.directory, passcodes.environment_of(service, environment), self.root)

    def _start_kafka(self) -> None:
        if self._client_config is not None:
            return
        if not config.setting("KAFKA_BOOTSTRAP_SERVERS"):
            kafka = EmbeddedKafka(config.kafka_home(), guarded=True, progress=self._progress)
            if not kafka.running:
                self._kafka = kafka  # before it runs: what was begun is stopped, wherever that was interrupted
                kafka.start()
        self._client_config = config.kafka_client_config()
        config.check_broker(self._client_config)

    def stop(self) -> None:
        """Stop all that was started, in order; kill what does not end by itself. Calling it again does nothing."""
        try:
            for worker in self._all():
                worker.signal(signal.SIGTERM)
            deadline = time.monotonic() + STOPPED_WITHIN
            for worker in self._all():
                worker.wait_ended(max(0.0, deadline - time.monotonic()))
        finally:
            # Also where a second Ctrl-C cut the wait short.
            for worker in self._all():
                worker.signal(signal.SIGKILL)
                worker.port.release()
            self.workers = {}
            self._stop_sandbox()
            if self._kafka is not None:
                self._progress("stopping Kafka", 0, 0)
                self._kafka.stop()
                self._kafka = None

    def _stop_sandbox(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None:
            with contextlib.suppress(Exception):  # it failed to start, and that was told
                starting.result().stop()
        self._sandbox = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    # ---- what is there

    @property
    def client_config(self) -> config.ClientConfig:
        """For any confluent_kafka client."""
        if self._client_config is None:
            raise FarandoleError("the system was not started")
        return self._client_config

    @property
    def sandbox(self) -> Sandbox:
        if self._sandbox is None:
            raise FarandoleError("the system was not started")
        return self._sandbox

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to be part of this system."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": str(self.client_config["bootstrap.servers"]),
            "FARANDOLE_NAMESPACE": self.namespace,
            "FARANDOLE_PROJECT": str(self.root),
            **self.sandbox.environment,
        }

    @property
    def kafka_is_ours(self) -> bool:
        """Whether this system started Kafka, and will stop it."""
        return self._kafka is not None

    def url(self, service: str, index: int = 0) -> str:
        return self.worker(service, index).port.url

    def worker(self, service: str, index: int = 0) -> Worker:
        return self.workers[service][index]

    def health(self, service: str, index: int = 0) -> Health | None:
        return self.worker(service, index).health()

    def dead(self) -> list[Worker]:
        """Workers that have ended without having been told to."""
        return [worker for worker in self._all() if worker.died]

    def check(self) -> None:
        """FarandoleError with the last words of whatever has died by itself."""
        for worker in self.dead():
            raise FarandoleError(
                f"the {worker.service} worker died; the end of its log:\n{worker.last_words()}", where=str(worker.log)
            )
        for system in self._sandbox.dead() if self._sandbox else ():
            raise FarandoleError(f"the sandbox's {system} died", where=str(self.directory / f"{system}.log"))
        if self._kafka is not None and not self._kafka.running:
            raise FarandoleError("Kafka died", where=str(self._kafka.home / "logs"))

    def wait_ready(self, seconds: float = READY_WITHIN) -> None:
        """Return when every worker is ready. FarandoleError if one dies, or does not become ready in time."""
        deadline = time.monotonic() + seconds
        waiting, workers = self._all(), len(self._all())
        while waiting:
            self._progress("starting workers", workers - len(waiting), workers)
            waiting = [worker for worker in waiting if not ((health := worker.health()) and health.ready)]
            self.check()
            if waiting and time.monotonic() > deadline:
                names, words = ", ".join(worker.name for worker in waiting), waiting[0].last_words()
                raise FarandoleError(
                    f"not ready after {seconds:.0f} s: {names}; the end of the first one's log:\n{words}",
                    where=str(self.directory),
                )
            time.sleep(LOOK_EVERY)
        self._progress("starting workers", workers, workers)

    # ---- trouble

    def kill(self, service: str, index: int = 0, number: int = signal.SIGKILL) -> None:
        """Send a signal to a worker; after SIGKILL it is gone when this returns."""
        self.worker(service, index).signal(number)

    def restart(self, service: str, index: int = 0) -> Worker:
        """Start a worker again, ending it first if it runs, and come back at once: `wait_ready` waits."""
        worker = self.worker(service, index)
        with self._lock:
            if worker.pid is not None:
                worker.signal(signal.SIGTERM)
                if not worker.wait_ended(STOPPED_WITHIN):
                    worker.signal(signal.SIGKILL)
            worker.spawn()
        return worker

    def add(self, service: str) -> Worker:
        """One more worker of a service, started; `remove` takes it away again."""
        with self._lock:
            workers = self.workers[service]
            checked_counts({service: len(workers) + 1}, self.services)
            worker = self._new_worker(service, 1 + max(each.index for each in workers))
            workers.append(worker)
            worker.spawn()
        return worker

    def remove(self, worker: Worker) -> None:
        """Stop a worker that was added; it hands its partitions over."""
        worker.signal(signal.SIGTERM)
        if not worker.wait_ended(STOPPED_WITHIN):
            worker.signal(signal.SIGKILL)
        with self._lock:
            self.workers[worker.service].remove(worker)
            worker.port.release()

    def _all(self) -> list[Worker]:
        return [worker for workers in self.workers.values() for worker in workers]


def checked_counts(counts: Mapping[str, int], services: Iterable[str]) -> dict[str, int]:
    """Numbers of workers by service; ConfigError if there is no such service, or that is no such number."""
    for service, count in counts.items():
        if service not in services:
            raise ConfigError(f"no such service: {service}", mend=f"one of {', '.join(services)}")
        if not 1 <= count <= MOST_WORKERS:
            raise ConfigError(f"{count} workers of {service} cannot be run", mend=f"1 to {MOST_WORKERS}")
    return dict(counts)
