"""From an App, the flows, schemas/ and topics.yaml to the processor of a service: everything but Kafka."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import events
from farandole import config
from farandole.backpressure import Pausable
from farandole.codec import Codec
from farandole.errors import ConfigError, FlowError
from farandole.event import Event
from farandole.flow import Decision, Flow, load_flows
from farandole.processor import Processor
from farandole.table import Partitioned, UndoLog
from farandole.topics import Topics

if TYPE_CHECKING:
    from farandole.app import App

Binding = tuple[str, type[Event], Decision]
"""Flow key, event class, decision."""


def bindings_of(app: App, flows: dict[str, Flow]) -> list[Binding]:
    """(flow key, event class, decision) of all that a service hears. FlowError if it hears nothing."""
    service = app.service_name
    found = [(flow.key, event, decision) for flow in flows.values() for event, decision in flow.of_service(service)]
    if not found:
        raise FlowError(
            f"no flow binds a decision of {app.service_name}",
            where=app.flows_package,
            mend=f"in flows/: flow.on(SomeEvent, {app.service_name}.some_decision)",
        )
    return found


def internal_events(flows: dict[str, Flow]) -> set[type[Event]]:
    """All that decisions publish, in whatever flow. What is heard besides comes from clients."""
    decisions = [decision for flow in flows.values() for decision in flow.bindings.values()]
    return {event for decision in decisions for event in decision.publishes | decision.calls | decision.timers}


def with_planted_failures(bindings: list[Binding], planted: str) -> list[Binding]:
    """Make chosen decisions raise for chosen sagas: `service.decision@saga`, several with commas. To see what
    parking does.

    ConfigError if a decision named there is not bound.
    """
    sagas: dict[str, set[str]] = {}
    for plan in filter(None, planted.split(",")):
        name, _, saga = plan.strip().partition("@")
        sagas.setdefault(name, set()).add(saga)
    services = {decision.service for _, _, decision in bindings}
    names = {decision.name for _, _, decision in bindings}
    unknown = sorted(name for name in sagas if name.split(".")[0] in services and name not in names)
    if unknown:
        raise ConfigError(
            f"no decision is called {unknown[0]}", where="FARANDOLE_FAIL", mend=f"one of {', '.join(sorted(names))}"
        )
    return [
        (flow, event, failing(decision, sagas[decision.name]) if decision.name in sagas else decision)
        for flow, event, decision in bindings
    ]


def failing(decision: Decision, sagas: set[str]) -> Decision:
    """The decision, but for these sagas it raises."""

    def fail_or_decide(event: Any, *at: int) -> Any:
        if event.saga in sagas:
            raise RuntimeError(f"{decision.name} is made to fail for {event.saga} (FARANDOLE_FAIL)")
        return decision.function(event, *at)

    return dataclasses.replace(decision, function=fail_or_decide)


def pausable_topics(app: App, flows: dict[str, Flow], codec: Codec, namespace: str) -> Pausable:
    """What may wait: what starts calls, where everything else starts calls, too; and what begins sagas. ConfigError if
    the service does not hear its intake.

    A compensation that is a call itself may lie beside what it takes back: it would only be one more above the bound,
    and those under way end without it. Where nothing but compensations start calls, none of them waits.
    """
    starts: set[str] = set()
    needed: set[str] = set()
    for flow in flows.values():
        backwards = {compensation.function for compensation in flow.compensations.values()}
        for event, decision in flow.of_service(app.service_name):
            topic = codec.type_of(event).topic
            if not decision.calls:
                needed.add(topic)
            elif decision.function not in backwards:
                starts.add(topic)
    heard = {codec.type_of(event).topic for flow in flows.values() for event, _ in flow.of_service(app.service_name)}
    if app.intake and app.intake not in heard:
        raise ConfigError(
            f"{app.service_name} does not hear its intake {app.intake!r}",
            where=f"agents/{app.service_name}.py: App(intake=…)",
            mend=f"one of {', '.join(sorted(heard))}",
        )
    begins = {app.intake} if app.intake else set()
    return Pausable(
        frozenset(namespace + topic for topic in starts - needed), frozenset(namespace + topic for topic in begins)
    )


def _registry() -> Any:
    """The schema registry that is set, or None: ids are those of schemas/ids.json."""
    url = config.schema_registry_url()
    if url is None:
        return None
    from farandole.registry import SchemaRegistry

    return SchemaRegistry(url)


class Project(NamedTuple):
    """What all services of a project share: read, checked and compiled once.

    keys: topic → name of the field that is its key
    """

    codec: Codec
    flows: dict[str, Flow]
    keys: dict[str, str]

    @classmethod
    def read(cls, flows_package: str = "flows", registry: Any = None) -> Project:
        root = config.project_root()
        grown = config.setting("FARANDOLE_SCHEMAS")
        codec = Codec.load(root / "schemas", events, registry, Path(grown) if grown else None)
        return cls(codec, load_flows(flows_package), Topics.load(root / "topics.yaml").keys())


class Assembled(NamedTuple):
    """A service's processor, and the topics that may be paused while too much of what they begin is under way."""

    processor: Processor
    pausable: Pausable


def assemble(app: App) -> Assembled:
    """Read the project and make the processor of one service. Raises what says what is wrong with the project."""
    project = Project.read(app.flows_package, _registry())
    bindings = with_planted_failures(bindings_of(app, project.flows), config.setting("FARANDOLE_FAIL"))
    tables = [table.local for table in app.rows.values()]
    return build(app, project, bindings, tables, app.undo_log, config.namespace())


def build(
    app: App,
    project: Project,
    bindings: list[Binding],
    tables: list[Partitioned[Any]],
    log: UndoLog,
    namespace: str = "",
) -> Assembled:
    """The processor of one service with these tables: the App's own, or those of one of several workers in a process.

    log: the undo log that all of the tables write to
    """
    processor = Processor(
        service=app.service_name,
        tables=tables,
        log=log,
        bindings=bindings,
        codec=project.codec,
        key_of=project.keys,
        flows=project.flows,
        internal=internal_events(project.flows),
        namespace=namespace,
        keep=config.keep_seconds(),
        counted=bool(app.intake),
    )
    return Assembled(processor, pausable_topics(app, project.flows, project.codec, namespace))
