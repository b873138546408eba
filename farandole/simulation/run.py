"""One run: a plan, a tape, and everything that happens because of them, in one thread and virtual time.

Invariants:
- The run depends on plan and tape alone.
- A worker's turn may be interrupted at any touch of Kafka: it dies there, or others go on while it stands still, or
  Kafka does not answer. When the budget of that is spent, nothing goes wrong any more, and all has to come to rest.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from events import BeginLogin, CancelOrder, StockReceived, UserRegistered, VerifyCode, WriteOff
from farandole.event import Event, Meta
from farandole.partitioner import partition_of
from farandole.simulation import logins, transfers
from farandole.simulation.clients import POINTS
from farandole.simulation.kafka import Cluster
from farandole.simulation.operator import Operator
from farandole.simulation.outside import Books
from farandole.simulation.plan import FLOWS, RESTOCK, Line, Move, Nonsense, OrderPlan, Plan
from farandole.simulation.tape import Tape
from farandole.simulation.workers import Crashed, Worker, Workshop

BEGINNING: Final = 1_750_000_000_000
"""When every run begins: milliseconds since 1970."""

TURN_MS: Final = 5
TICKS_MS: Final = (50, 700, 3_000)
"""What a turn takes; and what it takes when the machine is slow."""

DEEPEST: Final = 2
"""Workers that stand still inside one another's turns at the most."""

FROZEN_MS: Final = (200, 2_000, 7_000, 12_000)
"""How long a zombie sleeps: sessions end after 6 s, transactions after 10."""

BACK_MS: Final = (50, 1_500, 4_000, 8_000)
"""How long a dead worker is away: back within its session, or not."""

MOST_TURNS: Final = 6_000
"""Turns after which a run that has not come to rest never will."""

ONLY_AT: Final = {
    "unknown": frozenset(("offsets", "commit.before", "commit.after", "abort", "init")),
    "fail": frozenset(("flush", "offsets", "commit.before", "init", "committed", "ends", "consume", "abort")),
}
"""Faults that mean something at some points only; farandole.simulation.clients says what."""


class Violation(Exception):
    """Something that must not be. check: its class; what: in words."""

    def __init__(self, check: str, what: str) -> None:
        super().__init__(f"{check}: {what}")
        self.check, self.what = check, what


