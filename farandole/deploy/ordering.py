"""Which service is rolled before which, derived from flows, bindings and the decisions' return annotations.

A worker of an old version takes a record of a schema or of a flow that it does not know for a dead letter, and hears
whole topics. So before the first worker may publish something new into a topic, everybody who hears that topic is new.

Invariant: of two services of which one hears the other's news, the hearer goes first; where each hears the other's
they go as topics.yaml names them, which is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from farandole.deploy.manifest import Manifest, topic_of


@dataclass(frozen=True)
class Order:
    """services: the order; reasons: why a service waits for others; cycles: services that hear each other's news."""

    services: list[str]
    reasons: dict[str, str] = field(default_factory=dict)
    cycles: list[list[str]] = field(default_factory=list)


def order_of(old: Manifest | None, new: Manifest) -> Order:
    """The order in which services become new. Where nothing runs yet nobody is old: as topics.yaml names them."""
    if old is None:
        return Order(new.services)
    news = _news(old, new)
    before: dict[str, dict[str, str]] = {service: {} for service in new.services}
    for service, thing, topic in news:
        for hearer in new.services:
            if hearer != service and topic in new.hears[hearer]:
                before[service].setdefault(hearer, thing)
    _leave_out_beginners(old, new, before)
    done, cycles = _sorted(new.services, before)
    reasons = {service: _reason(before[service]) for service in done if before[service]}
    return Order(done, reasons, cycles)


def _news(old: Manifest, new: Manifest) -> Iterator[tuple[str, str, str]]:
    """(service, what it may publish that is new, topic)."""
    for key, bindings in new.flows.items():
        is_new = key not in old.flows
        topics = {topic_of(event) for each in bindings for event in each.publishes}
        for each in bindings:
            for event in (*each.publishes, *each.calls, *each.timers):
                if new.versions_of(event) - old.versions_of(event):
                    yield each.service, event, topic_of(event)
        if is_new:
            for service in beginners(new, key):
                for topic in topics:
                    yield service, f"flow {key}", topic


def beginners(manifest: Manifest, key: str) -> set[str]:
    """Services with which a flow begins: they hear in it what no decision publishes."""
    bindings = manifest.flows.get(key, [])
    published = {event for each in bindings for event in (*each.publishes, *each.calls, *each.timers)}
    return {each.service for each in bindings if each.event not in published}


def _leave_out_beginners(old: Manifest, new: Manifest, before: dict[str, dict[str, str]]) -> None:
    """Where several begin a new flow, none of them can wait for all the others."""
    for key in new.flows.keys() - old.flows.keys():
        begin = beginners(new, key)
        for service in begin:
            for other in begin:
                if before[service].get(other) == f"flow {key}":
                    del before[service][other]


def _reason(hearers: dict[str, str]) -> str:
    things: dict[str, list[str]] = {}
    for hearer, thing in hearers.items():
        things.setdefault(thing, []).append(hearer)
    said = [f"{', '.join(services)} must know {thing}" for thing, services in things.items()]
    return "; ".join(said)


def _sorted(services: Iterable[str], before: dict[str, dict[str, str]]) -> tuple[list[str], list[list[str]]]:
    """Topological, as close to the given order as that allows; a cycle is cut at its first service."""
    left, done, cycles = list(services), list[str](), list[list[str]]()
    while left:
        free = [service for service in left if not (before[service].keys() & set(left))]
        if not free:
            cycle = _cycle(left, before)
            cycles.append(cycle)
            free = [next(service for service in left if service in cycle)]
        done.append(free[0])
        left.remove(free[0])
    return done, cycles


def _cycle(left: list[str], before: dict[str, dict[str, str]]) -> list[str]:
    path = [left[0]]
    while True:
        following = next(each for each in before[path[-1]] if each in left)
        if following in path:
            return path[path.index(following) :]
        path.append(following)
