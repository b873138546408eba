"""The transfers service: moves money between two accounts, step by step, and keeps a row with every step.

Invariants:
- A transfer ends once: completed, if its credit was done; failed otherwise, and then nothing has moved or all of it is
  back.
- The source is refunded only if the target itself has said that its credit is refused. A deadline that has passed says
  nothing about what was done: the account is asked to call its part off, and what the account says counts.
- Each answer of an account counts once, and only when it was asked for.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from events import (
    AccountsCredited,
    AccountsCreditRefused,
    AccountsDebited,
    AccountsDebitRefused,
    AccountsRefunded,
    AnswerDue,
    AwaitedStep,
    CancelCredit,
    CreditAccount,
    DebitAccount,
    SettleDebit,
    StartTransfer,
    Transfer,
    TransferPhase,
    TransfersCompleted,
    TransfersFailed,
    TransferStep,
)
from farandole import App, CancelTimer, Timer
from farandole.values import MAX_AMOUNT, fingerprint_of, is_account, is_currency, is_printable, saga_id

app = App("transfers", views="web.transfers", intake="transfers.commands")
states = app.Table(
    "states",
    value=Transfer,
    ended=lambda transfer: transfer.phase in ("completed", "failed"),
    # Longer than the accounts' rows of it: a transfer that came again while one of them was left would get no answer.
    keep=lambda seconds: 2 * seconds,
    help="Every transfer, by its id.",
)

MAX_WITHIN: Final = 86_400
MAX_REASON: Final = 1_000


# ---- a request


def transfer_id(customer: str, idempotency_key: str) -> str:
    """The id of a transfer, which is its saga: the same for the same customer and key, and fit for a URL."""
    return saga_id("t", customer, idempotency_key)


def fingerprint(command: StartTransfer) -> str:
    """Digest of all that a request asks for: equal for the same one sent twice, different for another."""
    return fingerprint_of((command.source, command.target, str(command.amount), command.currency, str(command.within)))


def validate(command: StartTransfer) -> list[str]:
    """Everything that is wrong with a request, for people; an empty list if nothing is."""
    problems = []
    for name, text in (("customer", command.customer), ("idempotency_key", command.idempotency_key)):
        if not is_printable(text, 128):
            problems.append(f"{name}: 1 to 128 printable characters, no space at either end")
    for name, account in (("source", command.source), ("target", command.target)):
        if not is_account(account):
            problems.append(f"{name}: 1 to 64 letters, digits and ._-, a letter or digit first")
    if command.source == command.target:
        problems.append("target: another account than the source")
    if not 1 <= command.amount <= MAX_AMOUNT:
        problems.append(f"amount: 1 to {MAX_AMOUNT} minor units")
    if not is_currency(command.currency):
        problems.append("currency: three capital letters, ISO 4217")
    if not 1 <= command.within <= MAX_WITHIN:
        problems.append(f"within: 1 to {MAX_WITHIN} seconds")
    return problems


# ---- the debit


def start(command: StartTransfer, at: int) -> tuple[DebitAccount | Timer[AnswerDue], ...] | TransfersFailed | None:
    """Ask the source for the amount; a request that is not valid fails at once. One that is known changes nothing: the
    same again is the same transfer, and another body under its key must not touch it (HTTP answers 409).
    """
    if command.saga in states:
        return None
    problems = validate(command)
    if command.saga != transfer_id(command.customer, command.idempotency_key):
        problems.append("the transfer's id is not the one of its customer and idempotency key")
    if problems:
        return _refuse(command, at, "; ".join(problems)[:MAX_REASON])
    transfer = Transfer(
        phase="debiting",
        fingerprint=fingerprint(command),
        source=command.source,
        target=command.target,
        amount=command.amount,
        currency=command.currency,
        within=command.within,
    )
    states[command.saga] = _noted(transfer, "asked for the debit", at, due=True)
    request = DebitAccount(account=command.source, amount=command.amount, currency=command.currency, asked=at)
    return request, _reminder("debit", transfer)


def _refuse(command: StartTransfer, at: int, reason: str) -> TransfersFailed:
    """Refused for good: the same id stays refused. What is kept is cut to size, as it may be anything."""
    refused = Transfer(
        phase="failed",
        fingerprint=fingerprint(command),
        source=command.source[:64],
        target=command.target[:64],
        amount=0,
        currency="",
        within=0,
        reason=reason,
    )
    states[command.saga] = _noted(refused, "refused", at)
    return TransfersFailed(reason=reason, refunded=False)


def debit_refused(answer: AccountsDebitRefused, at: int) -> tuple[CancelTimer | TransfersFailed, ...] | None:
    """Nothing has moved."""
    transfer = states[answer.saga]
    if transfer.phase == "failed":
        return None
    assert transfer.phase in ("debiting", "cancelling_debit"), f"a debit is refused, the transfer is {transfer.phase}"
    _ended(answer.saga, transfer, "the debit was refused", at, "failed", answer.reason)
    return CancelTimer(AnswerDue), TransfersFailed(reason=answer.reason, refunded=False)


# ---- the credit


def debited(answer: AccountsDebited, at: int) -> tuple[CreditAccount | Timer[AnswerDue], ...] | None:
    """The money is in flight: on to the target, also if the debit came after its deadline."""
    transfer = states[answer.saga]
    if transfer.phase not in ("debiting", "cancelling_debit"):
        return None
    states[answer.saga] = _noted(
        replace(_noted(transfer, "debited", at), phase="crediting"), "asked for the credit", at, due=True
    )
    request = CreditAccount(
        account=transfer.target, amount=transfer.amount, currency=transfer.currency, asked=_asked(transfer)
    )
    return request, _reminder("credit", transfer)


def credited(answer: AccountsCredited, at: int) -> tuple[CancelTimer | TransfersCompleted | SettleDebit, ...] | None:
    """The money has arrived."""
    transfer = states[answer.saga]
    if transfer.phase == "completed":
        return None
    awaited = transfer.phase in ("crediting", "cancelling_credit")
    assert awaited, f"a credit is done, the transfer is {transfer.phase}"
    _ended(answer.saga, transfer, "credited", at, "completed", "")
    completed = TransfersCompleted(
        source=transfer.source, target=transfer.target, amount=transfer.amount, currency=transfer.currency
    )
    return CancelTimer(AnswerDue), completed, SettleDebit(account=transfer.source, how="keep", asked=_asked(transfer))


def credit_refused(answer: AccountsCreditRefused, at: int) -> tuple[CancelTimer | SettleDebit, ...] | None:
    """The target's own word that nothing has arrived, and nothing will: give it back."""
    transfer = states[answer.saga]
    if transfer.phase in ("refunding", "failed"):
        return None
    awaited = transfer.phase in ("crediting", "cancelling_credit")
    assert awaited, f"a credit is refused, the transfer is {transfer.phase}"
    transfer = replace(_noted(transfer, "the credit was refused", at), phase="refunding", reason=answer.reason)
    states[answer.saga] = _noted(transfer, "asked for the refund", at)
    return CancelTimer(AnswerDue), SettleDebit(account=transfer.source, how="refund", asked=_asked(transfer))


