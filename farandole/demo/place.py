"""The customers: they place orders over HTTP and Kafka, at their own pace, and change their minds.

Invariants: the loop is open, so an order's time counts from when it was meant to be placed and a slow system slows
down nobody; what is unfinished at once has a limit; a request without an answer is repeated with the same idempotency
key; an answer that the interface does not promise is a surprise, and surprises are reported.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import aiohttp
import msgspec

from events import CancelOrder, PlaceOrder, StockReceived
from farandole.demo.flows import FLOW, order_flows
from farandole.demo.plan import Kinds, Placement, Plan
from farandole.demo.sending import Sender
from farandole.demo.watch import Seen
from farandole.event import Event

RESTOCK = "restock/1"

UNFINISHED: Final = 300
"""Orders that wait for their answer at the same time; beyond it the next one waits, and its clock runs."""

ANSWER_WITHIN: Final = 20.0
"""Seconds for one HTTP answer: the order service itself waits 10 for its decision, another worker 15 for the owner."""

GIVE_UP_AFTER: Final = 90.0
"""Seconds for which a request is repeated that finds nobody: a worker that was killed needs a few to come back."""

REPEAT_PAUSES: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Seconds before a request is repeated; the last one repeats. Who does not wait longer each time brings down again what
is about to recover.
"""

MOST_SURPRISES: Final = 50

PROMISED: Final = {
    "place": {201, 202},
    "again": {200},
    "conflict": {409},
    "reject": {422},
    "cancel": {202, 409},
    "look": {200},
    "look for nothing": {404},
}
"""What each request may be answered with."""

REPEATED: Final = {"place": {200}, "again": {201, 202}}
"""And when the customer had to repeat it."""

HANDED_OVER: Final = {"place": {200}, "again": {201, 202}, "conflict": {202}}
"""And where connections between workers break and partitions move all the time: a worker on the way repeats what was
left without an answer, and who takes over a partition knows an order a little later.
"""


class Reply(NamedTuple):
    status: int
    said: Any
    attempts: int


