"""Transfers and accounts over HTTP, without Kafka: the door is one that decides at once, or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from agents import accounts, transfers
from events import AccountsDebited, AccountsDebitRefused, OpenAccount, StartTransfer
from farandole.testing import tables
from web.accounts import look
from web.transfers import ENDED_WITHIN, Transfers

BODY: dict[str, Any] = {
    "customer": "anna",
    "idempotency_key": "1",
    "source": "a-1",
    "target": "b-1",
    "amount": 10,
    "currency": "EUR",
}
ID = transfers.transfer_id("anna", "1")


class Door:
    """Here the request is at its owner. decides: what the service does when a command comes."""

    def __init__(self, decides: Callable[[StartTransfer], None] = lambda command: None) -> None:
        self._decides, self.sent = decides, 0

    async def at_owner(
        self, request: Any, saga: str, here: Callable[[int], Awaitable[tuple[int, Any]]]
    ) -> tuple[int, Any]:
        return await here(0)

    async def send_and_wait(
        self, command: StartTransfer, saga: str, flow: str, table: str, timeout: float, settled: Callable[[], bool]
    ) -> bool:
        assert (flow, table, timeout) == ("transfer/1", "states", ENDED_WITHIN)
        self.sent += 1
        self._decides(StartTransfer(**{**BODY, "amount": command.amount}, within=command.within, saga=saga))
        transfers.app.undo_log.clear()
        return settled()


@pytest.fixture(autouse=True)
def bank() -> Iterator[None]:
    with tables(transfers.app), tables(accounts.app):
        yield


def started(command: StartTransfer) -> None:
    transfers.start(command, 1_000)


def refused(command: StartTransfer) -> None:
    started(command)
    transfers.debit_refused(AccountsDebitRefused(reason="no", saga=command.saga), 2_000)


def post(door: Door, **changes: Any) -> tuple[int, dict[str, Any]]:
    async def read() -> bytes:
        return json.dumps({**BODY, **changes}).encode()

    return asyncio.run(Transfers(door).start(SimpleNamespace(read=read)))  # type: ignore[arg-type]


def get(transfer: str) -> tuple[int, dict[str, Any]]:
    return asyncio.run(Transfers(Door()).get(None, transfer))  # type: ignore[arg-type]


def test_one_that_has_ended_is_told_with_how_and_the_same_again_is_the_same() -> None:
    door = Door(refused)
    status, said = post(door)
    assert (status, said["transfer"], said["status"], said["reason"]) == (201, ID, "failed", "no")
    assert [step["what"] for step in said["steps"]] == ["asked for the debit", "the debit was refused"]
    assert post(door) == (200, said)
    assert get(ID) == (200, said)
    assert door.sent == 1


def test_one_that_takes_long_is_under_way() -> None:
    status, said = post(Door(started))
    assert (status, said["status"]) == (202, "debiting")
    transfers.debited(AccountsDebited(saga=ID), 3_000)
    transfers.app.undo_log.clear()
    assert post(Door())[1]["status"] == "crediting"


def test_one_that_nobody_has_decided_is_accepted() -> None:
    assert post(Door()) == (202, {"transfer": ID, "status": "accepted"})


@pytest.mark.parametrize("change", [{"amount": 11}, {"target": "c-1"}, {"currency": "USD"}, {"within": 5}])
def test_something_else_under_the_same_key_is_a_conflict(change: dict[str, Any]) -> None:
    door = Door(started)
    post(door)
    status, said = post(door, **change)
    assert (status, said["transfer"]) == (409, ID)
    assert door.sent == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"amount": 0}, "amount: 1 to"),
        ({"amount": -1}, "amount: 1 to"),
        ({"amount": 1 << 53 | 1}, "amount: 1 to"),
        ({"amount": 10**40}, "amount"),
        ({"amount": 1.5}, "Expected `int`"),
        ({"target": "a-1"}, "another account"),
        ({"source": "no such\nname"}, "source: 1 to 64"),
        ({"currency": "eur"}, "currency"),
        ({"within": 10**30}, "within"),
        ({"wihtin": 5}, "wihtin: there is no such field"),
        ({"saga": "t-1"}, "saga: there is no such field"),
    ],
)
def test_a_bad_request_is_told_what_is_wrong_and_asks_nobody(change: dict[str, Any], says: str) -> None:
    door = Door(started)
    status, said = post(door, **change)
    assert status == 422
    assert says in "; ".join(said["problems"])
    assert not door.sent


@pytest.mark.parametrize("name", ["t-none", "../x", "", "x" * 300])
def test_what_is_no_transfer_is_not_there(name: str) -> None:
    assert get(name)[0] == 404


def test_an_account_is_shown_and_one_that_is_not_there_is_not() -> None:
    accounts.open_account(OpenAccount(account="a-1", currency="EUR", overdraft=50, saga="o"))
    accounts.app.undo_log.clear()
    door: Any = Door()
    assert asyncio.run(look(door, None, "a-1")) == (
        200,
        {"account": "a-1", "status": "open", "currency": "EUR", "balance": 0, "overdraft": 50, "available": 50},
    )
    for name in ("b-1", "a b", "é"):
        assert asyncio.run(look(door, None, name))[0] == 404
