"""A flow says who hears what: it binds events to the services' decisions, and nothing else.

A decision does not act by the flow that called it, so the same one serves a choreographed and an orchestrated flow; one
that has to note the flow, so that commands find their way back into it, takes its key as `flow`. What a
decision may publish is its return annotation; `Decision` reads it once, when the flow is written down, so a decision
that cannot be bound is an error at import, not in the middle of the night.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from farandole.errors import ConfigError, FlowError
from farandole.event import Call, CancelTimer, Event, Timer, Withdraw

DecisionFunction = Callable[..., Any]


@dataclass(frozen=True)
class Decision:
    """A plain function from an event to effects, with what its signature says about it.

    function:     the function itself
    service:      id of the App in whose module it is defined
    hears:        the event classes its first parameter accepts
    takes_time:   whether it has a second parameter `at`, the record time in milliseconds since 1970
    takes_flow:   whether it has a second parameter `flow`, the key of the flow that binds it
    publishes:    event classes it may return
    calls:        answer classes of the outside calls it may return
    timers:       event classes of the timers it may set
    """

    function: DecisionFunction
    service: str
    hears: frozenset[type[Event]]
    takes_time: bool
    takes_flow: bool
    publishes: frozenset[type[Event]]
    calls: frozenset[type[Event]]
    timers: frozenset[type[Event]]

    @classmethod
    def of(cls, function: DecisionFunction) -> Decision:
        """Read a function's signature. FlowError if it is not one that can be bound."""
        where = f"{function.__module__}.{function.__qualname__}"
        try:
            hints = typing.get_type_hints(function)
        except (NameError, TypeError) as error:
            raise FlowError(f"the annotations cannot be read: {error}", where=where) from error
        parameters = list(inspect.signature(function).parameters)
        if parameters[1:] not in ([], ["at"], ["flow"]):
            raise FlowError(
                f"a decision takes an event and, if it needs them, the record's time, `at`, or its flow's key, `flow`; "
                f"this one takes {parameters}",
                where=where,
                mend="whatever else it needs belongs in the event or in a table of its service",
            )
        if not parameters or "return" not in hints or parameters[0] not in hints:
            raise FlowError(
                "a decision's event and return value are annotated",
                where=where,
                mend="def decide(event: SomeEvent) -> OtherEvent | None",
            )
        publishes, calls, timers = _effects_of(hints["return"], where)
        return cls(
            function=function,
            service=_service_of(function, where),
            hears=frozenset(_alternatives(hints[parameters[0]])),
            takes_time="at" in parameters[1:],
            takes_flow="flow" in parameters[1:],
            publishes=frozenset(publishes),
            calls=frozenset(calls),
            timers=frozenset(timers),
        )

    def bound(self, flow: str) -> Decision:
        """As a flow with this key calls it: with the event and, perhaps, the time."""
        if not self.takes_flow:
            return self
        unbound = self.function

        @functools.wraps(unbound)
        def decide(event: Event) -> Any:
            return unbound(event, flow)

        return replace(self, function=decide)

    @property
    def name(self) -> str:
        return f"{self.service}.{self.function.__name__}"


