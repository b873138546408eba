"""More subscribers: their figures, and processes that fail or are stopped."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from farandole.compare import audience
from farandole.compare.costs import Turn
from farandole.compare.facts import MESSAGE, Facts, Traffic
from farandole.compare.standins import Done
from farandole.errors import FarandoleError


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
