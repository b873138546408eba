"""More subscribers: their figures, and processes that fail or are stopped."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import TopicPartition

import events
from farandole.compare import audience, standins
from farandole.compare.costs import Turn
from farandole.compare.facts import MESSAGE, Facts, Traffic
from farandole.compare.standins import Done
from farandole.compare.subscribers import reads
from farandole.errors import FarandoleError
from farandole.event import Meta
from tests.farandole.audit_log import codec
from tests.flows.scenarios import an_order


def a_turn(mode: str, began: int, **cpu: float) -> Turn:
    return Turn(1, mode, 10, 2.0, cpu, began, began + 10)


def test_what_subscribers_cost_is_told_for_each_order_and_apart_from_the_services() -> None:
    turns = [
        (a_turn("nobody", 0, order=0.1, broker=0.2), Done(0, 0, 0, 0)),
        (a_turn("commanded", 20, order=0.1, broker=0.4, **{"audience, commander": 0.1, "audience, answerers": 0.2}),
         Done(100, 900, 60, 600)),
        (a_turn("commanded", 40, order=0.3, broker=0.4), Done(100, 900, 60, 600)),
    ]  # fmt: skip
    found = audience.table(3, turns, Facts(traffic=[Traffic(25, MESSAGE, 1)]))
    assert found["number"] == 3
    modes = found["modes"]
    assert (modes["nobody"]["broker_cpu_ms"], modes["nobody"]["written"]) == (20.0, 0)
    told = modes["commanded"]
    assert (told["orders"], told["orders_per_second"]) == (20, 5.0)
    assert (told["cpu_ms"], told["broker_cpu_ms"], told["audience_cpu_ms"]) == (20.0, 40.0, 15.0)
    assert (told["written"], told["written_bytes"], told["read"], told["read_bytes"]) == (6.0, 60.0, 10.0, 90.0)
    assert modes["heard"]["broker_cpu_ms"] is None
    assert audience.table(3, [], Facts()) == {}


def quiet() -> None: ...


def test_stand_ins_that_die_are_named_with_their_last_words(tmp_path: Path) -> None:
    environment = {**os.environ, "FARANDOLE_PROJECT": str(tmp_path), "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    with (
        pytest.raises(FarandoleError, match=r"the readers that stand in for subscribers failed: .*topics\.yaml"),
        audience.audience("heard", 2, 1, environment, tmp_path, quiet),
    ):
        pass


def test_stand_ins_are_gone_when_it_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However that happens, and whether they are done or not."""
    program = tmp_path / "program.py"
    program.write_text("import time\nprint('{}', flush=True)\ntime.sleep(60)\n")
    monkeypatch.setattr(audience, "PROGRAM", [str(program)])
    pids: dict[str, int] = {}
    with (  # noqa: PT012
        pytest.raises(KeyboardInterrupt),
        audience.audience("commanded", 2, 1, os.environ, tmp_path, quiet) as of,
    ):
        pids.update(of.pids)
        raise KeyboardInterrupt
    assert list(pids) == ["audience, answerers", "audience, commander"]
    assert not [pid for pid in pids.values() if psutil.pid_exists(pid)]


# ---- what is extrapolated is what was run


class Log:
    """Topics in memory. Stands for a broker, for stand-ins in this process."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Any]] = {}

    def write(self, topic: str, value: bytes, key: str, place: int) -> None:
        self.records.setdefault((topic, place), []).append(Record(value, key))

    def write_order(self, number: int) -> None:
        completed = events.OrderCompleted(customer="c", email="", amount=1, currency="EUR", written_off=False)
        for event in (an_order(f"{number}"), completed):  # whatever else lies in the topic of the event
            self.write(
                "order", codec().encode(event, Meta("id", f"o-{number}", "order/1", "")), f"o-{number}", number % 2
            )


class Record:
    def __init__(self, value: bytes, key: str) -> None:
        self._value, self._key = value, key

    def error(self) -> None: ...

    def value(self) -> bytes:
        return self._value

    def key(self) -> str:
        return self._key


class Reading:
    """A consumer of a Log."""

    def __init__(self, log: Log) -> None:
        self._log, self._at = log, Counter[tuple[str, int]]()
        self._places: list[tuple[str, int]] = []

    def assign(self, places: Sequence[TopicPartition]) -> None:
        self._places = [(each.topic, each.partition) for each in places]

    def consume(self, most: int, _: float) -> list[Record]:
        found: list[Record] = []
        for place in self._places:
            more = self._log.records.get(place, [])[self._at[place] :]
            self._at[place] += len(more)
            found += more
        return found

    def close(self) -> None: ...


class Writing:
    def __init__(self, log: Log) -> None:
        self._log = log

    def produce(self, topic: str, value: bytes, key: str, place: int) -> None:
        self._log.write(topic, value, key, place)

    def poll(self, _: float) -> None: ...

    def flush(self, _: float) -> int:
        return 0


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    found = Log()
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setenv("FARANDOLE_NAMESPACE", "")
    monkeypatch.setattr(standins, "Consumer", lambda _: Reading(found))
    monkeypatch.setattr(standins, "Producer", lambda _: Writing(found))
    monkeypatch.setattr(standins, "end_of", lambda *_: 0)
    return found


@pytest.mark.parametrize(("mode", "messages"), [("heard", 0), ("commanded", 2)])
def test_what_is_extrapolated_is_what_as_many_stand_ins_read_and_write(
    monkeypatch: pytest.MonkeyPatch, log: Log, mode: str, messages: int
) -> None:
    number, orders, said = 10, 6, list[dict[str, Any]]()
    monkeypatch.setattr(standins, "say", said.append)
    for each in range(orders):
        log.write_order(each)
    playing = [
        threading.Thread(target=standins.StandIns(number, orders).play, args=(role,), daemon=True)
        for role in audience.MODES[mode]
    ]
    for thread in playing:
        thread.start()
    for thread in playing:
        thread.join(30)
    done = [Done(**each) for each in said if "read" in each]
    assert len(done) == len(playing)
    assert sum(each.read for each in done) == orders * reads(number, messages, records=2, anew=True)
    assert sum(each.written for each in done) == orders * number * messages
