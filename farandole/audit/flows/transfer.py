"""`transfer`: what is known of each transfer, folded from its events in whatever order they are read, and its rules.

Invariants: folding only adds facts. Rules about what must never happen hold for every transfer; rules about what has to
happen sooner or later are silent while it is young, or while a service has it parked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

import events as e
from farandole.audit.flows import FlowAudit, Moment, Saga
from farandole.audit.records import LogRecord

FACTS: Final = (
    "asked",
    "debit asked",
    "debit due",
    "debit called off",
    "debited",
    "debit refused",
    "debit booked",
    "credit asked",
    "credit due",
    "credit called off",
    "credited",
    "credit refused",
    "credit booked",
    "refund asked",
    "refunded",
    "refund booked",
    "kept",
    "completed",
    "failed",
    "failed and refunded",
)
BIT: Final = {fact: 1 << number for number, fact in enumerate(FACTS)}

_SETTLED: Final = {"cancel": "debit called off", "keep": "kept", "refund": "refund asked"}
FACT_OF: Final[dict[type[Any], Callable[[Any], str]]] = {
    e.StartTransfer: lambda event: "asked",
    e.DebitAccount: lambda event: "debit asked",
    e.AnswerDue: lambda event: f"{event.step} due",
    e.SettleDebit: lambda event: _SETTLED[event.how],
    e.AccountsDebited: lambda event: "debited",
    e.AccountsDebitRefused: lambda event: "debit refused",
    e.CreditAccount: lambda event: "credit asked",
    e.CancelCredit: lambda event: "credit called off",
    e.AccountsCredited: lambda event: "credited",
    e.AccountsCreditRefused: lambda event: "credit refused",
    e.AccountsRefunded: lambda event: "refunded",
    e.Booked: lambda event: f"{event.memo} booked",
    e.TransfersCompleted: lambda event: "completed",
    e.TransfersFailed: lambda event: "failed and refunded" if event.refunded else "failed",
}

EXCLUSIVE: Final = (
    ("debited", "debit refused"),
    ("credited", "credit refused"),
    ("credited", "refunded"),
    ("kept", "refund asked"),
    ("debited", "failed"),
    ("credited", "failed and refunded"),
)
"""Of each at most one. The last two: it is said to have failed, and money has moved."""

RESTS_ON: Final[dict[str, tuple[str, ...]]] = {
    "debit asked": ("asked",),
    "debit due": ("debit asked",),
    "debit called off": ("debit due",),
    "debited": ("debit asked",),
    "debit refused": ("debit asked",),
    "credit asked": ("debited",),
    "credit due": ("credit asked",),
    "credit called off": ("credit due",),
    "credited": ("credit asked",),
    "credit refused": ("credit asked",),
    "refund asked": ("credit refused",),
    "refunded": ("refund asked",),
    "kept": ("credited",),
    "completed": ("credited",),
    "failed": ("asked",),
    "failed and refunded": ("refunded",),
}
"""A fact, and all that it rests on."""

BOOKED: Final = {"debited": "debit booked", "credited": "credit booked", "refunded": "refund booked"}
"""An answer and its posting: never one without the other."""

ENDS: Final = ("completed", "failed", "failed and refunded")


class Transfer(Saga):
    """facts: bits; amount, currency, source, target: as they were first named; wanted: what clients have asked for"""

    facts: int = 0
    amount: int = -1
    currency: str = ""
    source: str = ""
    target: str = ""
    wanted: tuple[tuple[str, str, int, str], ...] = ()

    def has(self, fact: str) -> bool:
        return bool(self.facts & BIT[fact])


class Audit(FlowAudit):
    flow: ClassVar = "transfer"
    clients: ClassVar = frozenset({e.StartTransfer})

    def begin(self, flow: str, home: int, since: int) -> Transfer:
        return Transfer(flow, home, since)

    # ---- folding

    def take(self, saga: Transfer, event: Any, record: LogRecord) -> None:
        named = FACT_OF.get(type(event))
        if named is None:
            return
        fact = named(event)
        bit = BIT.get(fact, 0)
        if fact in ENDS and any(saga.has(end) for end in ENDS):
            self._say("transfer-ended-twice", f"{fact}, although it had ended", event.saga, record)
        elif saga.facts & bit and fact != "asked":
            self._say("transfer-repeated", f"{fact} for the second time", event.saga, record)
        saga.facts |= bit
        self._names(saga, event, record)

    def _names(self, saga: Transfer, event: Any, record: LogRecord) -> None:
        """Accounts and amounts: each must be what others said."""
        match event:
            case e.StartTransfer():
                saga.wanted = (*saga.wanted, (event.source, event.target, event.amount, event.currency))
            case e.DebitAccount():
                self._is(saga, event.saga, record, source=event.account, amount=event.amount, currency=event.currency)
            case e.SettleDebit():
                self._is(saga, event.saga, record, source=event.account)
            case e.CreditAccount():
                self._is(saga, event.saga, record, target=event.account, amount=event.amount, currency=event.currency)
            case e.CancelCredit():
                self._is(saga, event.saga, record, target=event.account)
            case e.TransfersCompleted():
                ends = {"source": event.source, "target": event.target}
                self._is(saga, event.saga, record, amount=event.amount, currency=event.currency, **ends)
            case e.Booked():
                found = self.books.bank.post(event, record.where)
                if found is not None:
                    end = {"target" if event.memo == "credit" else "source": found[0]}
                    self._is(saga, event.saga, record, amount=found[1], currency=event.currency, **end)

    def _is(self, saga: Transfer, name: str, record: LogRecord, **said: Any) -> None:
        for what, value in said.items():
            known = getattr(saga, what)
            if known in ("", -1):
                setattr(saga, what, value)
            elif known != value:
                self._say("transfer-differs", f"its {what} is {known} and {value}", name, record)

    def _say(self, check: str, what: str, saga: str, record: LogRecord) -> None:
        self.books.findings.add(check, what, where=record.where, saga=saga)

    # ---- judging

    def judge(self, name: str, saga: Transfer, moment: Moment) -> None:
        if moment.horizon and (saga.since < moment.horizon or not saga.has("asked")):
            return
        self._count(name, saga, moment)
        self._never(name, saga, moment)
        if not moment.is_held(name) and moment.is_late(saga.since):
            self._sooner_or_later(name, saga, moment)
        if saga.has("debited") and not saga.has("credited") and not saga.has("refunded"):
            moment.in_flight[saga.currency] += saga.amount

    def _count(self, name: str, saga: Transfer, moment: Moment) -> None:
        figures = moment.transfers
        figures["overdue"] += saga.has("debit due") or saga.has("credit due")
        for end in ENDS:
            if saga.has(end):
                figures[end] += 1
                return
        figures["parked" if name in moment.parked else "open"] += 1

    def _never(self, name: str, saga: Transfer, moment: Moment) -> None:
        for one, other in EXCLUSIVE:
            if saga.has(one) and saga.has(other):
                moment.findings.add("transfer-contradiction", f"{one} and {other}", saga=name)
        for fact, grounds in RESTS_ON.items():
            for ground in grounds if saga.has(fact) else ():
                if not saga.has(ground):
                    moment.findings.add("transfer-unfounded", f"{fact}, but not {ground}", saga=name, momentary=True)
        for answer, booked in BOOKED.items():
            if saga.has(answer) != saga.has(booked):
                there, missing = (answer, booked) if saga.has(answer) else (booked, answer)
                moment.findings.add("booking-missing", f"{there}, but not {missing}", saga=name, momentary=True)
        wanted = (saga.source, saga.target, saga.amount, saga.currency)
        if saga.has("credit asked") and wanted not in saga.wanted:
            moment.findings.add("transfer-differs", f"{wanted} was not asked for", saga=name, momentary=True)

    def _sooner_or_later(self, name: str, saga: Transfer, moment: Moment) -> None:
        if not any(saga.has(end) for end in ENDS):
            done = ", ".join(fact for fact in FACTS if saga.has(fact))
            moment.findings.add("transfer-open", f"it has not ended: {done}", saga=name, momentary=True)
        elif self.books.bank.is_unsettled(name):
            what = "the source's debit is in flight, and the transfer has ended"
            moment.findings.add("debit-unsettled", what, saga=name, momentary=True)
