"""One mail per order's end, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from agents import notification
from events import MailAnswered, NotificationSent, OrderCancelled, OrderCompleted, OrderRefused
from farandole import Call
from farandole.testing import tables

COMPLETED = OrderCompleted(
    customer="anna", email="anna@example.org", amount=250, currency="EUR", written_off=False, saga="o-1"
)
CANCELLED = OrderCancelled(
    customer="anna", email="anna@example.org", cause="inventory.rejected", reason="short", steps=(), saga="o-1"
)
REFUSED = OrderRefused(customer="anna", email="", reason="email: an address", saga="o-1")


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    with tables(notification.app):
        yield


def answered(outcome: Any) -> Any:
    return notification.mail_answered(MailAnswered(outcome=outcome, reference="m-1", reason="mailbox full", saga="o-1"))


def test_the_customer_is_told_how_the_order_ended() -> None:
    call = notification.tell_completed(COMPLETED)
    assert isinstance(call, Call)
    assert (call.outside, call.operation, call.key, call.deadline) == ("mail", "send", "o-1/completed", 86_400.0)
    assert call.body == {"to": "anna@example.org", "template": "completed", "order": "o-1"}


def test_the_same_end_again_is_no_second_mail() -> None:
    notification.tell_cancelled(CANCELLED)
    assert notification.tell_cancelled(CANCELLED) is None


def test_an_order_that_ends_twice_is_stopped_here() -> None:
    notification.tell_cancelled(CANCELLED)
    with pytest.raises(AssertionError, match="ended twice"):
        notification.tell_completed(COMPLETED)


def test_a_mail_that_was_taken_is_delivered() -> None:
    notification.tell_cancelled(CANCELLED)
    assert answered("accepted") == NotificationSent(template="cancelled", outcome="delivered", reason="")
    assert notification.mails["o-1"].phase == "delivered"


@pytest.mark.parametrize("outcome", ["refused", "unknown"])
def test_a_mail_that_fails_is_given_up(outcome: Any) -> None:
    notification.tell_completed(COMPLETED)
    assert answered(outcome) == NotificationSent(template="completed", outcome="gave_up", reason="mailbox full")
    assert notification.mails["o-1"].phase == "gave_up"


def test_without_an_address_nothing_is_sent() -> None:
    sent = notification.tell_refused(REFUSED)
    assert isinstance(sent, NotificationSent)
    assert (sent.template, sent.outcome) == ("refused", "gave_up")
    assert notification.mails["o-1"].phase == "gave_up"
    assert notification.tell_refused(REFUSED) is None


@pytest.mark.parametrize("outcome", ["accepted", "refused", "unknown"])
def test_an_answer_that_comes_again_says_nothing_new(outcome: Any) -> None:
    notification.tell_completed(COMPLETED)
    answered(outcome)
    assert answered("accepted") is None
    assert answered("refused") is None
