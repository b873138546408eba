"""Where a benchmark runs: a broker of its own, topics of its own, and nothing of either afterwards.

With KAFKA_BOOTSTRAP_SERVERS set it is that cluster, under a namespace that nobody else has.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from farandole import config
from farandole.config import ClientConfig
from farandole.kafka import EmbeddedKafka
from farandole.topics import Topics

ROOT = Path(__file__).parents[1]

JVM = "-Xms1g -Xmx1g -Xmn512m -XX:+UseParallelGC"
"""The embedded broker as somebody would run it who wants speed: both compilers, and a heap that is seldom collected."""


def tell(text: str) -> None:
    """Progress: to standard error, so that standard output is the result and nothing else."""
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Stage:
    """home: scratch directory; broker_pid: None for somebody else's cluster."""

    home: Path
    kafka: ClientConfig
    topics: Topics
    broker: str
    broker_pid: int | None

    @contextmanager
    def namespace(self, name: str) -> Iterator[str]:
        """Every topic of the system, empty, under a prefix of its own; deleted in the end."""
        prefix = f"bench-{secrets.token_hex(3)}-{name}."
        self.topics.apply(self.kafka, prefix)
        try:
            yield prefix
        finally:
            with suppress(KafkaException):
                admin = AdminClient(dict(self.kafka))
                for future in admin.delete_topics([prefix + topic for topic in self.topics.topics]).values():
                    future.result()

    def environment(self, namespace: str) -> dict[str, str]:
        """For a process that is measured."""
        return {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": str(self.kafka["bootstrap.servers"]),
            "FARANDOLE_NAMESPACE": namespace,
            "FARANDOLE_PROJECT": str(config.project_root()),
            "FARANDOLE_HOME": str(self.home / namespace),
            "FARANDOLE_FAIL": "",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }

    def directory(self) -> Path:
        """Where the processes that are measured run, and leave what they leave: Faust makes a directory there."""
        (self.home / ".farandole" / "faust").mkdir(parents=True, exist_ok=True)
        return self.home


@contextmanager
def stage() -> Iterator[Stage]:
    """A broker that does nothing else, ready; gone with its data when the block is left, however that happens."""
    os.environ.setdefault("FARANDOLE_PROJECT", str(ROOT))
    topics = Topics.load(config.project_root() / "topics.yaml")
    home = Path(tempfile.mkdtemp(prefix="farandole-bench-"))
    try:
        if config.setting("KAFKA_BOOTSTRAP_SERVERS"):
            client = config.kafka_client_config()
            config.check_broker(client)
            yield Stage(home, client, topics, "the cluster of KAFKA_BOOTSTRAP_SERVERS", None)
            return
        with _jvm(), EmbeddedKafka(home / "kafka", port=0, guarded=True, progress=lambda what, *_: tell(what)) as kafka:
            client = {"bootstrap.servers": kafka.bootstrap_servers, "log.connection.close": False}
            yield Stage(home, client, topics, f"embedded, {os.environ['FARANDOLE_KAFKA_JVM']}", kafka.brokers[0].pid)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def _jvm() -> Iterator[None]:
    before = os.environ.get("FARANDOLE_KAFKA_JVM")
    os.environ.setdefault("FARANDOLE_KAFKA_JVM", JVM)
    try:
        yield
    finally:
        if before is None:
            del os.environ["FARANDOLE_KAFKA_JVM"]
