"""The rules of an order flow: what may never be together, what rests on what, what owes what, and how money moves.

A flow's rules are one `Rules`; those that hold in every order flow, whoever takes the money when, stand here.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Final, NamedTuple, Protocol, TypeVar

from farandole.audit.books import Charge
from farandole.audit.flows.order_facts import CAUSES, ENDINGS, Facts, any_of
from farandole.audit.flows.order_state import Order


class Exclusive(NamedTuple):
    """Facts of which an order has at most one."""

    check: str
    alternatives: tuple[Facts, ...]


def exclusive(*names: str, check: str = "contradiction") -> Exclusive:
    return Exclusive(check, tuple(any_of(name) for name in names))


class RestsOn(NamedTuple):
    """A fact, and what it rests on: one of each group. given: only where one of these has happened; 0: everywhere"""

    check: str
    fact: Facts
    groups: tuple[Facts, ...]
    given: Facts = 0

    def missing(self, facts: Facts) -> list[Facts]:
        """The groups of which none is among the facts, if the rule has something to say about them."""
        if not self.fact & facts or (self.given and not self.given & facts):
            return []
        return [group for group in self.groups if not group & facts]


def rests(fact: str, *groups: str | tuple[str, ...], check: str = "unfounded", given: str = "") -> RestsOn:
    named = ((group,) if isinstance(group, str) else group for group in groups)
    return RestsOn(check, any_of(fact), tuple(any_of(*group) for group in named), any_of(given) if given else 0)


class Owes(NamedTuple):
    """Once one of `because` is there, one of `owed` has to come, sooner or later."""

    check: str
    because: Facts
    owed: Facts


def owes(because: tuple[str, ...], owed: tuple[str, ...], check: str = "confirmation-missing") -> Owes:
    return Owes(check, any_of(*because), any_of(*owed))


class Paying(Protocol):
    """What a flow's orders owe and are owed, by how it takes the money."""

    def standing(self, order: Order) -> list[str]:
        """What a cancelled order has not taken back of its reservation and its payment."""
        ...

    def steps(self, order: Order) -> tuple[str, ...]:
        """What order.cancelled has to list of it, as `authorise=payment.voided`."""
        ...

    def implied(self, order: Order, posted: Set[str], held: bool, late: bool) -> set[str]:
        """The postings that the order's events imply. held: what is missing is nobody's fault; late: it is due."""
        ...

    def charge(self, order: Order, at_rest: bool) -> Charge: ...


class Rules(NamedTuple):
    """foreign: what cannot happen in this flow at all; causes: what stops an order, as order.cancelled names it"""

    exclusive: tuple[Exclusive, ...]
    rests_on: tuple[RestsOn, ...]
    owes: tuple[Owes, ...]
    foreign: Facts
    paying: Paying
    causes: tuple[str, ...] = CAUSES


RuleT = TypeVar("RuleT", RestsOn, Owes)


def instead(rules: tuple[RuleT, ...], *others: RuleT) -> tuple[RuleT, ...]:
    """`rules`, but what others say about the same facts is said in its place."""
    said: set[Facts] = {_about(rule) for rule in others}
    return tuple(rule for rule in rules if _about(rule) not in said) + others


def _about(rule: RestsOn | Owes) -> Facts:
    return rule.fact if isinstance(rule, RestsOn) else rule.because


EXCLUSIVE: Final = (
    exclusive("order.placed", "order.refused"),
    exclusive("inventory.reserved", "inventory.rejected"),
    exclusive("inventory.released", "inventory.committed"),
    exclusive("inventory.released", "shipping.dispatched"),
    exclusive("shipping.dispatched", "shipping.failed", "shipping.cancelled"),
    exclusive("order.cancelled", "shipping.dispatched", check="cancelled-but-dispatched"),
)

RESTS_ON: Final = (
    rests("order.placed", "order.commands.place_order"),
    rests("order.refused", "order.commands.place_order"),
    rests("order.cancel_requested", "order.commands.cancel_order", "order.placed"),
    rests("order.cancelled", "order.placed", CAUSES),
    rests("inventory.expiry_requested", "inventory.timers.reservation_expired", "inventory.reserved"),
    rests("inventory.committed", "shipping.dispatched"),
    rests("shipping.dispatched", "shipping.calls.book_answered:accepted"),
    rests("shipping.failed", ("shipping.calls.book_answered:refused", "shipping.calls.cancel_answered:accepted")),
    rests("shipping.cancelled:customer", "order.cancel_requested"),
    rests("shipping.cancelled:clock", "inventory.expiry_requested"),
    rests("shipping.cancel_refused:customer", "order.cancel_requested", "shipping.dispatched"),
    rests("shipping.cancel_refused:clock", "inventory.expiry_requested", "shipping.dispatched"),
    rests("notification.sent:completed", "order.completed", check="told-wrong"),
    rests("notification.sent:cancelled", "order.cancelled", check="told-wrong"),
    rests("notification.sent:refused", "order.refused", check="told-wrong"),
)

OWES: Final = (
    owes(("order.commands.place_order",), ("order.placed", "order.refused"), "unanswered"),
    owes(("order.cancel_requested",), ("shipping.cancelled", "shipping.failed", "shipping.cancel_refused:customer")),
    owes(("inventory.expiry_requested",), ("shipping.cancelled", "shipping.failed", "shipping.cancel_refused:clock")),
    owes((*ENDINGS, "order.refused"), ("notification.sent",), "mail-missing"),
)
