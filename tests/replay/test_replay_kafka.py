"""Replay on a real Kafka, of what a demo has left there: everything went wrong, a worker was killed, rows have gone.

Nothing of it is alive any more; so all that there is to know is in the topics.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import AdminClient

from farandole.demo.flows import FLOW, order_services, services_of
from farandole.demo.run import BROKEN_DECISION
from farandole.kafkaerrors import FENCED
from farandole.pytest_plugin import TestKafka

ROOT = Path(__file__).parents[2]
SERVICES = services_of([FLOW])


class Past(NamedTuple):
    """What a demo has left. fail: what made one of its decisions raise"""

    kafka: TestKafka
    namespace: str
    fail: str
    parked: str
    home: Path

    def replay(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "farandole.cli.main", "replay", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**self.environment, **environment},
            timeout=170,
            check=False,
        )

    def json(self, *arguments: str, code: int = 0, **environment: str) -> Any:
        done = self.replay(*arguments, "--json", **environment)
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, **self.kafka.environment, "FARANDOLE_NAMESPACE": self.namespace}


@pytest.fixture(scope="module")
def past(kafka: TestKafka, tmp_path_factory: pytest.TempPathFactory) -> Past:
    home = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "farandole.cli.main", "demo", "--orders", "60", "--seed", "3", "--kill", "inventory@25",
         "--workers", "payment=2", "--json"],
        capture_output=True, text=True, cwd=ROOT, timeout=170, check=False,
        env={**os.environ, **kafka.environment, "FARANDOLE_HOME": str(home)},
    )  # fmt: skip
    outcome = json.loads(done.stdout)
    assert outcome["problems"] == [], done.stderr
    [parked] = outcome["parked"]
    return Past(
        kafka, outcome["audit"]["namespace"], f"{BROKEN_DECISION}@{parked['saga']}", parked["saga"], home
    )  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_history_replayed_is_the_live_tables_to_the_byte(past: Past, service: str) -> None:
    """The decision that failed then does not fail here: what was put aside is put aside all the same."""
    found = past.json("rebuild", service)
    assert (found["differing"], found["moving"], found["notes"]) == (0, [], [])
    assert sum(table["rows"] for table in found["tables"].values()) > 50
    if service == "inventory":
        assert found["tables"]["parked"]["rows"] > 0


def test_from_a_snapshot_nothing_is_left_to_read(past: Past, tmp_path: Path) -> None:
    made = past.json("snapshot", "order", "--out", str(tmp_path / "snapshot"))
    found = past.json("rebuild", "order", "--from-snapshot", str(tmp_path / "snapshot"))
    assert (found["differing"], found["records"]) == (0, 0)
    assert made["rows"] == sum(table["rows"] for table in found["tables"].values()) > 0


def test_with_the_rules_of_then_nothing_differs(past: Past) -> None:
    found = past.json("shadow", FARANDOLE_FAIL=past.fail)
    assert (found["differing"], found["sagas"]) == (0, [])
    assert {name for tables in found["tables"].values() for name, count in tables.items() if count} == set()
    assert found["before"] == found["after"]
    assert found["before"]["parked"] == 1


def test_with_the_bug_mended_the_order_that_it_parked_ends(past: Past) -> None:
    found = past.json("shadow", "--unasked", "accepted")
    otherwise = [each for each in found["sagas"] if each["ended_otherwise"]]
    assert [each["saga"] for each in otherwise] == [past.parked]
    assert (otherwise[0]["before"]["ending"], otherwise[0]["after"]["ending"]) == ("parked", "completed")
    assert otherwise[0]["unasked"], "its card was never authorised then"


def test_replaying_leaves_no_trace(past: Past) -> None:
    admin = AdminClient(dict(past.kafka.config))
    groups = admin.list_consumer_groups().result(20)
    ours = {each.group_id for each in groups.valid if each.group_id.startswith(past.namespace)}
    assert ours <= {f"{past.namespace}{service}" for service in order_services()}


SLOWLY = """
import sys, time
from farandole.replay import moments, world

# A note ten times a second, and lines that take their time: so there is a middle in which it can be stopped.
moments.Moments.__init__.__defaults__ = (0.1, time.monotonic)
moments.SHARE = 0
play = world.World._next

def slowly(self, heads, chains):
    play(self, heads, chains)
    time.sleep(0.01)
    print(f"line {self.lines}", file=sys.stderr, flush=True)

