"""The audit on a real Kafka: what it reads, what it leaves alone, and when it says that it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

import events as e
from farandole import audit
from farandole.audit.reading import Reader
from farandole.audit.records import LogRecord, Where
from farandole.errors import AuditError
from tests.farandole.audit_log import Log, topics
from tests.farandole.audit_orders import told

ROOT = Path(__file__).parents[2]


class Installation:
    """The topics of a system on a cluster, with the records of a log in them, each at its offset."""

    def __init__(self, kafka: Any, namespace: str, log: Log) -> None:
        self.kafka, self.namespace, self.log = kafka, namespace, log
        topics().apply(kafka.config, namespace)
        producer = Producer({**kafka.config, "linger.ms": 20})
        now = time.time_ns() // 1_000_000
        for (topic, _), records in log.records.items():
            # Where retention is counted in days, only what is kept for ever tells how much is gone: that is the newest.
            at = now if topics().topics[topic].retention == "forever" else now - 60_000
            for record in records:
                assert record is not None
                producer.produce(namespace + record.topic, record.value, record.key, record.partition, timestamp=at)
        assert producer.flush(30) == 0

    def audit(self, **options: Any) -> audit.Report:
        return audit.run(self.kafka.config, self.namespace, ROOT, **{"settled": True, **options})

    def transaction(self, where: Where) -> Producer:
        """A transaction that has written once more what lies there, and is still open."""
        producer = Producer({**self.kafka.config, "transactional.id": f"{self.namespace}tests", "linger.ms": 0})
        producer.init_transactions(20)
        producer.begin_transaction()
        record = self.log.at(where)
        producer.produce(self.namespace + where.topic, record.value, record.key, where.partition)
        assert producer.flush(20) == 0
        return producer

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """`farandole audit`, on this installation."""
        return subprocess.run(
            [sys.executable, "-m", "farandole.cli.main", "audit", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, **self.kafka.environment, "FARANDOLE_NAMESPACE": self.namespace, **environment},
            timeout=120,
            check=False,
        )


@pytest.fixture
def installation(kafka: Any, namespace: str) -> Iterator[Installation]:
    yield Installation(kafka, namespace, told()[0])
    admin = AdminClient(kafka.config)
    for future in admin.delete_topics([namespace + name for name in topics().topics]).values():
        future.result(20)


def test_what_lies_in_kafka_is_audited_like_what_lies_in_memory(installation: Installation) -> None:
    found, expected = installation.audit().to_dict(), installation.log.audit().to_dict()
    for each in (found, expected):
        del each["namespace"], each["read"]["seconds"]
    assert found == expected
    assert found["ok"]


def test_only_what_was_committed_counts_and_no_trace_is_left(installation: Installation) -> None:
    where = installation.log.one(e.MailAnswered)
    installation.transaction(where).abort_transaction(20)
    assert installation.audit().ok, "the second record was never committed"
    installation.transaction(where).commit_transaction(20)
    report = installation.audit()
    assert report.duplicate_ids == 1
    assert {finding.check for finding in report.findings} == {"duplicate-id", "published-twice"}
    assert all(finding.where.startswith(f"{where.topic}/{where.partition}/") for finding in report.findings)
    groups = AdminClient(installation.kafka.config).list_consumer_groups().result(20)
    assert not [each.group_id for each in groups.valid if each.group_id.startswith(installation.namespace)]


def test_an_open_transaction_is_waited_for_and_not_read_past(installation: Installation) -> None:
    where = installation.log.one(e.MailAnswered)
    producer = installation.transaction(where)
    with pytest.raises(AuditError) as failure:
        installation.audit(patience=3.0)
    assert f"{where.topic}/{where.partition}" in failure.value.where
    assert "transaction" in failure.value.mend
    producer.abort_transaction(20)
    assert installation.audit().ok


def test_a_reading_goes_on_where_the_last_one_ended_whatever_was_written_meanwhile(installation: Installation) -> None:
    """Beyond an end lie records already: they are not for this reading, and all of them for the next one."""
    names = topics().topics
    reader = Reader(installation.kafka.config, installation.namespace, names, patience=10.0)
    taken: list[LogRecord] = []
    try:
        last = reader.ends()
        first = {place: end // 2 for place, end in last.items()}
        for begin, end in ((reader.starts, first), (first, last)):
            count = reader.read(begin, end, taken.append, lambda *_: None, "")
            expected = [r for p, rs in installation.log.records.items() for r in rs[begin[p] : end[p]]]
            assert count == len(expected)
            assert {(r.topic, r.partition, r.offset, r.value) for r in taken} == {
                (r.topic, r.partition, r.offset, r.value) for r in expected if r
            }
            taken.clear()
    finally:
        reader.close()


def test_deleted_records_are_said_and_what_is_left_is_judged(installation: Installation) -> None:
    admin = AdminClient(installation.kafka.config)
    gone = [
        TopicPartition(installation.namespace + topic, partition, len(records) // 2)
        for (topic, partition), records in installation.log.records.items()
        if len(records) > 1 and topics().topics[topic].events
    ]
    for future in admin.delete_records(gone).values():
        future.result(20)
    report = installation.audit()
    assert report.findings == []
    assert report.orders.older > 0
    assert any("retention" in note for note in report.notes)


def test_the_command_says_what_it_found_in_tables_in_json_and_by_its_exit_code(installation: Installation) -> None:
    well = installation.command("--settled")
    assert (well.returncode, "Traceback" in well.stderr) == (0, False), well.stderr
    assert "all is well" in well.stdout
    installation.transaction(installation.log.one(e.MailAnswered)).commit_transaction(20)
    wrong = installation.command("--settled", "--json")
    assert wrong.returncode == 1
    found = json.loads(wrong.stdout)
    assert (found["ok"], found["duplicate_ids"], found["completed"]) == (False, 1, 4)
    told_people = installation.command("--settled")
    assert told_people.returncode == 1
    assert "duplicate-id (1)" in told_people.stdout
    assert "notification.calls/" in told_people.stdout


def test_an_audit_that_cannot_be_carried_out_is_no_report(kafka: Any, namespace: str) -> None:
    with pytest.raises(AuditError, match="there are no topics") as failure:
        audit.run(kafka.config, namespace, ROOT)
    assert "FARANDOLE_NAMESPACE" in failure.value.mend
    with pytest.raises(AuditError, match="does not answer"):
        audit.run({"bootstrap.servers": "127.0.0.1:1"}, namespace, ROOT)
    with pytest.raises(AuditError, match="gateway does not answer"):
        audit.run(kafka.config, namespace, ROOT, gateway="http://127.0.0.1:1")
    with pytest.raises(AuditError, match="is no address"):
        audit.run(kafka.config, namespace, ROOT, gateway="localhost")


def test_a_project_that_cannot_be_read_is_an_audit_that_cannot_be_carried_out(kafka: Any, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match=r"no topics\.yaml"):
        audit.run(kafka.config, "", tmp_path)


def test_a_missing_topic_is_an_audit_that_cannot_be_carried_out(installation: Installation) -> None:
    admin = AdminClient(installation.kafka.config)
    admin.delete_topics([installation.namespace + "shipping"])[installation.namespace + "shipping"].result(20)
    done = installation.command("--json")
    assert done.returncode == 4
    assert done.stdout == ""
    assert f"1 of {len(topics().topics)} topics are missing: shipping" in done.stderr
    assert "mend:" in done.stderr
    topics().apply(installation.kafka.config, installation.namespace)
