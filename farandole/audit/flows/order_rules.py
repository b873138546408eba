"""`order`: what is wrong with one order, given all that is known of it, and what it adds to the books.

Rules about what must never happen hold for every order. Rules about what has to happen sooner or later are silent
while the order is young, while a service has it parked, or while an outside call of it waits for its answer.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from farandole.audit.books import CHART, Charge
from farandole.audit.flows import OPEN_IDS, Moment
from farandole.audit.flows.order_facts import ENDINGS, Facts, any_of, names_of
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

_PLACED, _REFUSED = any_of("order.placed"), any_of("order.refused")
_COMPLETED, _CANCELLED, _ENDED = any_of("order.completed"), any_of("order.cancelled"), any_of(*ENDINGS)
_ASKED_FOR = any_of("order.commands.place_order")
_RELEASED_UNDONE = any_of("inventory.released:undone")
_RELEASED_NOTHING = any_of("inventory.released:nothing_to_undo")
_WRITTEN_OFF_CAPTURE = any_of("payment.written_off:capture")
_BOOK_ACCEPTED = any_of("shipping.calls.book_answered:accepted")
_BOOK_UNKNOWN = any_of("shipping.calls.book_answered:unknown")
_UNBOOKED = any_of("shipping.calls.cancel_answered:accepted")
_RESERVED, _COMMITTED = any_of("inventory.reserved"), any_of("inventory.committed")
_POSTED: Final = {memo: any_of(f"payment.ledger.posted:{memo}") for memo in CHART}

_LINE_EXCLUSIVE: Final = (
    (HELD, SHORT),
    (UNDONE, NOTHING),
    (UNDONE, COMMITTED),
    (HELD, NOTHING),
    (RELEASING, COMMITTING),
)
_LINE_RESTS_ON: Final = (
    (HELD, ASKED),
    (SHORT, ASKED),
    (UNDONE, HELD),
    (UNDONE, RELEASING),
    (NOTHING, RELEASING),
    (COMMITTED, HELD),
    (COMMITTED, COMMITTING),
)

_LINE_OWES: Final = ((ASKED, HELD | SHORT), (RELEASING, UNDONE | NOTHING), (COMMITTING, COMMITTED))


def judge(name: str, order: Order, moment: Moment, rules: Rules) -> None:
    if moment.horizon and (order.since < moment.horizon or not order.has(_ASKED_FOR)):
        moment.orders.older += 1
        return
    _count(name, order, moment)
    _never(name, order, moment, rules)
    _sooner_or_later(name, order, moment, rules)
    _lines(name, order, moment)
    _rollback(name, order, moment, rules)
    _money(name, order, moment, rules)


# ---- where it stands


def _count(name: str, order: Order, moment: Moment) -> None:
    figures = moment.orders
    if order.has(_REFUSED):
        figures.refused += 1
    if not order.has(_PLACED):
        figures.unanswered += order.has(_ASKED_FOR) and not order.has(_REFUSED)
        return
    figures.accepted += 1
    if order.has(_COMPLETED):
        figures.completed += 1
    elif order.has(_CANCELLED):
        figures.cancelled += 1
        figures.cancelled_by[order.cause] += 1
    elif name in moment.parked:
        figures.parked += 1
    else:
        figures.open += 1
        if len(figures.open_ids) < OPEN_IDS:
            figures.open_ids.append(name)


def _is_open(order: Order) -> bool:
    return order.has(_PLACED) and not order.has(_ENDED)


# ---- what must never be


def _never(name: str, order: Order, moment: Moment, rules: Rules) -> None:
    if order.has(rules.foreign):
        what = f"{_first(order, rules.foreign)} in {order.flow}, where it cannot happen"
        moment.findings.add("contradiction", what, saga=name)
    for check, alternatives in rules.exclusive:
        there = [facts for facts in alternatives if order.facts & facts]
        if len(there) > 1:
            moment.findings.add(check, " and ".join(_first(order, facts) for facts in there), saga=name)
    for rule in rules.rests_on:
        if order.facts & rule.fact:
            for group in rule.missing(order.facts):
                what = f"{_first(order, rule.fact)} without {' or '.join(names_of(group))}"
                moment.findings.add(rule.check, what, saga=name, momentary=True)


def _first(order: Order, facts: Facts) -> str:
    return names_of(order.facts & facts)[0]


# ---- what has to be, sooner or later


def _sooner_or_later(name: str, order: Order, moment: Moment, rules: Rules) -> None:
    if moment.is_held(name) or not moment.is_late(order.since):
        return
    waits = ", ".join(sorted(f"{call.outside}/{call.operation}" for call in moment.waiting.get(name, ())))
    if _is_open(order):
        what = f"accepted and not ended; it waits for {waits or 'no call'}"
        moment.findings.add("no-ending", what, saga=name, momentary=True)
    elif not waits:
        for check, because, owed in rules.owes:
            if order.has(because) and not order.has(owed):
                what = f"{_first(order, because)} and none of {', '.join(names_of(owed))}"
                moment.findings.add(check, what, saga=name, momentary=True)
        for line in order.lines:
            for asked, answers in _LINE_OWES:
                if line.facts & asked and not line.facts & answers:
                    what = f"line {line.number}: {WORDS[asked]}, and never answered"
                    moment.findings.add("confirmation-missing", what, saga=name, momentary=True)


# ---- lines and stock


def _lines(name: str, order: Order, moment: Moment) -> None:
    for line in order.lines:
        if not line.sku and order.placed:
            what = f"line {line.number} ({_words(line)}) is no line of the order"
            moment.findings.add("line-differs", what, saga=name)
        _line_rules(name, line, moment)
        _into_stock(name, line, order, moment)
    for facts, needed in ((_RESERVED, HELD), (_COMMITTED, COMMITTED)):
        missing = [str(line.number) for line in order.lines if not line.facts & needed]
        if order.has(facts) and missing:
            what = f"{_first(order, facts)}, but line {', '.join(missing)} is not {WORDS[needed]}"
            moment.findings.add("unfounded", what, saga=name, momentary=True)
    undone = any(line.facts & UNDONE for line in order.lines)
    if order.has(_RELEASED_UNDONE if not undone else _RELEASED_NOTHING):
        what = f"inventory.released says otherwise, but {'something' if undone else 'no line'} was released"
        moment.findings.add("unfounded", what, saga=name, momentary=True)


def _words(line: Line) -> str:
    return ", ".join(word for fact, word in WORDS.items() if line.facts & fact)


def _line_rules(name: str, line: Line, moment: Moment) -> None:
    facts = line.facts
    for one, other in _LINE_EXCLUSIVE:
        if facts & one and facts & other:
            what = f"line {line.number}: {WORDS[one]} and {WORDS[other]}"
            moment.findings.add("contradiction", what, saga=name)
    for fact, needed in _LINE_RESTS_ON:
        if facts & fact and not facts & needed:
            what = f"line {line.number}: {WORDS[fact]}, but not {WORDS[needed]}"
            moment.findings.add("unfounded", what, saga=name, momentary=True)


def _into_stock(name: str, line: Line, order: Order, moment: Moment) -> None:
    if not line.sku or not line.facts & (HELD | COMMITTED):
        return
    figures = moment.skus[line.sku]
    if line.facts & COMMITTED:
        figures.sold += line.quantity
    elif not line.facts & UNDONE:
        figures.held += line.quantity
        if order.has(_ENDED):
            figures.held_by_ended += line.quantity
            what = f"line {line.number} still holds {line.quantity} of {line.sku}"
            moment.findings.add("held-by-ended", what, saga=name, momentary=True)


# ---- a cancelled order's rollback


def _rollback(name: str, order: Order, moment: Moment, rules: Rules) -> None:
    if not order.has(_CANCELLED):
        return
    for standing in _still_standing(order, rules):
        moment.findings.add("not-taken-back", standing, saga=name, momentary=True)
    if order.cause not in rules.causes or not order.has(any_of(order.cause)):
        what = f"order.cancelled names {order.cause or 'no event'} as its cause, which never happened"
        moment.findings.add("unfounded", what, saga=name, momentary=True)
    steps = rules.paying.steps(order)
    steps += ("hold=inventory.released",) if order.has(_RELEASED_UNDONE) else ()
    if order.steps != steps:
        what = f"order.cancelled lists {_listed(order.steps)}; taken back: {_listed(steps)}"
        moment.findings.add("steps-differ", what, saga=name, momentary=True)


def _still_standing(order: Order, rules: Rules) -> list[str]:
    standing = rules.paying.standing(order)
    standing += [
        f"the hold of line {line.number}: {_words(line)}"
        for line in order.lines
        if line.facts & HELD and not line.facts & UNDONE
    ]
    if order.has(_BOOK_ACCEPTED):
        standing.append("the booking: the carrier accepted it")
    elif order.has(_BOOK_UNKNOWN) and not order.has(_UNBOOKED):
        standing.append("the booking: the carrier never answered, nor confirmed the cancellation")
    return standing


def _listed(steps: tuple[str, ...]) -> str:
    return ", ".join(steps) or "nothing"


# ---- money


def _money(name: str, order: Order, moment: Moment, rules: Rules) -> None:
    if order.has(_COMPLETED) and order.written_off != order.has(_WRITTEN_OFF_CAPTURE):
        what = f"order.completed says {'' if order.written_off else 'not '}written off, payment says otherwise"
        moment.findings.add("unfounded", what, saga=name, momentary=True)
    posted = {memo for memo, fact in _POSTED.items() if order.facts & fact}
    implied = rules.paying.implied(order, posted, moment.is_held(name), moment.is_late(order.since))
    if posted != implied:
        what = f"posted: {', '.join(sorted(posted)) or 'nothing'}; implied: {', '.join(sorted(implied)) or 'nothing'}"
        moment.findings.add("posting-differs", what, saga=name, momentary=True)
    _balance(order, implied, moment.implied)


def _balance(order: Order, implied: set[str], balances: Counter[tuple[str, str]]) -> None:
    for memo in implied:
        for account, sign in CHART[memo].items():
            balances[order.currency, account] += sign * max(order.amount, 0)


def charge_of(order: Order, at_rest: bool, rules: Rules) -> Charge | None:
    """None: nobody accepted it."""
    return rules.paying.charge(order, at_rest) if order.has(_PLACED) else None
