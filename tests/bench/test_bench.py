"""The benchmark: what it takes for the same work, how it counts, and that it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient

import events
from bench import backlog, learning, logins, transfers
from bench.errors import BenchError
from bench.learning import Note, Output, Reaction, Templates, Written
from bench.orders import SKUS, codec, orders
from bench.raw import SAGA, Service
from bench.records import Census, causes, hops
from bench.report import _aim, percentile
from farandole.codec import Codec, encode_meta
from farandole.demo import login
from farandole.demo.visitors import Told
from farandole.event import Event, Meta
from farandole.pytest_plugin import TestKafka

ROOT = Path(__file__).parents[2]
NAMESPACE = "n."


@pytest.fixture(scope="module")
def known() -> Codec:
    return codec()


SAGA_ID = "o-" + "a" * 24


def event(known: Codec, of: Event, identifier: str, saga: str = SAGA_ID) -> bytes:
    return known.type_of(type(of)).encode(of, encode_meta(Meta(identifier, saga, "order/1", "")))


def journal(known: Codec, service: str, taken: tuple[str, int] | None, answered: tuple[str, ...] = ()) -> Written:
    took = (events.FarandoleStretch(topic=taken[0], first=0, last=taken[1]),) if taken else ()
    line = events.FarandoleJournal(took=took, answered=answered, fired=())
    return Written(f"{NAMESPACE}{service}.journal", known.type_of(events.FarandoleJournal).encode_row(line), None, 0)


def learned(known: Codec, log: dict[learning.Place, bytes], *transactions: tuple[Written, ...]) -> Templates:
    notes = [Note(written=transaction) for transaction in transactions]
    return learning.learn(notes, log, known, causes(known), NAMESPACE, SAGA_ID)


# ---- what Farandole was seen to write


def test_a_row_belongs_to_the_message_that_its_transaction_took_last(known: Codec) -> None:
    held = event(known, events.InventoryLineHeld(line=1), "stock/0/4.0")
    committed = event(known, events.InventoryLineCommitted(line=1), "stock/0/5.0")
    row = Written(f"{NAMESPACE}inventory-reservations-changelog", b"row", SAGA_ID, 0)
    log = {("inventory", 0, 0): held, ("inventory", 0, 7): committed}
    templates = learned(known, log, (row, journal(known, "inventory", ("inventory", 7))))
    assert templates.reactions["inventory"] == {
        committed[:5].hex(): Reaction(rows=[Output("inventory-reservations-changelog", b"row", "saga", "")])
    }


def test_an_answer_belongs_to_the_message_that_started_its_call(known: Codec) -> None:
    authorised = event(known, events.PaymentAuthorised(ship_to="here", reference="r"), "payment.calls/0/1.0")
    answer = event(known, events.BookAnswered(outcome="accepted", reference="r", reason=""), "payment/0/3.0")
    key = f"{SAGA_ID}/book"
    written = (
        Written(f"{NAMESPACE}shipping.calls", answer, SAGA_ID, 0),
        Written(f"{NAMESPACE}shipping-calls-changelog", None, key, 0),
        journal(known, "shipping", None, (key,)),
    )
    reaction = learned(known, {("payment", 0, 3): authorised}, written).reactions["shipping"][authorised[:5].hex()]
    assert (reaction.events, reaction.rows) == ([], [])
    assert [(each.topic, each.suffix) for each in reaction.answers] == [
        ("shipping.calls", ""),
        ("shipping-calls-changelog", "/book"),
    ]


def test_an_event_that_takes_two_messages_waits_for_both(known: Codec) -> None:
    captured = event(known, events.PaymentCaptured(amount=1, currency="EUR", reference="r"), "payment.calls/0/1.0")
    committed = event(known, events.InventoryCommitted(), "inventory/0/1.0")
    completed = events.OrderCompleted(customer="c", email="e", amount=1, currency="EUR", written_off=False)
    row = Written(f"{NAMESPACE}order-orders-changelog", b"row", SAGA_ID, 0)
    done = Written(f"{NAMESPACE}order", event(known, completed, "payment/0/6.0"), SAGA_ID, -1)
    log = {("inventory", 0, 5): committed, ("payment", 0, 6): captured}
    first = (row, journal(known, "order", ("inventory", 5)))
    second = (done, row, journal(known, "order", ("payment", 6)))
    reactions = learned(known, log, first, second).reactions["order"]
    assert [reactions[each[:5].hex()].joined for each in (captured, committed)] == [True, True]
    assert reactions[committed[:5].hex()].events == reactions[captured[:5].hex()].events


def test_another_sagas_records_are_not_learned(known: Codec) -> None:
    other = event(known, events.InventoryLineHeld(line=1), "stock/0/4.0", saga="o-" + "b" * 24)
    row = Written(f"{NAMESPACE}inventory-reservations-changelog", b"row", "x", 0)
    assert learned(
        known, {("inventory", 0, 0): other}, (row, journal(known, "inventory", ("inventory", 0)))
    ).reactions == {"inventory": {}}


# ---- the raw loop


class FakeProducer:
    def __init__(self) -> None:
        self.written: list[tuple[object, ...]] = []

    def produce(self, *record: object) -> None:
        self.written.append(record)


class FakeMessage:
    def __init__(self, key: bytes, value: bytes, offset: int = 0) -> None:
        self._key, self._value, self._offset = key, value, offset

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes:
        return self._value

    def partition(self) -> int:
        return 2

    def offset(self) -> int:
        return self._offset


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    """Placed → asked (by sku); asked → held (by saga), a row of the sku; two messages → done."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    asked, done = Output("stock", b"asked" + b"." * 40, "sku", ""), Output("order", b"done.", "saga", "")
    held = Output("inventory", b"held." + b"." * 40, "saga", "")
    reactions = {
        b"place".hex(): Reaction(events=[asked], rows=[Output("t-changelog", b"row", "saga", " timer")]),
        b"asked".hex(): Reaction(events=[held], rows=[Output("levels-changelog", b"level", "sku", "")]),
        b"one..".hex(): Reaction(events=[done], joined=True),
        b"two..".hex(): Reaction(events=[done], joined=True),
    }
    made = Service("s", Templates({"s": ["order"]}, {"s": reactions}), NAMESPACE, None)  # type: ignore[arg-type]
    made._producer = FakeProducer()  # type: ignore[assignment]
    return made


