"""What must hold of an order's money, by how its flow takes it: charged when the order leaves, or charged first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

from agents import payment
from agents.order import OWED, OWED_IF_CHARGED_FIRST
from events import (
    InventoryReleased,
    OrderCompleted,
    PaymentAuthorised,
    PaymentCaptured,
    PaymentCharged,
    PaymentFailed,
    PaymentRefunded,
    PaymentRefundWrittenOff,
    PaymentVoided,
    PaymentWrittenOff,
    Posted,
)
from farandole import Event
from tests.flows.world import World

Sums = Counter[str]
Confirmations = Mapping[str, tuple[str, ...]]


class Paying(Protocol):
    """operations: what is asked of the gateway; owed: by cause, as the order service has it

    confirmations: names of the events that stand for `voided` or `refunded` there
    """

    operations: ClassVar[Sequence[str]]
    owed: ClassVar[Mapping[str, list[str]]]
    confirmations: ClassVar[Confirmations]

    def completed(self, world: World, saga: str, end: OrderCompleted) -> None: ...

    def cancelled(self, world: World, saga: str, steps: Mapping[str, str]) -> None:
        """steps: those that order.cancelled lists, and what took each back."""

    def balance(self, world: World, saga: str, end: Event) -> Sums:
        """The ledger when it has come to rest."""
        ...


RELEASED = ("inventory.released",)


class ChargedLast:
    operations: ClassVar[Sequence[str]] = ("authorise", "capture", "void")
    owed: ClassVar[Mapping[str, list[str]]] = OWED
    confirmations: ClassVar[Confirmations] = {
        "released": RELEASED,
        "voided": ("payment.voided", "payment.written_off"),
    }

    def completed(self, world: World, saga: str, end: OrderCompleted) -> None:
        assert not world.events(saga, InventoryReleased, PaymentVoided), "completed, although something was taken back"
        assert len(world.events(saga, PaymentAuthorised)) == 1
        written_off = _given_up(world, saga, "capture")
        assert len(world.events(saga, PaymentCaptured)) + len(written_off) == 1, "paid or written off, and once"
        assert end.written_off == bool(written_off)
        authorisation = f"{saga}/authorise"
        assert written_off or world.outside.captured[authorisation] == end.amount, "the card was not charged"
        assert authorisation not in world.outside.voided

    def cancelled(self, world: World, saga: str, steps: Mapping[str, str]) -> None:
        authorisation, given_up = f"{saga}/authorise", bool(_given_up(world, saga, "void"))
        assert authorisation not in world.outside.captured, "cancelled, and the card charged"
        assert authorisation not in world.outside.authorised or authorisation in world.outside.voided or given_up
        voided = world.events(saga, PaymentVoided)
        assert len(voided) + given_up <= 1
        if given_up:
            assert steps.get("authorise") == "payment.written_off"
        elif voided and voided[0].outcome == "undone":
            assert steps.get("authorise") == "payment.voided"
        else:
            assert "authorise" not in steps
            assert authorisation not in world.outside.authorised, "an authorisation that nobody took back"
            assert not world.events(saga, PaymentAuthorised, PaymentFailed)

    def balance(self, world: World, saga: str, end: Event) -> Sums:
        if not isinstance(end, OrderCompleted):
            return Counter()
        recovered = any(event.memo == "recover" for event in world.events(saga, Posted))
        debit = payment.LOSSES if end.written_off and not recovered else payment.RECEIVABLE
        assert debit == payment.LOSSES or f"{saga}/authorise" in world.outside.captured
        return Counter({debit: end.amount, payment.SALES: -end.amount})


class ChargedFirst:
    operations: ClassVar[Sequence[str]] = ("charge", "refund")
    owed: ClassVar[Mapping[str, list[str]]] = OWED_IF_CHARGED_FIRST
    confirmations: ClassVar[Confirmations] = {
        "released": RELEASED,
        "refunded": ("payment.refunded", "payment.refund_written_off"),
    }

    def completed(self, world: World, saga: str, end: OrderCompleted) -> None:
        assert not world.events(saga, InventoryReleased, PaymentRefunded, PaymentRefundWrittenOff)
        [charged] = world.events(saga, PaymentCharged)
        assert not end.written_off
        assert world.outside.charged[f"{saga}/charge"] == end.amount == charged.amount, "the card was not charged"
        assert f"{saga}/charge" not in world.outside.refunded

    def cancelled(self, world: World, saga: str, steps: Mapping[str, str]) -> None:
        charge, given_up = f"{saga}/charge", bool(world.events(saga, PaymentRefundWrittenOff))
        assert charge not in world.outside.charged or charge in world.outside.refunded or given_up, "not refunded"
        refunded = world.events(saga, PaymentRefunded)
        assert len(refunded) + given_up <= 1
        if given_up:
            assert steps.get("charge") == "payment.refund_written_off"
        elif refunded and refunded[0].outcome == "undone":
            assert steps.get("charge") == "payment.refunded"
        else:
            assert "charge" not in steps
            assert charge not in world.outside.charged, "a charge that nobody took back"
            assert not world.events(saga, PaymentCharged, PaymentFailed)

    def balance(self, world: World, saga: str, end: Event) -> Sums:
        if isinstance(end, OrderCompleted):
            return Counter({payment.RECEIVABLE: end.amount, payment.SALES: -end.amount})
        debt: Sums = Counter()
        for given_up in world.events(saga, PaymentRefundWrittenOff):
            memos = {event.memo for event in world.events(saga, Posted)}
            if "charge" in memos and "refund_after_all" not in memos:
                debt = Counter({payment.RECEIVABLE: given_up.amount, payment.UNREFUNDED: -given_up.amount})
        return debt


def _given_up(world: World, saga: str, what: str) -> list[PaymentWrittenOff]:
    return [event for event in world.events(saga, PaymentWrittenOff) if event.what == what]


LAST, FIRST = ChargedLast(), ChargedFirst()


def paying(world: World, saga: str) -> Paying:
    return paying_in(world.flow_of[saga])


def paying_in(flow: str) -> Paying:
    return FIRST if flow == "order-pay-first/1" else LAST
