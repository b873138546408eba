"""The payment gateway: authorise, capture, void; charge, refund.

Invariants:
- Of an authorisation, a capture and a void, at most one of the latter two ever happens, and neither without the former.
- No more is refunded than was charged.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import msgspec

from farandole.sandbox.journal import Operation
from farandole.sandbox.system import TOMBSTONED, Amount, Key, System, Text, accepted, refused, violated

DECLINES = {"tok_declined": "card declined", "tok_insufficient": "insufficient funds"}
"""Card tokens that begin like this are declined, with this reason; all others are accepted."""


class Payment(msgspec.Struct, frozen=True):
    """amount in minor units of `currency`; order: the caller's name for what is paid"""

    amount: Amount
    currency: Text
    card_token: Text
    order: Text

    def __repr__(self) -> str:
        return f"Payment({self.amount} {self.currency}, order={self.order!r})"


class Capture(msgspec.Struct, frozen=True):
    """authorisation: idempotency key of the `authorise`"""

    authorisation: Key
    amount: Amount


class Void(msgspec.Struct, frozen=True):
    authorisation: Key


class Refund(msgspec.Struct, frozen=True):
    """charge: idempotency key of the `charge`"""

    charge: Key
    amount: Amount


class Gateway(System):
    name = "gateway"
    bodies: ClassVar = {"authorise": Payment, "capture": Capture, "void": Void, "charge": Payment, "refund": Refund}

    def __init__(self, *args: Any, **options: Any) -> None:
        self._captured: set[str] = set()
        self._refunded: Counter[str] = Counter()
        super().__init__(*args, **options)

    def authorise(self, key: str, asked: Payment) -> Operation:
        return self._pay(key, asked)

    def charge(self, key: str, asked: Payment) -> Operation:
        return self._pay(key, asked)

    def _pay(self, key: str, asked: Payment) -> Operation:
        facts = {"order": asked.order, "amount": asked.amount, "currency": asked.currency}
        if key in self._undone:
            return refused(TOMBSTONED, "taken back before it arrived", **facts)
        for beginning, why in DECLINES.items():
            if asked.card_token.startswith(beginning):
                return refused(402, why, **facts)
        return accepted(**facts)

    def capture(self, key: str, asked: Capture) -> Operation:
        step = self._step(asked.authorisation)
        facts: dict[str, Any] = {"about": asked.authorisation, "amount": asked.amount}
        if step is None or step.operation != "authorise":
            return violated("capture without an authorisation", **facts)
        facts |= {"order": step.order, "currency": step.currency}
        if not step.accepted:
            return violated("capture of a refused authorisation", **facts)
        if asked.authorisation in self._undone:
            return violated("capture after its void", **facts)
        if asked.authorisation in self._captured:
            return violated("captured twice", **facts)
        if asked.amount > (step.amount or 0):
            return violated("capture of more than was authorised", **facts)
        return accepted(**facts)

    def void(self, key: str, asked: Void) -> Operation:
        if asked.authorisation in self._captured:
            step = self._step(asked.authorisation)
            return violated("void after its capture", about=asked.authorisation, order=step.order if step else "")
        return self._undo("authorise", asked.authorisation)

    def refund(self, key: str, asked: Refund) -> Operation:
        undo = self._undo("charge", asked.charge)
        if undo.outcome != "undone":
            return undo
        if self._refunded[asked.charge] + asked.amount > (undo.amount or 0):
            return violated("refund of more than was charged", about=asked.charge, order=undo.order)
        return msgspec.structs.replace(undo, amount=asked.amount)

    def _take_effect(self, done: Operation) -> None:
        if done.operation == "capture":
            self._captured.add(done.about)
        elif done.operation == "refund" and done.outcome == "undone":
            # A charge can be refunded in parts, so it stands until the sum says otherwise.
            self._refunded[done.about] += done.amount or 0
        else:
            super()._take_effect(done)