def written(service: Service, *messages: FakeMessage) -> list[tuple[object, ...]]:
    service._producer.written = []  # type: ignore[attr-defined]
    service._write(list(messages))
    return service._producer.written  # type: ignore[attr-defined, no-any-return]


def test_the_raw_loop_carries_an_order_through_a_topic_that_is_keyed_by_sku(service: Service) -> None:
    saga = SAGA_ID.encode()
    (topic, value, sku), row = written(service, FakeMessage(saga, b"place...", offset=7))
    assert (topic, sku, len(value)) == ("n.stock", SKUS[7], 45)  # type: ignore[arg-type]
    assert value[SAGA] == saga  # type: ignore[index]
    assert row == ("n.t-changelog", b"row", saga + b" timer", 2)
    held, _ = written(service, FakeMessage(b"sku-0007", value))  # type: ignore[arg-type]
    assert held[2] == saga


def test_the_raw_loop_writes_one_row_for_a_sku_and_batch_as_farandole_does(service: Service) -> None:
    asked = FakeMessage(b"sku-0007", b"asked" + SAGA_ID.encode())
    rows = [record for record in written(service, asked, asked) if record[0] == "n.levels-changelog"]
    assert rows == [("n.levels-changelog", b"level", b"sku-0007", 2)]


def test_the_raw_loop_waits_for_both_messages_of_a_pair(service: Service) -> None:
    one, two = (FakeMessage(SAGA_ID.encode(), prefix) for prefix in (b"one..", b"two.."))
    assert written(service, two) == []
    assert written(service, one) == [("n.order", b"done.", SAGA_ID.encode())]


# ---- counting


def test_a_run_counts_only_if_every_order_came_to_its_end() -> None:
    whole = Census(
        types=Counter({"order.placed": 3, "order.completed": 3, "notification.sent": 3, "stock.received": 1})
    )
    whole.check("side", 3)
    refused = replace(whole, types=Counter({"order.refused": 3, "notification.sent": 3}))
    with pytest.raises(BenchError, match="there are 0 order"):
        refused.check("side", 3)
    with pytest.raises(BenchError, match="1 dead letters"):
        replace(whole, dead=1).check("side", 3)


def test_a_hop_counts_from_the_latest_of_an_events_causes() -> None:
    times = {"a": {"o": 100}, "b": {"o": 130}, "c": {"o": 150}}
    assert hops(times, {"b": {"a"}, "c": {"a", "b", "unseen"}}) == {"b": [30], "c": [20]}