def refunded(answer: AccountsRefunded, at: int) -> TransfersFailed | None:
    """All is as it was before."""
    transfer = states[answer.saga]
    if transfer.phase == "failed":
        return None
    assert transfer.phase == "refunding", f"a refund is done, the transfer is {transfer.phase}"
    _ended(answer.saga, transfer, "refunded", at, "failed", transfer.reason)
    return TransfersFailed(reason=transfer.reason, refunded=True)


# ---- deadlines


def overdue(timer: AnswerDue, at: int) -> SettleDebit | CancelCredit | None:
    """An account has not answered in time. Nobody knows what it did, so it is asked to call that off, and answers."""
    transfer = states[timer.saga]
    if transfer.phase == "debiting" and timer.step == "debit":
        _cancelling(timer.saga, transfer, at, "cancelling_debit", "the debit is late: asked to call it off")
        return SettleDebit(account=transfer.source, how="cancel", asked=_asked(transfer))
    if transfer.phase == "crediting" and timer.step == "credit":
        _cancelling(timer.saga, transfer, at, "cancelling_credit", "the credit is late: asked to call it off")
        return CancelCredit(account=transfer.target, asked=_asked(transfer))
    return None


def _cancelling(saga: str, transfer: Transfer, at: int, phase: TransferPhase, what: str) -> None:
    states[saga] = replace(_noted(transfer, what, at), phase=phase)


def _reminder(step: AwaitedStep, transfer: Transfer) -> Timer[AnswerDue]:
    return Timer(AnswerDue(step=step), after=transfer.within)


# ---- the row


def _asked(transfer: Transfer) -> int:
    return transfer.steps[0].at


def _noted(transfer: Transfer, what: str, at: int, due: bool = False) -> Transfer:
    step = TransferStep(what=what, at=at, due=at + transfer.within * 1000 if due else 0)
    return replace(transfer, steps=(*transfer.steps, step))


def _ended(saga: str, transfer: Transfer, what: str, at: int, phase: TransferPhase, reason: str) -> None:
    states[saga] = replace(_noted(transfer, what, at), phase=phase, reason=reason)


@app.agent(app.inbox)
async def transfers(batches: Any) -> None:
    """Moves money: debits the source, credits the target, or gives back what was debited."""
    async for batch in batches:
        batch.decide()
