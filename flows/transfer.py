"""`transfer/1`, money between two accounts, orchestrated: `transfers` asks, `accounts` answers.

A command or an answer, and what a service does about it.
"""

from __future__ import annotations

from agents import accounts, transfers
from events import (
    AccountsCredited,
    AccountsCreditRefused,
    AccountsDebited,
    AccountsDebitRefused,
    AccountsRefunded,
    AnswerDue,
    CancelCredit,
    CreditAccount,
    DebitAccount,
    SettleDebit,
    StartTransfer,
)
from farandole import Flow

transfer = Flow("transfer", version=1)

# Out of the source.
transfer.on(StartTransfer, transfers.start)
transfer.on(DebitAccount, accounts.debit, compensation=accounts.settle)
transfer.on(AccountsDebited, transfers.debited)
transfer.on(AccountsDebitRefused, transfers.debit_refused)

# Into the target.
transfer.on(CreditAccount, accounts.credit, compensation=accounts.cancel_credit)
transfer.on(AccountsCredited, transfers.credited)
transfer.on(AccountsCreditRefused, transfers.credit_refused)

# An answer is late: what was asked for is called off, if it has not been done.
transfer.on(AnswerDue, transfers.overdue)
transfer.on(CancelCredit, accounts.cancel_credit)

# What becomes of the debit: called off, kept, or given back.
transfer.on(SettleDebit, accounts.settle)
transfer.on(AccountsRefunded, transfers.refunded)
