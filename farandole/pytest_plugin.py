"""Kafka for tests: `pytest --kafka=embedded|testcontainers|env`.

    embedded        a broker of its own for the session, in a temporary directory (the default)
    testcontainers  the same from a Docker image, where a Docker engine answers (FARANDOLE_KAFKA_IMAGE, apache/kafka)
    env             the cluster that KAFKA_BOOTSTRAP_SERVERS names (the default when it is set)

Fixtures: `kafka` (one broker for the whole session), `namespace` (a prefix of topics and groups of this test alone),
`kafka_cluster` (three embedded brokers that may be killed).

Invariant: a test session leaves no broker behind, however it ends; tests share a broker and no topic.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from farandole.config import ClientConfig
    from farandole.kafka import EmbeddedKafka

KINDS = ("embedded", "testcontainers", "env")
KIND = pytest.StashKey[str]()
RUNNING = pytest.StashKey["TestKafka"]()
"""The session's Kafka, once a test has asked for it."""


@dataclass(frozen=True)
class TestKafka:
    """The Kafka of a test session."""

    __test__ = False

    bootstrap_servers: str
    kind: str

    @property
    def config(self) -> ClientConfig:
        """Configuration for any confluent_kafka client."""
        if self.kind == "env":
            from farandole.config import kafka_client_config

            return kafka_client_config()
        return {"bootstrap.servers": self.bootstrap_servers, "log.connection.close": False}

    @property
    def environment(self) -> dict[str, str]:
        """Environment for a process that is to use it."""
        return {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("farandole").addoption(
        "--kafka",
        choices=KINDS,
        help="where tests get Kafka from: embedded, testcontainers, or env (KAFKA_BOOTSTRAP_SERVERS; the default when "
        "that is set, embedded otherwise)",
    )


def pytest_configure(config: pytest.Config) -> None:
    kind = config.getoption("--kafka") or ("env" if os.environ.get("KAFKA_BOOTSTRAP_SERVERS") else "embedded")
    if kind == "env" and not os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        raise pytest.UsageError("--kafka=env needs KAFKA_BOOTSTRAP_SERVERS, which is not set")
    if kind == "testcontainers":
        from farandole.kafka.container import docker_problem

        if problem := docker_problem():
            raise pytest.UsageError(
                f"--kafka=testcontainers: no Docker engine answers ({problem}); use --kafka=embedded"
            )
    config.stash[KIND] = kind


def pytest_report_header(config: pytest.Config) -> str:
    kind = config.stash[KIND]
    if kind == "env":
        return f"kafka: {os.environ['KAFKA_BOOTSTRAP_SERVERS']} (KAFKA_BOOTSTRAP_SERVERS)"
    if kind == "testcontainers":
        return f"kafka: testcontainers, {_image()}"
    from farandole.kafka import jars

    return f"kafka: embedded, Apache Kafka {jars.version()}"


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestKafka]:
    """One broker for the session; keep tests apart with `namespace`."""
    kind = pytestconfig.stash[KIND]
    if kind == "env":
        yield _from_environment()
    elif kind == "testcontainers":
        yield from _from_a_container()
    else:
        for broker in _embedded(pytestconfig, tmp_path_factory.mktemp("kafka"), 1):
            pytestconfig.stash[RUNNING] = TestKafka(broker.bootstrap_servers, kind)
            yield pytestconfig.stash[RUNNING]


@pytest.fixture(scope="module")
def kafka_cluster(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Three embedded brokers, whatever --kafka says: to be killed, one at a time."""
    yield from _embedded(pytestconfig, tmp_path_factory.mktemp("kafka-cluster"), 3)


@pytest.fixture
def namespace(monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix that no other test has, set as FARANDOLE_NAMESPACE."""
    prefix = f"t{secrets.token_hex(4)}."
    monkeypatch.setenv("FARANDOLE_NAMESPACE", prefix)
    return prefix


def _embedded(pytestconfig: pytest.Config, home: Path, brokers: int) -> Iterator[EmbeddedKafka]:
    from farandole.kafka import EmbeddedKafka

    capture = pytestconfig.pluginmanager.getplugin("capturemanager")

    def progress(what: str, done: int, total: int) -> None:
        if total and done == 0 and capture:  # a download: worth a line even in a quiet run
            with capture.global_and_fixture_disabled():
                print(f"\n{what}", file=sys.stderr)

    kafka = EmbeddedKafka(home, brokers, port=0, guarded=True, progress=progress).start()
    try:
        yield kafka
    finally:
        for index in range(brokers):
            kafka.kill(index)  # its data goes too, so it need not be put in order (5 s for three brokers)
        shutil.rmtree(home, ignore_errors=True)


def _from_a_container() -> Iterator[TestKafka]:
    from farandole.errors import FarandoleError
    from farandole.kafka.container import kafka_in_a_container

    with ExitStack() as held:
        try:
            address = held.enter_context(kafka_in_a_container(_image()))
        except FarandoleError as error:
            pytest.exit(str(error), returncode=4)
        yield TestKafka(address, "testcontainers")


def _from_environment() -> TestKafka:
    from farandole.config import check_broker, kafka_client_config
    from farandole.errors import FarandoleError

    try:
        check_broker(kafka_client_config())
    except FarandoleError as error:
        pytest.exit(str(error), returncode=4)
    return TestKafka(os.environ["KAFKA_BOOTSTRAP_SERVERS"], "env")


def _image() -> str:
    from farandole.kafka import jars

    return os.environ.get("FARANDOLE_KAFKA_IMAGE", f"apache/kafka:{jars.version()}")
