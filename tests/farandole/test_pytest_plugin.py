"""`--kafka` gives tests the Kafka that it names, or one line that says why it cannot."""

from __future__ import annotations

import psutil
import pytest

from farandole.errors import EmbeddedKafkaError
from farandole.kafka import jars
from farandole.kafka.container import kafka_in_a_container

pytest_plugins = ["pytester"]

CACHE = jars.cache_dir()  # found before pytester gives each test a home of its own

TESTS = """
    seen = []

    def test_one(kafka, namespace):
        seen.append((kafka.bootstrap_servers, namespace))

    def test_two(kafka, namespace):
        import os
        from confluent_kafka.admin import AdminClient
        assert len(AdminClient(kafka.config).list_topics(timeout=10).brokers) == 1
        assert (seen[0][0], True) == (kafka.bootstrap_servers, seen[0][1] != namespace)
        assert os.environ["FARANDOLE_NAMESPACE"] == namespace
"""


def test_embedded_is_the_default_and_ends_with_the_session(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.setenv("FARANDOLE_CACHE", str(CACHE))
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_subprocess(f"--basetemp={pytester.path / 'tmp'}")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["kafka: embedded, Apache Kafka 4.*"])
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(pytester.path) in " ".join(p.info["cmdline"] or [])]


def test_kafka_bootstrap_servers_goes_before_the_embedded_one(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    pytester.makepyfile(test_nothing="def test_nothing(): pass")
    result = pytester.runpytest_subprocess()
    result.stdout.fnmatch_lines(["kafka: 127.0.0.1:1 (KAFKA_BOOTSTRAP_SERVERS)"])


def test_env_without_an_address_is_refused(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    result = pytester.runpytest_subprocess("--kafka=env")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --kafka=env needs KAFKA_BOOTSTRAP_SERVERS*"])


def test_testcontainers_without_a_docker_engine_is_refused(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    result = pytester.runpytest_subprocess("--kafka=testcontainers")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --kafka=testcontainers: no Docker engine answers*--kafka=embedded"])


def test_a_container_that_does_not_start_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(EmbeddedKafkaError, match="could not be started") as raised, kafka_in_a_container("kafka:none"):
        pass
    assert raised.value.where == "kafka:none"
    assert "FARANDOLE_KAFKA_IMAGE" in raised.value.mend
