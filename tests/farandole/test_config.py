"""Settings come from the environment, then .env, then the default; a bad one is named, a password never shown."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from confluent_kafka import Producer

from farandole import config
from farandole.errors import BrokerError, ConfigError
from farandole.pytest_plugin import TestKafka

NAMES = [
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SASL_MECHANISM",
    "KAFKA_SASL_USERNAME",
    "KAFKA_SASL_PASSWORD",
    "KAFKA_SSL_CA_LOCATION",
    "SCHEMA_REGISTRY_URL",
    "FARANDOLE_NAMESPACE",
    "FARANDOLE_HOME",
    "FARANDOLE_PROJECT",
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "topics.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_environment_goes_before_dotenv_and_dotenv_before_the_default(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config.namespace() == ""
    (project / ".env").write_text("FARANDOLE_NAMESPACE=from-file.\n")
    assert config.namespace() == "from-file."
    monkeypatch.setenv("FARANDOLE_NAMESPACE", "from-environment.")
    assert config.namespace() == "from-environment."


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("SCHEMA_REGISTRY_URL=http://r:8081", "http://r:8081"),
        ("  export SCHEMA_REGISTRY_URL = http://r:8081  # a comment", "http://r:8081"),
        ("SCHEMA_REGISTRY_URL='http://r:8081/#x'", "http://r:8081/#x"),
        ('SCHEMA_REGISTRY_URL="http://r:8081/#x" # a comment', "http://r:8081/#x"),
        ("SCHEMA_REGISTRY_URL=", None),
        ("# SCHEMA_REGISTRY_URL=http://r:8081", None),
    ],
)
def test_dotenv_is_read_as_people_write_it(project: Path, line: str, value: str | None) -> None:
    (project / ".env").write_text(f"\n# settings\n{line}\n")
    assert config.schema_registry_url() == value


def test_a_bad_line_of_dotenv_is_named_and_not_shown(project: Path) -> None:
    (project / ".env").write_text("A=1\nKAFKA_SASL_PASSWORD hunter2\n")
    with pytest.raises(ConfigError) as failure:
        config.namespace()
    assert failure.value.where == f"{project / '.env'}:2"
    assert "hunter2" not in str(failure.value)


def test_the_project_is_the_nearest_directory_upward_with_a_topics_yaml(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = project / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert config.project_root() == project
    assert config.kafka_home() == project / ".farandole" / "kafka"
    monkeypatch.setenv("FARANDOLE_HOME", str(project / "elsewhere"))
    assert config.kafka_home() == project / "elsewhere" / "kafka"
    monkeypatch.setenv("FARANDOLE_PROJECT", str(below))
    assert config.project_root() == below


def test_outside_a_project_the_message_says_how_to_name_one(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ConfigError) as failure:
        config.project_root()
    assert "FARANDOLE_PROJECT" in failure.value.mend
    monkeypatch.setenv("FARANDOLE_PROJECT", str(project / "missing"))
    with pytest.raises(ConfigError, match="does not exist"):
        config.project_root()


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": "localhost"}, "host:port"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "http://a:9092"}, "host:port"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "a:9092,,b:9092"}, "host:port"),
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, "SASL_SSL"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "KAFKA_SASL_USERNAME"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "me"}, "KAFKA_SASL_PASSWORD"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "KAFKA_SASL_MECHANISM": "GUESS"}, "SCRAM-SHA-512"),
        ({"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CA_LOCATION": "missing.pem"}, "KAFKA_SSL_CA_LOCATION"),
    ],
)
def test_a_bad_setting_is_named(
    project: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], names: str
) -> None:
    for name, value in {"KAFKA_BOOTSTRAP_SERVERS": "a:9092", **settings}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as failure:
        config.kafka_client_config()
    assert names in str(failure.value)
    assert failure.value.mend


@pytest.mark.parametrize("prefix", ["a b", "a/b", "ä", "x" * 101])
def test_a_namespace_that_cannot_begin_a_topic_is_refused(
    project: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setenv("FARANDOLE_NAMESPACE", prefix)
    with pytest.raises(ConfigError, match="cannot begin the name of a topic"):
        config.namespace()


def test_a_password_reaches_the_client_and_no_repr(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (project / "ca.pem").touch()
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": "a:9092,[::1]:9092",
        "KAFKA_SECURITY_PROTOCOL": "sasl_ssl",
        "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "KAFKA_SASL_USERNAME": "me",
        "KAFKA_SASL_PASSWORD": "hunter2",
        "KAFKA_SSL_CA_LOCATION": "ca.pem",
    }.items():
        monkeypatch.setenv(name, value)
    made = config.kafka_client_config()
    assert made["security.protocol"] == "SASL_SSL"
    assert made["sasl.username"] == "me"
    assert made["ssl.ca.location"] == "ca.pem"
    assert made["sasl.password"] == "hunter2"
    merged = {**made, "group.id": "x"}
    assert "hunter2" not in repr(merged) + str(merged) + f"{merged}"


def test_a_key_for_figures_that_could_be_tried_out_is_refused_and_not_shown(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config.metrics_key() == ""
    monkeypatch.setenv("FARANDOLE_METRICS_KEY", "k" * 32)
    assert config.metrics_key() == "k" * 32
    monkeypatch.setenv("FARANDOLE_METRICS_KEY", "short")
    with pytest.raises(ConfigError, match="FARANDOLE_METRICS_KEY has 5 characters") as refused:
        config.metrics_key()
    assert "short" not in str(refused.value)


def test_confluent_kafka_takes_the_configuration(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "KAFKA_SASL_USERNAME": "me",
        "KAFKA_SASL_PASSWORD": "hunter2",
    }.items():
        monkeypatch.setenv(name, value)
    Producer({**config.kafka_client_config(), "log_level": 0})


def test_without_a_broker_the_message_says_where_and_what_to_do() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    with pytest.raises(BrokerError, match=r"Kafka does not answer: .*Connection refused") as failure:
        config.check_broker({"bootstrap.servers": address}, timeout=1.5)
    assert time.monotonic() - began < 4
    assert failure.value.where == address
    assert "farandole kafka start" in failure.value.mend


def test_a_broker_that_answers_passes(kafka: TestKafka) -> None:
    config.check_broker(kafka.config)
