"""topics.yaml compared with the schemas and with the code, without a cluster.

Invariant: when there is no problem left, every event that code hears or publishes has a schema and a topic, each
topic has one owner who alone publishes in it, each table has its changelog, and a service finds what belongs to one
key in one partition number of all its topics.

Who hears and publishes what is said by the code alone: by the flows and by the decisions' return annotations.
`ServiceMap` is that, in plain words.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from farandole.generate import class_name
from farandole.schemas import Schemas, Version
from farandole.schematypes import Primitive
from farandole.topics import Problem, Topic, Topics

if TYPE_CHECKING:
    from farandole.event import Event
    from farandole.flow import Decision, Flow

COMMANDS = ".commands"
FOR_EVER = (".dlq", ".operations")
"""Topics of a service that are kept for ever: what waits in the one, what became of it is in the other."""


@dataclass(frozen=True)
class ServiceMap:
    """What the code says of one service.

    hears, publishes: events by full name; tables: by name; calls, timers: whether it makes outside calls, sets timers
    """

    service: str
    hears: frozenset[str] | set[str]
    publishes: frozenset[str] | set[str]
    tables: frozenset[str] | set[str]
    calls: bool = False
    timers: bool = False

    @property
    def own_topics(self) -> dict[str, str]:
        """Topics that the engine needs for this service → what for."""
        name = self.service
        topics = {
            f"{name}.journal": "its journal",
            f"{name}.dlq": "its dead letter queue",
            f"{name}.operations": "what operators ask of it",
        }
        if self.calls:
            topics[f"{name}.calls"] = "the answers of its outside calls"
        if self.timers:
            topics[f"{name}.timers"] = "its timers"
        return topics

    @property
    def changelogs(self) -> dict[str, str]:
        """Changelog → table, the engine's own tables included."""
        own = ["parked", "handled", *(["calls"] if self.calls else []), *(["timers"] if self.timers else [])]
        return {f"{self.service}-{table}-changelog": table for table in sorted({*self.tables, *own})}


def service_maps(flows: Mapping[str, Flow], schemas: Schemas) -> list[ServiceMap]:
    """What the flows and the Apps of their services say."""
    names = {class_name(v.record.namespace, v.record.name): v.fullname for v in schemas.latest.values()}
    bindings = [item for flow in flows.values() for item in flow.bindings.items()]
    maps = []
    for service in sorted({service for (service, _), _ in bindings}):
        own = [(event, decision) for (owner, event), decision in bindings if owner == service]
        calls = {answer for _, decision in own for answer in decision.calls}
        timers = {event for _, decision in own for event in decision.timers}
        published = {event for _, decision in own for event in decision.publishes} | calls | timers
        app: Any = sys.modules[own[0][1].function.__module__].app
        maps.append(
            ServiceMap(
                service=service,
                hears=frozenset(names[event.__name__] for event, _ in own),
                publishes=frozenset(names[event.__name__] for event in published),
                tables=frozenset(app.rows),
                calls=bool(calls),
                timers=bool(timers),
            )
        )
    return maps


def check(topics: Topics, schemas: Schemas, services: Iterable[ServiceMap]) -> list[Problem]:
    """All that does not agree. SchemaError if the schemas do not agree among themselves."""
    schemas.check_compatibility()
    services = list(services)
    return [
        *_check_events(topics, schemas),
        *_check_keys(topics, schemas),
        *_check_service_names(topics, services),
        *(problem for service in services for problem in _check_service(topics, service)),
        *_check_leftovers(topics, services),
    ]


def check_flows(flows: Mapping[str, Flow]) -> list[Problem]:
    """What a flow waits for in vain: an event has the flow of its cause, so one that decisions of other flows publish
    never comes. What no decision publishes comes from clients, in any flow.
    """
    published = {key: {event for d in flow.bindings.values() for event in _effects(d)} for key, flow in flows.items()}
    return [
        Problem(
            f"{service} hears {event.__name__} in flow {key}, but it happens only in {', '.join(elsewhere)}",
            f"flows/, flow {key}",
            f"bind {decision.name} in {elsewhere[0]}: an event keeps the flow of what caused it",
        )
        for key, flow in flows.items()
        for (service, event), decision in flow.bindings.items()
        if event not in published[key]
        if (elsewhere := sorted(other for other, events in published.items() if event in events))
    ]


def _effects(decision: Decision) -> frozenset[type[Event]]:
    return decision.publishes | decision.calls | decision.timers


def _check_events(topics: Topics, schemas: Schemas) -> Iterator[Problem]:
    """Listed events have a schema, and events with a schema are listed."""
    latest = schemas.latest
    for topic in topics.topics.values():
        for event in topic.events:
            if event not in latest:
                yield Problem(
                    f"{topic.name}: {event} has no schema",
                    topics.where(topic.event_lines[event]),
                    f"add schemas/{event}.1.avsc, or take it off the list",
                )
    for version in latest.values():
        if not version.is_row and topics.of_event(version.fullname) is None:
            yield Problem(
                f"{version.fullname} has a schema, but no topic lists it",
                f"schemas/{version.file}",
                f"topics.yaml: list it under `events` of topic {version.topic}",
            )


def _check_keys(topics: Topics, schemas: Schemas) -> Iterator[Problem]:
    for topic in topics.topics.values():
        for event in topic.events:
            version = schemas.latest.get(event)
            if version is not None and topic.key not in (None, "saga") and not _has_text(version, str(topic.key)):
                yield Problem(
                    f"{topic.name}: its key is {topic.key}, but {event} has no such field of type string",
                    topics.where(topic.line),
                    f"add the field to schemas/{version.file}, or key the topic by what all its events have",
                )