world.World._next = slowly
from farandole.cli.main import main
sys.exit(main())
"""


class TestShadowIsResumed:
    def test_stopped_and_killed_while_it_reads_and_plays_it_ends_as_if_it_had_not_been(
        self, past: Past, tmp_path: Path
    ) -> None:
        whole = _without_seconds(past.json("shadow", "--unasked", "accepted"))
        kept = tmp_path / "kept"
        command = ["shadow", "--unasked", "accepted", "--resume", str(kept)]
        reached: list[tuple[int, int]] = []
        for number, code, rate in (
            (signal.SIGINT, 130, 150), (signal.SIGKILL, -9, 150), (signal.SIGTERM, 143, 0), (signal.SIGKILL, -9, 0),
        ):  # fmt: skip
            process = subprocess.Popen(
                [sys.executable, "-c", SLOWLY, "replay", *command, "--rate", str(rate)],
                env=past.environment, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
            )  # fmt: skip
            before = _reached(kept)
            deadline = time.monotonic() + 60
            while _reached(kept)[rate == 0] < before[rate == 0] + 30:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            process.send_signal(number)
            said, errors = process.communicate(timeout=20)
            assert (process.returncode, said, "Traceback" in errors) == (code, "", False), errors
            reached.append(_reached(kept))
        assert reached == sorted(reached), reached
        assert 0 < reached[0][0] < reached[1][0] < whole["records"] == reached[2][0]
        assert 0 == reached[1][1] < reached[2][1] < reached[3][1] < whole["journal_lines"]
        assert past.json("shadow", "--unasked", "accepted", "--resume", str(kept), "--dry-run")["offsets"] == 0
        done = past.replay(*command, "--json")
        assert f"and {reached[-1][1]:,} journal lines were played" in done.stderr
        assert _without_seconds(json.loads(done.stdout)) == whole
        other = past.replay("shadow", "--resume", str(kept), "--json", FARANDOLE_FAIL=past.fail)
        assert "it begins anew, and nothing is read again" in other.stderr
        assert json.loads(other.stdout)["differing"] == 0

    def test_a_directory_that_cannot_be_used_is_told_in_words(self, past: Past, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        done = past.replay("shadow", "--resume", str(tmp_path / "file"))
        assert (done.returncode, "a file, not a directory" in done.stderr) == (2, True), done.stderr
        assert past.json("shadow", "--resume", str(tmp_path / "none"), "--dry-run")["offsets"] > 0
        assert not (tmp_path / "none").exists()


def _reached(kept: Path) -> tuple[int, int]:
    """Records that are noted to be read, and lines to be played."""
    read, play = kept / "read", kept / "play.gz"
    records = json.loads(read.read_text().split("\n")[0])["records"] if read.exists() else 0
    lines = 0
    if play.exists():
        with gzip.open(play, "rt") as file:
            lines = json.loads(file.readline())["lines"]
    return records, lines


def _without_seconds(found: dict[str, Any]) -> dict[str, Any]:
    return {name: said for name, said in found.items() if "seconds" not in name}


class TestInspect:
    def test_it_shows_every_record_decoded_or_in_hex_and_no_secret(self, past: Past) -> None:
        done = past.replay("inspect")
        assert done.returncode == 0, done.stderr
        said = [json.loads(line) for line in done.stdout.splitlines()]
        unreadable = [each for each in said if each.get("undecodable")]
        assert unreadable
        assert all(bytes.fromhex(each["bytes"].removesuffix("…")) is not None for each in unreadable)
        readable = [line for line in done.stdout.splitlines() if '"undecodable"' not in line]
        assert '"card_token": "***"' in done.stdout
        assert not [line for line in readable if '"tok_' in line]
        places = [(each["topic"], each["partition"], each["offset"]) for each in said]
        assert len(set(places)) == len(places)

    def test_a_saga_is_told_in_the_order_of_time(self, past: Past) -> None:
        said = [json.loads(line) for line in past.replay("inspect", "--saga", past.parked).stdout.splitlines()]
        assert {each["saga"] for each in said} == {past.parked}
        assert [each["time"] for each in said] == sorted(each["time"] for each in said)
        assert said[0]["type"] == "order.commands.place_order"

    def test_what_is_stopped_goes_on_where_it_stopped(self, past: Past, tmp_path: Path) -> None:
        whole = sorted(past.replay("inspect", "--topic", "payment").stdout.splitlines())
        assert len(whole) > 20
        options = ("inspect", "--topic", "payment", "--resume", str(tmp_path / "state"))
        parts: list[str] = []
        for _ in range(3):
            parts += past.replay(*options, "--limit", "15").stdout.splitlines()
        parts += past.replay(*options).stdout.splitlines()
        assert sorted(parts) == whole
        assert past.replay(*options).stdout == ""

    def test_ctrl_c_leaves_a_state_from_which_nothing_is_missed(self, past: Past, tmp_path: Path) -> None:
        whole = sorted(past.replay("inspect", "--topic", "inventory").stdout.splitlines())
        out, state = tmp_path / "out", tmp_path / "state"
        command = ["inspect", "--topic", "inventory", "--resume", str(state), "--out", str(out)]
        process = subprocess.Popen(
            [sys.executable, "-m", "farandole.cli.main", "replay", *command, "--rate", "40"],
            env=past.environment, cwd=ROOT, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not (out.exists() and process.poll() is None):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
        assert (process.returncode, "Traceback" in errors) == (130, False), errors
        assert past.replay(*command).returncode == 0
        assert sorted(out.read_text().splitlines()) == whole

    def test_time_and_offsets_bound_what_is_read(self, past: Past) -> None:
        said = [json.loads(line) for line in past.replay("inspect", "--topic", "shipping").stdout.splitlines()]
        middle = sorted(each["time"] for each in said)[len(said) // 2]
        early, late = (
            past.replay("inspect", "--topic", "shipping", option, middle).stdout.splitlines()
            for option in ("--to-timestamp", "--from-timestamp")
        )
        assert {json.loads(line)["time"] < middle for line in early} == {True}
        assert {json.loads(line)["time"] < middle for line in late} == {False}
        assert len(early) + len(late) == len(said)
        one = said[0]
        place = f"shipping/{one['partition']}/{one['offset']}-{one['offset']}"
        assert [json.loads(line) for line in past.replay("inspect", "--offsets", place).stdout.splitlines()] == [one]


class TestApply:
    def test_it_is_refused_while_a_worker_lives_and_mends_what_differs(self, past: Past) -> None:
        spoil(past, "shipping", "shipments")
        assert past.json("rebuild", "shipping", code=1)["differing"] == 1
        member = Consumer({**past.kafka.config, "group.id": f"{past.namespace}shipping", "auto.offset.reset": "latest"})
        member.subscribe([f"{past.namespace}shipping"])
        try:
            deadline = time.monotonic() + 30
            while not member.assignment():
                assert time.monotonic() < deadline
                member.poll(0.1)
            refused = past.replay("rebuild", "shipping", "--apply")
        finally:
            member.close()
        assert refused.returncode == 4
        assert "1 worker of" in refused.stderr
        assert past.json("rebuild", "shipping", "--apply", "--dry-run", code=1)["differing"] == 1
        assert past.json("rebuild", "shipping", code=1)["differing"] == 1, "a dry run writes nothing"
        applied = past.json("rebuild", "shipping", "--apply")
        assert (applied["written"], applied["left"]) == (1, 0)
        assert past.json("rebuild", "shipping")["differing"] == 0

    def test_a_worker_that_stood_still_meanwhile_is_fenced(self, past: Past) -> None:
        place = spoil(past, "notification", "mails")
        zombie = Producer({**past.kafka.config, "transactional.id": f"{past.namespace}notification-0"})
        zombie.init_transactions(20)
        assert past.json("rebuild", "notification", "--apply")["written"] == 1
        with pytest.raises(KafkaException) as failure:
            erase(zombie, place)
        assert failure.value.args[0].code() in FENCED
        assert past.json("rebuild", "notification")["differing"] == 0


def erase(zombie: Producer, row: Row) -> None:
    """In a transaction. It is told at one step or another that it is fenced."""
    zombie.begin_transaction()
    zombie.produce(row.topic, None, row.key, row.partition)
    zombie.flush(20)
    zombie.commit_transaction(20)


class Row(NamedTuple):
    topic: str
    partition: int
    key: str


def spoil(past: Past, service: str, table: str) -> Row:
    """Somebody writes into a changelog that a row went, which never did."""
    name = f"{service}-{table}-changelog"
    said = past.replay("inspect", "--topic", name).stdout.splitlines()
    first = next(each for line in said if (each := json.loads(line))["type"])
    row = Row(past.namespace + name, first["partition"], first["key"])
    producer = Producer(dict(past.kafka.config))
    producer.produce(row.topic, None, row.key, row.partition)
    assert producer.flush(20) == 0
    return row
