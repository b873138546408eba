"""The payment gateway's own account of what it did, beside the topics'.

Asked twice, before the topics are read and after: what the gateway had done before must have an order that the topics
know, and what the topics say is charged must have been done by the time of the second answer. So neither runs ahead
of the other.

Shape of `GET /state?after=N&limit=M`, as the sandbox has it (docs/sandbox.md): JSON lines, the first `{"last",
"violations"}`, then one per operation `{n, operation, key, status, about, order, amount, currency, outcome,
violation}`.
"""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from typing import Final

import msgspec

from farandole.audit.books import Charge
from farandole.audit.findings import Findings
from farandole.errors import AuditError

PAGE: Final = 20_000
"""Operations asked for at once."""

ANSWER_SECONDS: Final = 30.0


class _Head(msgspec.Struct):
    last: int
    violations: int


class _Operation(msgspec.Struct, gc=False):
    n: int
    operation: str
    key: str
    status: int
    about: str = ""
    order: str = ""
    outcome: str = ""
    amount: int | None = None
    currency: str = ""
    violation: str = ""


class Payment(msgspec.Struct, gc=False):
    """One order at the gateway. Amounts in minor units, -1: not done.

    n:        number of its first operation
    captured: or charged, without an authorisation before
    refunded: amount that was given back of it
    """

    n: int
    authorised: int = -1
    captured: int = -1
    captures: int = 0
    currency: str = ""
    voided: bool = False
    refunded: int = 0


class Gateway:
    """url: where `/state` answers"""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise AuditError(
                f"{url!r} is no address", where="--gateway", mend="http://host:port of the payment gateway"
            )
        self.url = url.rstrip("/")
        self.payments: dict[str, Payment] = {}
        self.violations: list[_Operation] = []
        self.operations = 0
        self.early: int | None = None

    def ask(self) -> None:
        """Take what the gateway has done since it was last asked."""
        while self._page():
            pass
        if self.early is None:
            self.early = self.operations

    def _page(self) -> bool:
        lines = self._fetch(f"{self.url}/state?after={self.operations}&limit={PAGE}").splitlines()
        try:
            head = msgspec.json.decode(lines[0], type=_Head)
            done = [msgspec.json.decode(line, type=_Operation) for line in lines[1:]]
        except (IndexError, msgspec.DecodeError) as error:
            raise AuditError(
                f"the gateway's answer is not the one of a gateway's /state: {error}", where=self.url
            ) from error
        for operation in done:
            self._fold(operation)
        self.operations += len(done)
        return bool(done) and self.operations < head.last

    def _fetch(self, url: str) -> bytes:
        try:
            with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:
                return bytes(answer.read())
        except (OSError, ValueError) as error:
            mend = "check --gateway; without it the audit rests on the topics alone"
            raise AuditError(f"the gateway does not answer: {error}", where=url, mend=mend) from error

    def _fold(self, done: _Operation) -> None:
        if done.violation:
            self.violations.append(done)
        if done.status != 200 or not done.order:
            return
        payment = self.payments.setdefault(done.order, Payment(done.n))
        if done.operation == "authorise":
            payment.authorised, payment.currency = done.amount or 0, done.currency
        elif done.operation == "charge":
            payment.captured, payment.currency = max(payment.captured, 0) + (done.amount or 0), done.currency
            payment.captures += 1
        elif done.operation == "refund" and done.outcome == "undone":
            payment.refunded += done.amount or 0
        elif done.operation == "capture":
            payment.captured = max(payment.captured, 0) + (done.amount or 0)
            payment.captures += 1
        elif done.operation == "void":
            payment.voided = True

    # ---- beside the topics

    def compare(self, charges: dict[str, Charge], complete: bool, findings: Findings) -> None:
        """charges: by order, for every order that the topics know; complete: there never was another one."""
        for done in self.violations:
            findings.add("gateway-violation", f"{done.operation} {done.key}: {done.violation}", saga=done.order)
        for order, payment in self.payments.items():
            charge = charges.get(order)
            if charge is not None:
                _compare(order, payment, charge, findings)
            elif complete and payment.n <= (self.early or 0) and (payment.captures or not payment.voided):
                what = f"{'charged' if payment.captures else 'authorised'} at the gateway, accepted by nobody"
                findings.add("gateway-unknown-order", what, saga=order)
        for order, charge in charges.items():
            if charge.captured and order not in self.payments:
                told = "payment.charged" if charge.first else "payment.captured"
                what = f"{told} was published, the gateway knows nothing of the order"
                findings.add("gateway-differs", what, saga=order)


def _compare(order: str, payment: Payment, charge: Charge, findings: Findings) -> None:
    def differs(what: str) -> None:
        findings.add("gateway-differs", what, saga=order)

    if payment.captures > 1:
        differs(f"charged {payment.captures} times at the gateway")
    told = "payment.charged" if charge.first else "payment.captured"
    taken_back = charge.first and charge.cancelled and payment.refunded == payment.captured
    if payment.captured >= 0 and not (charge.captured or charge.given_up or charge.under_way or taken_back):
        differs(f"charged at the gateway, but {told} was never published")
    if payment.captured < 0 and charge.captured:
        differs(f"{told} was published, but the gateway did not charge")
    if payment.refunded and not (charge.first and (charge.cancelled or charge.under_way)):
        differs("refunded at the gateway, but the order was not cancelled")
    for amount, what in ((payment.authorised, "authorised"), (payment.captured, "charged")):
        if amount >= 0 and charge.amount >= 0 and (amount, payment.currency) != (charge.amount, charge.currency):
            named = (
                f"{what} {amount} {payment.currency} at the gateway, the order is of {charge.amount} {charge.currency}"
            )
            differs(named)
    if charge.cancelled and payment.authorised >= 0 and not (payment.voided or charge.given_up):
        findings.add("gateway-left-open", f"{payment.authorised} {payment.currency} still authorised", saga=order)
    if charge.first and charge.cancelled and payment.captured > payment.refunded and not charge.given_up:
        what = f"{payment.captured - payment.refunded} {payment.currency} charged and not refunded"
        findings.add("gateway-left-open", what, saga=order)
