"""HTTP for accounts: look at one. They are opened, funded and closed by commands (`accounts.commands`).

    GET /accounts/{id}     200 or 404

Any accounts worker answers for any account; the worker that owns the partition of its name gives the answer, from
committed rows only.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from faust.web import View

from agents import accounts as service
from events import Account
from farandole.door import Door, replied
from farandole.values import is_account

Reply = tuple[int, dict[str, Any]]


def account_as_json(name: str, account: Account) -> dict[str, Any]:
    """What the outside may see of an account. available: what may be spent, 0 if it is closed"""
    return {
        "account": name,
        "status": account.phase,
        "currency": account.currency,
        "balance": account.balance,
        "overdraft": account.overdraft,
        "available": account.balance + account.overdraft if account.phase == "open" else 0,
    }


async def look(door: Door, request: Any, name: str) -> Reply:
    async def here(partition: int) -> Reply:
        row = service.balances.committed(partition, name)
        return (200, account_as_json(name, row)) if row else _unknown(name)

    return await door.at_owner(request, name, here) if is_account(name) else _unknown(name)


def _unknown(name: str) -> Reply:
    return 404, {"account": name[:64], "problems": ["there is no such account"]}


def add_views(app: Any) -> None:
    """Register the view with the accounts service's App."""
    door = Door(app, topic="accounts.commands")
    reply = partial(replied, "account")

    @app.page("/accounts/{name}")
    class Look(View):
        async def get(self, request: Any, name: str) -> Any:
            return await reply(self, request, look(door, request, name))
