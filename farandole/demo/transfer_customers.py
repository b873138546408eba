"""The customers of a bank: they open accounts by command, and move money over HTTP and Kafka, at their own pace.

Invariants are those of farandole.demo.place: the loop is open, a request without an answer is repeated with the same
idempotency key, and an answer that the interface does not promise is a surprise.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import msgspec

from events import CloseAccount
from farandole.demo import place
from farandole.demo.place import ANSWER_WITHIN, GIVE_UP_AFTER, MOST_SURPRISES, REPEAT_PAUSES, UNFINISHED
from farandole.demo.sending import Sender
from farandole.demo.transfer_plan import COMPLETED, Account, Asked, TransferPlan
from farandole.demo.watch import Seen

TRANSFER, ACCOUNT = "transfer/1", "account/1"

PROMISED: Final = {
    "start": {201, 202},
    "again": {200},
    "conflict": {409},
    "reject": {422},
    "look": {200},
    "look for nothing": {404},
}
"""What each request may be answered with; what was repeated, also with 200."""

HANDED_OVER: Final = {"start" if what == "place" else what: also for what, also in place.HANDED_OVER.items()}
"""And where partitions move all the time."""

LOOKED_AT: Final = 20


class Bank:
    """The customers of a bank.

    answer_within, handed_over: as for farandole.demo.place.Customers
    """

    def __init__(
        self,
        plan: TransferPlan,
        urls: Mapping[str, Sequence[str]],
        sender: Sender,
        seen: Seen,
        *,
        answer_within: float = ANSWER_WITHIN,
        handed_over: bool = False,
    ) -> None:
        self.plan, self._sender, self._seen = plan, sender, seen
        self._answer_within, self._handed_over = answer_within, handed_over
        self._urls = {service: itertools.cycle(some) for service, some in urls.items()}
        self.intended: dict[str, float] = {}
        self.answered: dict[str, float] = {}
        """Transfer → seconds from when it was due to the HTTP answer."""
        self.answers: Counter[tuple[str, str]] = Counter()
        self.surprises: list[str] = []
        self._slots = asyncio.Semaphore(UNFINISHED)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """While this is entered, requests can be sent."""
        timeout = aiohttp.ClientTimeout(total=self._answer_within)
        connector = aiohttp.TCPConnector(limit=0)
        async with self._sender.polling(), aiohttp.ClientSession(timeout=timeout, connector=connector) as self.http:
            yield

    async def open_accounts(self) -> None:
        """Commands to one account lie in one partition, so no debit can be sooner than what is sent here."""
        await asyncio.gather(*(self._open(account) for account in self.plan.accounts))

    async def _open(self, account: Account) -> None:
        name, send = account.name, self._sender.send
        await send(account.opening, f"{self.plan.run}/open/{name}", ACCOUNT, name)
        await send(account.deposit, f"{self.plan.run}/fund/{name}", ACCOUNT, name)
        if account.closed:
            await self._close(name)

    async def _close(self, name: str) -> None:
        await self._sender.send(CloseAccount(account=name), f"{self.plan.run}/close/{name}", ACCOUNT, name)

    async def move_all(self, rate: float, began: float | None = None) -> None:
        """Every transfer when it is due; returns when each has its answer.

        began: when the first one is due, monotonic clock; None: now
        """
        began = time.monotonic() if began is None else began
        rejected = list(self.plan.rejected)
        async with asyncio.TaskGroup() as group:
            for number, asked in enumerate(self.plan.placements):
                due = began + number / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if rejected:
                    group.create_task(self._request("reject", "transfers", "POST", "/transfers", rejected.pop()))
                await self._slots.acquire()
                self.intended[asked.order] = due
                group.create_task(self._ask(asked))

    async def _ask(self, asked: Asked) -> None:
        try:
            self._seen.placed.add(asked.order)
            if asked.way == "http":
                await self._ask_http(asked)
            else:
                for _ in range(2 if asked.again else 1):
                    await self._sender.send(asked.command, asked.order, TRANSFER)
            for close in asked.closes:
                await self._close(close.account)
        finally:
            self._slots.release()

    async def _ask_http(self, asked: Asked) -> None:
        body = body_of(asked.command)
        status, said = await self._request("start", "transfers", "POST", "/transfers", body)
        self.answered[asked.order] = time.monotonic() - self.intended[asked.order]
        if said.get("transfer") != asked.order:
            self._surprise(f"POST /transfers answered with {said.get('transfer')}, not {asked.order}")
        decided = status != 202 or said.get("status") != "accepted"
        if asked.again:
            await self._request("again", "transfers", "POST", "/transfers", body, set() if decided else {201, 202})
        if asked.conflict and decided:
            other = msgspec.structs.replace(asked.command, amount=asked.command.amount + 1)
            await self._request("conflict", "transfers", "POST", "/transfers", body_of(other))

    async def look(self, ways: tuple[str, ...]) -> None:
        """Some transfers and all accounts, as HTTP has them: how they ended, and that nobody is below his limit."""
        if "http" not in ways:
            return
        for saga, ending in itertools.islice(list(self._seen.endings.items()), LOOKED_AT):
            _, said = await self._request("look", "transfers", "GET", f"/transfers/{saga}")
            expected = COMPLETED if ending.how == COMPLETED else "failed"
            if said.get("status") != expected:
                self._surprise(f"GET /transfers/{saga} says {said.get('status')}, the topics say {expected}")
        await self._request("look for nothing", "transfers", "GET", "/transfers/t-none")
        await self._request("look for nothing", "accounts", "GET", "/accounts/none")
        for account in self.plan.accounts:
            _, said = await self._request("look", "accounts", "GET", f"/accounts/{account.name}")
            if said.get("balance", 0) < -account.opening.overdraft:
                self._surprise(f"GET /accounts/{account.name} says {said}")

    # ---- HTTP

    async def _request(
        self,
        what: str,
        service: str,
        method: str,
        path: str,
        body: bytes | None = None,
        allowed: set[int] | None = None,
    ) -> tuple[int, Any]:
        """An answer, after as many attempts as it takes. One that is not promised is a surprise."""
        status, said, attempts = await self._until_answered(service, method, path, body)
        self.answers[what, str(status or "none")] += 1
        fine = PROMISED[what] | (allowed or set()) | ({200} if attempts > 1 else set())
        if self._handed_over:
            fine |= HANDED_OVER.get(what, set())
        if status not in fine:
            self._surprise(f"{method} {path} ({what}) was answered with {status}: {str(said)[:200]}")
        return status, said if isinstance(said, dict) else {}

    async def _until_answered(self, service: str, method: str, path: str, body: bytes | None) -> tuple[int, Any, int]:
        give_up = time.monotonic() + GIVE_UP_AFTER
        for attempt in itertools.count(1):
            try:
                url = next(self._urls[service]) + path
                async with self.http.request(method, url, data=body) as response:
                    if response.status != 503:
                        return response.status, await response.json(content_type=None), attempt
            except (aiohttp.ClientError, TimeoutError, ValueError):
                pass
            self.answers["without answer", service] += 1
            if time.monotonic() > give_up:
                return 0, f"nobody answered in {GIVE_UP_AFTER:.0f} s", attempt
            await asyncio.sleep(REPEAT_PAUSES[min(attempt, len(REPEAT_PAUSES)) - 1])
        raise AssertionError("unreachable")

    def _surprise(self, what: str) -> None:
        if len(self.surprises) < MOST_SURPRISES:
            self.surprises.append(what)

    http: aiohttp.ClientSession
    """While it is open."""


def body_of(command: Any) -> bytes:
    """The HTTP request for a transfer: the command without its saga, which the service derives."""
    fields = msgspec.structs.asdict(command)
    return msgspec.json.encode({name: value for name, value in fields.items() if name != "saga"})
