"""Settings: the environment first, then the project's `.env`, then the default.

    KAFKA_BOOTSTRAP_SERVERS    host:port,…; without it the project's own embedded Kafka, if it runs
    KAFKA_SECURITY_PROTOCOL    PLAINTEXT (default), SSL, SASL_PLAINTEXT, SASL_SSL
    KAFKA_SASL_MECHANISM       PLAIN, SCRAM-SHA-256, SCRAM-SHA-512
    KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD
    KAFKA_SSL_CA_LOCATION      a file of certificates; the system's otherwise
    SCHEMA_REGISTRY_URL        without it schema ids come from schemas/ids.json
    FARANDOLE_NAMESPACE        prefix of every topic and group, so that systems can share a cluster
    FARANDOLE_PROJECT          the project's directory; else the nearest one upward with a topics.yaml
    FARANDOLE_HOME             state of this machine: the embedded Kafka's data; else .farandole in the project

Invariant: nothing is read at import, so a test or a command may set the environment first; a password never shows in a
repr, an error or a log.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from farandole.errors import BrokerError, ConfigError

ClientConfig: TypeAlias = dict[str, str | int | float | bool]
"""Configuration of a confluent_kafka client."""

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
ANSWER_SECONDS = 10.0

METRICS_KEY = "FARANDOLE_METRICS_KEY"
LEAST_METRICS_KEY = 32

KEEP_SECONDS = 7 * 24 * 3600
"""For how long the row of an ended saga stays, unless FARANDOLE_KEEP_SECONDS says otherwise."""

OPEN_SAGAS = 10_000
"""How many sagas of a partition may be open before new ones wait, unless FARANDOLE_OPEN_SAGAS says otherwise."""


class Secret(str):
    """A string whose repr does not tell it: dictionaries of settings end up in logs and tracebacks."""

    def __repr__(self) -> str:
        return "'***'"


def project_root() -> Path:
    """The project's directory: FARANDOLE_PROJECT, or the nearest one, from here upward, that has a topics.yaml."""
    if chosen := os.environ.get("FARANDOLE_PROJECT"):
        root = Path(chosen).expanduser().absolute()
        if not root.is_dir():
            raise ConfigError(
                "the project's directory does not exist",
                where=f"FARANDOLE_PROJECT={chosen}",
                mend="name the directory that holds topics.yaml",
            )
        return root
    here = Path.cwd()
    for directory in (here, *here.parents):
        if (directory / "topics.yaml").exists():
            return directory
    raise ConfigError(
        "this is no project: there is no topics.yaml here or above",
        where=str(here),
        mend="go to the project's directory, or name it in FARANDOLE_PROJECT",
    )


def setting(name: str, default: str = "", environment: Mapping[str, str] = os.environ) -> str:
    """A setting by its name; an empty one counts as unset."""
    return environment.get(name) or _dotenv().get(name) or default


def keep_seconds() -> float:
    """For how long the row of an ended saga stays. ConfigError if that is no time."""
    said = setting("FARANDOLE_KEEP_SECONDS", str(KEEP_SECONDS))
    try:
        seconds = float(said)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e10:
        raise ConfigError(
            f"{said!r} is no time for which rows of ended sagas stay",
            where="FARANDOLE_KEEP_SECONDS",
            mend=f"seconds, more than 0; {KEEP_SECONDS} (seven days) if it is not set",
        )
    return seconds


def metrics_key(environment: Mapping[str, str] = os.environ) -> str:
    """With which figures of discreet services are asked for; empty: nobody is told. ConfigError if it is short."""
    key = setting(METRICS_KEY, environment=environment)
    if key and len(key) < LEAST_METRICS_KEY:
        raise ConfigError(
            f"{METRICS_KEY} has {len(key)} characters",
            where="environment",
            mend=f"{LEAST_METRICS_KEY} characters or more, such as `openssl rand -hex 32` says; unset: nobody is told",
        )
    return key


def open_sagas() -> int:
    """How many sagas of a partition may be open before new ones wait. ConfigError if that is no number."""
    said = setting("FARANDOLE_OPEN_SAGAS", str(OPEN_SAGAS))
    if not said.isascii() or not said.isdigit() or not 0 < int(said) < 1_000_000_000:
        raise ConfigError(
            f"{said!r} is no number of sagas that may be open",
            where="FARANDOLE_OPEN_SAGAS",
            mend=f"a whole number, 1 or more; {OPEN_SAGAS} if it is not set",
        )
    return int(said)


def namespace() -> str:
    """Prefix of every topic's and consumer group's name."""
    prefix = setting("FARANDOLE_NAMESPACE")
    if not re.fullmatch(r"[A-Za-z0-9._-]{0,100}", prefix):
        raise ConfigError(
            f"{prefix!r} cannot begin the name of a topic",
            where="FARANDOLE_NAMESPACE",
            mend="use at most 100 letters, digits, dots, dashes and underscores",
        )
    return prefix


def home() -> Path:
    """Where this machine keeps the project's state."""
    if chosen := setting("FARANDOLE_HOME"):
        return Path(chosen).expanduser().absolute()
    return project_root() / ".farandole"


