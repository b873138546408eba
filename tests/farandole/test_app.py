"""An App is a Faust App: it lists its agents and tables, and ordinary agents run beside the engine's."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from farandole import App, Row
from farandole.errors import ConfigError
from farandole.testing import tables

ROOT = Path(__file__).parents[2]


class Count(Row, frozen=True):
    n: int


def test_a_table_is_a_faust_table_with_fausts_changelog_name() -> None:
    import faust

    app = App("counting")
    table = app.Table("counts", value=Count, help="How many.")
    assert isinstance(table, faust.Table)
    assert table.changelog_topic.get_topic_name() == "counting-counts-changelog"
    assert dict(app.tables)["counts"] is table
    with tables(app):
        table["a"] = Count(1)
        assert (table["a"], table.get("b"), "a" in table, len(table), list(table)) == (Count(1), None, True, 1, ["a"])
        assert table.pop("a") == Count(1)
        assert table.pop("a", None) is None
        with pytest.raises(KeyError):
            table.pop("a")


def test_an_app_needs_exactly_one_agent_of_its_inbox() -> None:
    app = App("nobody")
    with pytest.raises(ConfigError, match=r"0 agents of app\.inbox"):
        app.batch_agent()


def test_an_ordinary_agent_runs_beside_the_engine(kafka: Any, namespace: str, tmp_path: Path) -> None:
    """In a copy of the inventory service that also listens to a topic of its own, without any guarantee."""
    side = tmp_path / "sideproject.py"
    side.write_text(
        "from agents.inventory import app\n"
        f"side = app.topic('{namespace}side', value_serializer='raw', partitions=1)\n"
        "@app.agent(side)\n"
        "async def remark(stream):\n"
        "    async for value in stream:\n"
        "        print('REMARKED-' + value.decode(), flush=True)\n"
    )
    environment = {
        **os.environ,
        **kafka.environment,
        "FARANDOLE_HOME": str(tmp_path),
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
    }
    admin = AdminClient(dict(kafka.config))
    admin.create_topics([NewTopic(f"{namespace}side", 1, 1)])[f"{namespace}side"].result(10)
    subprocess.run(
        [sys.executable, "-m", "farandole.cli.main", "topics", "apply"],
        cwd=ROOT,
        env=environment,
        check=True,
        timeout=60,
    )
    log = (tmp_path / "log").open("wb")
    worker = subprocess.Popen(
        [sys.executable, "-m", "faust", "-A", "sideproject", "worker", "--without-web", "-l", "info"],
        cwd=ROOT,
        env=environment,
        stdout=log,
        stderr=log,
    )
    try:
        producer = Producer(dict(kafka.config))
        end = time.monotonic() + 60
        wanted = (b"REMARKED-hello", f"{namespace}inventory owns partitions".encode())
        while not all(each in (tmp_path / "log").read_bytes() for each in wanted):
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            assert worker.poll() is None, (tmp_path / "log").read_text()
            producer.produce(f"{namespace}side", b"hello")
            producer.flush(10)
            time.sleep(0.5)
    finally:
        worker.terminate()
        worker.wait(30)
