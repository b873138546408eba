"""Which changes break sagas in flight: what is deployed now against what is to be.

A saga finishes under the version of its flow that it began with, and its rows, timers, calls and events lie in topics
that the old version wrote. So whatever an old version may have left there has to be understood, by the same service,
and lead to the same kinds of event.

Invariant: a change that is refused is named with its place and with what to do instead. What is not refused can be
rolled out under load: older and newer workers of all services side by side.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from farandole.deploy.manifest import Binding, Manifest, Schema
from farandole.topics import Problem


def breaking(
    old: Manifest,
    new: Manifest,
    *,
    ended: Collection[str] = (),
    known: Mapping[str, Schema] | None = None,
    back: bool = False,
) -> list[Problem]:
    """All that must not be deployed over `old`.

    ended: keys of flows of which no saga is in flight any more, says whoever deploys
    known: every schema that was ever deployed; None: those of `old`
    back:  `new` is the older one: it has no tables and topics that it never had, and needs none
    """
    return [
        *_schemas(old.schemas if known is None else known, new),
        *_topics(old, new, back),
        *_tables(old, new, back),
        *_flows(old, new, frozenset(ended)),
    ]


def _schemas(known: Mapping[str, Schema], new: Manifest) -> Iterator[Problem]:
    names = {schema.name for schema in new.schemas.values()}
    gone: dict[str, list[str]] = {}
    for file, schema in known.items():
        now, where = new.schemas.get(file), f"schemas/{file}"
        if now is None:
            gone.setdefault(schema.name, []).append(file)
        elif now.id != schema.id:
            yield Problem(
                f"{file} had schema id {schema.id} and has {now.id} now",
                "schemas/ids.json",
                f"records carry the id: give it back {schema.id}, and a new number to what has it now",
            )
        elif now.content != schema.content:
            yield Problem(
                f"{file} was changed after it had been deployed",
                where,
                f"records were written with it: bring it back, and put the change into "
                f"{schema.name}.{schema.version + 1}.avsc",
            )
    for name, files in gone.items():
        what = f"version {files[0]} of {name}" if name in names else f"{name}"
        yield Problem(
            f"{what} was removed, and topics hold records of it",
            f"schemas/{files[0]}",
            f"bring {', '.join(files)} back; an event that nobody publishes any more costs nothing",
        )


def _topics(old: Manifest, new: Manifest, back: bool) -> Iterator[Problem]:
    for name, topic in old.topics.items():
        now = new.topics.get(name)
        if now is None:
            if topic.owner in new.services and not name.endswith("-changelog") and not back:
                yield Problem(
                    f"topic {name} is not declared any more, and its records may not be read yet",
                    "topics.yaml",
                    f"bring {name} back",
                )
        elif now.partitions != topic.partitions:
            yield Problem(
                f"{name} has {topic.partitions} partitions and would have {now.partitions}",
                f"topics.yaml: {name}",
                f"partitions: {topic.partitions}; with another number keys would lie elsewhere, and leave their rows, "
                "timers and parked messages behind",
            )
        elif now.key != topic.key:
            yield Problem(
                f"{name} was keyed by {topic.key} and would be by {now.key}",
                f"topics.yaml: {name}",
                f"key: {topic.key}; begin a new topic for another key",
            )


def _tables(old: Manifest, new: Manifest, back: bool) -> Iterator[Problem]:
    for service, tables in old.tables.items():
        if service not in new.tables:
            continue  # whether it may go is said by the flows
        for table, row in tables.items():
            now = new.tables[service].get(table)
            where = f"agents/{service}.py: table {table}"
            if now is None and back:
                continue
            if now is None:
                yield Problem(
                    f"{service} has no table {table} any more, and sagas in flight have rows there",
                    where,
                    f"bring it back, until all sagas that use it have ended: app.Table({table!r}, …)",
                )
            elif now != row:
                yield Problem(
                    f"the rows of {service}'s table {table} were {row} and would be {now}",
                    where,
                    f"what is there could not be read: add the fields to {row}, with defaults, as its next version, "
                    "or begin another table",
                )


def _flows(old: Manifest, new: Manifest, ended: frozenset[str]) -> Iterator[Problem]:
    for key, bindings in old.flows.items():
        if key in ended:
            continue
        now = {(each.service, each.event): each for each in new.flows.get(key, [])}
        if not now:
            yield _flow_gone(key)
            continue
        for was in bindings:
            then = now.pop((was.service, was.event), None)
            if then is None:
                yield _handler_gone(key, was, bindings)
            elif differing := _differing(was, then):
                yield _changed(key, f"{then.decision} on {was.event} {differing}")
        published = {event for each in bindings for event in (*each.publishes, *each.calls, *each.timers)}
        for then in now.values():
            # What only clients send, and nobody has heard before, can be answered from now on.
            if then.event in published or then.event in {each.event for each in bindings}:
                yield _changed(key, f"{then.decision} hears {then.event}, which its sagas in flight have already")


def _differing(was: Binding, then: Binding) -> str:
    pairs = (
        ("publishes", was.publishes, then.publishes),
        ("calls for", was.calls, then.calls),
        ("sets timers for", was.timers, then.timers),
    )
    for verb, before, after in pairs:
        if more := sorted(set(after) - set(before)):
            return f"{verb} {', '.join(more)}, which it did not"
        if less := sorted(set(before) - set(after)):
            return f"no longer {verb} {', '.join(less)}"
    return ""


def _file_of(key: str) -> str:
    return f"flows/: flow {key}"


def _next(key: str) -> str:
    name, _, version = key.rpartition("/")
    return f'Flow("{name}", version={int(version) + 1})'


def _flow_gone(key: str) -> Problem:
    return Problem(
        f"flow {key} was removed, and sagas of it may be in flight",
        _file_of(key),
        f"bring it back; when none of its sagas is left (farandole flows list), say so: --ended {key}",
    )


def _handler_gone(key: str, was: Binding, bindings: list[Binding]) -> Problem:
    waiting = ""
    if any(was.event in each.timers for each in bindings if each.service == was.service):
        waiting = f"; timers that were set wait in {was.service}'s table for it"
    if any(was.event in each.calls for each in bindings if each.service == was.service):
        waiting = f"; calls that were made wait in {was.service}'s table for it"
    return Problem(
        f"{was.service} no longer hears {was.event} in flow {key}, and sagas in flight need it{waiting}",
        _file_of(key),
        f"bring back .on({was.event}, {was.decision}) and put the change into {_next(key)}; or, when all sagas of "
        f"{key} have ended, say so: --ended {key}",
    )


def _changed(key: str, what: str) -> Problem:
    return Problem(
        f"flow {key} was changed without a new version: {what}",
        _file_of(key),
        f"leave {key} as it is, put the change into {_next(key)}, and begin new sagas with that; or, when all sagas of "
        f"{key} have ended, say so: --ended {key}",
    )
