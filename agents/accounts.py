"""The accounts service: bank accounts, what they hold, and the ledger of every movement between them.

Everything that touches an account lies in topic `accounts.commands` under its name, in one order.

Invariants:
- No debit takes a balance below minus its overdraft, and nothing but a debit takes anything away.
- Every debit and every credit is answered once: done or refused. What was called off before it came stays refused; what
  is done stays done, and only a debit that is in flight can be refunded, once.
- Whatever has become of an account, a refund to it is taken: the money is nobody else's.
- Every posting adds up to zero, so all accounts, the money in flight and the cash together never change.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from events import (
    Account,
    AccountsCredited,
    AccountsCreditRefused,
    AccountsDebited,
    AccountsDebitRefused,
    AccountsRefunded,
    Booked,
    BookEntry,
    CancelCredit,
    CloseAccount,
    CreditAccount,
    DebitAccount,
    Deposit,
    FundAccount,
    Movement,
    OpenAccount,
    SettleDebit,
)
from farandole import App
from farandole.values import MAX_AMOUNT, is_account, is_currency

app = App("accounts", views="web.accounts")
balances = app.Table("balances", value=Account, help="Every account, by its name.")
movements = app.Table(
    "movements",
    value=Movement,
    ended=lambda movement: movement.phase != "debited",
    help="What became of each debit and credit, by transfer and side, in its account's partition.",
)
# No `ended`: what was called off may be a dead letter, which comes when somebody redrives it, whenever that is. By the
# time of the request, too: who sends it again when all else is forgotten means another transfer.
barred = app.Table(
    "barred",
    value=Movement,
    help="Debits and credits that were called off before they came, by transfer, side, time.",
)
# No `ended`: there is no end after which a deposit may not come twice.
deposits = app.Table("deposits", value=Deposit, help="Every deposit, by account and name.")

CASH: Final = "cash"
IN_FLIGHT: Final = "in_flight"

CALLED_OFF: Final = "it was called off before it was done"


# ---- what clients ask


def open_account(command: OpenAccount) -> None:
    """A new account, empty. The same again changes nothing, also when it is closed by then."""
    assert is_account(command.account), "an account's name is 1 to 64 letters, digits and ._-, a letter or digit first"
    assert is_currency(command.currency), "a currency is three capital letters"
    assert 0 <= command.overdraft <= MAX_AMOUNT, f"an overdraft is 0 to {MAX_AMOUNT} minor units"
    known = balances.get(command.account)
    if known is None:
        balances[command.account] = Account(
            phase="open", currency=command.currency, overdraft=command.overdraft, balance=0
        )
        return
    same = (known.currency, known.overdraft) == (command.currency, command.overdraft)
    assert same, f"the account is there, in {known.currency} with an overdraft of {known.overdraft}"


def close_account(command: CloseAccount) -> None:
    """It takes part in nothing new. What it holds stays on it, and so does what is refunded to it later."""
    known = balances[command.account]
    if known.phase == "open":
        balances[command.account] = replace(known, phase="closed")


def fund(command: FundAccount) -> Booked | None:
    """Pay money in. The same deposit again changes nothing."""
    key = f"{command.account} {command.saga}"
    known = deposits.get(key)
    if known is not None:
        same = (known.amount, known.currency) == (command.amount, command.currency)
        assert same, f"the same deposit once was {known.amount} {known.currency}"
        return None
    _check_amount(command.amount)
    reason = _why_no_credit(command.account, command.amount, command.currency)
    assert not reason, reason
    deposits[key] = Deposit(amount=command.amount, currency=command.currency)
    _move(command.account, command.amount)
    return _book("fund", command.currency, command.amount, CASH, _line(command.account))


# ---- a transfer's debit


def debit(request: DebitAccount) -> tuple[AccountsDebited | Booked, ...] | AccountsDebitRefused | None:
    """Take the amount, if the account may spend it."""
    _check_amount(request.amount)
    key = f"{request.saga}/debit"
    if key in movements or _bar(key, request) in barred:
        return None
    reason = _why_no_debit(request.account, request.amount, request.currency)
    if reason:
        movements[key] = Movement(phase="refused")
        return AccountsDebitRefused(reason=reason)
    movements[key] = Movement(phase="debited", amount=request.amount, currency=request.currency)
    _move(request.account, -request.amount)
    posting = _book("debit", request.currency, request.amount, _line(request.account), IN_FLIGHT)
    return AccountsDebited(), posting


def settle(
    request: SettleDebit,
) -> AccountsDebitRefused | tuple[AccountsRefunded | Booked, ...] | None:
    """What becomes of the debit: refused if it has not come yet; kept by the target; or given back."""
    key = f"{request.saga}/debit"
    known = movements.get(key)
    if request.how == "cancel":
        if known is not None or _bar(key, request) in barred:
            return None
        barred[_bar(key, request)] = Movement(phase="refused")
        return AccountsDebitRefused(reason=CALLED_OFF)
    end = "settled" if request.how == "keep" else "refunded"
    if known is not None and known.phase == end:
        return None
    assert known is not None, f"{request.how}: there is no debit in flight"
    assert known.phase == "debited", f"{request.how}: there is no debit in flight, it is {known.phase}"
    if request.how == "keep":
        movements[key] = replace(known, phase="settled")
        return None
    movements[key] = replace(known, phase="refunded")
    _move(request.account, known.amount)
    return AccountsRefunded(), _book("refund", known.currency, known.amount, IN_FLIGHT, _line(request.account))


# ---- a transfer's credit


def credit(request: CreditAccount) -> tuple[AccountsCredited | Booked, ...] | AccountsCreditRefused | None:
    """Add the amount, if the account takes it and nobody has called it off."""
    _check_amount(request.amount)
    key = f"{request.saga}/credit"
    if key in movements or _bar(key, request) in barred:
        return None
    reason = _why_no_credit(request.account, request.amount, request.currency)
    if reason:
        movements[key] = Movement(phase="refused")
        return AccountsCreditRefused(reason=reason)
    movements[key] = Movement(phase="credited", amount=request.amount, currency=request.currency)
    _move(request.account, request.amount)
    posting = _book("credit", request.currency, request.amount, IN_FLIGHT, _line(request.account))
    return AccountsCredited(), posting


def cancel_credit(request: CancelCredit) -> AccountsCreditRefused | None:
    """Whatever comes of it has been said, or is said here: a credit that comes later finds itself refused."""
    key = f"{request.saga}/credit"
    if key in movements or _bar(key, request) in barred:
        return None
    barred[_bar(key, request)] = Movement(phase="refused")
    return AccountsCreditRefused(reason=CALLED_OFF)


def _bar(movement: str, request: DebitAccount | CreditAccount | SettleDebit | CancelCredit) -> str:
    return f"{movement}/{request.asked}"


# ---- balances and the ledger


def _check_amount(amount: int) -> None:
    assert 0 < amount <= MAX_AMOUNT, f"an amount is 1 to {MAX_AMOUNT} minor units"


def _why_not(account: Account | None, currency: str) -> str:
    if account is None:
        return "there is no such account"
    if account.phase != "open":
        return "the account is closed"
    return "" if account.currency == currency else f"the account is in {account.currency}"


def _why_no_debit(name: str, amount: int, currency: str) -> str:
    account = balances.get(name)
    reason = _why_not(account, currency)
    if not reason and account is not None and account.balance - amount < -account.overdraft:
        return "the account does not have so much"
    return reason


def _why_no_credit(name: str, amount: int, currency: str) -> str:
    account = balances.get(name)
    reason = _why_not(account, currency)
    if not reason and account is not None and account.balance + amount > MAX_AMOUNT:
        return f"the account would have more than {MAX_AMOUNT} minor units"
    return reason


def _move(name: str, amount: int) -> None:
    account = balances[name]
    balances[name] = replace(account, balance=account.balance + amount)


def _line(account: str) -> str:
    return f"account:{account}"


def _book(memo: str, currency: str, amount: int, debited: str, credited: str) -> Booked:
    entries = (BookEntry(account=debited, amount=amount), BookEntry(account=credited, amount=-amount))
    return Booked(memo=memo, currency=currency, entries=entries)


@app.agent(app.inbox)
async def accounts(batches: Any) -> None:
    """Keeps accounts: debits, credits and refunds them, once each."""
    async for batch in batches:
        batch.decide()
