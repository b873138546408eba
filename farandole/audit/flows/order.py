"""`order`: what is known of each order, folded from its events in whatever order they are read.

Invariant: folding only adds facts; what they amount to is farandole.audit.flows.order_rules'. What can be said at once,
because no later record could excuse it (said twice, two endings, another amount), is said here, with its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import events
from farandole.audit.books import Charge
from farandole.audit.flows import Books, FlowAudit, Moment
from farandole.audit.flows.order_charged_last import CHARGED_LAST
from farandole.audit.flows.order_facts import ASKED_OFTEN, ENDINGS, KINDS, Kind, any_of
from farandole.audit.flows.order_rules import charge_of, judge
from farandole.audit.flows.order_ruling import Rules
from farandole.audit.flows.order_state import (
    ASKED,
    COMMITTED,
    COMMITTING,
    HELD,
    NOTHING,
    RELEASING,
    SHORT,
    UNDONE,
    WORDS,
    Line,
    Order,
)
from farandole.audit.records import LogRecord

_ASKED_FOR: Final = any_of(*ASKED_OFTEN)


class Audit(FlowAudit):
    """Also the base of the audits of other order flows, which name other rules."""

    flow: ClassVar = "order"
    rules: ClassVar[Rules] = CHARGED_LAST
    clients: ClassVar = frozenset({events.PlaceOrder, events.CancelOrder, events.WriteOff})
    beginnings: ClassVar = frozenset({events.PlaceOrder})

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self._names: dict[str, str] = {}
        self._more: dict[type[Any], Callable[[Order, Any, LogRecord], None]] = {
            events.OrderPlaced: self._placed,
            events.OrderCompleted: self._completed,
            events.OrderCancelled: self._cancelled,
            events.ReserveStock: self._priced_lines,
            events.InventoryReserved: self._priced,
            events.AuthorisePayment: self._priced,
            events.PaymentCaptured: self._priced,
            events.PaymentWrittenOff: self._priced,
            events.PaymentCharged: self._priced_lines,
            events.PaymentRefundWrittenOff: self._priced,
            events.Posted: self._posted,
            events.StockHoldRequested: self._hold_requested,
            events.StockReleaseRequested: self._sku_named,
            events.StockCommitRequested: self._sku_named,
            events.InventoryLineHeld: self._line_told,
            events.InventoryLineShort: self._line_told,
            events.InventoryLineReleased: self._line_told,
            events.InventoryLineCommitted: self._line_told,
        }

    def begin(self, flow: str, home: int, since: int) -> Order:
        return Order(flow, home, since)

    def take(self, saga: Order, event: Any, record: LogRecord) -> None:
        cls = type(event)
        kind = KINDS.get(cls)
        if kind is not None:
            fact = kind.fact(event)
            if saga.facts & kind.once.get(fact, 0):
                self._again(saga, event, kind, record)
            saga.facts |= fact
        more = self._more.get(cls)
        if more is not None:
            more(saga, event, record)

    def is_only_asked(self, saga: Order) -> bool:
        return not saga.facts & ~_ASKED_FOR and not saga.lines

    def judge(self, name: str, saga: Order, moment: Moment) -> None:
        judge(name, saga, moment, self.rules)

    def charge(self, saga: Order, at_rest: bool) -> Charge | None:
        return charge_of(saga, at_rest, self.rules)

    # ---- facts

    def _again(self, order: Order, event: Any, kind: Kind, record: LogRecord) -> None:
        if kind.name in ENDINGS:
            self._say("two-endings", f"{kind.name}, although the order had ended", event.saga, record)
        else:
            self._say("published-twice", f"{kind.name} for the second time", event.saga, record)

    def _say(self, check: str, what: str, saga: str, record: LogRecord) -> None:
        self.books.findings.add(check, what, where=record.where, saga=saga)

    # ---- amounts

    def _price(self, order: Order, amount: int, currency: str, what: str, saga: str, record: LogRecord) -> None:
        """The first amount that is named is compared with all others, so in the end each with order.placed's."""
        if order.amount < 0:
            order.amount, order.currency = amount, self._name(currency)
        elif (order.amount, order.currency) != (amount, currency):
            named = f"{what} says {amount} {currency}, another event {order.amount} {order.currency}"
            self._say("amount-differs", named, saga, record)

    def _priced(self, order: Order, event: Any, record: LogRecord) -> None:
        self._price(order, event.amount, event.currency, KINDS[type(event)].name, event.saga, record)

    def _posted(self, order: Order, event: events.Posted, record: LogRecord) -> None:
        amount = self.books.ledger.post(event, record.where)
        if amount is not None:
            self._price(order, amount, event.currency, f"the posting {event.memo}", event.saga, record)

    # ---- beginning and end

    def _placed(self, order: Order, event: events.OrderPlaced, record: LogRecord) -> None:
        self._priced(order, event, record)
        total = sum(line.quantity * line.price for line in event.lines)
        if total != event.amount:
            self._say(
                "amount-differs", f"its lines come to {total}, order.placed says {event.amount}", event.saga, record
            )
        order.placed = True
        for each in event.lines:
            self._named(order, each.line, each.sku, each.quantity, "order.placed", event.saga, record)

    def _priced_lines(self, order: Order, event: Any, record: LogRecord) -> None:
        """It carries the lines on, which have to be those that were ordered."""
        self._priced(order, event, record)
        for each in event.lines:
            self._named(order, each.line, each.sku, each.quantity, KINDS[type(event)].name, event.saga, record)

    def _completed(self, order: Order, event: events.OrderCompleted, record: LogRecord) -> None:
        self._priced(order, event, record)
        order.written_off = event.written_off

    def _cancelled(self, order: Order, event: events.OrderCancelled, record: LogRecord) -> None:
        order.cause = self._name(event.cause)
        order.steps = tuple(sorted(self._name(f"{step.step}={step.undone_by}") for step in event.steps))

    # ---- lines

    def _named(
        self, order: Order, number: int, sku: str, quantity: int | None, what: str, saga: str, record: LogRecord
    ) -> Line:
        """A line with its sku and, if the event says it, its quantity: each must be what others said."""
        line = order.line(number)
        line.sku = line.sku or self._name(sku)
        if quantity is not None:
            line.quantity = line.quantity or quantity
        if line.sku != sku or (quantity is not None and line.quantity != quantity):
            other = f"another event {line.quantity or 'some'} of {line.sku}"
            said = f"{what}: line {number} is of {sku if quantity is None else f'{quantity} {sku}'}, {other}"
            self._say("line-differs", said, saga, record)
        return line

    def _hold_requested(self, order: Order, event: events.StockHoldRequested, record: LogRecord) -> None:
        line = self._named(order, event.line, event.sku, event.quantity, "stock.hold_requested", event.saga, record)
        self._once(line, ASKED, event.saga, record)

    def _sku_named(self, order: Order, event: Any, record: LogRecord) -> None:
        releasing = isinstance(event, events.StockReleaseRequested)
        what = "stock.release_requested" if releasing else "stock.commit_requested"
        line = self._named(order, event.line, event.sku, None, what, event.saga, record)
        self._once(line, RELEASING if releasing else COMMITTING, event.saga, record)

    def _line_told(self, order: Order, event: Any, record: LogRecord) -> None:
        match event:
            case events.InventoryLineHeld():
                fact = HELD
            case events.InventoryLineShort():
                fact = SHORT
            case events.InventoryLineReleased():
                fact = UNDONE if event.outcome == "undone" else NOTHING
            case _:
                fact = COMMITTED
        self._once(order.line(event.line), fact, event.saga, record)

    def _once(self, line: Line, fact: int, saga: str, record: LogRecord) -> None:
        if line.facts & fact:
            self._say("published-twice", f"line {line.number} {WORDS[fact]} for the second time", saga, record)
        line.facts |= fact

    def _name(self, text: str) -> str:
        """The same string for the same text: skus, currencies and causes are few, orders are many."""
        return self._names.setdefault(text, text)
