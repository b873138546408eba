"""What is a valid order, and how many times it ends: once."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from agents import order
from events import (
    CancelOrder,
    InventoryCommitted,
    InventoryRejected,
    InventoryReleased,
    OrderCancelled,
    OrderCancelRequested,
    OrderCompleted,
    OrderLine,
    OrderPlaced,
    OrderRefused,
    PaymentCaptured,
    PaymentDeclined,
    PaymentFailed,
    PaymentVoided,
    PaymentWrittenOff,
    PlaceOrder,
    ShippingCancelled,
    ShippingFailed,
)
from farandole.testing import tables

SAGA = order.order_id("anna", "k-1")
GOOD = PlaceOrder(
    customer="anna",
    idempotency_key="k-1",
    lines=(OrderLine(line=1, sku="apple", quantity=2, price=250), OrderLine(line=2, sku="apple", quantity=1, price=0)),
    currency="EUR",
    email="anna@example.org",
    ship_to="1 Main Street\nSpringfield",
    card_token="tok_good",
    saga=SAGA,
)


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    with tables(order.app):
        yield


@pytest.fixture
def placed() -> None:
    order.place(GOOD)


def line(**changes: Any) -> dict[str, Any]:
    return {"lines": (replace(GOOD.lines[0], **changes),)}


# ---- a request


def test_an_id_is_short_fit_for_a_url_and_the_same_for_the_same_customer_and_key() -> None:
    assert order.order_id("anna", "k-1") == SAGA
    assert len(SAGA) == 26
    assert set(SAGA) <= set(string.ascii_lowercase + string.digits + "-")


@pytest.mark.parametrize("other", [("anna", "k-2"), ("bert", "k-1"), ("annak", "-1"), ("ann", "ak-1"), ("", "annak-1")])
def test_another_customer_or_key_is_another_id(other: tuple[str, str]) -> None:
    assert order.order_id(*other) != SAGA


DIFFERENCES: list[dict[str, Any]] = [
    {"lines": GOOD.lines[:1]},
    {"lines": GOOD.lines[::-1]},
    line(quantity=3),
    {"currency": "USD"},
    {"email": "bert@example.org"},
    {"ship_to": "elsewhere"},
    {"card_token": "tok_other"},
    {"reserve_for": 60},
]


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: next(iter(each)))
def test_another_body_has_another_fingerprint(difference: dict[str, Any]) -> None:
    assert order.fingerprint(replace(GOOD, **difference)) != order.fingerprint(GOOD)


def test_when_a_request_was_made_makes_it_no_other_request() -> None:
    assert order.fingerprint(replace(GOOD, asked_at=1)) == order.fingerprint(GOOD)


def test_a_good_request_has_no_problems() -> None:
    assert order.validate(GOOD) == []
    most = tuple(OrderLine(line=n, sku="a.B_/-9", quantity=1, price=0) for n in range(1, 101))
    assert order.validate(replace(GOOD, lines=most, reserve_for=86_400, asked_at=0)) == []
    assert order.validate(replace(GOOD, reserve_for=1, asked_at=1 << 53)) == []
    longest = {"customer": "x" * 128, "idempotency_key": "x" * 128, "ship_to": "x" * 1_000, "card_token": "x" * 256}
    assert order.validate(replace(GOOD, **longest)) == []
    assert order.validate(replace(GOOD, email="x" * 64 + "@" + "x" * 189)) == []
    assert order.validate(replace(GOOD, **line(quantity=1, price=1 << 53))) == []
    assert (
        order.validate(replace(GOOD, **line(line=10_000, sku="x" * 64, quantity=1_000_000, price=9_007_199_254))) == []
    )


PROBLEMS: list[tuple[str, dict[str, Any]]] = [
    ("customer", {"customer": ""}),
    ("customer", {"customer": "x" * 129}),
    ("customer", {"customer": "a\x00b"}),
    ("customer", {"customer": " anna"}),
    ("customer", {"customer": "anna\nbert"}),
    ("idempotency_key", {"idempotency_key": ""}),
    ("idempotency_key", {"idempotency_key": "x" * 129}),
    ("ship_to", {"ship_to": ""}),
    ("ship_to", {"ship_to": "x" * 1_001}),
    ("ship_to", {"ship_to": "here\x1b[2J"}),
    ("ship_to", {"ship_to": "here\n"}),
    ("card_token", {"card_token": ""}),
    ("card_token", {"card_token": "x" * 257}),
    ("currency", {"currency": "eur"}),
    ("currency", {"currency": "EURO"}),
    ("email", {"email": "anna"}),
    ("email", {"email": "anna@"}),
    ("email", {"email": "a@b@c"}),
    ("email", {"email": "anna@example.org\nBcc: all@example.org"}),
    ("email", {"email": "x" * 65 + "@example.org"}),
    ("email", {"email": "anna@" + "x" * 190}),
    ("email", {"email": "anna\x00@example.org"}),
    ("reserve_for", {"reserve_for": 0}),
    ("reserve_for", {"reserve_for": 86_401}),
    ("asked_at", {"asked_at": -1}),
    ("asked_at", {"asked_at": (1 << 53) + 1}),
    ("lines", {"lines": ()}),
    ("lines", {"lines": tuple(OrderLine(line=n, sku="a", quantity=1, price=1) for n in range(1, 102))}),
    ("lines", {"lines": GOOD.lines + GOOD.lines[:1]}),
    ("lines[0].line", line(line=0)),
    ("lines[0].line", line(line=10_001)),
    ("lines[0].sku", line(sku="")),
    ("lines[0].sku", line(sku="an apple")),
    ("lines[0].sku", line(sku="-apple")),
    ("lines[0].sku", line(sku="x" * 65)),
    ("lines[0].quantity", line(quantity=0)),
    ("lines[0].quantity", line(quantity=1_000_001)),
    ("lines[0].price", line(price=-1)),
    ("lines", line(quantity=2, price=(1 << 52) + 1)),
]


@pytest.mark.parametrize(("field", "difference"), PROBLEMS)
def test_a_bad_request_is_told_what_is_wrong_with_it(field: str, difference: dict[str, Any]) -> None:
    [problem] = order.validate(replace(GOOD, **difference))
    assert problem.startswith(f"{field}: ")


def test_all_problems_are_told_at_once_and_none_shows_the_card() -> None:
    problems = order.validate(replace(GOOD, customer="", currency="", card_token="tok_secret\x00"))
    assert len(problems) == 3
    assert "tok_secret" not in str(problems)


@settings(max_examples=200, deadline=None)
@given(
    st.builds(
        PlaceOrder,
        customer=st.text(max_size=200),
        idempotency_key=st.text(max_size=200),
        lines=st.lists(
            st.builds(OrderLine, line=st.integers(), sku=st.text(), quantity=st.integers(), price=st.integers())
        ).map(tuple),
        currency=st.text(),
        email=st.text(),
        ship_to=st.text(),
        card_token=st.text(),
        reserve_for=st.integers(),
        asked_at=st.none() | st.integers(),
        saga=st.just(SAGA),
    )
)
def test_whatever_is_asked_is_placed_or_refused_in_few_words(command: PlaceOrder) -> None:
    with tables(order.app):
        answer = order.place(command)
        assert isinstance(answer, OrderPlaced) == (not order.validate(command) and command.customer == "anna")
        if isinstance(answer, OrderRefused):
            assert len(answer.customer) <= 128
            assert len(answer.reason) <= 1_000
        assert order.place(command) is None


# ---- how it begins


def test_a_valid_order_is_placed_with_its_total() -> None:
    assert order.place(GOOD) == OrderPlaced(
        customer="anna",
        lines=GOOD.lines,
        amount=500,
        currency="EUR",
        ship_to=GOOD.ship_to,
        card_token="tok_good",
        reserve_for=900,
    )


def test_the_card_token_is_in_no_row_and_no_repr(placed: None) -> None:
    assert "tok_good" not in repr(order.orders[SAGA]) + repr(GOOD)


def test_the_same_request_again_and_another_one_under_its_key_change_nothing(placed: None) -> None:
    before = order.orders[SAGA]
    assert order.place(GOOD) is None
    assert order.place(replace(GOOD, ship_to="elsewhere")) is None
    assert order.place(replace(GOOD, lines=())) is None
    assert order.place(replace(GOOD, customer="mallory")) is None
    assert order.orders[SAGA] == before


def test_a_refused_order_stays_refused() -> None:
    refused = order.place(replace(GOOD, currency="euro"))
    assert isinstance(refused, OrderRefused)
    assert refused.email == "anna@example.org"
    assert order.place(GOOD) is None
    assert order.cancel(CancelOrder(saga=SAGA)) is None
    row = order.orders[SAGA]
    assert (row.phase, row.amount, row.reason) == ("refused", 0, refused.reason)


def test_an_id_that_is_not_its_customers_and_keys_is_refused() -> None:
    refused = order.place(replace(GOOD, saga="o-mine"))
    assert isinstance(refused, OrderRefused)
    assert "id" in refused.reason


def test_a_refusal_names_no_unusable_address() -> None:
    refused = order.place(replace(GOOD, email="x" * 10_000, customer="y" * 10_000))
    assert isinstance(refused, OrderRefused)
    assert (refused.email, len(refused.customer)) == ("", 128)


# ---- how it is stopped


def test_a_cancellation_is_asked_for_once(placed: None) -> None:
    assert order.cancel(CancelOrder(saga=SAGA)) == OrderCancelRequested()
    assert order.cancel(CancelOrder(saga=SAGA)) is None


def test_an_order_that_was_never_placed_cannot_be_cancelled() -> None:
    assert order.cancel(CancelOrder(saga=SAGA)) is None
    assert SAGA not in order.orders
    assert isinstance(order.place(GOOD), OrderPlaced)


def test_an_order_that_is_being_stopped_is_not_asked_to_stop(placed: None) -> None:
    rejected()
    assert order.cancel(CancelOrder(saga=SAGA)) is None


def rejected() -> Any:
    return order.stopped_by_shortage(InventoryRejected(reason="short", saga=SAGA))


def declined() -> Any:
    return order.stopped_by_decline(PaymentDeclined(reason="declined", saga=SAGA))


def failed() -> Any:
    return order.stopped_by_silence(PaymentFailed(outcome="unknown", reason="silent", saga=SAGA))


def undeliverable() -> Any:
    return order.stopped_by_carrier(ShippingFailed(reason="undeliverable", saga=SAGA))


def stopped() -> Any:
    return order.stopped_on_request(ShippingCancelled(asked_by="customer", saga=SAGA))


def released(outcome: Any = "undone") -> Any:
    return order.released(InventoryReleased(outcome=outcome, saga=SAGA))


def voided(outcome: Any = "undone") -> Any:
    return order.voided(PaymentVoided(outcome=outcome, saga=SAGA))


def written_off(what: Any) -> Any:
    return order.written_off(PaymentWrittenOff(what=what, amount=500, currency="EUR", reason="gone", saga=SAGA))


def captured() -> Any:
    return order.captured(PaymentCaptured(amount=500, currency="EUR", reference="c-1", saga=SAGA))


def committed() -> Any:
    return order.committed(InventoryCommitted(saga=SAGA))


ONE, BOTH = [released], [voided, released]
CAUSES: list[tuple[Callable[[], Any], str, list[Callable[..., Any]]]] = [
    (rejected, "inventory.rejected", ONE),
    (declined, "payment.declined", ONE),
    (failed, "payment.failed", BOTH),
    (undeliverable, "shipping.failed", BOTH),
    (stopped, "shipping.cancelled", BOTH),
]


@pytest.mark.parametrize(("cause", "name", "owed"), CAUSES, ids=[name for _, name, _ in CAUSES])
class TestACause:
    def test_ends_the_order_when_all_that_it_owes_is_confirmed(
        self, placed: None, cause: Any, name: str, owed: Any
    ) -> None:
        said = [cause(), *(confirm() for confirm in owed)]
        assert said[:-1] == [None] * (len(said) - 1)
        assert isinstance(said[-1], OrderCancelled)
        assert said[-1].cause == name

    def test_ends_it_in_whatever_order_the_confirmations_come(
        self, placed: None, cause: Any, name: str, owed: Any
    ) -> None:
        said = [*(confirm() for confirm in owed[::-1]), cause()]
        assert said[:-1] == [None] * (len(said) - 1)
        assert isinstance(said[-1], OrderCancelled)

    def test_ends_it_once(self, placed: None, cause: Any, name: str, owed: Any) -> None:
        for _ in range(2):
            cause()
            for confirm in owed:
                confirm()
        assert cause() is None
        assert released() is None
        assert voided() is None
        assert order.orders[SAGA].causes == (name,)

    def test_after_the_order_is_completed_is_a_bug(self, placed: None, cause: Any, name: str, owed: Any) -> None:
        captured()
        committed()
        with pytest.raises(AssertionError, match="after the order was completed"):
            cause()

    def test_means_that_nothing_may_complete_the_order(self, placed: None, cause: Any, name: str, owed: Any) -> None:
        cause()
        for completing in (captured, committed, lambda: written_off("capture")):
            with pytest.raises(AssertionError, match="point of no return"):
                completing()


def test_the_first_cause_names_the_reason_and_says_what_is_owed(placed: None) -> None:
    declined()
    stopped()
    end = released()
    assert (end.cause, end.reason) == ("payment.declined", "declined")
    assert order.orders[SAGA].causes == ("payment.declined", "shipping.cancelled")


def test_a_later_cause_that_owes_less_ends_nothing_early(placed: None) -> None:
    stopped()
    declined()
    assert released() is None
    assert isinstance(voided(), OrderCancelled)


def test_what_was_done_is_listed_with_what_took_it_back(placed: None) -> None:
    stopped()
    released()
    steps = voided().steps
    assert [(step.step, step.undone_by) for step in steps] == [
        ("hold", "inventory.released"),
        ("authorise", "payment.voided"),
    ]


def test_what_was_not_done_is_not_listed(placed: None) -> None:
    stopped()
    released("nothing_to_undo")
    assert voided("nothing_to_undo").steps == ()


def test_a_void_that_was_given_up_counts_as_confirmed_and_is_listed_as_that(placed: None) -> None:
    stopped()
    released("nothing_to_undo")
    [step] = written_off("void").steps
    assert (step.step, step.undone_by) == ("authorise", "payment.written_off")


@pytest.mark.parametrize(("asker", "reason"), [("customer", "customer"), ("clock", "ran out")])
def test_the_customer_learns_who_stopped_the_order(placed: None, asker: Any, reason: str) -> None:
    order.stopped_on_request(ShippingCancelled(asked_by=asker, saga=SAGA))
    voided()
    assert reason in released().reason


# ---- how it is completed


@pytest.mark.parametrize("paid_first", [True, False])
def test_an_order_is_completed_when_it_is_paid_and_committed_and_once(placed: None, paid_first: bool) -> None:
    first, second = (captured, committed) if paid_first else (committed, captured)
    assert first() is None
    assert first() is None
    assert second() == OrderCompleted(
        customer="anna", email="anna@example.org", amount=500, currency="EUR", written_off=False
    )
    assert first() is None
    assert second() is None
    assert order.cancel(CancelOrder(saga=SAGA)) is None


def test_an_order_whose_payment_was_given_up_is_completed_too(placed: None) -> None:
    committed()
    end = written_off("capture")
    assert isinstance(end, OrderCompleted)
    assert end.written_off


@pytest.mark.parametrize("confirm", [released, voided])
def test_a_compensation_after_the_order_is_completed_is_a_bug(placed: None, confirm: Any) -> None:
    captured()
    committed()
    with pytest.raises(AssertionError, match="after the order was completed"):
        confirm()