@pytest.mark.parametrize(("share", "value"), [(0.5, 50), (0.99, 99), (1.0, 100)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    assert percentile(range(100, 0, -1), share) == value


def test_every_order_costs_the_same_bytes(known: Codec) -> None:
    assert {len(order.value) for name in ("backlog", "a") for order in orders(known, name, 100)} == {
        len(orders(known, "paced", 1)[0].value)
    }


# ---- memory


def test_memory_counts_from_when_the_worker_was_warm() -> None:
    samples = [(1.0, 0, 50), (2.0, 10, 400), (3.0, 20, 200), (4.0, 60, 230), (5.0, 100, 210)]
    found = backlog.figures([backlog.Sample(s, ended, mb * 1_000_000) for s, ended, mb in samples], 100)
    assert found == {"orders": 100, "orders_per_second": 20, "warm_mb": 200, "most_mb": 230, "ratio": 1.15}


def test_a_backlog_that_is_gone_too_soon_measures_nothing() -> None:
    with pytest.raises(BenchError, match="before memory could be measured"):
        backlog.figures([backlog.Sample(1.0, 0, 1), backlog.Sample(2.0, 100, 1)], 100)


# ---- logins and transfers


def a_login_run(*problems: str, audit: bool = True) -> login.Outcome:
    return login.Outcome({}, {}, {}, {}, 0, {}, list(problems), {"ok": audit})


def told(*seconds: float) -> Told:
    took = {f"user-{number}": each for number, each in enumerate(seconds)}
    found = Told(seconds={"begin": list(seconds), "verify": list(seconds)})
    found.took.update(took)
    return found


def test_logins_that_went_wrong_measure_nothing() -> None:
    for run in (a_login_run("a code was let in twice"), a_login_run(audit=False)):
        with pytest.raises(BenchError, match="logins"):
            logins.figures(run, told(0.1))


def test_transfers_that_went_wrong_measure_nothing() -> None:
    def run(completed: int, *problems: str) -> Any:
        return SimpleNamespace(
            ok=not problems, problems=problems, transfers={"completed": completed}, answered={"a": 100.0, "b": 200.0}
        )

    assert transfers.figures(run(2), 2, ["a", "b"])["transfers"] == 2
    for wrong in (run(1), run(2, "the audit found something")):
        with pytest.raises(BenchError, match="transfers"):
            transfers.figures(wrong, 2, ["a", "b"])


def test_whether_the_aim_is_met_is_said() -> None:
    for seconds, met in ((0.15, True), (0.16, False)):
        found = logins.figures(a_login_run(), told(seconds, seconds))
        assert found["aim_met"] == met
        assert _aim(found) == f"the aim, 150 ms at the median, is {'met' if met else 'missed'}"


# ---- the command


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        capture_output=True, text=True, timeout=170, cwd=ROOT, env={**os.environ, **environment},
    )  # fmt: skip


def test_a_bad_flag_is_refused() -> None:
    found = bench("--orders", "none")
    assert found.returncode == 2
    assert found.stdout == ""


def test_both_sides_finish_the_same_orders_and_leave_nothing(kafka: TestKafka) -> None:
    found = bench(
        "--orders", "200", "--paced-seconds", "2", "--rounds", "1", "--rows", "20000", "--backlog", "10000",
        "--replayed", "200", "--login-seconds", "2", "--transfer-seconds", "2", "--json",
        **kafka.environment,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    figures = json.loads(found.stdout)
    assert {name for name, value in figures.items() if not isinstance(value, dict)} == {"cpu_ratio", "p99_ratio"}
    assert min(figures["cpu_ratio"], figures["p99_ratio"]) > 0
    ours, raw = figures["throughput"]["farandole"], figures["throughput"]["raw"]
    assert raw["messages_per_order"] == pytest.approx(ours["messages_per_order"], rel=0.01)
    assert raw["records_per_order"] == pytest.approx(ours["records_per_order"], rel=0.05)
    assert raw["bytes_per_order"] == pytest.approx(ours["bytes_per_order"], rel=0.05)
    assert [hop["event"] for hop in figures["latency"]["farandole"]["hops"]][:2] == [
        "order.placed",
        "stock.hold_requested",
    ]
    assert figures["memory"]["orders"] == 10000
    assert (figures["logins"]["logins"], figures["transfers"]["transfers"]) == (40, 40)
    assert (figures["replay"]["orders"], figures["replay"]["shadow_differing"]) == (200, 0)
    left = AdminClient(dict(kafka.config)).list_topics(timeout=10).topics
    assert not [topic for topic in left if topic.startswith("bench-")]