class Flow:
    """A named, versioned process. Its key, `order/1`, travels in every event that it causes.

    Sagas in flight finish under the version that they began with, so a change of who hears what is a new version.
    """

    def __init__(self, name: str, version: int) -> None:
        if not name or "/" in name or version < 1:
            raise FlowError(f"a flow is a name without slash and a version from 1: {name!r}, {version!r}")
        self.name, self.version = name, version
        self.bindings: dict[tuple[str, type[Event]], Decision] = {}
        self.compensations: dict[Decision, Decision] = {}

    @property
    def key(self) -> str:
        return f"{self.name}/{self.version}"

    def on(
        self, event: type[Event], decision: DecisionFunction, *, compensation: DecisionFunction | None = None
    ) -> None:
        """In this flow, the decision's service answers `event` with `decision`.

        compensation: the decision that takes this step back; bind it to its own causes with `on` as well.
        """
        bound = Decision.of(decision).bound(self.key)
        where = f"flow {self.key}, {bound.name}"
        if event not in bound.hears:
            heard = " | ".join(sorted(cls.__name__ for cls in bound.hears))
            raise FlowError(f"it is bound to {event.__name__} but takes {heard}", where=where)
        if (bound.service, event) in self.bindings:
            other = self.bindings[bound.service, event].name
            raise FlowError(f"{event.__name__} is bound twice in this service, to {other} too", where=where)
        self.bindings[bound.service, event] = bound
        if compensation is not None:
            self.compensations[bound] = Decision.of(compensation)

    def of_service(self, service: str) -> Iterator[tuple[type[Event], Decision]]:
        """What one service hears in this flow."""
        return ((event, decision) for (owner, event), decision in self.bindings.items() if owner == service)

    @cached_property
    def services(self) -> frozenset[str]:
        return frozenset(service for service, _ in self.bindings)

    def __repr__(self) -> str:
        return f"<Flow {self.key}: {len(self.bindings)} bindings>"


def load_flows(package: str = "flows") -> dict[str, Flow]:
    """Import every module of `package` and gather the flows that they define, by key."""
    root = importlib.import_module(package)
    flows: dict[str, Flow] = {}
    for info in pkgutil.iter_modules(root.__path__):
        module = importlib.import_module(f"{package}.{info.name}")
        for flow in vars(module).values():
            if isinstance(flow, Flow) and flows.setdefault(flow.key, flow) is not flow:
                raise FlowError(
                    f"two flows are called {flow.key}", where=module.__name__, mend="give one a new version"
                )
    return flows


def begun_by(event: type[Event], flows: Mapping[str, Flow]) -> dict[str, Flow]:
    """The flows in which some service hears `event`, by key, the oldest version of each name first."""
    heard = [flow for flow in flows.values() if any(kind is event for _, kind in flow.bindings)]
    return {flow.key: flow for flow in sorted(heard, key=lambda flow: (flow.name, flow.version))}


def chosen(name: str, flows: Mapping[str, Flow]) -> str:
    """The key of the flow that `order` (its newest version) or `order/1` names. ConfigError says which there are."""
    versions = [flow for flow in flows.values() if name in (flow.name, flow.key)]
    if not versions:
        raise ConfigError(
            f"there is no flow {name[:64]!r}",
            mend=f"one of {', '.join(flows)}, or without the version for the newest of its name",
        )
    return max(versions, key=lambda flow: flow.version).key


def _service_of(function: DecisionFunction, where: str) -> str:
    app = getattr(sys.modules.get(function.__module__), "app", None)
    service = getattr(app, "service_name", None)
    if service is None:
        raise FlowError("the module of a decision has no `app`", where=where, mend='app = App("its service")')
    return str(service)


def _alternatives(hint: Any) -> list[Any]:
    """`A | B | None` → [A, B]; `list[A | B]` and `tuple[A, ...]` → the same."""
    if hint in (None, type(None), Ellipsis):
        return []
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType, list, tuple):
        return [leaf for part in typing.get_args(hint) for leaf in _alternatives(part)]
    return [hint]


def _effects_of(hint: Any, where: str) -> tuple[set[type[Event]], set[type[Event]], set[type[Event]]]:
    publishes: set[type[Event]] = set()
    calls: set[type[Event]] = set()
    timers: set[type[Event]] = set()
    for leaf in _alternatives(hint):
        origin = typing.get_origin(leaf)
        if origin is Call:
            calls.update(_alternatives(typing.get_args(leaf)[0]))
        elif origin is Timer:
            timers.update(_alternatives(typing.get_args(leaf)[0]))
        elif leaf in (CancelTimer, Withdraw):
            continue
        elif isinstance(leaf, type) and issubclass(leaf, Event) and leaf is not Event:
            publishes.add(leaf)
        else:
            raise FlowError(
                f"{leaf!r} in the return annotation is no effect",
                where=where,
                mend="name event classes, Call[Answer], Timer[Event], CancelTimer or Withdraw",
            )
    return publishes, calls, timers