class Customers:
    """Places a plan's orders.

    urls:   of the order service's workers; any of them answers for any order
    sender: writes to Kafka for them
    rate:   orders per second
    seen:   what a watcher sees: some cancel when they see that their order has left
    outage: called when the gateway is to go away
    noise:  (topic, key, value) of records that nobody can read, sent in between
    answer_within: seconds for one HTTP answer, after which the request is repeated
    handed_over: whether workers are cut off and partitions move all the time
    """

    def __init__(
        self,
        plan: Plan,
        *,
        urls: Sequence[str],
        sender: Sender,
        seen: Seen,
        rate: float,
        outage: Callable[[], Awaitable[None]],
        noise: Sequence[tuple[str, bytes, bytes | None]] = (),
        answer_within: float = ANSWER_WITHIN,
        handed_over: bool = False,
    ) -> None:
        self.plan, self.rate = plan, rate
        self._answer_within, self._handed_over = answer_within, handed_over
        self.intended: dict[str, float] = {}
        """Order → when it was meant to be placed, monotonic clock."""
        self.accepted: set[str] = set()
        self.answers: Counter[tuple[str, str]] = Counter()
        self.surprises: list[str] = []
        self.began = self.ended = 0.0
        self._urls, self._sender, self._seen = itertools.cycle(urls), sender, seen
        self._outage, self._noise = outage, noise
        self._slots = asyncio.Semaphore(UNFINISHED)

    async def deliver_stock(self) -> None:
        """Deliveries for every sku. A sku's deliveries and holds lie in one partition, so no order can be sooner."""
        async with self._sender.polling():
            await asyncio.gather(
                *(
                    self._send(StockReceived(sku=sku, quantity=pieces), f"{self.plan.run}/{sku}", RESTOCK, key=sku)
                    for sku, pieces in self.plan.stock.items()
                )
            )

    async def place_all(self, began: float | None = None) -> None:
        """Place every order when it is due, and return when each has its answer and all cancellations were sent.

        began: when the first one is due, monotonic clock; None: now
        """
        self.began = time.monotonic() if began is None else began
        timeout = aiohttp.ClientTimeout(total=self._answer_within)
        connector = aiohttp.TCPConnector(limit=0)
        async with self._sender.polling(), aiohttp.ClientSession(timeout=timeout, connector=connector) as self._http:
            async with asyncio.TaskGroup() as group:
                await self._in_time(group)
            self.ended = time.monotonic()

    async def look_at(self, orders: Mapping[str, str]) -> None:
        """Ask for these orders over HTTP; the answer is to be the given status."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
        async with aiohttp.ClientSession(timeout=timeout) as self._http:
            for order, expected in orders.items():
                reply = await self._request("look", "GET", f"/orders/{order}")
                if reply.status == 200 and reply.said.get("status") != expected:
                    self._surprise(f"GET /orders/{order} says {reply.said.get('status')}, the topics say {expected}")
            await self._request("look for nothing", "GET", "/orders/o-none")

    async def _in_time(self, group: asyncio.TaskGroup) -> None:
        placements = self.plan.placements
        rejected = list(self.plan.rejected)
        for number, placement in enumerate(placements):
            due = self.began + number / self.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if number == self.plan.outage_at:
                await self._outage()
            if number == len(placements) // 4:
                self._make_noise()
            if rejected and number % max(1, len(placements) // len(self.plan.rejected)) == 0:
                group.create_task(self._try_in_vain(rejected.pop()))
            await self._slots.acquire()
            self.intended[placement.order] = due
            group.create_task(self._place(placement))

    # ---- one order

    async def _place(self, placement: Placement) -> None:
        try:
            decided = await (self._place_http(placement) if placement.way == "http" else self._place_kafka(placement))
        finally:
            self._slots.release()
        if decided is None:
            return
        self.accepted.add(placement.order)
        if placement.conflict and decided:
            await self._place_otherwise(placement)
        if placement.cancel_after is not None:
            await asyncio.sleep(placement.cancel_after)
            await self._cancel(placement, decided)
        elif placement.kind is Kinds.CANCELLED_LATE and await self._dispatched(placement.order):
            await self._cancel(placement, decided)

    async def _place_http(self, placement: Placement) -> bool | None:
        """Whether it was decided already; None: it was not accepted."""
        body = body_of(placement.command, placement.flow)
        reply = await self._request("place", "POST", "/orders", body)
        if reply.status not in (200, 201, 202):
            return None
        if reply.said.get("order") != placement.order:
            self._surprise(f"POST /orders answered with order {reply.said.get('order')}, not {placement.order}")
        elif reply.said.get("flow", placement.flow) != placement.flow:
            self._surprise(f"order {placement.order} was placed in {reply.said['flow']}, not in {placement.flow}")
        decided = reply.status != 202
        if placement.again:
            await self._request("again", "POST", "/orders", body, allowed=set() if decided else {201, 202})
        return decided

    async def _place_kafka(self, placement: Placement) -> bool:
        for _ in range(2 if placement.again else 1):
            await self._send(placement.command, placement.order, placement.flow)
        return False

    async def _place_otherwise(self, placement: Placement) -> None:
        other = msgspec.structs.replace(placement.command, currency="USD")
        await self._request("conflict", "POST", "/orders", body_of(other, placement.flow))
        for flow in self._others(placement.flow):
            await self._request("conflict", "POST", "/orders", body_of(placement.command, flow))

    def _others(self, flow: str) -> Sequence[str]:
        """A flow in which the order was not placed, if there is one."""
        return [other for other in order_flows() if other != flow][:1]

    async def _cancel(self, placement: Placement, decided: bool) -> None:
        if placement.way == "kafka":
            await self._send(CancelOrder(), placement.order, placement.flow)
        else:
            allowed = set() if decided else {404}
            await self._request("cancel", "POST", f"/orders/{placement.order}/cancel", b"{}", allowed)

    async def _dispatched(self, order: str) -> bool:
        """Wait for it to leave. False if it ended otherwise, or is parked."""
        while order not in self._seen.dispatched:
            if order in self._seen.endings or order in self._seen.parked_sagas:
                return False
            await asyncio.sleep(0.02)
        return True

    async def _try_in_vain(self, body: bytes) -> None:
        await self._request("reject", "POST", "/orders", body)

    # ---- HTTP

    async def _request(
        self, what: str, method: str, path: str, body: bytes | None = None, allowed: set[int] | None = None
    ) -> Reply:
        """An answer, after as many attempts as it takes. One that is not promised is a surprise."""
        reply = await self._until_answered(method, path, body)
        self.answers[what, str(reply.status or "none")] += 1
        fine = PROMISED[what] | (allowed or set())
        if reply.attempts > 1:
            fine |= REPEATED.get(what, set())
        if self._handed_over:
            fine |= HANDED_OVER.get(what, set())
        if reply.status not in fine:
            self._surprise(f"{method} {path} ({what}) was answered with {reply.status}: {str(reply.said)[:200]}")
        return reply

    async def _until_answered(self, method: str, path: str, body: bytes | None) -> Reply:
        give_up = time.monotonic() + GIVE_UP_AFTER
        for attempt in itertools.count(1):
            try:
                async with self._http.request(method, next(self._urls) + path, data=body) as response:
                    if response.status != 503:
                        return Reply(response.status, await response.json(content_type=None), attempt)
                    last = "503"
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                last = f"{type(error).__name__}: {error}"
            self.answers["without answer", "503" if last == "503" else "none"] += 1
            if time.monotonic() > give_up:
                return Reply(0, f"nobody answered in {GIVE_UP_AFTER:.0f} s, at last: {last}", attempt)
            await asyncio.sleep(REPEAT_PAUSES[min(attempt, len(REPEAT_PAUSES)) - 1])
        raise AssertionError("unreachable")

    def _surprise(self, what: str) -> None:
        if len(self.surprises) < MOST_SURPRISES:
            self.surprises.append(what)

    # ---- Kafka

    async def _send(self, event: Event, saga: str, flow: str, key: str | None = None) -> None:
        await self._sender.send(event, saga, flow, key)

    def _make_noise(self) -> None:
        for topic, key, value in self._noise:
            self._sender.send_bytes(topic, key, value)


def body_of(command: PlaceOrder, flow: str = FLOW) -> bytes:
    """The HTTP request for an order: the command without its saga, which the service derives, and the flow unless it
    is the usual one.
    """
    fields = {
        name: value for name, value in msgspec.structs.asdict(command).items() if name not in ("saga", "asked_at")
    }
    return msgspec.json.encode(fields if flow == FLOW else fields | {"flow": flow})
