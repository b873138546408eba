"""Rows of sagas that have ended go when their time has come, and no others, whatever happens. On a real Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from events import FarandoleJournal, InventoryReserved, OrderRefused, ShippingCancelled, StartTransfer
from farandole.errors import ConfigError
from farandole.eviction import Evictions
from farandole.table import Part
from tests.farandole.rig import Rig

HOUR = 3_600_000
WEEK = 7 * 24 * HOUR


@pytest.fixture
def notification(kafka: Any, namespace: str) -> Iterator[Rig]:
    rig = Rig("notification", kafka, namespace)
    yield rig
    rig.engine.abandon()


@pytest.fixture
def payment(kafka: Any, namespace: str) -> Iterator[Rig]:
    rig = Rig("payment", kafka, namespace)
    yield rig
    rig.engine.abandon()


def refused(email: str = "") -> OrderRefused:
    """Without an address its mail is given up at once: an ended row. With one it waits for the mailer."""
    return OrderRefused(customer="c", email=email, reason="why not")


def later(rig: Rig, milliseconds: int) -> None:
    now = rig.now
    rig.now = lambda: now() + milliseconds


def journalled(rig: Rig) -> list[str]:
    kind = rig.codec.type_of(FarandoleJournal)
    return [key for message in rig.records("notification.journal") for key in kind.decode_row(message.value()).evicted]


def test_an_ended_row_goes_after_a_week_and_no_other(notification: Rig) -> None:
    notification.start()
    notification.send(refused(), "o-ended")
    notification.send(refused("a@example.org"), "o-waiting")
    notification.settle(2)
    later(notification, WEEK - HOUR)
    notification.step_for(0.5)
    assert set(notification.rows("mails")) == {"o-ended", "o-waiting"}
    later(notification, 2 * HOUR)
    notification.step_until(lambda: "o-ended" not in notification.live_rows("mails"))
    assert set(notification.rows("mails")) == set(notification.live_rows("mails")) == {"o-waiting"}
    assert journalled(notification) == ["mails o-ended"]


def test_a_transfers_row_stays_for_two_weeks(kafka: Any, namespace: str) -> None:
    transfers = Rig("transfers", kafka, namespace)
    try:
        transfers.start()
        nobody = StartTransfer(
            customer="", idempotency_key="k", source="a", target="b", amount=1, currency="EUR", within=30
        )
        transfers.send(nobody, "t-refused", flow="transfer/1")
        transfers.settle(1)
        later(transfers, 2 * WEEK - HOUR)
        transfers.step_for(0.5)
        assert set(transfers.live_rows("states")) == {"t-refused"}
        later(transfers, 2 * HOUR)
        transfers.step_until(lambda: not transfers.live_rows("states"))
    finally:
        transfers.engine.abandon()


def test_a_row_counts_from_its_last_change_even_after_a_crash(notification: Rig) -> None:
    notification.start()
    notification.send(refused(), "o-first")
    notification.settle(1)
    notification.crash().start()
    later(notification, WEEK - HOUR)
    notification.send(refused("a@example.org"), "o-second")
    notification.settle(1)
    notification.answer("o-second/refused")
    notification.settle(1)
    assert notification.live_rows("mails")["o-second"].phase == "delivered"
    later(notification, 2 * HOUR)
    notification.step_until(lambda: "o-first" not in notification.live_rows("mails"))
    notification.step_for(0.5)
    assert set(notification.rows("mails")) == {"o-second"}


def test_the_row_of_a_parked_saga_stays(notification: Rig) -> None:
    notification.start()
    notification.send(refused(), "o-parked")
    notification.settle(1)
    notification.send(refused(), "o-other")
    notification.send_bytes("order", notification.encode(refused(), "o-parked")[:-1], "o-parked")
    notification.settle(2)
    assert set(notification.live_rows("parked")) == {"o-parked"}
    later(notification, WEEK + HOUR)
    notification.step_until(lambda: "o-other" not in notification.live_rows("mails"))
    notification.step_for(0.5)
    assert set(notification.rows("mails")) == {"o-parked"}


def test_an_eviction_that_is_aborted_is_done_again(notification: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    notification.start()
    notification.send(refused(), "o-ended")
    notification.settle(1)
    failures: list[str] = []

    def fail_once(*_: Any) -> None:
        flush()
        if not failures:
            failures.append("aborted")
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, "made to fail", False, False, True))

    flush = notification.engine.transactions.flush
    monkeypatch.setattr(notification.engine.transactions, "flush", fail_once)
    later(notification, WEEK + HOUR)
    notification.step_until(lambda: bool(failures) and not notification.live_rows("mails"))
    assert notification.rows("mails") == {}
    assert notification.engine.counts["aborts"] == 1


def test_a_row_that_bars_a_step_stays_until_all_that_was_written_meanwhile_is_read(payment: Rig) -> None:
    """The void came first, then payment was away for longer than rows stay; what it was a bar against lies unread."""
    payment.start()
    payment.send(ShippingCancelled(asked_by="customer"), "o-1")
    payment.settle(1)
    assert payment.live_rows("charges")["o-1"].phase == "voided"
    payment.crash()
    later(payment, WEEK + HOUR)
    reserved = InventoryReserved(amount=500, currency="EUR", card_token="t", ship_to="x")
    payment.send(reserved, "o-1")
    payment.start()
    payment.settle(1)
    assert not payment.calls.started
    payment.step_until(lambda: not payment.live_rows("charges"), patience=90)
    assert payment.events("payment") == ["PaymentVoided"]


def test_a_row_that_changed_in_a_transaction_that_was_aborted_goes_all_the_same() -> None:
    evictions = Evictions({"t": lambda row: row != "open"}, {"t": 10})
    part = Part("t", 0)
    part.rows["k"] = before = "ended"
    evictions.note({part: {"k": before}}, 0)
    part.rows["k"] = "changed"  # by a message of the transaction that looks for rows
    assert list(evictions.take(0, 20, {})) == []
    part.rows["k"] = before
    evictions.rolled_back()
    assert list(evictions.take(0, 20, {})) == [(part, "k")]


def test_rows_of_a_table_that_outlives_others_go_as_much_later_and_hold_nobody_up() -> None:
    evictions = Evictions(dict.fromkeys("ab", lambda row: row != "open"), {"a": 20, "b": 10})
    long, short = Part("a", 0), Part("b", 0)
    for at, part in ((0, long), (1, short)):
        part.rows["k"] = "ended"
        evictions.note({part: part.rows}, at)
    assert evictions.due(10) == []
    assert evictions.due(11) == [0]
    assert list(evictions.take(0, 19, {})) == [(short, "k")]
    assert evictions.due(19) == []
    evictions.rolled_back()
    assert list(evictions.take(0, 20, {})) == [(long, "k"), (short, "k")]
    evictions.committed()
    assert evictions.due(10**9) == []


def test_a_restart_changes_no_rows_time() -> None:
    evictions = Evictions(dict.fromkeys("ab", lambda row: row != "open"), {"a": 20, "b": 10})
    long, short = Part("a", 0), Part("b", 0)
    for part, times in ((long, {"x": 5, "y": 3}), (short, {"x": 4})):
        note = evictions.times(part.table, 0)
        assert note is not None
        for key, at in times.items():
            part.rows[key] = "ended"
            note(key, at)
    evictions.restored(0, [long, short])
    assert list(evictions.take(0, 14, {})) == [(short, "x")]
    assert list(evictions.take(0, 25, {})) == [(long, "y"), (long, "x")]


@pytest.mark.parametrize("said", ["soon", "0", "-1", "nan"])
def test_a_retention_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    from farandole import config

    monkeypatch.setenv("FARANDOLE_KEEP_SECONDS", said)
    with pytest.raises(ConfigError, match="no time"):
        config.keep_seconds()
