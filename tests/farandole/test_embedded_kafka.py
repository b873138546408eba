"""The embedded Kafka keeps what it acknowledged, is found by any process, and never leaves half a download."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from farandole.config import bootstrap_servers
from farandole.errors import BrokerError, ConfigError, EmbeddedKafkaError
from farandole.kafka import EmbeddedKafka, embedded, jars
from farandole.kafka.broker import HOST, Address, Broker

ROOT = Path(__file__).parents[2]


# --- the command line -------------------------------------------------------------------------------------------------


class Project:
    """A project's directory, and the command line in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kafka = EmbeddedKafka(root / ".farandole" / "kafka")

    def environment(self, **more: str) -> dict[str, str]:
        mine = {"FARANDOLE_PROJECT": str(self.root), "PYTHONPATH": str(ROOT), **more}
        foreign = {"KAFKA_BOOTSTRAP_SERVERS", "FARANDOLE_HOME"}
        return {name: value for name, value in os.environ.items() if name not in foreign} | mine

    def begin(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "farandole.cli.main", "kafka", *arguments],
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        process = self.begin(*arguments, **environment)
        output, errors = process.communicate(timeout=120)
        return process.returncode, output, errors

    def json(self, *arguments: str) -> dict[str, Any]:
        _, output, errors = self.run(*arguments, "--json")
        found = json.loads(output or errors)
        assert isinstance(found, dict)
        return found


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    (tmp_path / "topics.yaml").write_text("topics: {}\n")
    made = Project(tmp_path)
    yield made
    made.kafka.clean(force=True)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_kafka_is_started_found_and_stopped_from_the_command_line(project: Project) -> None:
    assert project.run("status")[0] == 3
    code, output, errors = project.run("start", "--port", "0")
    assert (code, output) == (0, f"Kafka runs at {project.kafka.bootstrap_servers}\n"), errors

    code, output, _ = project.run("status")
    assert code == 0
    assert project.kafka.bootstrap_servers in output
    assert str(project.kafka.home / "logs") in output
    # Started again: says so, and that is no failure.
    code, output, _ = project.run("start")
    assert (code, output) == (0, f"Kafka was already running at {project.kafka.bootstrap_servers}\n")
    # Another size: says how to have it.
    code, _, errors = project.run("start", "--brokers", "3")
    assert code == 3
    assert "has 1 broker(s), not 3" in errors
    assert "farandole kafka clean --force" in errors

    code, _, errors = project.run("clean")
    assert code == 3
    assert "--force" in errors
    found = project.json("stop")
    assert found["was_running"]
    assert not found["running"]
    assert project.run("stop")[:2] == (0, "Kafka was not running\n")
    assert project.run("clean")[0] == 0
    assert [path.name for path in project.kafka.home.iterdir()] == ["lock"]


def test_json_is_one_object_with_the_addresses_and_logs(project: Project) -> None:
    found = project.json("start", "--port", "0")
    assert found["running"]
    assert not found["already_running"]
    (broker,) = found["brokers"]
    assert found["bootstrap_servers"] == f"127.0.0.1:{broker['port']}"
    assert Path(broker["log"]).stat().st_size > 0
    assert project.json("start")["already_running"]
    os.kill(broker["pid"], signal.SIGKILL)
    project.kafka.brokers[0].wait_ended(5)
    assert project.json("status")["running"] is False


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["start", "--brokers", "2"], "choose 1 or 3"),
        (["start", "--brokers", "many"], "--brokers"),
        (["start", "--port", "70000"], "--port"),
        (["start", "--ports", "1"], "--ports"),
        (["begin"], "begin"),
    ],
)
def test_a_bad_flag_is_an_error_that_names_it(project: Project, arguments: list[str], says: str) -> None:
    code, _, errors = project.run(*arguments)
    assert code == 2
    assert says in errors
    assert "Traceback" not in errors


def test_a_port_that_was_asked_for_and_is_taken_is_an_error(project: Project, taken_port: int) -> None:
    code, _, errors = project.run("start", "--port", str(taken_port))
    assert code == 3
    assert f"port {taken_port} is taken" in errors
    assert "--port" in errors


