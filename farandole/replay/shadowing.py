"""*shadow*, from beginning to end: read what was recorded, play it with the services of today, say what differs."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack

from farandole.audit.reading import Progress, Source
from farandole.codec import Codec
from farandole.replay.differing import Judge, Shadow
from farandole.replay.history import History
from farandole.replay.pace import Pace
from farandole.replay.readstate import State, unfinished
from farandole.replay.rebuilding import Rebuilt, compare, taken
from farandole.replay.recorded import FROM_THE_BEGINNING, Recorded, check_journals, check_there, events, journals
from farandole.replay.replica import Replica
from farandole.replay.resuming import Kept
from farandole.replay.world import UNKNOWN, World
from farandole.topics import Topics


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
    kept: Kept | None = None,
) -> Shadow:
    """Play all that is recorded.

    unasked: outcome of outside calls that were never made then
    window:  record times (ms) between which the sagas began that are reported; None: no bound
    flow:    of this flow alone
    kept:    where an earlier one left what it had read and played, and where this one does
    """
    begun = time.monotonic()
    with ExitStack() as stack:
        for replica in replicas.values():
            stack.enter_context(replica.entered())
        codec = next(iter(replicas.values())).project.codec
        recorded = stack.enter_context(Recorded(source, topics, replicas, pace, kept))
        recorded.read(progress)
        read = time.monotonic() - begun
        world = World(replicas, codec, recorded.logs, recorded.condemned, unasked)
        _play(world, progress, kept)
        played = time.monotonic() - begun - read
        progress("comparing", 0, 0)
        found = Judge(world, codec, recorded.lives, window, flow).judge()
        for service, replica in replicas.items():
            rows = {
                (table, p): replica.encoded(table, p)
                for table in replica.processor.tables
                for p in range(replica.partitions)
            }
            found.tables[service] = compare(recorded.lives[service], Rebuilt(service, rows, {}), replica)
    found.partial = ["{}/{}".format(*place) for place in recorded.partial]
    found.records, found.messages, found.lines = recorded.records, world.messages, world.lines
    found.read_seconds, found.play_seconds = read, played
    found.seconds = time.monotonic() - begun
    return found


def _play(world: World, progress: Progress, kept: Kept | None) -> None:
    if kept is None:
        world.run(progress)
        return
    if kept.played:
        progress("going on with the play", 0, 0)
        kept.load_play(world)
    kept.moments.note = lambda: kept.note_play(world)
    try:
        world.run(progress, moments=kept.moments)
    except BaseException:
        kept.moments.last()
        raise


def plan(
    source: Source, topics: Topics, codec: Codec, progress: Progress, state: State | None = None
) -> dict[str, int]:
    """What would be read. The journals are, to see whether what they rest on is there; ReplayError if it is not.

    state: what was read before
    """
    if state is not None and state.first:
        check_there(source, topics, state)
        left = unfinished(state)
        found = {place: state.end[place] - at for place, at in left.items()}
        names = events(topics) - {topic for topic, _ in state.end}
        found |= {place: end - source.starts[place] for place, end in source.ends().items() if place[0] in names}
    else:
        check_journals(source, topics.services)
        read, names = journals(topics.services), events(topics)
        with History(source) as history:
            ends = {place: end for place, end in source.ends().items() if place[0] in read}
            history.read(source.starts, ends, progress, "reading the journals")
            for service in topics.services:
                taken(source.starts, service, codec, history, FROM_THE_BEGINNING)
        ends = {place: end for place, end in source.ends().items() if place[0] in read | names}
        found = {place: end - source.starts[place] for place, end in ends.items()}
    return {"topics": len({topic for topic, _ in found}), "offsets": sum(found.values())}
