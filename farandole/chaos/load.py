"""Orders in an open loop, for as long as faults go on: one wave of a demo's plan after another.

Invariants: a wave begins when it is due, whatever became of the one before; an order's time counts from when it was
meant to be placed; stock is delivered before the wave that wants it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from agents.order import order_id
from events import OrderLine, PlaceOrder, StockReceived
from farandole.codec import Codec
from farandole.config import ClientConfig
from farandole.demo import plan as plans
from farandole.demo.flows import FLOW
from farandole.demo.place import RESTOCK, Customers
from farandole.demo.plan import Kinds, Placement, Plan, Wishes
from farandole.demo.sending import Sender
from farandole.demo.watch import Seen
from farandole.event import Event, Meta

WAVE_SECONDS: Final = 15.0
LEAST_IN_WAVE: Final = 50
"""Orders: fewer have no room for one of each kind."""

AHEAD: Final = 10.0
"""Seconds before its beginning in which a wave's stock is delivered."""

ANSWER_WITHIN: Final = 12.0
"""Seconds after which a customer asks another worker: the one that was asked may have been stopped. Above what a worker
itself waits for an order's decision: who asks again before that multiplies the load when all is slow.
"""

LEFT_TO_FAULTS: Final = frozenset({Kinds.BROKEN, Kinds.UNANSWERED, Kinds.UNBOOKED})
"""Kinds of order that no wave has: handlers fail by faults here, and what the outside does to the other two hangs on
its usual behaviour, which faults change.
"""

DOOMED_SKU: Final = "kettle"
"""What orders ask for whose handler fails: the sku that everybody wants, so that others wait behind them."""

DOOMED: Final = (
    "order.place",
    "order.captured",
    "inventory.request_holds",
    "inventory.hold",
    "inventory.line_held",
    "payment.authorise",
    "payment.authorise_answered",
    "payment.capture",
    "shipping.book",
    "shipping.book_answered",
    "notification.tell_completed",
)
"""Decisions that every order goes through, one of each service at least."""

DOOMED_EACH: Final = 40


@dataclass
class Placed:
    """All orders so far.

    sagas:    every order that is looked for; grows before the order is placed
    kinds, intended: of each order: what it is, when it was meant to be placed (monotonic clock)
    """

    sagas: set[str] = field(default_factory=set)
    placements: dict[str, Placement] = field(default_factory=dict)
    customers: list[Customers] = field(default_factory=list)

    def intended(self) -> dict[str, float]:
        return {order: at for each in self.customers for order, at in each.intended.items()}

    def accepted(self) -> set[str]:
        return {order for each in self.customers for order in each.accepted}

    def surprises(self) -> list[str]:
        return [surprise for each in self.customers for surprise in each.surprises]

    def answers(self) -> Counter[tuple[str, str]]:
        return sum((each.answers for each in self.customers), Counter())


class Doomed:
    """Orders that a decision will fail on: their ids are known to the workers before they start."""

    def __init__(self, run: str) -> None:
        self._keys = {
            decision: [f"{run}/doomed/{decision}/{number}" for number in range(DOOMED_EACH)] for decision in DOOMED
        }
        self._lock = threading.Lock()

    @property
    def setting(self) -> str:
        """FARANDOLE_FAIL."""
        return ",".join(f"{decision}@{order_id('chaos', key)}" for decision, keys in self._keys.items() for key in keys)

    def left(self) -> list[str]:
        """Decisions that have an order left to fail on."""
        return [decision for decision, keys in self._keys.items() if keys]

    def take(self, decision: str) -> tuple[str, PlaceOrder]:
        """(order id, command) of one more order that this decision fails on."""
        with self._lock:
            key = self._keys[decision].pop()
        command = PlaceOrder(
            customer="chaos",
            idempotency_key=key,
            lines=(OrderLine(line=1, sku=DOOMED_SKU, quantity=1, price=100),),
            currency="EUR",
            email="chaos@example.org",
            ship_to="1 Harbour Street, Hamburg",
            card_token="tok_doomed",
            reserve_for=900,
        )
        return order_id("chaos", key), command


