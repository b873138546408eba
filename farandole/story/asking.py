"""The story of a saga on the cluster that the environment names."""

from __future__ import annotations

from collections.abc import Mapping

from farandole import config
from farandole.audit.reading import Progress
from farandole.errors import FarandoleError
from farandole.inflight.asking import told_by
from farandole.inflight.counting import Positions, Told, count
from farandole.inflight.groups import committed
from farandole.picture.graph import Names, names_of
from farandole.replay.opening import opened
from farandole.story.reading import Narrow, Records, Source, records_of
from farandole.story.telling import Story, story_of
from farandole.story.tree import tree_of
from farandole.topics import Topics


def ask(saga: str, progress: Progress) -> Story:
    """FarandoleError if there is no record of it."""
    with opened() as found:
        positions = committed(found.config, found.namespace, found.topics.services)
        told = told_by(found.project, found.topics)
        names = names_of(config.project_root() / "schemas")
        return tell(saga, found.reader, told, found.topics, positions, names, progress)


def tell(
    saga: str, source: Source, told: Told, topics: Topics, positions: Positions, names: Names, progress: Progress
) -> Story:
    """positions: taken before this is called."""
    records = records_of(saga, source, told.codec, topics, progress)
    if not records.happened:
        raise _nothing(saga, records, source.partitions)
    partitions = {each.record.partition for each in records.happened}
    standing = count(Narrow(source, partitions, saga), told, positions, progress)
    here = [each for each in (*standing.flows.values(), standing.gone) if saga in each.left or saga in each.parked]
    why = [reason for each in here for reason in (each.left | each.parked)[saga]]
    parked = [reason.removeprefix("parked in ") for reason in why if reason.startswith("parked in ")]
    return story_of(records, tree_of(records, told.flows), why, parked, told.flows, names)


def _nothing(saga: str, records: Records, partitions: Mapping[str, int]) -> FarandoleError:
    gone = f"; what lay before is past retention in {len(records.gone)} of them" if records.gone else ""
    return FarandoleError(
        f"there is no record of a saga {saga!r}",
        where=f"{len(records.places)} partitions of {len(partitions)} topics were read{gone}",
        mend="the id as the POST that began it has answered: of an order (o-…), a transfer (t-…) or a login's "
        "challenge; check FARANDOLE_NAMESPACE, too",
    )
