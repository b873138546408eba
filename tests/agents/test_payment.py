"""A card is charged once or not at all, and what was authorised is captured, voided or written off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from agents import payment
from events import (
    AuthoriseAnswered,
    CaptureAnswered,
    Charge,
    ChargePhase,
    InventoryReserved,
    PaymentAuthorised,
    PaymentCaptured,
    PaymentDeclined,
    PaymentFailed,
    PaymentOpenStep,
    PaymentStuck,
    PaymentVoided,
    PaymentWrittenOff,
    Posted,
    ShippingCancelled,
    ShippingDispatched,
    ShippingFailed,
    VoidAnswered,
    WriteOff,
)
from farandole import Call, Withdraw
from farandole.testing import tables

RESERVED = InventoryReserved(amount=1_250, currency="EUR", card_token="tok_good", ship_to="1 Main Street", saga="o-1")
STOPS = [ShippingFailed(reason="no", saga="o-1"), ShippingCancelled(asked_by="clock", saga="o-1")]
DISPATCHED = ShippingDispatched(tracking="parcel-1", saga="o-1")
WRITE_OFF = WriteOff(reason="gone", saga="o-1")
AFTER_DISPATCH: list[ChargePhase] = ["capturing", "captured", "capture_written_off"]


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    with tables(payment.app):
        yield


def authorised(outcome: Any = "accepted") -> Any:
    return payment.authorise_answered(AuthoriseAnswered(outcome=outcome, reference="a-1", reason="why", saga="o-1"))


def voided(outcome: Any = "accepted") -> Any:
    return payment.void_answered(VoidAnswered(outcome=outcome, reference="v-1", reason="why", saga="o-1"))


def captured(outcome: Any = "accepted") -> Any:
    return payment.capture_answered(CaptureAnswered(outcome=outcome, reference="c-1", reason="why", saga="o-1"))


def phase(wanted: ChargePhase) -> None:
    """Put the order's payment into a phase."""
    payment.charges["o-1"] = Charge(phase=wanted, amount=1_250, currency="EUR")


def memos(effects: Any) -> list[str]:
    return [effect.memo for effect in effects if isinstance(effect, Posted)]


def test_the_gateway_is_asked_with_a_deadline_and_the_orders_own_key() -> None:
    call = payment.authorise(RESERVED)
    assert isinstance(call, Call)
    assert (call.outside, call.operation, call.key, call.deadline) == ("gateway", "authorise", "o-1/authorise", 10.0)
    assert call.body == {"amount": 1_250, "currency": "EUR", "card_token": "tok_good", "order": "o-1"}
    assert payment.authorise(RESERVED) is None


def test_the_card_token_is_kept_nowhere_and_shown_nowhere() -> None:
    call = payment.authorise(RESERVED)
    assert "tok_good" not in repr(call) + repr(RESERVED) + repr(payment.charges["o-1"])
    assert "card_token" not in Charge.__struct_fields__


def test_an_accepted_authorisation_tells_shipping_where_to() -> None:
    payment.authorise(RESERVED)
    effects = authorised()
    assert effects[0] == PaymentAuthorised(ship_to="1 Main Street", reference="a-1")
    assert memos(effects) == ["authorise"]


def test_a_refused_authorisation_is_a_decline() -> None:
    payment.authorise(RESERVED)
    assert authorised("refused") == PaymentDeclined(reason="why")


def test_a_deadline_does_not_mean_not_done_so_it_is_voided_without_one() -> None:
    payment.authorise(RESERVED)
    failed, void = authorised("unknown")
    assert failed == PaymentFailed(outcome="unknown", reason="why")
    assert (void.operation, void.key, void.deadline) == ("void", "o-1/void", None)
    assert void.body == {"authorisation": "o-1/authorise"}
    assert voided() == PaymentVoided(outcome="undone")


@pytest.mark.parametrize("stop", STOPS, ids=lambda each: type(each).__name__)
class TestAStop:
    def test_before_anything_was_heard_is_confirmed_at_once_and_the_order_refused(self, stop: Any) -> None:
        assert payment.void(stop) == PaymentVoided(outcome="nothing_to_undo")
        assert payment.charges["o-1"] == Charge(phase="voided")
        assert payment.authorise(RESERVED) is None
        assert payment.void(stop) is None

    @pytest.mark.parametrize(
        ("outcome", "confirmed"), [("accepted", "undone"), ("refused", "nothing_to_undo"), ("unknown", "undone")]
    )
    def test_while_the_gateway_thinks_waits_for_it(self, stop: Any, outcome: str, confirmed: Any) -> None:
        payment.authorise(RESERVED)
        assert payment.void(stop) is None
        assert payment.void(stop) is None
        said = authorised(outcome)
        if outcome == "refused":
            assert said == PaymentVoided(outcome=confirmed)
            assert authorised(outcome) is None
            assert payment.charges["o-1"] == Charge(phase="voided")
            return
        assert said[-1].operation == "void"
        last = voided()
        assert (last[0] if outcome == "accepted" else last) == PaymentVoided(outcome=confirmed)
        assert memos(said) == (["authorise"] if outcome == "accepted" else [])

    def test_of_an_authorised_order_voids_it(self, stop: Any) -> None:
        phase("authorised")
        call = payment.void(stop)
        assert isinstance(call, Call)
        assert (call.operation, call.deadline) == ("void", None)
        effects = voided()
        assert effects[0] == PaymentVoided(outcome="undone")
        assert memos(effects) == ["void"]

    def test_of_a_declined_order_confirms_that_there_is_nothing_once(self, stop: Any) -> None:
        phase("declined")
        assert payment.void(stop) == PaymentVoided(outcome="nothing_to_undo")
        assert payment.void(stop) is None

    @pytest.mark.parametrize("already", ["unwanted", "voiding", "clearing", "voided", "void_written_off"])
    def test_of_what_is_being_voided_or_was_adds_nothing(self, stop: Any, already: ChargePhase) -> None:
        phase(already)
        assert payment.void(stop) is None
        assert payment.charges["o-1"].phase == already

    @pytest.mark.parametrize("behind", AFTER_DISPATCH)
    def test_behind_the_point_of_no_return_is_a_bug(self, stop: Any, behind: ChargePhase) -> None:
        phase(behind)
        with pytest.raises(AssertionError, match="void after a capture"):
            payment.void(stop)


