"""The carrier: book a shipment, cancel a booking.

Invariant: a booking that was cancelled, before or after it arrived, is never carried.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from farandole.sandbox.journal import Operation
from farandole.sandbox.system import TOMBSTONED, Key, System, Text, accepted, refused

NOWHERE = b"nowhere"
"""An address with this word in it, in whatever case, cannot be delivered to."""


class Book(msgspec.Struct, frozen=True):
    """ship_to: a text, or an object of texts"""

    order: Text
    ship_to: Text | dict[str, Any]


class Cancel(msgspec.Struct, frozen=True):
    """booking: idempotency key of the `book`"""

    booking: Key


class Carrier(System):
    name = "carrier"
    bodies: ClassVar = {"book": Book, "cancel": Cancel}

    def book(self, key: str, asked: Book) -> Operation:
        if key in self._undone:
            return refused(TOMBSTONED, "cancelled before it arrived", order=asked.order)
        if NOWHERE in msgspec.json.encode(asked.ship_to).lower():
            return refused(422, "undeliverable address", order=asked.order)
        return accepted(order=asked.order)

    def cancel(self, key: str, asked: Cancel) -> Operation:
        return self._undo("book", asked.booking)
