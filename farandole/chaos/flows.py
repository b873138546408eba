"""Which flows a run is about, and what follows from that: the services, and what they call outside.

Invariant: nothing is started, broken or waited for that has no part in these flows.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property

from farandole.app import App
from farandole.demo.flows import DEMOS, FLOW, every_flow, keys_of, services_of
from farandole.event import Event
from farandole.flow import load_flows

TRANSFER, LOGIN = "transfer", "login"


@dataclass(frozen=True)
class Flows:
    """keys: of the flows, such as `order/1`"""

    keys: tuple[str, ...] = (FLOW,)

    @classmethod
    def named(cls, named: Iterable[str]) -> Flows:
        """Each a name, a key, several with commas between them, or `all`. ConfigError says which there are."""
        return cls(keys_of(named, every_flow()))

    @property
    def orders(self) -> tuple[str, ...]:
        """Those in which orders are placed."""
        return tuple(key for key in self.keys if _name(key) not in DEMOS)

    @property
    def transfers(self) -> tuple[str, ...]:
        return tuple(key for key in self.keys if _name(key) == TRANSFER)

    @property
    def logins(self) -> tuple[str, ...]:
        return tuple(key for key in self.keys if _name(key) == LOGIN)

    @cached_property
    def services(self) -> tuple[str, ...]:
        return services_of(self.keys)

    @cached_property
    def callers(self) -> dict[str, tuple[str, ...]]:
        """System of the outside world → the services that call it, as their Apps declare it."""
        callers: dict[str, tuple[str, ...]] = {}
        for service in self.services:
            for system in _outsides(service):
                callers[system] = (*callers.get(system, ()), service)
        return callers


def services_in(key: str) -> tuple[str, ...]:
    """The services that have a part in one flow."""
    return services_of((key,))


def bound_events(services: Collection[str]) -> dict[str, set[type[Event]]]:
    """Service → events that it has a decision for, in whatever flow: it hears them all."""
    flows = load_flows().values()
    return {service: {event for flow in flows for event, _ in flow.of_service(service)} for service in sorted(services)}


def _outsides(service: str) -> Iterable[str]:
    decisions = (decision for flow in load_flows().values() for _, decision in flow.of_service(service))
    app: App = sys.modules[next(decisions).function.__module__].app
    return app.outsides


def _name(key: str) -> str:
    return key.partition("/")[0]
