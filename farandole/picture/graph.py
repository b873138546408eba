"""What a flow's picture shows: derived from its bindings and its decisions' annotations, and from nothing else.

A decision says what it may publish in whatever flow it is bound. What of that is heard in this one, its bindings say.
What nobody can bring about here is not in the picture; it is told beside it.

- An event that no decision of the flow publishes comes from clients, unless decisions of other flows publish it: then
  it never comes. So does a command that nothing else leads to.
- The flow *begins* with what clients send. Of two commands that lead to something in common, the one that leads to more
  begins; the other one is for sagas that are on their way, as a cancellation is.
- A saga *comes out* with an event of a service that the flow began in, if nothing leads from it back into that service.
- What compensates is a decision that `compensation=` names, and whatever is only reached through such.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from farandole.event import Event
from farandole.flow import Decision, Flow
from farandole.generate import class_name
from farandole.schemas import Schemas

CLIENTS = "clients"

COMMAND, EVENT, ANSWER, TIMER = "command", "event", "answer", "timer"


@dataclass(frozen=True)
class Node:
    """A decision. takes_back: names of the steps whose compensation it is; backward: only compensations lead to it."""

    name: str
    service: str
    label: str
    about: str
    hears: tuple[str, ...]
    publishes: tuple[str, ...]
    takes_back: tuple[str, ...]
    backward: bool


@dataclass(frozen=True)
class Arrow:
    """An event, from whoever publishes it to whoever hears it; nodes by name.

    kind:    command (of a client), event, answer (of an outside call), timer
    source:  the service that publishes it; `clients` for a command
    outside: the systems that are called, for an answer
    begins, ends: see the module
    """

    name: str
    topic: str
    kind: str
    source: str
    publishers: tuple[str, ...]
    hearers: tuple[str, ...]
    outside: tuple[str, ...] = ()
    begins: bool = False
    ends: bool = False
    backward: bool = False

    @property
    def label(self) -> str:
        """Its name without the topic."""
        return self.name.removeprefix(f"{self.topic}.")


@dataclass(frozen=True)
class Graph:
    """
    services: in the order in which the flow names them, which is how its author tells it
    nodes, arrows: by name, in causal order
    unreachable: decisions that are bound and that nothing in this flow leads to
    """

    flow: str
    bindings: int
    services: tuple[str, ...]
    nodes: Mapping[str, Node]
    arrows: Mapping[str, Arrow]
    unreachable: tuple[str, ...] = ()
    steps: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def lanes(self) -> tuple[str, ...]:
        return (CLIENTS, *self.services)

    def to_dict(self) -> dict[str, Any]:
        return {
            "flow": self.flow,
            "bindings": self.bindings,
            "services": list(self.services),
            "decisions": [{**vars(node)} for node in self.nodes.values()],
            "events": [{**vars(arrow)} for arrow in self.arrows.values()],
            "compensations": dict(self.steps),
            "unreachable": list(self.unreachable),
        }


Names = Mapping[str, tuple[str, str]]
"""Class name → full name of the event and its topic."""


def names_of(schemas: Path) -> Names:
    latest = Schemas.load(schemas).latest.values()
    return {class_name(v.record.namespace, v.record.name): (v.fullname, v.topic) for v in latest if not v.is_row}


def graph_of(flow: Flow, names: Names, others: Iterable[Flow] = ()) -> Graph:
    """others: all flows of the project; what only they bring about never comes here."""
    return _Derivation(flow, names, others).graph()


class _Derivation:
    def __init__(self, flow: Flow, names: Names, others: Iterable[Flow]) -> None:
        self._flow, self._names = flow, names
        self._decisions: dict[str, Decision] = {each.name: each for each in flow.bindings.values()}
        self._hearers: dict[type[Event], list[str]] = {}
        for (_, event), decision in flow.bindings.items():
            self._hearers.setdefault(event, []).append(decision.name)
        elsewhere = {
            e for other in others if other.key != flow.key for d in other.bindings.values() for e in effects(d)
        }
        own = {event for decision in self._decisions.values() for event in effects(decision)}
        self._roots = [event for event in self._hearers if event not in own and event not in elsewhere]
        for event in self._hearers:  # a circle that a command opens: a service sends it, and so may clients
            if names[event.__name__][1].endswith(".commands") and not self._is_reached(event):
                self._roots.append(event)

    def graph(self) -> Graph:
        reached = self._reach(self._roots)
        forward = self._reach(self._roots, without=self._compensating)
        begins = self._begins()
        order = [name for name in reached if name in self._decisions]
        reached_services = {self._decisions[name].service for name in order}
        services = tuple(dict.fromkeys(name for name, _ in self._flow.bindings if name in reached_services))
        first = {self._decisions[name].service for root in begins for name in self._hearers[root]}
        nodes = {name: self._node(name, backward=name not in forward) for name in order}
        events = dict.fromkeys([*self._roots, *(e for name in order for e in self._effects_in_order(name))])
        arrows = {}
        for event in events:
            arrow = self._arrow(event, nodes, begins, first)
            arrows[arrow.name] = arrow
        unreachable = tuple(name for name in self._decisions if name not in nodes)
        steps = {step.name: back.name for step, back in self._flow.compensations.items()}
        return Graph(self._flow.key, len(self._flow.bindings), services, nodes, arrows, unreachable, steps)

    # ---- who leads to whom

    @cached_property
    def _compensating(self) -> frozenset[str]:
        return frozenset(each.name for each in self._flow.compensations.values())

    def _reach(self, roots: Iterable[type[Event]], without: Collection[str] = ()) -> dict[str, None]:
        """Decisions that these events lead to, breadth first."""
        found: dict[str, None] = {}
        heard = [name for root in roots for name in self._hearers.get(root, ())]
        while heard:
            fresh = [name for name in dict.fromkeys(heard) if name not in found and name not in without]
            found.update(dict.fromkeys(fresh))
            heard = [h for name in fresh for e in self._effects_in_order(name) for h in self._hearers.get(e, ())]
        return found

    def _is_reached(self, event: type[Event]) -> bool:
        reached = self._reach(self._roots)
        return any(name in reached for name in self._hearers[event])

    def _effects_in_order(self, name: str) -> list[type[Event]]:
        """What is heard, in the order of the flow's bindings, then the rest by name: the same on every machine."""
        found = effects(self._decisions[name])
        heard = [event for event in self._hearers if event in found]
        return heard + sorted(found - set(heard), key=lambda event: event.__name__)

    def _begins(self) -> frozenset[type[Event]]:
        behind = {root: self._behind(root) for root in self._roots}
        return frozenset(
            root
            for root in self._roots
            if not any(len(behind[root]) < len(behind[other]) and behind[root] & behind[other] for other in self._roots)
        )

    def _behind(self, root: type[Event]) -> frozenset[str]:
        """What follows from it, but for those who hear it first."""
        first = self._hearers[root]
        return frozenset(self._reach([e for name in first for e in self._effects_in_order(name)]))

    # ---- what is told of each

    def _node(self, name: str, backward: bool) -> Node:
        decision = self._decisions[name]
        about = (decision.function.__doc__ or "").strip().partition("\n")[0]
        takes_back = [step.name for step, back in self._flow.compensations.items() if back.name == name]
        return Node(
            name=name,
            service=decision.service,
            label=decision.function.__name__,
            about=about,
            hears=tuple(self._name(e) for (_, e), each in self._flow.bindings.items() if each.name == name),
            publishes=tuple(self._name(event) for event in self._effects_in_order(name)),
            takes_back=tuple(takes_back),
            backward=backward,
        )

    def _name(self, event: type[Event]) -> str:
        return self._names[event.__name__][0]

    def _arrow(
        self, event: type[Event], nodes: Mapping[str, Node], begins: Collection[type[Event]], first: Collection[str]
    ) -> Arrow:
        name, topic = self._names[event.__name__]
        publishers = [each for each in nodes if event in effects(self._decisions[each])]
        hearers = [each for each in self._hearers.get(event, ()) if each in nodes]
        kind = self._kind(event, publishers)
        source = self._decisions[publishers[0]].service if publishers else CLIENTS
        back = {self._decisions[each].service for each in self._reach([event])}
        around = [nodes[each] for each in publishers] if publishers else []
        return Arrow(
            name=name,
            topic=topic,
            kind=kind,
            source=source,
            publishers=tuple(publishers),
            hearers=tuple(hearers),
            outside=self._outside(publishers) if kind == ANSWER else (),
            begins=event in begins,
            ends=kind == EVENT and source in first and source not in back,
            backward=self._is_backward(around, [nodes[each] for each in hearers]),
        )

    def _is_backward(self, publishers: list[Node], hearers: list[Node]) -> bool:
        """Nobody publishes it but who takes something back, or nobody hears it but they."""
        return any(
            some and all(node.backward for node in some) for some in (publishers, [h for h in hearers if publishers])
        )

    def _kind(self, event: type[Event], publishers: list[str]) -> str:
        if not publishers:
            return COMMAND
        decisions = [self._decisions[name] for name in publishers]
        if any(event in each.calls for each in decisions):
            return ANSWER
        return TIMER if any(event in each.timers for each in decisions) else EVENT

    def _outside(self, publishers: list[str]) -> tuple[str, ...]:
        """What the service calls, as its App declares it."""
        modules = {self._decisions[name].function.__module__ for name in publishers}
        return tuple(sorted({name for module in modules for name in sys.modules[module].app.outsides}))


def effects(decision: Decision) -> frozenset[type[Event]]:
    """All that comes of it, sooner or later."""
    return decision.publishes | decision.calls | decision.timers
