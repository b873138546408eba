"""docs/limits.md and the code name the same bounds, with the same values; and bounds do what the page says."""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from farandole import deadletters
from farandole.complaints import LINES_A_SECOND, Complaints
from farandole.config import project_root
from farandole.deadletters import ParkedSagas
from farandole.message import MAX_RECORD
from farandole.table import Part

ROW = re.compile(r"\| `(?P<module>[\w.]+)\.(?P<name>\w+)` \| (?P<value>[\d.]+) \|")

MODULES = [
    "config",
    "eviction",
    *(
        "answers",
        "agent",
        "app",
        "assembly",
        "backpressure",
        "owners",
        "calls",
        "clients",
        "codec",
        "complaints",
        "deadletters",
        "door",
        "engine",
    ),
    *("journal", "kafkaerrors", "operations", "ports", "positions"),
    *(
        "event",
        "flow",
        "membership",
        "message",
        "onloop",
        "outside",
        "partitioner",
        "plaincodec",
        "processor",
        "runtime",
    ),
    *("grownschemas", "straightline", "succession", "table", "timers", "transactions", "views"),
    *(f"load.{name}" for name in ("histogram", "limit", "orders", "over_http", "over_kafka", "recorder", "sampler")),
    *("load.sending", "load.stages"),
    *("passcodes", "values", "agents.login", "agents.directory", "web.login"),
]
"""What runs in a worker, and the generator of loads, which may run for hours. Other commands, the sandbox, the audit
and the embedded Kafka are not in production.
"""

NO_LIMITS = {
    "config.ANSWER_SECONDS": "how long a broker is waited for at the start; then it is said to be missing",
    "clients.TOLD_EVERY": "how often a long recovery is told",
    "views.BELIEVED_FOR": "how long an answer is believed",
    "load.histogram.UNIT": "what is shorter counts as this",
    "load.limit.BACK": "where a search looks next",
    "load.limit.STEP": "the same",
    "load.orders.CANCEL_WITHIN": "what customers do",
    "load.orders.CUSTOMERS": "how many there are",
    "load.orders.PIECES": "delivered beforehand",
    "load.over_http.LOOK_EVERY": "how often it looks around",
    "load.recorder.FIRST_WIDTH": "of an interval, which grows",
    "load.sampler.END": "of the protocol",
    "load.sampler.EVERY": "how often it looks at first",
    "load.sending.LONGEST_NAP": "how often an idle generator looks around",
    "engine.AHEAD_MS": "how long an acknowledgement may wait",
    "engine.IDLE_WAIT": "how often an idle engine looks around",
    "engine.BUSY_WAIT": "the same, while calls are under way",
    "door.OWNERS_FRESH": "how long an answer is believed",
    "outside.FIRST_BACKOFF": "where a growing pause begins",
    "plaincodec.PREFIX": "of the wire format",
    "succession.LOOK_EVERY": "how often it is looked whether the predecessor has let go",
    "runtime.WELL_AFTER": "when a failure counts as the first",
    "passcodes.BYTES": "of what nobody guesses",
    "passcodes.DIGITS": "of a code",
}


def documented() -> dict[str, float]:
    page = (project_root() / "docs" / "limits.md").read_text()
    return {f"{row['module']}.{row['name']}": float(row["value"]) for row in ROW.finditer(page)}


def constants(module: ModuleType) -> Iterator[tuple[str, float]]:
    """Public numbers in capitals that the module itself defines."""
    source = Path(str(module.__file__)).read_text()
    for name, value in vars(module).items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if (
            name.isupper()
            and not name.startswith("_")
            and is_number
            and re.search(rf"(?m)^[^#\n]*\b{name}\b.* = ", source)
        ):
            yield f"{module.__name__.removeprefix('farandole.')}.{name}", float(value)


def test_every_bound_is_in_the_page_with_its_value_or_is_known_to_be_none() -> None:
    modules = (name if name.startswith(("agents.", "web.")) else f"farandole.{name}" for name in MODULES)
    found = dict(each for name in modules for each in constants(importlib.import_module(name)))
    assert {name: value for name, value in found.items() if name not in NO_LIMITS} == documented()
    assert found.keys() >= NO_LIMITS.keys()


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_flood_of_complaints_is_counted_and_none_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    complaints = Complaints(logging.getLogger("test"), "order", clock)
    for _ in range(1_000):
        complaints.say("bad %s", "thing")
    clock.now = 0.9
    complaints.settle()
    assert [record.getMessage() for record in caplog.records] == ["bad thing"] * LINES_A_SECOND
    clock.now = 1.1
    complaints.settle()
    complaints.settle()
    assert [record.getMessage() for record in caplog.records[LINES_A_SECOND:]] == [
        f"order: {1_000 - LINES_A_SECOND} more dead letters, each with its reason in the queue"
    ]
    complaints.say("bad %s", "again")
    assert caplog.records[-1].getMessage() == "bad again"


def test_beyond_the_bound_a_parked_saga_stays_and_only_its_explanation_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadletters, "EXPLAINED", 3)
    parked = ParkedSagas([])
    parked.table.parts[0] = Part("parked", 0)
    parked.table.switch(0)
    told = []
    for number in range(10):
        parked.add(f"s-{number}", "unreadable", ValueError("why"), "order", number, 0)
        told.append(parked.newly_many())
    assert len(parked.table.rows) == 10
    assert [bool(row.error) for row in parked.table.rows.values()] == [True] * 3 + [False] * 7
    assert [many for many in told if many] == [3, 6]


def test_a_call_that_no_topic_takes_is_refused_when_it_is_asked_for() -> None:
    from farandole.calls import Calls
    from farandole.event import Call
    from farandole.message import TooLarge

    calls = Calls([])
    calls.table.parts[0] = Part("calls", 0)
    calls.table.switch(0)
    kind: Any = type("Kind", (), {"name": "x"})
    call: Any = Call("mail", "send", "k", {"text": "\1" * (MAX_RECORD // 6)}, str, None)
    with pytest.raises(TooLarge, match="the call send of"):
        calls.start(call, "s", b"", kind)
    assert not calls.table.rows