def test_what_is_dispatched_is_captured_without_a_deadline() -> None:
    phase("authorised")
    call = payment.capture(DISPATCHED)
    assert isinstance(call, Call)
    assert (call.operation, call.key, call.deadline) == ("capture", "o-1/capture", None)
    assert call.body == {"authorisation": "o-1/authorise", "amount": 1_250}
    assert payment.capture(DISPATCHED) is None
    effects = captured()
    assert effects[0] == PaymentCaptured(amount=1_250, currency="EUR", reference="c-1")
    assert memos(effects) == ["capture"]
    assert captured() is None
    assert payment.capture(DISPATCHED) is None


@pytest.mark.parametrize("before", ["authorising", "unwanted", "declined", "voiding", "clearing", "voided"])
def test_a_capture_of_what_is_not_authorised_is_a_bug(before: ChargePhase) -> None:
    phase(before)
    with pytest.raises(AssertionError, match="dispatched"):
        payment.capture(DISPATCHED)


@pytest.mark.parametrize("waiting", ["capturing", "voiding", "clearing"])
def test_what_the_gateway_cannot_refuse_but_does_is_stuck_and_said_once(waiting: ChargePhase) -> None:
    phase(waiting)
    answered = captured if waiting == "capturing" else voided
    what: PaymentOpenStep = "capture" if waiting == "capturing" else "void"
    assert answered("refused") == PaymentStuck(what=what, reason="why")
    assert answered("refused") is None
    assert payment.charges["o-1"].phase == waiting
    assert payment.write_off(WRITE_OFF) is not None


@pytest.mark.parametrize(
    ("waiting", "what", "posted"),
    [
        ("capturing", "capture", ["write_off_capture"]),
        ("voiding", "void", ["write_off_void"]),
        ("clearing", "void", []),
    ],
)
def test_an_operator_ends_what_is_not_confirmed(waiting: ChargePhase, what: Any, posted: list[str]) -> None:
    phase(waiting)
    effects = payment.write_off(WRITE_OFF)
    assert effects is not None
    assert effects[0] == Withdraw(f"o-1/{what}")
    assert effects[1] == PaymentWrittenOff(what=what, amount=1_250, currency="EUR", reason="gone")
    assert memos(effects) == posted
    assert payment.write_off(WRITE_OFF) is None


@pytest.mark.parametrize("other", ["authorising", "unwanted", "authorised", "declined", "voided", "captured"])
def test_an_operator_ends_nothing_else(other: ChargePhase) -> None:
    assert payment.write_off(WRITE_OFF) is None
    phase(other)
    assert payment.write_off(WRITE_OFF) is None
    assert payment.charges["o-1"].phase == other


def test_an_answer_that_comes_after_the_write_off_is_booked_if_money_moved() -> None:
    phase("capturing")
    payment.write_off(WRITE_OFF)
    assert captured("refused") is None
    late = captured()
    assert isinstance(late, Posted)
    assert late.memo == "recover"
    assert captured() is None


def test_a_void_that_is_confirmed_after_its_write_off_changes_nothing() -> None:
    phase("voiding")
    payment.write_off(WRITE_OFF)
    assert voided() is None
    assert payment.charges["o-1"].phase == "void_written_off"


@pytest.mark.parametrize("ended", ["authorised", "declined", "voided", "captured", "void_written_off"])
def test_answers_that_come_again_change_nothing(ended: ChargePhase) -> None:
    phase(ended)
    for outcome in ("accepted", "refused", "unknown"):
        assert authorised(outcome) is None
        assert voided(outcome) is None
        assert captured(outcome) is None
    assert payment.charges["o-1"] == replace(payment.charges["o-1"], phase=ended)


def test_every_posting_adds_up_to_zero() -> None:
    for memo, accounts in payment.POSTINGS.items():
        assert sum(accounts.values()) == 0, memo


def test_the_ledgers_page_names_every_account_and_every_posting() -> None:
    page = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text()
    named = set(re.findall(r"`([a-z_.]+)`", page))
    accounts = {account for posting in payment.POSTINGS.values() for account in posting}
    assert accounts | set(payment.POSTINGS) <= named


@pytest.mark.parametrize("what", ["capturing", "voiding", "clearing"])
def test_a_write_off_in_another_flow_is_nobodys(what: ChargePhase) -> None:
    before = payment.charges["o-1"] = Charge(phase=what, amount=1_250, currency="EUR", flow="order-orchestrated/1")
    assert payment.write_off(WRITE_OFF, "order/1") is None
    assert payment.charges["o-1"] == before
    assert payment.write_off(WRITE_OFF, "order-orchestrated/1") is not None


def test_an_authorisation_keeps_its_flow() -> None:
    payment.authorise(RESERVED, "order/1")
    authorised()
    assert payment.charges["o-1"].flow == "order/1"


def test_a_row_goes_when_no_call_of_it_is_under_way_and_nothing_more_is_to_be_done() -> None:
    ended = payment.charges.local.ended
    assert ended is not None
    gone = {each for each in get_args(ChargePhase) if ended(Charge(phase=each))}
    assert gone == {"declined", "voided", "captured", "void_written_off", "capture_written_off"}
