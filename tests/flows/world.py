"""The whole system in memory: the flows' bindings, the real decisions and tables, topics, outside calls and timers.

What Kafka promises holds here, and nothing more: what lies in one topic under one key is heard in order by each
service, and between topics, keys and services there is no order at all. So whatever order a broker could bring about,
this world can too, and a few that it could not: a timer may fire at any time, and any message may be delivered again
at any later time.

Two ways to run it: `step(random)` does one thing that could happen next, `run()` does everything oldest first, but for
what `gates` hold back.
"""

from __future__ import annotations

import functools
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar, overload

import yaml
from msgspec.structs import replace

import events
from farandole import App, Call, CancelTimer, Event, Meta, Timer, Withdraw
from farandole.codec import Codec
from farandole.flow import Decision, Flow, load_flows
from farandole.generate import class_name
from farandole.schemas import Schemas
from farandole.table import changes, undo
from farandole.testing import tables
from tests.flows.outside import Outside

ROOT = Path(__file__).parents[2]

EventT = TypeVar("EventT", bound=Event)


@functools.cache
def topic_of() -> dict[str, str]:
    """Class name → topic."""
    return {
        class_name(version.record.namespace, version.record.name): version.topic
        for version in Schemas.load(ROOT / "schemas").latest.values()
        if not version.is_row
    }


@functools.cache
def key_of() -> dict[str, str]:
    """Topic → name of the field that is its key."""
    topics = yaml.safe_load((ROOT / "topics.yaml").read_text())["topics"]
    return {name: topic["key"] for name, topic in topics.items() if "key" in topic}


def saga_of(event: Event) -> str:
    saga: str = event.saga  # type: ignore[attr-defined]  # every generated class has it
    return saga


@dataclass(frozen=True)
class Message:
    """An event in one service's queue. number: its place in the order of publication."""

    number: int
    service: str
    flow: str
    event: Event

    @property
    def name(self) -> str:
        """`OrderPlaced@inventory`"""
        return f"{type(self.event).__name__}@{self.service}"


@dataclass
class PendingCall:
    service: str
    flow: str
    saga: str
    call: Call[Any]
    number: int

    @property
    def name(self) -> str:
        """`book@shipping`"""
        return f"{self.call.operation}@{self.service}"


Queue = deque[Message]


