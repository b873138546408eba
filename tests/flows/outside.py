"""A payment gateway, a carrier and a mail server in memory, for tests of flows.

They honour idempotency keys, and remember what was taken back before it arrived. What they may never be asked for is an
AssertionError at once: a void after a capture, a capture without an authorisation, a refund of another amount.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from farandole.passcodes import Passcodes, filler

PASSCODES = Passcodes("the key of login workers in tests")

Answer = tuple[str, str, str]
"""outcome, reference, reason"""


@dataclass
class Plan:
    """What the outside does for one order.

    declines:      the gateway refuses the card
    books:         False: the carrier does not take the order
    mails:         False: the mail server refuses
    silent:        operations that never get through, such as `capture`
    insists:       operations that the gateway refuses although it never should
    """

    declines: bool = False
    books: bool = True
    mails: bool = True
    silent: frozenset[str] = frozenset()
    insists: frozenset[str] = frozenset()


@dataclass
class Outside:
    """All three systems. The keys are idempotency keys; a charge or booking is named by the key that made it."""

    plans: dict[str, Plan] = field(default_factory=dict)
    answers: dict[str, tuple[Mapping[str, Any], Answer]] = field(default_factory=dict)
    authorised: dict[str, int] = field(default_factory=dict)
    captured: dict[str, int] = field(default_factory=dict)
    voided: set[str] = field(default_factory=set)
    charged: dict[str, int] = field(default_factory=dict)
    refunded: set[str] = field(default_factory=set)
    booked: set[str] = field(default_factory=set)
    unbooked: set[str] = field(default_factory=set)
    mails: list[tuple[str, str]] = field(default_factory=list)
    codes: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Challenge → address and passcode, as somebody got them."""

    def plan(self, saga: str) -> Plan:
        return self.plans.setdefault(saga, Plan())

    def perform(self, saga: str, operation: str, key: str, body: Mapping[str, Any]) -> Answer:
        """The same key again is the same answer, and nothing is done twice."""
        if key in self.answers:
            known, said = self.answers[key]
            assert known == body, f"idempotency conflict: {key}"
            return said
        if operation in self.plan(saga).insists:
            return "refused", "", "the computer says no"
        answer: Answer = getattr(self, operation)(saga, key, **body)
        self.answers[key] = body, answer
        return answer

    # ---- the gateway

    def authorise(self, saga: str, key: str, amount: int, currency: str, card_token: str, order: str) -> Answer:
        assert order == saga
        assert card_token
        assert currency
        if key in self.voided:
            return "refused", "", "taken back before it arrived"
        if self.plan(saga).declines:
            return "refused", "", "card declined"
        self.authorised[key] = amount
        return "accepted", f"auth-{key}", ""

    def capture(self, saga: str, key: str, authorisation: str, amount: int) -> Answer:
        assert self.authorised[authorisation] == amount, "a capture of something else"
        assert authorisation not in self.voided, "a capture after a void"
        assert authorisation not in self.captured, "a second capture"
        self.captured[authorisation] = amount
        return "accepted", f"capture-{key}", ""

    def void(self, saga: str, key: str, authorisation: str) -> Answer:
        assert authorisation not in self.captured, "a void after a capture"
        self.voided.add(authorisation)
        return "accepted", f"void-{key}", ""

    def charge(self, saga: str, key: str, amount: int, currency: str, card_token: str, order: str) -> Answer:
        assert order == saga
        assert card_token
        assert currency
        if key in self.refunded:
            return "refused", "", "taken back before it arrived"
        if self.plan(saga).declines:
            return "refused", "", "card declined"
        self.charged[key] = amount
        return "accepted", f"charge-{key}", ""

    def refund(self, saga: str, key: str, charge: str, amount: int) -> Answer:
        assert self.charged.get(charge, amount) == amount, "a refund of another amount"
        assert charge not in self.refunded, "a second refund"
        self.refunded.add(charge)
        return "accepted", f"refund-{key}", ""

    # ---- the carrier

    def book(self, saga: str, key: str, order: str, ship_to: str) -> Answer:
        assert order == saga
        assert ship_to
        if key in self.unbooked:
            return "refused", "", "cancelled before it arrived"
        if not self.plan(saga).books:
            return "refused", "", "undeliverable address"
        self.booked.add(key)
        return "accepted", f"parcel-{key}", ""

    def cancel(self, saga: str, key: str, booking: str) -> Answer:
        self.unbooked.add(booking)
        return "accepted", f"cancel-{key}", ""

    # ---- the mail server

    def send(self, saga: str, key: str, to: str, template: str, order: str) -> Answer:
        assert order == saga
        assert "@" in to
        if not self.plan(saga).mails:
            return "refused", "", "mailbox full"
        self.mails.append((saga, template))
        return "accepted", f"mail-{key}", ""

    def passcode(self, saga: str, key: str, **body: str) -> Answer:
        letter = filler(PASSCODES)(body)
        if letter is not None:
            assert letter["challenge"] == saga
            self.codes[saga] = letter["to"], letter["code"]
        return "accepted", "", ""
