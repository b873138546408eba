"""What flows of orders promise: which facts exclude one another, rest on others, and owe others.

Invariant: a flow's promises name everything that it may do; `COMMON` is what holds in every flow, whoever asks whom.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from farandole.audit.flows.order_facts import ENDINGS, Facts, any_of, names_of


class Exclusive(NamedTuple):
    """Facts of which an order has at most one."""

    check: str
    alternatives: tuple[Facts, ...]


class RestsOn(NamedTuple):
    """A fact, and what it rests on: one of each group."""

    check: str
    fact: Facts
    groups: tuple[Facts, ...]


class Owes(NamedTuple):
    """Once one of `because` is there, one of `owed` has to come, sooner or later."""

    check: str
    because: Facts
    owed: Facts


class Promises(NamedTuple):
    """causes: full names of the events that stop an order, as order.cancelled names them"""

    causes: tuple[str, ...]
    exclusive: tuple[Exclusive, ...]
    rests_on: tuple[RestsOn, ...]
    owes: tuple[Owes, ...]

    def needs(self) -> Mapping[Facts, list[Facts]]:
        """Each single fact → the groups on each of which it rests."""
        needs: dict[Facts, list[Facts]] = {}
        for _, facts, groups in self.rests_on:
            for name in names_of(facts):
                needs.setdefault(any_of(name), []).extend(groups)
        return needs

    def and_also(
        self,
        causes: tuple[str, ...] = (),
        exclusive: tuple[Exclusive, ...] = (),
        rests_on: tuple[RestsOn, ...] = (),
        owes: tuple[Owes, ...] = (),
    ) -> Promises:
        return Promises(self.causes + causes, self.exclusive + exclusive, self.rests_on + rests_on, self.owes + owes)


def exclusive(*names: str, check: str = "contradiction") -> Exclusive:
    return Exclusive(check, tuple(any_of(name) for name in names))


def rests(fact: str, *groups: str | tuple[str, ...], check: str = "unfounded") -> RestsOn:
    named = ((group,) if isinstance(group, str) else group for group in groups)
    return RestsOn(check, any_of(fact), tuple(any_of(*group) for group in named))


def owes(because: tuple[str, ...], owed: tuple[str, ...], check: str = "confirmation-missing") -> Owes:
    return Owes(check, any_of(*because), any_of(*owed))


CAUSES: Final = (
    "inventory.rejected",
    "payment.declined",
    "payment.failed",
    "shipping.failed",
    "shipping.cancelled",
)
"""What stops an order."""

COMMON: Final = Promises(
    causes=CAUSES,
    exclusive=(
        exclusive("order.placed", "order.refused"),
        exclusive("inventory.reserved", "inventory.rejected"),
        exclusive("inventory.released", "inventory.committed"),
        exclusive("inventory.released", "shipping.dispatched"),
        exclusive("payment.authorised", "payment.declined", "payment.failed"),
        exclusive("payment.captured", "payment.written_off:capture"),
        exclusive("payment.voided", "payment.written_off:void"),
        exclusive("payment.voided", "payment.captured"),
        exclusive("payment.voided", "shipping.dispatched"),
        exclusive("shipping.dispatched", "shipping.failed", "shipping.cancelled"),
        exclusive("order.cancelled", "shipping.dispatched", check="cancelled-but-dispatched"),
        exclusive("order.cancelled", "payment.captured", check="cancelled-but-charged"),
    ),
    rests_on=(
        rests("order.placed", "order.commands.place_order"),
        rests("order.refused", "order.commands.place_order"),
        rests("order.cancel_requested", "order.commands.cancel_order", "order.placed"),
        rests(
            "order.completed",
            "inventory.committed",
            ("payment.captured", "payment.written_off:capture"),
            check="completed-unfinished",
        ),
        rests("inventory.expiry_requested", "inventory.timers.reservation_expired", "inventory.reserved"),
        rests("inventory.committed", "shipping.dispatched"),
        rests("payment.authorised", "payment.calls.authorise_answered:accepted"),
        rests("payment.declined", "payment.calls.authorise_answered:refused"),
        rests("payment.failed", "payment.calls.authorise_answered:unknown"),
        rests("payment.voided:undone", "payment.calls.void_answered:accepted"),
        rests("payment.calls.capture_answered", "shipping.dispatched", check="charged-without-dispatch"),
        rests("payment.captured", "shipping.dispatched", check="charged-without-dispatch"),
        rests("payment.captured", "payment.calls.capture_answered:accepted"),
        rests("payment.written_off", "payment.commands.write_off"),
        rests("payment.written_off:capture", "shipping.dispatched"),
        rests(
            "payment.stuck",
            tuple(
                f"payment.calls.{call}_answered:{said}"
                for call in ("capture", "void")
                for said in ("refused", "unknown")
            ),
        ),
        rests("shipping.dispatched", "shipping.calls.book_answered:accepted"),
        rests("shipping.failed", ("shipping.calls.book_answered:refused", "shipping.calls.cancel_answered:accepted")),
        rests("shipping.cancel_refused", "shipping.dispatched"),
        rests("notification.sent:completed", "order.completed", check="told-wrong"),
        rests("notification.sent:cancelled", "order.cancelled", check="told-wrong"),
        rests("notification.sent:refused", "order.refused", check="told-wrong"),
    ),
    owes=(
        owes(("order.commands.place_order",), ("order.placed", "order.refused"), "unanswered"),
        owes(CAUSES, ("inventory.released",)),
        owes((*ENDINGS, "order.refused"), ("notification.sent",), "mail-missing"),
    ),
)

STOPPED_DIRECTLY: Final = Promises(
    causes=(),
    exclusive=(),
    rests_on=(
        rests("shipping.cancelled:customer", "order.cancel_requested"),
        rests("shipping.cancelled:clock", "inventory.expiry_requested"),
        rests("shipping.cancel_refused:customer", "order.cancel_requested"),
        rests("shipping.cancel_refused:clock", "inventory.expiry_requested"),
    ),
    owes=(
        owes(
            ("order.cancel_requested",), ("shipping.cancelled", "shipping.failed", "shipping.cancel_refused:customer")
        ),
        owes(
            ("inventory.expiry_requested",), ("shipping.cancelled", "shipping.failed", "shipping.cancel_refused:clock")
        ),
    ),
)
"""Where shipping hears by itself who wants an order stopped."""

_UNDONE_BY_PAYMENT: Final = ("payment.failed", "shipping.failed", "shipping.cancelled")

CHOREOGRAPHED: Final = COMMON.and_also(*STOPPED_DIRECTLY).and_also(
    rests_on=(
        rests("order.cancelled", "order.placed", CAUSES),
        rests("inventory.reserved", "order.placed"),
        rests("inventory.rejected", "order.placed"),
        rests("inventory.timers.reservation_expired", "order.placed"),
        rests("inventory.released", CAUSES),
        rests("payment.calls.authorise_answered", "inventory.reserved"),
        rests("payment.voided", _UNDONE_BY_PAYMENT),
        rests("payment.written_off:void", _UNDONE_BY_PAYMENT),
        rests("shipping.calls.book_answered", "payment.authorised"),
    ),
    owes=(owes(_UNDONE_BY_PAYMENT, ("payment.voided", "payment.written_off:void")),),
)