def test_when_the_usual_port_is_taken_another_is_used_and_named(
    project: Project, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "USUAL_PORT", taken_port)
    kafka = project.kafka.start()
    assert kafka.brokers[0].me.port != taken_port
    assert kafka.notes == [f"port {taken_port} is taken, so broker 1 uses another"]
    assert topics_of(kafka) == set()


def test_a_port_that_is_taken_at_the_last_moment_is_given_up(
    project: Project, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = embedded.hold_free
    offers = iter([taken_port])
    monkeypatch.setattr(embedded, "hold_free", lambda held: next(offers, None) or free(held))
    kafka = EmbeddedKafka(project.kafka.home, port=0, guarded=True).start()
    assert kafka.brokers[0].me.port != taken_port
    assert topics_of(kafka) == set()


def test_two_starts_at_once_make_one_kafka(project: Project) -> None:
    starts = [project.begin("start", "--port", "0", "--json") for _ in range(2)]
    results = [json.loads(process.communicate(timeout=120)[0]) for process in starts]
    assert results[0]["brokers"] == results[1]["brokers"]
    assert sorted(process.returncode for process in starts) == [0, 0]


def test_ctrl_c_while_it_starts_leaves_nothing_behind(project: Project) -> None:
    process = project.begin("start", "--port", "0")
    eventually(lambda: any(broker.pid for broker in project.kafka.brokers))
    pid = project.kafka.brokers[0].pid
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert pid
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_java_option_that_is_wrong_is_reported_in_java_s_words(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FARANDOLE_KAFKA_JVM", "-Xmx256m -XX:+NoSuchThing")
    with pytest.raises(EmbeddedKafkaError, match="Unrecognized VM option 'NoSuchThing"):
        project.kafka.start()
    monkeypatch.setenv("FARANDOLE_KAFKA_JVM", "'-Xmx256m")
    with pytest.raises(ConfigError, match="No closing quotation"):
        project.kafka.start()


def test_a_description_that_cannot_be_read_says_how_to_begin_afresh(project: Project) -> None:
    project.kafka.start()
    pid = project.kafka.brokers[0].pid
    (project.kafka.home / "cluster.json").write_text("{")
    code, _, errors = project.run("status")
    assert code == 3
    assert "farandole kafka clean --force" in errors
    assert project.run("clean", "--force")[0] == 0
    assert pid
    eventually(lambda: not psutil.pid_exists(pid))


# --- what a broker promises -------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "kafka, no: a path with spaces and ünlauts".replace(",", "")


def test_what_was_acknowledged_survives_kill_9_and_a_stop(home: Path) -> None:
    with EmbeddedKafka(home, port=0, guarded=True) as kafka:
        make_topic(kafka, "kept", replicas=1)
        acknowledged = produce(kafka, "kept", range(20_000))
        kafka.kill(0)
        assert not kafka.running
        kafka.restart(0)
        assert read(kafka, "kept") == acknowledged
        address = kafka.bootstrap_servers
        kafka.stop()
        kafka.start()
        assert kafka.bootstrap_servers == address
        assert read(kafka, "kept") == acknowledged


def test_a_broker_listens_on_loopback_alone_and_makes_no_topic_by_itself(home: Path) -> None:
    with EmbeddedKafka(home, port=0, guarded=True) as kafka:
        (broker,) = kafka.brokers
        listening = [c for c in psutil.Process(broker.pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert {c.laddr.ip.removeprefix("::ffff:") for c in listening} == {HOST}
        with pytest.raises(AssertionError, match="UNKNOWN_TOPIC_OR_PART"):
            produce(kafka, "never-made", range(1))


def test_a_guarded_broker_ends_with_the_process_that_started_it(home: Path) -> None:
    program = f"""
import time
from pathlib import Path
from farandole.kafka import EmbeddedKafka
EmbeddedKafka(Path({str(home)!r}), port=0, guarded=True).start()
print("started", flush=True)
time.sleep(60)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    broker = EmbeddedKafka(home).brokers[0]
    assert broker.pid
    process.kill()
    process.wait()
    assert broker.wait_ended(5)


def test_a_pid_that_belongs_to_somebody_else_is_not_the_broker(home: Path) -> None:
    broker = Broker(home, Address(1, 1, 2))
    broker.directory.mkdir(parents=True)
    (broker.directory / "pid").write_text(f"{os.getpid()}\n")
    assert broker.pid is None
    broker.signal(signal.SIGTERM)  # else this test would end here


def test_a_broker_that_ignores_sigterm_is_killed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "STOP_SECONDS", 0.5)
    kafka = EmbeddedKafka(home, port=0, guarded=True).start()
    (broker,) = kafka.brokers
    broker.signal(signal.SIGSTOP)
    kafka.stop()
    assert broker.pid is None


def test_of_three_brokers_one_may_be_killed_and_nothing_is_lost(kafka_cluster: EmbeddedKafka) -> None:
    make_topic(kafka_cluster, "replicated", replicas=3)
    before = produce(kafka_cluster, "replicated", range(5_000))
    leader = leader_of(kafka_cluster, "replicated")
    kafka_cluster.kill(leader - 1)
    after = produce(kafka_cluster, "replicated", range(5_000, 10_000))
    assert leader_of(kafka_cluster, "replicated") != leader
    assert not kafka_cluster.running
    kafka_cluster.restart(leader - 1)
    assert kafka_cluster.running
    assert read(kafka_cluster, "replicated") == before + after
    eventually(lambda: in_sync(kafka_cluster, "replicated") == {1, 2, 3})


# --- the download -----------------------------------------------------------------------------------------------------


class Repository:
    """A Maven repository on loopback with the locked jars, which counts, delays and spoils."""

    def __init__(self, directory: Path) -> None:
        self.asked: Counter[str] = Counter()
        self.delay = 0.0
        self.spoil = ""
        repository = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.rsplit("/", 1)[-1]
                repository.asked[name] += 1
                path = directory / name
                if not path.exists():
                    self.send_error(404)
                    return
                body = path.read_bytes() + (b"!" if name == repository.spoil else b"")
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                time.sleep(repository.delay)
                try:
                    self.wfile.write(body)
                except OSError:
                    self.close_connection = True  # the client was interrupted

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://{HOST}:{self._server.server_port}"

    @property
    def jars(self) -> Counter[str]:
        return Counter({name: times for name, times in self.asked.items() if name.endswith(".jar")})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def fetched() -> Path:
    """The real download, done before or now."""
    return embedded.prepare().bootstrap.parent


@pytest.fixture
def repository(fetched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    made = Repository(fetched)
    settings = tmp_path / "jgo.conf"
    settings.write_text(f"[repositories]\ncentral = {made.url}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
    monkeypatch.setenv("FARANDOLE_CACHE", str(tmp_path / "cache"))
    yield made
    made.close()


FETCH = "from farandole.kafka.embedded import prepare; print(prepare().bootstrap.parent)"


def fetch() -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def kept(tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache").glob("*.part/*.jar")}


def complete(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").glob("kafka-*") if path.is_dir() and path.suffix != ".part"]


def test_every_jar_is_the_one_that_the_lock_file_names(fetched: Path) -> None:
    locked = jars.locked()
    assert len(locked) == 46
    for jar in locked:
        assert hashlib.sha256((fetched / jar.name).read_bytes()).hexdigest() == jar.sha256


def test_the_lock_file_names_no_address() -> None:
    assert "://" not in jars.LOCK.read_text() + jars.SPEC.read_text()


def test_the_lock_file_belongs_to_its_specification() -> None:
    from jgo.env import LockFile, compute_spec_hash

    assert LockFile.load(jars.LOCK).spec_hash == compute_spec_hash(jars.SPEC)


def test_two_processes_download_once(repository: Repository, tmp_path: Path) -> None:
    processes = [fetch(), fetch()]
    results = [process.communicate(timeout=120) for process in processes]
    directories = {output.strip() for output, _ in results}
    assert directories == {str(path) for path in complete(tmp_path)}, results
    assert set(repository.jars.values()) == {1}
    assert len(repository.jars) == 46


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_an_interrupted_download_is_never_taken_for_whole_and_goes_on_where_it_stopped(
    repository: Repository, tmp_path: Path, number: signal.Signals
) -> None:
    repository.delay = 0.2
    process = fetch()
    eventually(lambda: len(kept(tmp_path)) >= 3)
    process.send_signal(number)
    began = time.monotonic()
    assert process.wait(30) != 0
    assert time.monotonic() - began < 3
    assert complete(tmp_path) == []
    here = kept(tmp_path)

    repository.delay = 0
    repository.asked.clear()
    output, errors = fetch().communicate(timeout=120)
    assert output.strip() == str(complete(tmp_path)[0]), errors
    assert set(repository.jars) == {jar.name for jar in jars.locked()} - here


def test_a_jar_that_is_not_the_locked_one_is_refused_and_not_kept(repository: Repository, tmp_path: Path) -> None:
    repository.spoil = next(jar.name for jar in jars.locked() if jar.artifact == "re2j")
    with pytest.raises(EmbeddedKafkaError, match=rf"{repository.spoil} is not the file that the lock file names"):
        embedded.prepare()
    assert complete(tmp_path) == []
    assert repository.spoil not in kept(tmp_path)


def test_without_a_network_the_message_says_what_to_check(repository: Repository, tmp_path: Path) -> None:
    repository.close()
    with pytest.raises(EmbeddedKafkaError) as failure:
        embedded.prepare()
    assert "could not be downloaded" in failure.value.what
    assert repository.url in failure.value.where
    assert "HTTPS_PROXY" in failure.value.mend
    assert complete(tmp_path) == []


def test_a_jar_that_was_removed_is_fetched_again(repository: Repository, tmp_path: Path) -> None:
    directory = embedded.prepare().bootstrap.parent
    gone = jars.locked()[5].name
    (directory / gone).unlink()
    repository.asked.clear()
    assert embedded.prepare().bootstrap.parent == directory
    assert (directory / gone).exists()


def test_a_cache_that_cannot_be_written_is_an_error_that_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FARANDOLE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(EmbeddedKafkaError) as failure:
        embedded.prepare()
    assert "FARANDOLE_CACHE" in failure.value.mend


# --- who finds it -----------------------------------------------------------------------------------------------------


def test_a_project_s_clients_find_its_kafka(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP_SERVERS", raising=False)
    monkeypatch.delenv("FARANDOLE_HOME", raising=False)
    monkeypatch.setenv("FARANDOLE_PROJECT", str(project.root))
    with pytest.raises(BrokerError, match="there is no Kafka"):
        bootstrap_servers()
    project.kafka.start()
    assert bootstrap_servers() == project.kafka.bootstrap_servers


# --- helpers ----------------------------------------------------------------------------------------------------------


def eventually(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def admin(kafka: EmbeddedKafka) -> AdminClient:
    return AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})


def topics_of(kafka: EmbeddedKafka) -> set[str]:
    return {name for name in admin(kafka).list_topics(timeout=10).topics if not name.startswith("__")}


def make_topic(kafka: EmbeddedKafka, topic: str, replicas: int) -> None:
    client = admin(kafka)  # the answer does not outlive it
    client.create_topics([NewTopic(topic, 1, replicas)])[topic].result(30)


def leader_of(kafka: EmbeddedKafka, topic: str) -> int:
    found = admin(kafka).list_topics(topic, timeout=10).topics[topic].partitions[0].leader
    assert isinstance(found, int)
    return found


def in_sync(kafka: EmbeddedKafka, topic: str) -> set[int]:
    return set(admin(kafka).list_topics(topic, timeout=10).topics[topic].partitions[0].isrs)


def produce(kafka: EmbeddedKafka, topic: str, numbers: range) -> list[int]:
    """Send the numbers; all of them must be acknowledged."""
    failures: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "enable.idempotence": True,
            "log_level": 0,
            "topic.metadata.propagation.max.ms": 0,
        }
    )
    for number in numbers:
        producer.produce(
            topic, str(number), on_delivery=lambda error, _: failures.append(error.name()) if error else None
        )
    assert producer.flush(60) == 0
    assert not failures, failures[0]
    return list(numbers)


def read(kafka: EmbeddedKafka, topic: str) -> list[int]:
    """Everything in the topic's partition, in order."""
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": "reader", "log_level": 0})
    partition = TopicPartition(topic, 0, 0)
    _, end = consumer.get_watermark_offsets(partition, timeout=30)
    consumer.assign([partition])
    found: list[int] = []
    while len(found) < end:
        found += [int(message.value() or b"") for message in consumer.consume(5_000, 1)]
    consumer.close()
    return found
