"""`account/1`: an account is opened, funded, closed. The saga is the name that the client gives its command."""

from __future__ import annotations

from agents import accounts
from events import CloseAccount, FundAccount, OpenAccount
from farandole import Flow

account = Flow("account", version=1)

account.on(OpenAccount, accounts.open_account)
account.on(FundAccount, accounts.fund)
account.on(CloseAccount, accounts.close_account)