def kafka_home() -> Path:
    """Where the project's embedded Kafka lives."""
    return home() / "kafka"


def schema_registry_url() -> str | None:
    """Address of the schema registry, or None: ids are in schemas/ids.json."""
    return setting("SCHEMA_REGISTRY_URL") or None


def kafka_client_config() -> ClientConfig:
    """Where Kafka is and how to log in, for any confluent_kafka client: begin from it, add your own."""
    config: ClientConfig = {
        "bootstrap.servers": bootstrap_servers(),
        "client.id": "farandole",
        # Brokers close idle connections; that is no news.
        "log.connection.close": False,
    }
    protocol = _one_of("KAFKA_SECURITY_PROTOCOL", PROTOCOLS)
    if protocol != "PLAINTEXT":
        config["security.protocol"] = protocol
    if protocol.startswith("SASL_"):
        config |= {
            "sasl.mechanism": _one_of("KAFKA_SASL_MECHANISM", MECHANISMS),
            "sasl.username": _needed("KAFKA_SASL_USERNAME", protocol),
            "sasl.password": Secret(_needed("KAFKA_SASL_PASSWORD", protocol)),
        }
    if protocol.endswith("SSL") and (authorities := setting("KAFKA_SSL_CA_LOCATION")):
        config["ssl.ca.location"] = _file("KAFKA_SSL_CA_LOCATION", authorities)
    return config


def bootstrap_servers() -> str:
    """The brokers to begin with: the ones that are set, else the embedded Kafka's."""
    if chosen := setting("KAFKA_BOOTSTRAP_SERVERS"):
        for address in chosen.split(","):
            if not re.fullmatch(r"\s*(\[[0-9a-fA-F:]+]|[^\s:/\[\]]+):\d{1,5}\s*", address):
                raise ConfigError(
                    f"{address!r} is not host:port",
                    where=f"KAFKA_BOOTSTRAP_SERVERS={chosen}",
                    mend="write host:port, several with commas between",
                )
        return chosen
    from farandole.kafka import EmbeddedKafka

    kafka = EmbeddedKafka(kafka_home())
    if not kafka.running:
        raise BrokerError(
            "there is no Kafka: KAFKA_BOOTSTRAP_SERVERS is not set and the embedded one does not run",
            where=str(kafka.home),
            mend="run `farandole kafka start`, or set KAFKA_BOOTSTRAP_SERVERS",
        )
    return kafka.bootstrap_servers


def check_broker(config: Mapping[str, str | int | float | bool], timeout: float = ANSWER_SECONDS) -> None:
    """Return if a broker answers within `timeout` seconds; a BrokerError that says why it did not otherwise."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient

    reasons: list[str] = []

    def heard(error: KafkaError) -> None:
        if error.code() != KafkaError._ALL_BROKERS_DOWN:  # says nothing that the others did not
            reasons.append(error.str())

    where = str(config.get("bootstrap.servers"))
    settings: dict[str, Any] = {**config, "error_cb": heard, "log_level": 0}
    admin = AdminClient(settings)
    try:
        admin.list_topics(timeout=timeout)
    except KafkaException as error:
        admin.poll(0)  # librdkafka tells its reasons only now
        raise BrokerError(
            f"Kafka does not answer: {reasons[-1] if reasons else error.args[0].str()}",
            where=where,
            mend="check KAFKA_BOOTSTRAP_SERVERS and the other KAFKA_ settings; "
            "`farandole kafka start` gives you a Kafka on this machine",
        ) from None


def _one_of(name: str, allowed: tuple[str, ...]) -> str:
    value = setting(name, allowed[0]).upper()
    if value not in allowed:
        raise ConfigError(f"{value!r} is not known", where=name, mend=f"use one of {', '.join(allowed)}")
    return value


def _needed(name: str, protocol: str) -> str:
    if value := setting(name):
        return value
    raise ConfigError(f"{protocol} needs {name}", where=name, mend="set it in the environment or in .env")


def _file(name: str, path: str) -> str:
    if not Path(path).expanduser().is_file():
        raise ConfigError(f"{path} is not a file", where=name, mend="name a file of certificates (PEM)")
    return str(Path(path).expanduser())


_dotenv_seen: dict[Path, tuple[int, dict[str, str]]] = {}


def _dotenv() -> dict[str, str]:
    """The project's .env, read again only when it changed."""
    try:
        path = project_root() / ".env"
        changed = path.stat().st_mtime_ns
    except (ConfigError, FileNotFoundError):
        return {}
    if path not in _dotenv_seen or _dotenv_seen[path][0] != changed:
        _dotenv_seen[path] = changed, _parse(path)
    return _dotenv_seen[path][1]


_LINE = re.compile(r"""(?:export\s+)?([A-Za-z_]\w*)\s*=\s*("[^"]*"|'[^']*'|[^#'"]*?)\s*(?:\#.*)?""")


def _parse(path: Path) -> dict[str, str]:
    values = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if not match:
            # The line itself is not shown: it may hold a password.
            raise ConfigError("this line is not NAME=value", where=f"{path}:{number}", mend="quote values with # or '")
        values[match[1]] = match[2].strip("\"'")
    return values