class Run:
    """story: told what happens (time, who, what, saga); None: nobody listens"""

    def __init__(
        self,
        workshop: Workshop,
        plan: Plan,
        tape: Tape,
        story: Callable[[int, str, str, str], None] | None = None,
    ) -> None:
        self.workshop, self.plan, self._story = workshop, plan, story
        self.choose = tape.choose
        self.now = BEGINNING
        self.calm = False
        self.counts = Counter[str]()
        self.misplaced: set[str] = set()
        """Where clients wrote nonsense: what the audit says of these places is as it should be."""
        self._budget = plan.budget
        self._faults = {
            point: tuple(fault for fault in plan.faults if point in ONLY_AT.get(fault, POINTS)) for point in POINTS
        }
        self._events: list[tuple[int, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._turns = self._depth = 0
        self.operator = Operator(self)
        self.orders = {order.saga: order for order in plan.orders}
        self.books = Books(lambda: self.now / 1000, self._insists())
        topics = dict.fromkeys(workshop.topics.topics, plan.partitions)
        self.cluster = Cluster(topics, lambda: self.now, self.choose, self._wait_until)
        self.workers = [
            workshop.services[service].worker(index)
            for service, count in plan.workers.items()
            for index in range(count)
        ]

    def _insists(self) -> set[tuple[str, str]]:
        return {(order.saga, operation) for order in self.plan.orders for operation in order.insists}

    # ---- what the parts of the model ask

    def later(self, at: int, what: Callable[[], object]) -> None:
        heapq.heappush(self._events, (at, next(self._numbers), what))

    def tell(self, who: str, what: str, saga: str = "") -> None:
        if self._story is not None:
            self._story(self.now, who, what, saga)

    def sleep(self, seconds: float) -> None:
        """A worker pauses between tries; its heartbeats go on."""
        self._advance(self.now + round(seconds * 1000))

    def _wait_until(self, moment: int) -> None:
        self._advance(moment)

    # ---- from beginning to end

    def play(self) -> None:
        """Until all is at rest. Violation if a worker fails, or if it never comes to rest."""
        workshop = self.workshop
        workshop.heal()
        for failure in self.plan.failures:
            workshop.fail(failure.decision, failure.saga)
        for worker in self.workers:
            worker.begin(self, self.cluster, self.books, self._touched)
            worker.start()
        self._schedule()
        try:
            self._go_on(None, MOST_TURNS, None)
            self.calm = True
            while self._operator():
                self._go_on(None, MOST_TURNS, None)
        finally:
            for worker in self.workers:
                if worker.up:
                    for name, count in worker.engine.counts.items():
                        worker.totals[name] += count

    def _schedule(self) -> None:
        for order in self.plan.orders:
            self._schedule_order(order)
        for user in logins.REGISTERED if self.plan.logins else ():
            registered = UserRegistered(user=user, address=f"{user}@example.org")
            self._send_at(0, registered, logins.registration(user), logins.REGISTER, user)
        for login in self.plan.logins:
            self._schedule_login(login)
        for delivery in self.plan.deliveries:
            event = StockReceived(sku=f"sku-{delivery.sku}", quantity=delivery.quantity)
            for at in (delivery.at, *delivery.copies):
                self._send_at(at, event, delivery.saga, RESTOCK, event.sku)
        for sent in transfers.commands(self.plan.accounts, self.plan.transfers):
            self._send_at(*sent)
        for nonsense in self.plan.nonsense:
            self.later(BEGINNING + nonsense.at, partial(self._nonsense, nonsense))
        for move in self.plan.moves:
            self.later(BEGINNING + move.at, partial(self._move, move))
        for repair in self.plan.repairs:
            self.later(BEGINNING + repair.at, partial(self.operator.repair, repair))

    def _schedule_order(self, order: OrderPlan) -> None:
        saga = order.saga
        for at in (order.at, *order.copies):
            self._send_at(at, order.command(), saga, order.flow)
        for at in order.conflicts:
            self._send_at(at, order.command(price=999), saga, order.flow)
        for at in order.cancels:
            self._send_at(at, CancelOrder(), saga, order.flow)
        for at in order.write_offs:
            self._send_at(at, WriteOff(reason="an operator gave up"), saga, order.flow)
        for at in order.elsewhere:
            other = next(flow for flow in FLOWS if flow != order.flow)
            self._send_at(at, order.command(), saga, other)

    def _schedule_login(self, login: logins.LoginPlan) -> None:
        command = BeginLogin(user=login.user, seed=login.seed, digest=login.digest())
        for at in (login.at, *login.copies):
            self._send_at(at, command, login.name, logins.FLOW, login.user)
        for number, (at, off) in enumerate(login.entered):
            self._send_at(at, VerifyCode(attempt=f"a-{number}", proof=login.digest(off)), login.name, logins.FLOW)

    # ---- clients

    def _send_at(self, at: int, event: Event, saga: str, flow: str, key: str = "") -> None:
        self.later(BEGINNING + at, lambda: self._send(event, saga, flow, key or saga))

    def _send(self, event: Event, saga: str, flow: str, key: str) -> None:
        kind = self.workshop.project.codec.type_of(type(event))
        self.tell("client", type(event).__name__, saga)
        self.cluster.append(kind.topic, key.encode(), self._encode(event, saga, flow))

    def _encode(self, event: Event, saga: str, flow: str) -> bytes:
        meta = Meta(f"client/{next(self._numbers)}", saga, flow, "")
        return self.workshop.project.codec.encode(event, meta)

    def _nonsense(self, nonsense: Nonsense) -> None:
        order, topic = OrderPlan(nonsense.order, 0, (Line(0, 1),)), nonsense.topic
        saga = order.saga
        if topic == "stock" or nonsense.kind == "strange-flow":
            saga = f"nobody-{next(self._numbers)}"  # a saga of its own: one under two flows is another matter
        event: Event = {"stock": StockReceived(sku=saga, quantity=1), "payment.commands": WriteOff(reason="")}.get(
            topic, order.command()
        )
        own = self.orders[order.saga].flow if order.saga in self.orders else order.flow
        flow = "order/9" if nonsense.kind == "strange-flow" else RESTOCK if topic == "stock" else own
        value: bytes | None = self._encode(event, saga, flow)
        key, partition = saga.encode(), None
        if nonsense.kind == "bytes":
            value = b"\x00\xff\xff\xff\xffnonsense"
        elif nonsense.kind == "tombstone":
            value = None
        elif nonsense.kind == "torn":
            value = value[:-1] if value else None
        elif nonsense.kind == "astray":
            partition = (partition_of(saga, self.plan.partitions) + 1) % self.plan.partitions
        elif nonsense.kind == "wrong-key":
            key = b"somebody else"
        self.tell("client", f"{nonsense.kind} into {topic}", saga)
        self.counts["nonsense"] += 1
        partition, offset = self.cluster.append(topic, key, value, partition=partition)
        self.misplaced.add(f"{topic}/{partition}/{offset}")

    def _operator(self) -> bool:
        """Give up what the gateway insists on refusing, and leave no dead letter. False if there is nothing to do."""
        refused, self.books.refused = self.books.refused, set()
        for saga, _ in sorted(refused):
            self._send(WriteOff(reason="the gateway insists"), saga, self.orders[saga].flow, saga)
        return bool(refused) or (self.plan.mends and self.operator.finish())

    # ---- turns and time

    def _go_on(self, frozen: Worker | None, turns: int, until: int | None) -> None:
        """Give workers their turns, until there is nothing to do, or so many turns are over, or this moment comes."""
        while turns > 0:
            turns -= 1
            self._happen()
            ready = [worker for worker in self.workers if self._is_ready(worker)]
            if not ready:
                coming = self._next_moment()
                if coming is None:
                    return
                if until is not None and coming >= until:
                    self._advance(until)
                    return
                self._advance(coming)
                continue
            if len(ready) > 1:
                ready.sort(key=lambda worker: worker.turn)
            self._turn(ready[self.choose(len(ready), "who")])
            tick = 0 if self.calm else self.choose(len(TICKS_MS) + 1, "tick")
            self._advance(self.now + (TICKS_MS[tick - 1] if tick else TURN_MS))
            if until is not None and self.now >= until:
                return
        if frozen is None:
            raise Violation("never-ends", f"not at rest after {MOST_TURNS} turns")

    def _is_ready(self, worker: Worker) -> bool:
        if not worker.up or worker.busy:
            return False
        if not worker.opened:
            return worker.rests_until <= self.now
        if not worker.asleep or worker.engine.answers or worker.has_news():
            return True
        wake = worker.wake_at()
        return wake is not None and wake <= self.now

    def _next_moment(self) -> int | None:
        """When something happens by itself."""
        moments = [self._events[0][0]] if self._events else []
        deadline = self.cluster.next_deadline()
        if deadline is not None:
            moments.append(deadline)
        moments += [wake for worker in self.workers if worker.up and not worker.busy and (wake := worker.wake_at())]
        return max(self.now, min(moments)) if moments else None

    def _advance(self, moment: int) -> None:
        self.now = max(self.now, moment)
        self.cluster.tick()

    def _happen(self) -> None:
        events = self._events
        while events and events[0][0] <= self.now:
            heapq.heappop(events)[2]()

    def _turn(self, worker: Worker) -> None:
        self._turns += 1
        worker.turn, worker.busy = self._turns, True
        try:
            worker.asleep = not worker.step()
        except Crashed:
            self._died(worker)
        except Violation:
            raise
        except Exception as error:
            raise Violation("worker-fails", f"{worker.name}: {type(error).__name__}: {error}") from error
        finally:
            worker.busy = False

    # ---- what goes wrong

    def _touched(self, worker: Worker, point: str) -> str | None:
        """A worker touches Kafka: its hook."""
        if self.calm or self._budget <= 0:
            return None
        faults = self._faults[point]
        fault = self.choose(len(faults) + 1, "fault")
        if fault == 0:
            return None
        kind = faults[fault - 1]
        if kind in ("pause", "zombie"):
            if self._depth < DEEPEST:
                self._budget -= 1
                self._stand_still(worker, kind, point)
            return None
        self._budget -= 1
        self.counts[kind] += 1
        self.tell(worker.name, f"{kind} at {point}")
        if kind == "crash":
            raise Crashed
        return kind

    def _stand_still(self, worker: Worker, kind: str, point: str) -> None:
        """The worker stands still here, while the others go on."""
        self.counts[kind] += 1
        self._depth += 1
        if kind == "pause":
            turns, until = 1 + self.choose(8, "length"), None
            self.tell(worker.name, f"stands still at {point} for {turns} turns")
        else:
            turns, until = 80, self.now + FROZEN_MS[self.choose(len(FROZEN_MS), "length")]
            self.tell(worker.name, f"stands still at {point} for {(until - self.now) / 1000} s")
        self._go_on(worker, turns, until)
        if until is not None:
            self._advance(until)
        self._depth -= 1
        self.tell(worker.name, "goes on")

    def _died(self, worker: Worker) -> None:
        worker.die()
        self._come_back(worker)

    def _come_back(self, worker: Worker) -> None:
        away = 0 if self.calm else self.choose(len(BACK_MS), "length")
        self.later(self.now + BACK_MS[away], lambda: self._start(worker))

    def _start(self, worker: Worker) -> None:
        self.tell(worker.name, "starts")
        worker.start()

    def _move(self, move: Move) -> None:
        worker = self.workshop.services[move.service].worker(move.index)
        if not worker.up or worker.busy or worker not in self.workers:
            return
        self.tell(worker.name, move.what)
        self.counts[move.what] += 1
        if move.what == "expire":
            self.cluster.expire(worker.processor.group, f"{worker.processor.group}-{worker.index}")
            return
        if move.what == "kill":
            worker.die()
        else:
            worker.busy = True
            try:
                worker.leave()
            except Crashed:
                worker.die()
            finally:
                worker.busy = False
        self._come_back(worker)

    def totals(self) -> Counter[str]:
        """What happened, in numbers."""
        found = Counter(self.counts)
        found["turns"] += self._turns
        happened = self.cluster.counts()
        found.update({name: happened[name] for name in ("rebalances", "takeovers", "timed_out", "late_markers")})
        for worker in self.workers:
            found.update(worker.totals)
        return found