def _has_text(version: Version, name: str) -> bool:
    return any(field.name == name and field.type == Primitive("string") for field in version.body)


def _check_service_names(topics: Topics, services: list[ServiceMap]) -> Iterator[Problem]:
    for service in services:
        if service.service not in topics.services:
            name = service.service
            mend = f'under `services`: {name}: {{principal: "User:{name}", group-id: {name}}}'
            yield Problem(f"{name} is a service in the code, but not in topics.yaml", topics.path.name, mend)
    for declared in topics.services.values():
        if declared.name not in {service.service for service in services}:
            mend = "bind one of its decisions in a flow, or take it off"
            yield Problem(f"no flow binds a decision of {declared.name}", topics.where(declared.line), mend)
        if declared.group != declared.name:
            mend = f"group-id: {declared.name}"
            yield Problem(f"{declared.name}: its consumer group is called after it", topics.where(declared.line), mend)


def _check_service(topics: Topics, service: ServiceMap) -> Iterator[Problem]:
    yield from _check_heard(topics, service)
    yield from _check_published(topics, service)
    yield from _check_own_topics(topics, service)
    yield from _check_changelogs(topics, service)
    yield from _check_partitions(topics, service)


def _check_heard(topics: Topics, service: ServiceMap) -> Iterator[Problem]:
    for event in sorted(service.hears - service.publishes):
        if topics.of_event(event) is None:
            yield _undeclared(topics, f"{service.service} hears {event}", event)


def _check_published(topics: Topics, service: ServiceMap) -> Iterator[Problem]:
    for event in sorted(service.publishes):
        topic = topics.of_event(event)
        if topic is None:
            yield _undeclared(topics, f"{service.service} publishes {event}", event)
        elif topic.owner != service.service and not topic.name.endswith(COMMANDS):
            yield Problem(
                f"{service.service} publishes {event}, but {topic.name} belongs to {topic.owner}",
                topics.where(topic.event_lines[event]),
                "a topic has one publisher; what is asked of another service is a command in its .commands topic",
            )


def _undeclared(topics: Topics, what: str, event: str) -> Problem:
    topic = event.rpartition(".")[0]
    return Problem(f"{what}, which no topic lists", topics.path.name, f"list it under `events` of topic {topic}")


def _check_own_topics(topics: Topics, service: ServiceMap) -> Iterator[Problem]:
    for name, purpose in service.own_topics.items():
        topic = topics.topics.get(name)
        if topic is None:
            yield _missing(topics, service, name, purpose, "forever" if name.endswith(FOR_EVER) else "30 days")
        else:
            yield from _check_owner(topics, service, topic)
            if name.endswith(FOR_EVER) and topic.retention != "forever":
                mend = "retention: forever; a parked message may wait long for whoever mends it"
                what = "dead letters are" if name.endswith(".dlq") else "what became of dead letters is"
                yield Problem(f"{name}: {what} not thrown away", topics.where(topic.line), mend)


def _check_changelogs(topics: Topics, service: ServiceMap) -> Iterator[Problem]:
    for name, table in service.changelogs.items():
        topic = topics.topics.get(name)
        if topic is None:
            yield _missing(topics, service, name, f"the changelog of its table {table}", "compact")
        else:
            yield from _check_owner(topics, service, topic)
            if topic.retention != "compact":
                mend = "retention: compact; anything else forgets rows"
                yield Problem(f"{name}: a changelog is compacted", topics.where(topic.line), mend)


def _missing(topics: Topics, service: ServiceMap, name: str, purpose: str, retention: str) -> Problem:
    some = next(iter(topics.topics.values()), None)
    count, replicas = (some.partitions, some.replicas) if some else (6, 3)
    return Problem(
        f"{service.service}: {purpose} is not declared",
        topics.path.name,
        f"{name}: {{owner: {service.service}, partitions: {count}, replicas: {replicas}, retention: {retention}}}",
    )


def _check_owner(topics: Topics, service: ServiceMap, topic: Topic) -> Iterator[Problem]:
    if topic.owner != service.service:
        mend = f"owner: {service.service}"
        yield Problem(f"{topic.name} belongs to {service.service}, not {topic.owner}", topics.where(topic.line), mend)


def _check_partitions(topics: Topics, service: ServiceMap) -> Iterator[Problem]:
    """Range assignment gives a worker the same partition numbers of all topics only if all have the same number."""
    names = {topic.name for event in service.hears if (topic := topics.of_event(event))}
    names |= set(service.own_topics) | set(service.changelogs)
    used = [topic for name, topic in topics.topics.items() if name in names]
    counts = [topic.partitions for topic in used]
    usual = max(set(counts), key=counts.count) if counts else 0
    for topic in used:
        if topic.partitions != usual:
            yield Problem(
                f"{topic.name} has {topic.partitions} partitions, the other topics of {service.service} have {usual}",
                topics.where(topic.line),
                f"partitions: {usual}; all topics that a service reads or keeps its tables in have as many",
            )


def _check_leftovers(topics: Topics, services: list[ServiceMap]) -> Iterator[Problem]:
    changelogs = {name for service in services for name in service.changelogs}
    for topic in topics.topics.values():
        if topic.name.endswith("-changelog") and topic.name not in changelogs:
            mend = "take it off; `farandole topics apply --allow-delete` then removes it"
            yield Problem(f"{topic.name}: no table has this changelog", topics.where(topic.line), mend)
