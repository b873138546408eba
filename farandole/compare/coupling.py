"""Coupling: what each service of a flow has to know of the others.

Derived from the flow's bindings and from what decisions may publish. A service knows a message of another service if it
hears that service's event, or sends it a command; it knows the topics in which those lie, and the services that own
those. What lies in its own topics is no coupling: its commands, its answers, its timers, its own events.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from farandole.event import Event
from farandole.flow import Flow
from farandole.topics import Topics


@dataclass(frozen=True)
class Known:
    """Of other services. hears: their events; commands: what it asks of them; topics, services: where those lie"""

    hears: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    @property
    def messages(self) -> int:
        return len(self.hears) + len(self.commands)

    def to_dict(self) -> dict[str, Any]:
        return {
            "hears": list(self.hears),
            "commands": list(self.commands),
            "topics": list(self.topics),
            "services": list(self.services),
        }


@dataclass(frozen=True)
class Coupling:
    """flow: its key; known: service → what it knows of the others"""

    flow: str
    known: Mapping[str, Known]

    @property
    def messages(self) -> int:
        return sum(each.messages for each in self.known.values())

    @property
    def topics(self) -> int:
        return sum(len(each.topics) for each in self.known.values())

    @property
    def pairs(self) -> int:
        """How often a service knows another one."""
        return sum(len(each.services) for each in self.known.values())

    @property
    def most(self) -> str:
        """The service that knows most."""
        return max(sorted(self.known), key=lambda name: self.known[name].messages)

    def to_dict(self) -> dict[str, Any]:
        most = self.known[self.most].messages
        return {
            "services": len(self.known),
            "messages": self.messages,
            "topics": self.topics,
            "pairs": self.pairs,
            "most_by": self.most,
            "most": most,
            "most_share": round(most / self.messages, 3) if self.messages else 0.0,
            "by_service": {name: each.to_dict() for name, each in sorted(self.known.items())},
        }


def coupling(flow: Flow, names: Mapping[type[Event], str], topics: Topics) -> Coupling:
    """names: event class → the schema's full name"""
    heard_by_somebody = {event for _, event in flow.bindings}
    known = {}
    for service in sorted(flow.services):
        bound = list(flow.of_service(service))
        hears = {names[event] for event, _ in bound}
        # A decision that several flows share may say more than this one hears.
        says = {names[cls] for _, decision in bound for cls in decision.publishes & heard_by_somebody}
        known[service] = _known(service, hears, says, topics)
    return Coupling(flow.key, known)


def _known(service: str, hears: set[str], says: set[str], topics: Topics) -> Known:
    owners: dict[str, str] = {}
    places: dict[str, str] = {}
    for name in hears | says:
        topic = topics.of_event(name)
        assert topic is not None, f"{name} lies in no topic: farandole topics validate"
        owners[name], places[name] = topic.owner, topic.name
    foreign = {name for name, owner in owners.items() if owner != service}
    return Known(
        hears=tuple(sorted(foreign & hears)),
        commands=tuple(sorted(foreign & says - hears)),
        topics=tuple(sorted({places[name] for name in foreign})),
        services=tuple(sorted({owners[name] for name in foreign})),
    )
