"""Shipping's table, row by row: whether an order may still be stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agents import shipping
from events import (
    BookAnswered,
    CancelAnswered,
    InventoryExpiryRequested,
    OrderCancelRequested,
    PaymentAuthorised,
    ShippingAsker,
    ShippingCancelled,
    ShippingCancelRefused,
    ShippingDispatched,
    ShippingFailed,
)
from farandole import Call
from farandole.testing import tables

AUTHORISED = PaymentAuthorised(ship_to="1 Main Street", reference="auth-1", saga="o-1")
ASKERS: list[ShippingAsker] = ["customer", "clock"]


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    with tables(shipping.app):
        yield


def stop(asker: ShippingAsker) -> Any:
    if asker == "customer":
        return shipping.stop_for_customer(OrderCancelRequested(saga="o-1"))
    return shipping.stop_for_clock(InventoryExpiryRequested(saga="o-1"))


def booked(outcome: Any) -> Any:
    return shipping.book_answered(
        BookAnswered(outcome=outcome, reference="parcel-1", reason="no such street", saga="o-1")
    )


def unbooked(outcome: Any = "accepted") -> Any:
    return shipping.cancel_answered(CancelAnswered(outcome=outcome, reference="", reason="too late", saga="o-1"))


@pytest.fixture
def booking() -> None:
    shipping.book(AUTHORISED)


@pytest.mark.parametrize("asker", ASKERS)
def test_nothing_heard_yet_stops_the_order_and_refuses_a_later_booking(asker: ShippingAsker) -> None:
    assert stop(asker) == ShippingCancelled(asked_by=asker)
    assert shipping.book(AUTHORISED) is None


@pytest.mark.parametrize("asker", ASKERS)
def test_a_booking_in_flight_waits_for_the_carrier(booking: None, asker: ShippingAsker) -> None:
    assert stop(asker) is None


@pytest.mark.parametrize("asker", ASKERS)
def test_a_booking_that_succeeds_is_dispatched_and_the_stop_refused(booking: None, asker: ShippingAsker) -> None:
    stop(asker)
    assert booked("accepted") == (ShippingDispatched(tracking="parcel-1"), ShippingCancelRefused(asked_by=asker))


@pytest.mark.parametrize("asker", ASKERS)
def test_a_booking_that_is_refused_has_failed_whoever_asked_for_a_stop(booking: None, asker: ShippingAsker) -> None:
    stop(asker)
    assert booked("refused") == ShippingFailed(reason="no such street")


@pytest.mark.parametrize("asker", ASKERS)
def test_a_booking_of_unknown_fate_is_cancelled_by_its_key_before_the_order_is(
    booking: None, asker: ShippingAsker
) -> None:
    stop(asker)
    call = booked("unknown")
    assert isinstance(call, Call)
    assert (call.operation, call.body, call.deadline) == ("cancel", {"booking": "o-1/book"}, None)
    assert unbooked() == ShippingCancelled(asked_by=asker)


@pytest.mark.parametrize("asker", ASKERS)
def test_a_stop_while_the_booking_is_being_cancelled_makes_it_a_cancellation(
    booking: None, asker: ShippingAsker
) -> None:
    booked("unknown")
    assert stop(asker) is None
    assert unbooked() == ShippingCancelled(asked_by=asker)


def test_a_booking_of_unknown_fate_that_nobody_wants_stopped_has_failed(booking: None) -> None:
    booked("unknown")
    assert unbooked() == ShippingFailed(reason="the carrier did not answer in time")


@pytest.mark.parametrize("asker", ASKERS)
def test_what_is_dispatched_cannot_be_stopped_and_each_asker_learns_it_once(
    booking: None, asker: ShippingAsker
) -> None:
    booked("accepted")
    assert stop(asker) == ShippingCancelRefused(asked_by=asker)
    assert stop(asker) is None
    other = ASKERS[1 - ASKERS.index(asker)]
    assert stop(other) == ShippingCancelRefused(asked_by=other)


@pytest.mark.parametrize("asker", ASKERS)
def test_who_asked_while_the_booking_was_in_flight_is_not_told_twice(booking: None, asker: ShippingAsker) -> None:
    stop(asker)
    booked("accepted")
    assert stop(asker) is None


@pytest.mark.parametrize("asker", ASKERS)
def test_what_has_failed_is_not_stopped_again(booking: None, asker: ShippingAsker) -> None:
    booked("refused")
    before = shipping.shipments["o-1"]
    assert stop(asker) is None
    assert shipping.shipments["o-1"] == before


@pytest.mark.parametrize("asker", ASKERS)
@pytest.mark.parametrize("first", ASKERS)
def test_what_is_cancelled_is_not_cancelled_again(first: ShippingAsker, asker: ShippingAsker) -> None:
    stop(first)
    before = shipping.shipments["o-1"]
    assert stop(asker) is None
    assert shipping.shipments["o-1"] == before


def test_both_askers_are_answered_in_the_order_in_which_they_asked(booking: None) -> None:
    stop("clock")
    stop("customer")
    assert booked("accepted")[1:] == (
        ShippingCancelRefused(asked_by="clock"),
        ShippingCancelRefused(asked_by="customer"),
    )


def test_the_first_asker_is_named_when_both_get_their_stop(booking: None) -> None:
    stop("clock")
    stop("customer")
    booked("unknown")
    assert unbooked() == ShippingCancelled(asked_by="clock")


def test_the_carrier_is_asked_with_a_deadline_and_the_orders_own_key() -> None:
    call = shipping.book(AUTHORISED)
    assert isinstance(call, Call)
    assert (call.outside, call.operation, call.key, call.deadline) == ("carrier", "book", "o-1/book", 10.0)
    assert call.body == {"order": "o-1", "ship_to": "1 Main Street"}


@pytest.mark.parametrize("outcome", ["accepted", "refused", "unknown"])
def test_the_same_messages_again_change_nothing(booking: None, outcome: Any) -> None:
    assert shipping.book(AUTHORISED) is None
    booked(outcome)
    before = shipping.shipments["o-1"]
    assert shipping.book(AUTHORISED) is None
    assert booked(outcome) is None
    assert shipping.shipments["o-1"] == before


@pytest.mark.parametrize("asked", [True, False])
def test_the_same_cancellation_of_a_booking_again_changes_nothing(booking: None, asked: bool) -> None:
    booked("unknown")
    if asked:
        stop("clock")
    unbooked()
    assert shipping.shipments["o-1"].phase == ("cancelled" if asked else "failed")
    assert unbooked() is None


@pytest.mark.parametrize("outcome", ["refused", "unknown"])
def test_a_carrier_that_will_not_cancel_parks_the_order(booking: None, outcome: Any) -> None:
    booked("unknown")
    with pytest.raises(AssertionError, match="will not cancel"):
        unbooked(outcome)