@dataclass
class World:
    """Use `world()`.

    published: every event that a service published, with its service, in order; commands and answers are not in it
    gates:     names of messages (`OrderPlaced@inventory`) and calls (`book@shipping`) that `run` leaves where they are
    flow_of:   saga → the flow in which it began
    fired:     timers that did
    deadlines: names of calls whose deadline passes as soon as `run` gets to them
    careful:   call each decision twice, insist on the same effects and the same tables, and that all fits its schema
    """

    flows: dict[str, Flow]
    apps: dict[str, App]
    outside: Outside = field(default_factory=Outside)
    careful: bool = False
    published: list[tuple[str, Event]] = field(default_factory=list)
    queues: dict[tuple[str, str, str], Queue] = field(default_factory=dict)
    calls: dict[tuple[str, str], PendingCall] = field(default_factory=dict)
    late: list[PendingCall] = field(default_factory=list)
    timers: dict[tuple[str, str, str], tuple[str, Event]] = field(default_factory=dict)
    delivered: list[Message] = field(default_factory=list)
    gates: set[str] = field(default_factory=set)
    deadlines: set[str] = field(default_factory=set)
    asked: set[tuple[str, str]] = field(default_factory=set)
    flow_of: dict[str, str] = field(default_factory=dict)
    fired: list[Event] = field(default_factory=list)
    number: int = 0

    # ---- publishing

    def send(self, event: Event, saga: str, flow: str = "order/1") -> None:
        """A client, the engine or a service publishes: it lies now in the queue of every service that hears it."""
        event = replace(event, saga=saga)
        self.flow_of.setdefault(saga, flow)
        kind = type(event)
        topic = topic_of()[kind.__name__]
        key = getattr(event, key_of()[topic])
        for service in self.flows[flow].services:
            if (service, kind) in self.flows[flow].bindings:
                self.number += 1
                queue = self.queues.setdefault((service, topic, key), deque())
                queue.append(Message(self.number, service, flow, event))

    # ---- one decision

    def deliver(self, message: Message) -> None:
        decision = self.flows[message.flow].bindings[message.service, type(message.event)]
        effects = self._decide(decision, message)
        for effect in effects:
            self._carry_out(effect, message, decision)
        self.delivered.append(message)
        if self.careful and message.service == "inventory":
            self._check_stock()

    def _check_stock(self) -> None:
        """At every moment: what was delivered is available, held by order lines, or sold."""
        tables = self.rows("inventory")
        levels = tables["levels"].values()
        assert all(min(level.available, level.held, level.sold) >= 0 for level in levels)
        assert sum(level.held for level in levels) == sum(
            hold.quantity for hold in tables["holds"].values() if hold.phase == "held"
        )
        assert sum(level.available + level.held + level.sold for level in levels) == sum(
            delivery.quantity for delivery in tables["deliveries"].values()
        )

    def _decide(self, decision: Decision, message: Message) -> list[Any]:
        app = self.apps[message.service]
        arguments = (message.event, message.number) if decision.takes_time else (message.event,)
        if self.careful:
            first = _listed(decision.function(*arguments))
            after = self.rows(message.service)
            undo(app.undo_log)
            effects = _listed(decision.function(*arguments))
            assert [repr(each) for each in first] == [repr(each) for each in effects], "not deterministic"
            assert after == self.rows(message.service), "not deterministic"
            for part, rows in changes(app.undo_log).items():
                for key, row in rows.items():
                    check_row(part.table, key, row)
        else:
            effects = _listed(decision.function(*arguments))
        app.undo_log.clear()
        return effects

    def _carry_out(self, effect: Any, message: Message, decision: Decision) -> None:
        saga, service = saga_of(message.event), message.service
        match effect:
            case Call():
                assert effect.answer in decision.calls, (
                    f"{decision.name} does not say that it calls for {effect.answer}"
                )
                assert (service, effect.key) not in self.asked, f"{effect.key} is asked for twice"
                self.asked.add((service, effect.key))
                self.number += 1
                self.calls[service, effect.key] = PendingCall(service, message.flow, saga, effect, self.number)
            case Withdraw():
                self.calls.pop((service, effect.key), None)
            case Timer():
                assert type(effect.event) in decision.timers, f"{decision.name} does not say that it sets {effect}"
                self.timers[service, saga, type(effect.event).__name__] = message.flow, effect.event
            case CancelTimer():
                self.timers.pop((service, saga, effect.event.__name__), None)
            case Event():
                assert type(effect) in decision.publishes, f"{decision.name} does not say that it publishes {effect}"
                effect = replace(effect, saga=saga)
                assert message.flow == self.flow_of[saga], f"{decision.name} in {message.flow}, which is another flow"
                if self.careful:
                    check_event(effect)
                self.published.append((service, effect))
                self.send(effect, saga, message.flow)
            case _:
                raise AssertionError(f"{effect!r} is no effect")

    # ---- what the outside and the clock do

    def answer(self, pending: PendingCall, outcome: str, reference: str = "", reason: str = "") -> None:
        del self.calls[pending.service, pending.call.key]
        answer = pending.call.answer(outcome=outcome, reference=reference, reason=reason)
        self.send(answer, pending.saga, pending.flow)

    def perform(self, pending: PendingCall) -> tuple[str, str, str]:
        call = pending.call
        return self.outside.perform(pending.saga, call.operation, call.key, call.body)

    def fire(self, timer: tuple[str, str, str]) -> None:
        flow, event = self.timers.pop(timer)
        self.fired.append(replace(event, saga=timer[1]))
        self.send(event, timer[1], flow)

    # ---- everything, oldest first

    def run(self) -> None:
        """Until nothing is left but what the gates hold back. No timer fires."""
        while self._oldest_message() or self._oldest_call():
            pass

    def _oldest_message(self) -> bool:
        heads = [queue[0] for queue in self.queues.values() if queue and queue[0].name not in self.gates]
        if heads:
            message = min(heads, key=lambda each: each.number)
            self._queue_of(message).popleft()
            self.deliver(message)
        return bool(heads)

    def _oldest_call(self) -> bool:
        free = [call for call in self.calls.values() if call.name not in self.gates]
        if free:
            pending = min(free, key=lambda each: each.number)
            if pending.name in self.deadlines:
                assert pending.call.deadline is not None, f"{pending.name} has no deadline"
                self.answer(pending, "unknown", reason="no answer in time")
            else:
                self.answer(pending, *self.perform(pending))
        return bool(free)

    def _queue_of(self, message: Message) -> Queue:
        topic = topic_of()[type(message.event).__name__]
        return self.queues[message.service, topic, getattr(message.event, key_of()[topic])]

    def waiting(self) -> set[str]:
        """Names of the messages that are next in some queue."""
        return {queue[0].name for queue in self.queues.values() if queue}

    # ---- anything that could happen next

    def step(self, random: Random, weights: dict[tuple[str, str], float]) -> bool:
        """Do one of the things that could happen now; False if there is nothing but timers.

        weights: how eagerly a service reads a topic, 1 if it is not named
        """
        queues = [(name, queue) for name, queue in self.queues.items() if queue]
        calls = [each for each in self.calls.values() if each.call.deadline is not None or not self._is_silent(each)]
        if not queues and not calls:
            return False
        if calls and (not queues or random.random() < len(calls) / (len(calls) + len(queues))):
            self._something_happens_to(random.choice(calls), random)
        else:
            eagerness = [weights.setdefault(name[:2], 1.0) for name, _ in queues]
            self.deliver(random.choices(queues, eagerness)[0][1].popleft())
        return True

    def _something_happens_to(self, pending: PendingCall, random: Random) -> None:
        """It is answered; or done, but the answer is lost; or delayed on the wire; or its deadline passes."""
        dice = random.random()
        if self._is_silent(pending):
            self.answer(pending, "unknown", reason="no answer in time")
        elif dice < 0.6:
            self.answer(pending, *self.perform(pending))
        elif dice < 0.7:
            self.perform(pending)
        elif dice < 0.8:
            self.late.append(pending)
        elif pending.call.deadline is not None and dice < 0.95:
            self.answer(pending, "unknown", reason="no answer in time")

    def _is_silent(self, pending: PendingCall) -> bool:
        return pending.call.operation in self.outside.plan(pending.saga).silent

    def late_arrival(self, random: Random) -> None:
        """A request that was given up long ago gets through after all. Nobody hears the answer."""
        if self.late:
            self.perform(self.late.pop(random.randrange(len(self.late))))

    def again(self, random: Random) -> None:
        """A message that was handled some time ago is delivered once more."""
        if self.delivered:
            self.deliver(random.choice(self.delivered))

    # ---- looking at it

    def rows(self, service: str) -> dict[str, dict[str, Any]]:
        """A service's tables."""
        return {name: dict(table.items()) for name, table in self.apps[service].rows.items()}

    def row(self, service: str, table: str, key: str) -> Any:
        return self.apps[service].rows[table].get(key)

    @overload
    def events(self, saga: str) -> list[Event]: ...

    @overload
    def events(self, saga: str, *kinds: type[EventT]) -> list[EventT]: ...

    def events(self, saga: str, *kinds: type[Any]) -> list[Any]:
        """What the services published in a saga, in order; of these kinds only, if any are named."""
        wanted = kinds or (Event,)
        return [event for _, event in self.published if saga_of(event) == saga and isinstance(event, wanted)]


