"""What is kept of one order while its events are read: numbers, few bytes, because there are millions of orders."""

from __future__ import annotations

from typing import Final

import msgspec

from farandole.audit.flows import Saga
from farandole.audit.flows.order_facts import Facts

ASKED, HELD, SHORT, RELEASING, UNDONE, NOTHING, COMMITTING, COMMITTED = (1 << n for n in range(8))
"""What can happen to a line, once each; eight bits, so that the number is one of Python's small ones."""

WORDS: Final = {
    ASKED: "hold requested",
    HELD: "held",
    SHORT: "short",
    RELEASING: "release requested",
    UNDONE: "released",
    NOTHING: "nothing to release",
    COMMITTING: "commit requested",
    COMMITTED: "committed",
}


class Line(msgspec.Struct, gc=False):
    """A line of an order. sku is empty, quantity 0, until the order or a request that names them was read."""

    number: int
    sku: str
    quantity: int
    facts: int


class Order(Saga, gc=False):
    """An order as its events tell it: about 700 bytes with one line.

    amount:  that the first event with an amount named; -1: none has been read
    cause:   of order.cancelled; steps: what that event lists, as `hold=inventory.released`
    facts:   what has happened to it
    placed:  order.placed was read, so the lines are complete
    """

    amount: int = -1
    currency: str = ""
    cause: str = ""
    steps: tuple[str, ...] = ()
    written_off: bool = False
    placed: bool = False
    facts: Facts = 0
    lines: list[Line] = msgspec.field(default_factory=list)

    def has(self, facts: Facts) -> bool:
        """Whether any of these has happened."""
        return self.facts & facts != 0

    def line(self, number: int) -> Line:
        for line in self.lines:
            if line.number == number:
                return line
        self.lines.append(Line(number, "", 0, 0))
        return self.lines[-1]
