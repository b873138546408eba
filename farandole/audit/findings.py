"""What the audit found, and what each kind of finding means.

Invariant: a finding names its check, and every check is described here, once; docs/audit.md repeats the table. What is
kept is limited, what is counted is not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

KEPT: Final = 100_000
"""Findings that are kept with their text; more are only counted. A report of so many is of use to nobody."""

TRANSFER_CHECKS: Final = {
    "transfer-open": "A transfer was asked for and has not ended, and it is not parked: it is stuck.",
    "transfer-ended-twice": "A transfer has ended more than once.",
    "transfer-repeated": "What is said once about a transfer was said again.",
    "transfer-contradiction": "Two things happened to a transfer of which at most one ever may.",
    "transfer-unfounded": "Something happened to a transfer without that on which it rests.",
    "transfer-differs": "Two events name different accounts, amounts or currencies for one transfer.",
    "booking-missing": "Money moved and the ledger does not say so, or the other way round.",
    "wrong-booking": "A posting of the accounts' ledger is none of the chart's, or does not add up to zero.",
    "debit-unsettled": "A transfer has ended, and its source was not told what became of the debit.",
    "deposit-differs": "A deposit is booked twice, or otherwise than it was announced.",
    "deposit-missing": "A deposit was announced, is not booked, and is no dead letter.",
    "account-drift": "An account's balance in the table is not what the ledger adds up to.",
    "in-flight-drift": "The money in flight by the ledger is not what the transfers' answers say.",
    "below-overdraft": "An account has less than its overdraft allows.",
}
"""Of transfers and accounts."""

CHECKS: Final = {
    # ids and causes
    "duplicate-id": "Two records carry one id. Ids follow from causes: it was done twice, or two services name alike.",
    "malformed-id": "The id does not begin with the place of its cause, topic/partition/offset, so nothing follows.",
    "unknown-cause": "It names a cause that was never committed: it rests on something that did not happen.",
    "cause-differs": "The record at the place that its id names is not the one that it calls its cause.",
    "saga-differs": "It belongs to another saga than its cause: an effect on somebody else's order.",
    "flow-differs": "It belongs to another flow than its cause: two flows, or two versions of one, have mixed.",
    "two-flows": "One saga runs under two flows: somebody sent it a command under another flow's name.",
    "uncaused": "It has no cause, but only a service publishes such events: somebody wrote it by hand.",
    # records
    "wrong-key": "A service published it under a key that its content contradicts: nobody who needs it will act on it.",
    "wrong-partition": "It does not lie where its key belongs (murmur2), so its saga's rows are out of reach there.",
    "undecodable-row": "A table's or journal's record cannot be read: a worker that restores it will fail.",
    "swallowed": "A service took a record that nobody can read, and has no dead letter for it: it passed silently.",
    # services
    "taken-twice": "The service's journal says that it took the same record in two transactions.",
    "letter-twice": "One record lies in a dead letter queue twice: it would be redriven twice.",
    "letter-done-twice": "A dead letter was redriven or discarded twice: what it causes may have happened twice.",
    "letters-out-of-order": "A saga's dead letters were dealt with in another order than the one in which they came.",
    "parked-without-letter": "A saga is parked, but the record that parked it is not in the dead letter queue: lost.",
    # how orders begin and end
    "unanswered": "An order was asked for and neither accepted nor refused, and it is not parked: the request is lost.",
    "no-ending": "An accepted order has neither been completed nor cancelled, and it is not parked: it is stuck.",
    "two-endings": "An order has ended more than once.",
    "published-twice": "What is said once about an order was said again.",
    "contradiction": "Two things happened to an order of which at most one ever may.",
    "unfounded": "Something happened to an order without that on which it rests.",
    "completed-unfinished": "An order was completed before it was both paid (or written off) and taken from stock.",
    "told-wrong": "The customer was told of an ending that the order did not have.",
    "confirmation-missing": "Something was stopped, and the service that owes the confirmation never gave it.",
    "mail-missing": "An order has ended, and nobody tried to tell the customer.",
    # rollback
    "not-taken-back": "An order was cancelled, and a step that was done for it still stands.",
    "cancelled-but-dispatched": "An order was cancelled, and it is on its way.",
    "cancelled-but-charged": "An order was cancelled, and the card was charged.",
    "steps-differ": "order.cancelled lists other steps than those that were done and taken back.",
    # stock
    "line-differs": "A line is treated with another sku, quantity or number than the order was placed with.",
    "stock-drift": "The stock that the events add up to is not what the inventory's table says.",
    "oversold": "More was promised or sold than was ever received.",
    "below-zero": "A row of the stock table has a negative quantity.",
    "held-by-ended": "Stock is held for an order that has ended: nobody will ever release it.",
    "delivery-unhandled": "A delivery was announced, the system is at rest, and it was never added to the stock.",
    # money
    "charged-without-dispatch": "A card was charged (or the gateway asked to) before the order was dispatched.",
    "amount-differs": "Two events name different amounts or currencies for one order.",
    "unbalanced-posting": "A posting of the ledger does not add up to zero.",
    "wrong-posting": "A posting is not what the chart of accounts says for its memo and the order's amount.",
    "posting-differs": "An order's postings are not the ones that its events imply.",
    "money-drift": "An account's balance is not what the orders' events imply.",
    "gateway-violation": "The gateway was asked for what may never happen.",
    "gateway-differs": "The gateway and the topics disagree about whether, or how much, a card was charged.",
    "gateway-left-open": "An order was cancelled, and its authorisation still stands at the gateway.",
    "gateway-unknown-order": "The gateway authorised or charged for an order that nobody here accepted.",
    **TRANSFER_CHECKS,
    # logins
    "challenge-ended-twice": "A challenge has ended, and went on: a code may have been good for more than one login.",
    "challenge-not-ended": "A challenge was begun and has not ended in its time, and it is not parked: it is stuck.",
    "two-challenges": "A user has two live challenges, and so twice the attempts to guess a code.",
    "too-many-challenges": "A user had more challenges than the limits allow, and so more attempts to guess a code.",
    "attempts-miscounted": "A challenge took more wrong codes, or fewer, than it counted.",
    "granted-to-nobody": "Somebody was let in without a live challenge, or as a user whom the directory does not know.",
    "passcode-written": "A passcode stands in a topic, where whoever may read it can have it.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    check:     a key of CHECKS; what: what was seen
    where:     `topic/partition/offset`, if one record shows it; saga: the order, sku, account or delivery it is about
    momentary: a reading that falls between a cause and its effect, or between two halves of a transaction, could show
               the same; so it counts only if it is seen again
    """

    check: str
    what: str
    where: str = ""
    saga: str = ""
    momentary: bool = False

    @property
    def means(self) -> str:
        return CHECKS[self.check]

    @property
    def place(self) -> str:
        """What it is about and where that lies, as far as either is known."""
        return f"{self.saga} at {self.where}" if self.saga and self.where else self.saga or self.where

    def __str__(self) -> str:
        return f"{self.check}: {self.place}: {self.what}"

    def to_dict(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "what": self.what,
            "where": self.where,
            "saga": self.saga,
            "means": self.means,
        }


class Findings:
    """Findings in the order in which they were made, each once."""

    def __init__(self) -> None:
        self._kept: dict[Finding, None] = {}
        self._more: Counter[str] = Counter()

    def add(self, check: str, what: str, *, where: object = "", saga: str = "", momentary: bool = False) -> None:
        assert check in CHECKS, check
        finding = Finding(check, what, str(where), saga, momentary)
        if len(self._kept) < KEPT:
            self._kept[finding] = None
        elif finding not in self._kept:
            self._more[check] += 1

    def __iter__(self) -> Any:
        return iter(self._kept)

    def __contains__(self, finding: Finding) -> bool:
        return finding in self._kept

    def __len__(self) -> int:
        return len(self._kept) + self._more.total()

    @property
    def counts(self) -> dict[str, int]:
        """How many by check, those included that were not kept."""
        return dict(Counter(finding.check for finding in self._kept) + self._more)
