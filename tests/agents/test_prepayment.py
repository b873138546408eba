"""A card that is charged first is charged once or not at all; its money is earned, refunded or written off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from agents import payment
from events import (
    ChargeAnswered,
    InventoryRejected,
    OrderLine,
    OrderPlaced,
    PaymentCharged,
    PaymentDeclined,
    PaymentFailed,
    PaymentRefunded,
    PaymentRefundStuck,
    PaymentRefundWrittenOff,
    Posted,
    Prepayment,
    PrepaymentPhase,
    RefundAnswered,
    ShippingCancelled,
    ShippingDispatched,
    ShippingFailed,
    WriteOff,
)
from farandole import Call, Withdraw
from farandole.testing import tables

LINES = (OrderLine(line=1, sku="apple", quantity=2, price=250), OrderLine(line=7, sku="apple", quantity=3, price=250))
PLACED = OrderPlaced(
    customer="anna",
    lines=LINES,
    amount=1_250,
    currency="EUR",
    ship_to="1 Main Street",
    card_token="tok_good",
    reserve_for=60,
    saga="o-1",
)
STOPS: list[InventoryRejected | ShippingFailed | ShippingCancelled] = [
    InventoryRejected(reason="no", saga="o-1"),
    ShippingFailed(reason="no", saga="o-1"),
    ShippingCancelled(asked_by="clock", saga="o-1"),
]
DISPATCHED = ShippingDispatched(tracking="parcel-1", saga="o-1")
WRITE_OFF = WriteOff(reason="gone", saga="o-1")


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    with tables(payment.app):
        yield


def charged(outcome: Any = "accepted") -> Any:
    return payment.charge_answered(ChargeAnswered(outcome=outcome, reference="c-1", reason="why", saga="o-1"))


def refunded(outcome: Any = "accepted") -> Any:
    return payment.refund_answered(RefundAnswered(outcome=outcome, reference="r-1", reason="why", saga="o-1"))


def phase(name: PrepaymentPhase) -> Prepayment:
    payment.prepayments["o-1"] = Prepayment(phase=name, amount=1_250, currency="EUR")
    return payment.prepayments["o-1"]


def memos(effects: Any) -> list[str]:
    return [each.memo for each in effects if isinstance(each, Posted)]


def test_a_charge_names_the_order_has_a_key_of_its_own_and_a_deadline() -> None:
    call = payment.charge(PLACED)
    assert isinstance(call, Call)
    assert (call.operation, call.key, call.deadline) == ("charge", "o-1/charge", 10.0)
    assert call.body == {"amount": 1_250, "currency": "EUR", "card_token": "tok_good", "order": "o-1"}
    assert payment.charge(PLACED) is None


def test_what_is_charged_is_told_with_all_that_inventory_needs() -> None:
    payment.charge(PLACED)
    told, posted = charged()
    assert told == PaymentCharged(
        amount=1_250, currency="EUR", reference="c-1", lines=LINES, ship_to="1 Main Street", reserve_for=60
    )
    assert {entry.account: entry.amount for entry in posted.entries} == {
        "gateway.receivable": 1_250,
        "customers.prepaid": -1_250,
    }
    assert payment.prepayments["o-1"] == Prepayment(phase="charged", amount=1_250, currency="EUR")


def test_no_card_token_is_kept() -> None:
    payment.charge(PLACED)
    assert "tok_good" not in str([getattr(payment.prepayments["o-1"], f) for f in Prepayment.__struct_fields__])


def test_a_refusal_is_a_decline_and_leaves_nothing_to_refund() -> None:
    payment.charge(PLACED)
    assert charged("refused") == PaymentDeclined(reason="why")
    for stop in STOPS[:1]:
        assert payment.refund(stop) == PaymentRefunded(outcome="nothing_to_undo")


def test_a_charge_of_unknown_fate_is_refunded_by_its_key_without_a_deadline() -> None:
    payment.charge(PLACED)
    failed, call = charged("unknown")
    assert failed == PaymentFailed(outcome="unknown", reason="why")
    assert (call.operation, call.key, call.deadline) == ("refund", "o-1/refund", None)
    assert call.body == {"charge": "o-1/charge", "amount": 1_250}
    assert payment.refund(STOPS[0]) is None, "it is under way"
    assert refunded() == PaymentRefunded(outcome="undone")


@pytest.mark.parametrize("stop", STOPS, ids=lambda each: type(each).__name__)
def test_whatever_stops_an_order_its_charge_is_refunded_once(stop: Any) -> None:
    phase("charged")
    call = payment.refund(stop)
    assert isinstance(call, Call)
    for again in STOPS:
        assert payment.refund(again) is None
    confirmed, posted = refunded()
    assert (confirmed, posted.memo) == (PaymentRefunded(outcome="undone"), "refund")
    assert refunded() is None


def test_a_stop_that_overtakes_the_order_is_confirmed_at_once_and_bars_the_charge() -> None:
    assert payment.refund(STOPS[2]) == PaymentRefunded(outcome="nothing_to_undo")
    assert payment.charge(PLACED) is None


@pytest.mark.parametrize(("outcome", "after"), [("accepted", "refunding"), ("unknown", "clearing")])
def test_a_charge_that_is_answered_after_the_stop_is_refunded_and_told_to_nobody(outcome: str, after: str) -> None:
    payment.charge(PLACED)
    assert payment.refund(STOPS[2]) is None
    *posted, call = charged(outcome)
    assert memos(posted) == (["charge"] if outcome == "accepted" else [])
    assert call.operation == "refund"
    row = payment.prepayments["o-1"]
    assert (row.phase, row.lines, row.ship_to) == (after, (), "")


def test_a_charge_that_is_refused_after_the_stop_confirms_the_refund() -> None:
    payment.charge(PLACED)
    payment.refund(STOPS[2])
    assert charged("refused") == PaymentRefunded(outcome="nothing_to_undo")


def test_what_has_left_is_earned_once_and_never_refunded() -> None:
    phase("charged")
    posted = payment.earn(DISPATCHED)
    assert posted is not None
    assert posted.memo == "earn"
    assert payment.earn(DISPATCHED) is None
    with pytest.raises(AssertionError, match="has left"):
        payment.refund(STOPS[1])


@pytest.mark.parametrize("wrong", ["charging", "unwanted", "declined", "refunding", "clearing", "refunded"])
def test_what_was_not_charged_or_is_given_back_cannot_have_left(wrong: PrepaymentPhase) -> None:
    phase(wrong)
    with pytest.raises(AssertionError, match="dispatched"):
        payment.earn(DISPATCHED)


def test_a_refund_that_is_refused_is_said_once_and_may_still_succeed() -> None:
    phase("refunding")
    assert refunded("refused") == PaymentRefundStuck(reason="why")
    assert refunded("refused") is None
    assert refunded()[0] == PaymentRefunded(outcome="undone")


@pytest.mark.parametrize(("stuck", "posted"), [("refunding", ["write_off_refund"]), ("clearing", [])])
def test_an_operator_ends_a_refund_and_only_a_known_charge_is_owed(stuck: PrepaymentPhase, posted: list[str]) -> None:
    phase(stuck)
    effects = payment.write_off_refund(WRITE_OFF)
    assert effects is not None
    assert effects[:2] == (
        Withdraw("o-1/refund"),
        PaymentRefundWrittenOff(amount=1_250, currency="EUR", reason="gone"),
    )
    assert memos(effects) == posted
    assert payment.write_off_refund(WRITE_OFF) is None
    late = refunded()
    assert (late.memo if late else None) == ("refund_after_all" if posted else None)
    assert refunded() is None


@pytest.mark.parametrize("other", sorted({*get_args(PrepaymentPhase)} - {"refunding", "clearing"}))
def test_nothing_else_is_an_operators_to_end(other: PrepaymentPhase) -> None:
    before = phase(other)
    assert payment.write_off_refund(WRITE_OFF) is None
    assert payment.prepayments["o-1"] == before
    assert payment.write_off_refund(replace(WRITE_OFF, saga="o-2")) is None


@pytest.mark.parametrize("outcome", ["accepted", "unknown"])
@pytest.mark.parametrize("stopped", ["before it is answered", "after"])
def test_a_write_off_in_another_flow_is_nobodys(outcome: str, stopped: str) -> None:
    payment.charge(PLACED, "order-pay-first/2")
    if stopped == "before it is answered":
        payment.refund(STOPS[2])
    charged(outcome)
    payment.refund(STOPS[2])
    before = payment.prepayments["o-1"]
    assert payment.write_off_refund(WRITE_OFF, "order-pay-first/1") is None
    assert payment.prepayments["o-1"] == before
    assert payment.write_off_refund(WRITE_OFF, "order-pay-first/2") is not None


@pytest.mark.parametrize("ended", ["charged", "declined", "refunded", "earned"])
def test_answers_that_come_again_change_nothing(ended: PrepaymentPhase) -> None:
    before = phase(ended)
    for outcome in ("accepted", "refused", "unknown"):
        assert charged(outcome) is None
        assert refunded(outcome) is None
    assert payment.prepayments["o-1"] == before


def test_the_two_ways_of_paying_share_no_row() -> None:
    """A command in another flow finds nothing: a write-off cannot end what is not its flow's."""
    phase("refunding")
    assert payment.write_off(WRITE_OFF) is None
    assert "o-1" not in payment.charges
