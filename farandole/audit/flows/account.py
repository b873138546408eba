"""`account`: accounts are opened, funded and closed. An announced deposit is booked, once, as it was announced."""

from __future__ import annotations

from typing import Any, ClassVar

from events import Booked, CloseAccount, FundAccount, OpenAccount
from farandole.audit.flows import FlowAudit, Moment, Saga
from farandole.audit.records import LogRecord


class Command(Saga):
    """announced: account, amount and currency of a deposit; booked: the same, as the ledger has it"""

    announced: tuple[tuple[str, int, str], ...] = ()
    booked: tuple[tuple[str, int, str], ...] = ()


class Audit(FlowAudit):
    flow: ClassVar = "account"
    clients: ClassVar = frozenset({OpenAccount, FundAccount, CloseAccount})

    def begin(self, flow: str, home: int, since: int) -> Command:
        return Command(flow, home, since)

    def take(self, saga: Any, event: Any, record: LogRecord) -> None:
        if isinstance(event, FundAccount):
            saga.announced = (*saga.announced, (event.account, event.amount, event.currency))
        elif isinstance(event, Booked):
            found = self.books.bank.post(event, record.where)
            if found is not None:
                saga.booked = (*saga.booked, (*found, event.currency))

    def judge(self, name: str, saga: Any, moment: Moment) -> None:
        if moment.horizon and (saga.since < moment.horizon or not saga.announced):
            return
        if len(saga.booked) > len(set(saga.booked)):
            moment.findings.add("deposit-differs", "it is booked twice", saga=name)
        if set(saga.booked) - set(saga.announced):
            what = f"{saga.booked} is booked, {saga.announced} was announced"
            moment.findings.add("deposit-differs", what, saga=name, momentary=True)
        if saga.announced and not saga.booked and moment.is_late(saga.since) and not moment.is_held(name):
            moment.findings.add("deposit-missing", f"{saga.announced} is not booked", saga=name, momentary=True)