@functools.cache
def codec() -> Codec:
    return Codec.load(ROOT / "schemas", events)


def check_event(event: Event) -> None:
    """It fits its schema, and is read as it was written."""
    meta = Meta(id="order/3/1542.0", saga=saga_of(event), flow="order/1", cause="order/3/1541.0")
    assert codec().decode(codec().encode(event, meta)) == (meta, event)


def check_row(table: str, key: str, row: Any) -> None:
    if row is not None:
        kind = codec().type_of(type(row))
        assert kind.decode_row(kind.encode_row(row)) == row, f"{table} {key}"


def _listed(effects: Any) -> list[Any]:
    if effects is None:
        return []
    return list(effects) if isinstance(effects, list | tuple) else [effects]


@contextmanager
def world(careful: bool = False) -> Iterator[World]:
    """A fresh one, with empty tables."""
    flows = load_flows()
    apps = {service: app_of(decision) for flow in flows.values() for service, decision in _services(flow)}
    with ExitStack() as stack:
        for app in apps.values():
            stack.enter_context(tables(app))
        yield World(flows, apps, careful=careful)


def _services(flow: Flow) -> Iterator[tuple[str, Decision]]:
    return ((decision.service, decision) for decision in flow.bindings.values())


def app_of(decision: Decision) -> App:
    app: App = sys.modules[decision.function.__module__].app
    return app
