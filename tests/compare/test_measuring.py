"""From records to figures: rollbacks, outages, rounds, what commands show and answer."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import Any

import pytest

import events
from farandole.audit.records import LogRecord
from farandole.codec import encode_meta
from farandole.compare import asking, costs, outages, rollback
from farandole.compare.ends import Ends
from farandole.compare.facts import MESSAGE, ROW, Fact, Facts, Traffic, kind_of, writer
from farandole.compare.figures import curve, middle, percentile, ratio, spread, stretches
from farandole.compare.machine import Machine, load, warnings
from farandole.errors import FarandoleError
from farandole.event import Meta
from farandole.replay.plain import described
from tests.farandole.audit_log import codec


def fact(name: str, at: int, by: str = "", topic: str = "") -> Fact:
    return Fact(name, topic or name.rpartition(".")[0], at, by, 100)


FAILED = [
    fact("order.commands.place_order", 0),
    fact("payment.authorised", 40, "payment"),
    fact("shipping.calls.book_answered", 100, "shipping"),
    fact("shipping.failed", 100, "shipping"),
    fact("stock.release_requested", 104, "inventory"),
    fact("payment.voided", 125, "payment"),
    fact("inventory.released", 130, "inventory"),
    fact("order.cancelled", 142, "order"),
    fact("notification.sent", 150, "notification"),
]


def test_a_rollback_is_what_lies_between_the_failure_and_the_end() -> None:
    found = rollback.rollback_of(FAILED, "shipping.failed")
    # four messages, of which order, inventory and payment wrote each one; shipping had failed
    assert found == rollback.Rollback(compensated=30, cancelled=42, messages=4, services=4, topics=4)


def test_an_order_that_failed_otherwise_or_has_not_ended_is_not_measured() -> None:
    assert rollback.rollback_of(FAILED, "payment.declined") is None
    assert rollback.rollback_of(FAILED[:-2], "shipping.failed") is None
    found = rollback.rollbacks(Facts({"a": FAILED, "b": FAILED[:3]}), ["a", "b", "gone"], "shipping.failed")
    assert found["orders"] == 1
    assert found["compensated_ms"]["p50"] == 30


def test_a_confirmation_after_the_end_counts() -> None:
    late = [*FAILED[:-3], *FAILED[-2:], fact("inventory.released", 190, "inventory")]  # and the mail between them
    found = rollback.rollback_of(late, "shipping.failed")
    assert found is not None
    assert (found.compensated, found.messages) == (90, 4)


def test_steps_count_if_they_came_before_the_outage_was_over() -> None:
    facts = Facts({
        "a": [fact("order.placed", 10), fact("inventory.reserved", 20), fact("payment.authorised", 99)],
        "b": [fact("order.placed", 10), fact("inventory.reserved", 100), fact("order.placed", 11)],
    })  # fmt: skip
    outage = outages.Outage("shipping", {"choreographed": ["a", "b"]}, until=100)
    row = outages.table(facts, [outage])["shipping"]["choreographed"]
    assert outages.reached(facts, ["a", "b"], 100)["reserved"] == 1
    assert row == {"orders": 2, "steps": round(4 / 14, 3), "dispatched": 0.0, "completed": 0.0, "farthest": "placed"}


def test_orders_that_had_no_time_are_not_counted() -> None:
    assert outages.grace_of(300.0, 8.0) == outages.GRACE
    assert outages.grace_of(2_000.0, 8.0) == 2.4
    assert outages.grace_of(9_000.0, 8.0) == 4.0


def a_turn(number: int, began: int, over: int, seconds: float = 0.5, **cpu: float) -> costs.Turn:
    return costs.Turn(
        number, "hybrid", 2, seconds, {name.replace("_", "["): each for name, each in cpu.items()}, began, over
    )


def test_turns_are_told_apart_by_the_brokers_time() -> None:
    facts = Facts(
        traffic=[Traffic(9, MESSAGE, 7), Traffic(10, MESSAGE, 100), Traffic(19, MESSAGE, 50), Traffic(20, ROW, 1)]
    )
    turn = a_turn(1, 10, 20, order_0=0.01, payment_0=0.03, broker=0.05, audience=0.02)
    found = costs.summary([turn], facts)
    assert found["messages"]["median"] == 1.0
    assert found["message_bytes"]["median"] == 75.0
    assert found["rows"]["median"] == 0.0
    assert found["orders_per_second"]["median"] == 4.0
    assert (found["cpu_ms"]["median"], found["broker_cpu_ms"]["median"]) == (20.0, 25.0)
    assert found["audience_cpu_ms"]["median"] == 10.0


def test_a_rounds_figure_is_that_of_its_two_turns() -> None:
    turns = [a_turn(2, 0, 9, 3.0, order=0.02), a_turn(1, 10, 19, order=0.04), a_turn(2, 20, 29, 1.0, order=0.02)]
    facts = Facts(traffic=[Traffic(5, MESSAGE, 1), Traffic(15, MESSAGE, 1), Traffic(25, MESSAGE, 1)])
    found = costs.summary(turns, facts)
    assert (found["rounds"], found["orders"]) == (2, 6)
    assert found["orders_per_second"]["rounds"] == [4.0, 1.0]
    assert found["cpu_ms"]["rounds"] == [20.0, 10.0]
    assert found["messages"]["rounds"] == [0.5, 0.5]
    assert found["broker_cpu_ms"]["median"] is None


def test_each_flow_is_first_once_and_all_go_there_and_back() -> None:
    turns = [costs.turns(("a", "b", "c"), number) for number in range(4)]
    assert [turn[0] for turn in turns] == ["a", "b", "c", "a"]
    assert turns[1] == ["b", "c", "a", "a", "c", "b"]


def test_a_pace_is_cut_into_stretches_as_orders_were_placed() -> None:
    assert stretches([1, None, 2, 3, None], 2) == [[1], [2, 3]]
    assert stretches([1], 2) == [[], [1]]
    facts = Facts({"a": FAILED, "b": FAILED[:3], "c": FAILED})
    found = rollback.rollbacks(facts, ["b", "a", "gone", "b", "c"], "shipping.failed")
    assert found["compensated_ms"]["stretches"]["p50"] == [None, 30, None, None, 30]


# ---- the machine


def test_who_else_was_at_work_is_told_from_a_tenth_of_the_cores_on() -> None:
    found = load([1.5, 0.2, 0.1], {"the rounds": [0.1, 0.5], "the steady pace": [0.2], "nothing": []})
    found["cores"] = 2
    assert found["before"] == [1.5, 0.2, 0.1]
    assert found["others"] == {
        "the rounds": {"mean": 0.3, "most": 0.5}, "the steady pace": {"mean": 0.2, "most": 0.2},
    }  # fmt: skip
    assert list(warnings(found)) == [
        "others on this machine took 0.30 of its 2 cores during the rounds: take its times and its CPU with care"
    ]


def test_what_is_counted_is_a_figure_and_what_is_beside_it_is_not() -> None:
    machine = Machine(lambda: {"order[0]": os.getppid(), "gone": 2**22 + 1}, lambda: {"comparison": os.getpid()})
    turn = costs.measured(1, "hybrid", ["a"], lambda: None, time.monotonic, machine)
    assert set(turn.cpu) == {"order[0]"}
    assert machine.look().cpu.keys() == {"order[0]", "comparison"}  # of neither is said that others took it


def test_whoever_wrote_a_record_stands_in_its_id() -> None:
    def record(topic: str, ident: str) -> LogRecord:
        value = b"\0\0\0\0\1" + encode_meta(Meta(ident, "o-1", "order/1", ""))
        return LogRecord(topic, 0, 0, 0, b"o-1", value)

    assert writer(record("payment.commands", "inventory/3/15.orchestrator.0")) == "orchestrator"
    assert writer(record("order.commands", "compare/run/7")) == ""
    assert writer(record("payment.calls", "x")) == "payment"


@pytest.mark.parametrize(
    ("topic", "events", "kind"),
    [("stock", True, MESSAGE), ("order-orders-changelog", False, ROW), ("order.dlq", False, "other")],
)
def test_kinds_of_topics(topic: str, events: bool, kind: str) -> None:
    assert kind_of(topic, events) == kind


# ---- numbers


def test_percentiles_are_values_that_there_were() -> None:
    assert percentile([5, 1, 3, 2, 4], 50) == 3
    assert percentile(list(range(1, 101)), 99) == 99
    assert percentile([], 50) is None
    assert spread([]) == {"p50": None, "p99": None, "of": 0}
    assert curve(list(range(1, 101)))[-1] == [99, 99.0]


def test_ratios_of_nothing_are_nothing() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(None, 2.0) is None
    assert ratio(3.0, 0.0) is None
    assert middle([]) == {"median": None, "least": None, "most": None, "rounds": []}
    assert middle([3, 1, 2]) == {"median": 2, "least": 1, "most": 3, "rounds": [3, 1, 2]}


# ---- ends


def test_an_order_has_come_to_its_end_when_its_customer_knows() -> None:
    ends = Ends()
    ends.ended(b"a", "completed", 1.0)
    ends.ended(b"a", "cancelled", 2.0)
    ends.ended(b"a", "told", 3.0)
    ends.wait(["a"], lambda: None, lambda done, total: None)
    assert ends.ended_at == {"a": ("completed", 1.0)}
    assert ends.told_at == {"a": 3.0}


def test_who_waits_in_vain_is_told_for_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farandole.compare.ends.PATIENCE", 0.0)
    ends = Ends()
    ends.ended(b"a", "completed", 1.0)
    with pytest.raises(FarandoleError, match="1 of 1 orders have not ended") as caught:
        ends.wait(["a"], lambda: None, lambda done, total: None)
    assert caught.value.where == "a"


# ---- what commands say


def test_a_message_is_shown_if_it_is_named_as_often_as_it_is_there() -> None:
    facts = [fact("order.placed", 1), fact("inventory.line_held", 2), fact("inventory.line_held", 3)]
    said = asking.Said(asking.STORY, 1.5, [{"story": [{"what": "order.placed"}, {"what": "inventory.line_held"}]}])
    assert asking.shown(said, facts) == (2, 3)
    found = asking.visibility([(said, facts), (said, facts[:2])])
    assert found == {"orders": 2, "whole": 0.5, "messages": 0.8, "seconds": {"median": 1.5, "most": 1.5}}
    slow = asking.visibility([(replace(said, seconds=each), facts) for each in (9.0, 1.0, 2.0, 4.0)])
    assert slow["seconds"] == {"median": 3.0, "most": 9.0}
    assert asking.visibility([])["seconds"] == {"median": None, "most": None}


def test_a_trail_calls_commands_by_their_last_name() -> None:
    facts = [fact("inventory.commands.reserve_stock", 1), fact("inventory.reserved", 2)]
    said = asking.Said(asking.TRAIL, 1.0, [{"steps": [{"command": "reserve-stock", "answer": "inventory.reserved"}]}])
    assert asking.shown(said, facts) == (2, 2)


def test_a_trail_answers_what_its_open_step_says() -> None:
    steps = [
        {"command": "reserve-stock", "answer": "inventory.reserved", "sent": "t"},
        {"command": "dispatch-shipment", "answer": "", "sent": "t"},
    ]
    answers = asking.answers(asking.Said(asking.TRAIL, 1.0, [{"steps": steps}]), "shipping")
    assert answers == {"where": True, "why": False, "since": True, "done": True, "can": False}


def test_a_story_answers_what_it_waits_for() -> None:
    story = {
        "story": [{"what": "order.placed", "below": [{"state": "waits", "at": "t"}]}],
        "waiting": ["unread in shipping"],
        "advice": ["start it"],
    }
    assert all(asking.answers(asking.Said(asking.STORY, 1.0, [story]), "shipping").values())
    assert not asking.answers(asking.Said(asking.STORY, 1.0, [story]), "payment")["why"]


def test_records_answer_what_their_fields_say() -> None:
    """Every line is read: bytes that nobody can decode tell nothing of what was done."""

    def answers(*lines: dict[str, Any]) -> dict[str, bool]:
        return asking.answers(asking.Said(asking.INSPECT, 1.0, list(lines)), "shipping")

    record: dict[str, Any] = {"topic": "order", "time": "t", "type": "order.placed", "cause": "c"}
    unreadable: dict[str, Any] = {
        "topic": "order",
        "time": "t",
        "type": None,
        "undecodable": "no such schema",
        "bytes": "00",
    }
    only_done = dict.fromkeys(asking.QUESTIONS, False) | {"done": True}
    assert answers(unreadable, record) == only_done
    assert not any(answers(unreadable).values())
    told: dict[str, Any] = record | {"waiting": ["shipping has not read it"], "since": "t", "advice": ["start it"]}
    assert all(answers(record, told).values())
    assert answers(record | {"waiting": ["a call"]}) == only_done | {"where": True}


def test_the_fields_that_are_read_are_those_of_a_record() -> None:
    value = codec().encode(events.CancelOrder(), Meta("id", "o-1", "order/1", "cause"))
    line = described(codec(), LogRecord("order", 0, 0, 1, b"o-1", value))
    said = asking.Said(asking.INSPECT, 1.0, [line])
    assert asking.answers(said, "shipping") == dict.fromkeys(asking.QUESTIONS, False) | {"done": True}


def test_who_knows_nothing_answers_nothing() -> None:
    assert not any(asking.answers(asking.Said(asking.TRAIL, 1.0, []), "shipping").values())


def test_only_commands_that_there_are_are_asked() -> None:
    assert asking.commands(["trail", "replay", "audit"]) == [asking.TRAIL, asking.INSPECT]