class Load:
    """Places orders from `start` to `finish`, in a thread of its own.

    rate: orders per second
    """

    def __init__(
        self,
        run: str,
        seed: int,
        rate: float,
        *,
        urls: Sequence[str],
        client_config: ClientConfig,
        namespace: str,
        codec: Codec,
        placed: Placed,
        seen: Seen,
    ) -> None:
        self.placed, self.rate = placed, rate
        self._run, self._seed, self._seen = run, seed, seen
        self._urls, self._codec = urls, codec
        self._sender = Sender(client_config, namespace, codec, run)
        self._finish = threading.Event()
        self._thread = threading.Thread(target=self._in_thread, name="load", daemon=True)
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self.began = 0.0
        self.doomed = Doomed(run)

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """The wave under way is the last."""
        self._finish.set()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it at once."""
        self._finish.set()
        if self._thread.is_alive() and self._loop is not None and self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(5)

    def check(self) -> None:
        """Raise what ended the load, if anything did."""
        if self._error is not None:
            raise self._error

    def intended(self) -> int:
        """Orders whose time has come."""
        return sum(len(each.intended) for each in self.placed.customers)

    def encode(self, event: Event, saga: str, flow: str = FLOW) -> bytes:
        return self._codec.encode(event, Meta(id=f"chaos/{self._run}/{saga}", saga=saga, flow=flow, cause=""))

    def stock_for_doomed(self) -> tuple[str, bytes]:
        """(sku, delivery) so that orders whose handler fails take nothing from the others."""
        delivery = StockReceived(sku=DOOMED_SKU, quantity=len(DOOMED) * DOOMED_EACH)
        return DOOMED_SKU, self.encode(delivery, f"{self._run}/doomed", RESTOCK)

    # ---- in the thread

    def _in_thread(self) -> None:
        try:
            asyncio.run(self._all())
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                self._error = error

    async def _all(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        async with self._sender.polling(), asyncio.TaskGroup() as group:
            wave = await self._wave(0)
            begins = self.began = time.monotonic() + 0.5
            number = 0
            while True:
                group.create_task(wave.place_all(begins))
                begins += len(wave.plan.placements) / self.rate
                number += 1
                await self._until(begins - AHEAD)
                upcoming = await self._wave(number) if not self._finish.is_set() else None
                await self._until(begins)
                if upcoming is None or self._finish.is_set():
                    return
                self._add(upcoming.plan)
                wave = upcoming
                self.placed.customers.append(wave)

    async def _until(self, at: float) -> None:
        while (left := at - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 0.2))

    async def _wave(self, number: int) -> Customers:
        """A wave whose stock is there."""
        wave = Customers(
            self._plan(number),
            urls=self._urls,
            sender=self._sender,
            seen=self._seen,
            rate=self.rate,
            outage=_nothing,
            answer_within=ANSWER_WITHIN,
            handed_over=True,
        )
        if number == 0:
            self._add(wave.plan)
            self.placed.customers.append(wave)
        await wave.deliver_stock()
        return wave

    def _plan(self, number: int) -> Plan:
        wishes = Wishes(
            run=f"{self._run}.{number}",
            orders=max(LEAST_IN_WAVE, round(self.rate * WAVE_SECONDS)),
            seed=self._seed * 1_000_003 + number,
            possible=frozenset(Kinds) - LEFT_TO_FAULTS,
        )
        return plans.make(wishes, order_id)

    def _add(self, plan: Plan) -> None:
        for placement in plan.placements:
            self.placed.placements[placement.order] = placement
        self.placed.sagas.update(placement.order for placement in plan.placements)


async def _nothing() -> None:
    """The gateway goes away when a fault says so, not when the plan does."""
