"""*shadow*, from beginning to end: read what was recorded, play it with the services of today, say what differs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from farandole.audit.reading import Offsets, Progress, Source
from farandole.codec import Codec
from farandole.replay.differing import Judge, Shadow
from farandole.replay.history import History
from farandole.replay.pace import Pace
from farandole.replay.rebuilding import (
    Rebuilt,
    compare,
    past_retention,
    read_letters,
    read_live,
    read_outcomes,
    taken,
)
from farandole.replay.replica import Replica
from farandole.replay.world import UNKNOWN, World
from farandole.topics import Topics

FROM_THE_BEGINNING: Final = (
    "a shadow replay begins where the system began; keep journals and topics as long as you want to replay "
    "(retention in topics.yaml)"
)


def shadow(
    source: Source,
    topics: Topics,
    replicas: Mapping[str, Replica],
    progress: Progress,
    *,
    unasked: str = UNKNOWN,
    window: tuple[int | None, int | None] = (None, None),
    flow: str = "",
    pace: Pace | None = None,
    spool: Path | None = None,
) -> Shadow:
    """Play all that is recorded.

    unasked: outcome of outside calls that were never made then
    window:  record times (ms) between which the sagas began that are reported; None: no bound
    flow:    of this flow alone
    """
    begun = time.monotonic()
    with ExitStack() as stack:
        for replica in replicas.values():
            stack.enter_context(replica.entered())
        lives = {service: read_live(source, replica, progress) for service, replica in replicas.items()}
        codec = next(iter(replicas.values())).project.codec
        letters = {service: read_letters(source, service, progress) for service in replicas}
        outcomes = {service: read_outcomes(source, service, codec, progress) for service in replicas}
        history = stack.enter_context(History(source, pace, spool))
        until = {(f"{service}.journal", p): at for service, live in lives.items() for p, at in live.position.items()}
        _read_journals(source, replicas, codec, history, progress, until)
        _read(source, _events(topics), history, progress, "reading the topics")
        read = time.monotonic() - begun
        condemned = {
            service: {*letters[service].condemned(), *outcomes[service].condemned(f"{service}.operations")}
            for service in replicas
        }
        world = World(replicas, codec, history.logs, condemned, unasked)
        world.run(progress, "playing")
        played = time.monotonic() - begun - read
        judge = Judge(world, codec, lives, window, flow)
        progress("comparing", 0, 0)
        found = judge.judge()
        for service, replica in replicas.items():
            rows = {
                (table, p): replica.encoded(table, p)
                for table in replica.processor.tables
                for p in range(replica.partitions)
            }
            found.tables[service] = compare(lives[service], Rebuilt(service, rows, {}), replica)
    found.records, found.messages, found.lines = history.records, world.messages, world.lines
    found.read_seconds, found.play_seconds = read, played
    found.seconds = time.monotonic() - begun
    return found


def plan(source: Source, topics: Topics, codec: Codec, progress: Progress) -> dict[str, int]:
    """What would be read. The journals are, to see whether what they rest on is there; ReplayError if it is not."""
    journals, names = _journals(topics.services), _events(topics)
    with History(source) as history:
        _read_journals(source, topics.services, codec, history, progress)
    ends = {place: end for place, end in source.ends().items() if place[0] in journals | names}
    return {"topics": len({topic for topic, _ in ends}), "offsets": sum(ends[p] - source.starts[p] for p in ends)}


def replayed_topics(topics: Topics, services: Iterable[str]) -> set[str]:
    """Every topic that a shadow replay reads."""
    return _journals(services) | _events(topics)


def _journals(services: Iterable[str]) -> set[str]:
    return {f"{service}.journal" for service in services}


def _events(topics: Topics) -> set[str]:
    return {name for name, topic in topics.topics.items() if topic.events or name.endswith(".operations")}


def read_history(source: Source, topics: Topics, services: Iterable[str], history: History, progress: Progress) -> None:
    """The journals first, and then every topic of events, further: what a line took, or published, is there then."""
    _read(source, _journals(services), history, progress, "reading the journals")
    _read(source, _events(topics), history, progress, "reading the topics")


def _read_journals(
    source: Source,
    services: Collection[str],
    codec: Codec,
    history: History,
    progress: Progress,
    until: Offsets | None = None,
) -> None:
    """Up to these positions, where one is named: live tables are compared with what the journal tells of that moment.

    ReplayError if one does not begin where the system began, or what its lines took is not there any more: what
    happened before the first record that is left made tables that nobody can know.
    """
    for place, start in sorted(source.starts.items()):
        if place[0] in _journals(services) and start > 0:
            raise past_retention(place[0].removesuffix(".journal"), place, 0, start, FROM_THE_BEGINNING)
    _read(source, _journals(services), history, progress, "reading the journals", until)
    for service in services:
        taken(source, service, codec, history, FROM_THE_BEGINNING)


def _read(
    source: Source, names: set[str], history: History, progress: Progress, what: str, until: Offsets | None = None
) -> None:
    ends = {place: (until or {}).get(place, end) for place, end in source.ends().items() if place[0] in names}
    for place in ends:
        history.log(place)
    history.read({place: source.starts[place] for place in ends}, ends, progress, what)
