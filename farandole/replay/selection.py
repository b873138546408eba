"""What part of history is meant: topics, time, offsets, saga, flow, types.

Invariant: what was asked for and is not there any more is told, place by place. Nothing stands in for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from farandole.audit.reading import Offsets
from farandole.audit.records import Place
from farandole.errors import ConfigError
from farandole.topics import Topics

_STRETCH: Final = re.compile(r"(?P<topic>[\w.-]+)/(?P<partition>\d+)/(?P<first>\d+)-(?P<last>\d*)")


class Timed(Protocol):
    """A source that knows where a time lies."""

    @property
    def starts(self) -> Offsets: ...
    def ends(self) -> dict[Place, int]: ...
    def at_time(self, time: int) -> dict[Place, int]: ...


@dataclass(frozen=True)
class Selection:
    """Which records. Empty means all.

    topics:      names without the namespace
    begin, end:  record time, milliseconds since 1970; end is not included
    stretches:   place → first offset and the one after the last (None: to the end); if any is given, these places alone
    saga, flow, types: what the event says of itself; records that cannot be read have none
    """

    topics: frozenset[str] = frozenset()
    begin: int | None = None
    end: int | None = None
    stretches: Mapping[Place, tuple[int, int | None]] = field(default_factory=dict)
    saga: str = ""
    flow: str = ""
    types: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Bounds:
    """From where to where each place is read, and what cannot be, in words."""

    first: dict[Place, int]
    last: dict[Place, int]
    gone: list[str]

    @property
    def total(self) -> int:
        return sum(max(0, self.last[place] - self.first[place]) for place in self.first)


def instant(text: str, option: str) -> int:
    """ISO 8601 with a zone → milliseconds since 1970. ConfigError if it is not that."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no time: {error}", where=option, mend="2026-03-01T08:00:00Z") from error
    if found.tzinfo is None:
        raise ConfigError(f"{text!r} has no zone", where=option, mend=f"{text}Z for UTC, or {text}+01:00")
    return round(found.timestamp() * 1000)


def stretch(text: str) -> tuple[Place, tuple[int, int | None]]:
    """`order/3/100-200`, both included; `order/3/100-` to the end."""
    found = _STRETCH.fullmatch(text)
    if found is None:
        raise ConfigError(
            f"{text!r} is no stretch of offsets",
            where="--offsets",
            mend="topic/partition/first-last, such as order/3/100-200, or order/3/100- to the end",
        )
    first, last = int(found["first"]), found["last"]
    if last and int(last) < first:
        raise ConfigError(f"{text!r} ends before it begins", where="--offsets", mend=f"…/{last}-{first}")
    return (found["topic"], int(found["partition"])), (first, int(last) + 1 if last else None)


def chosen_topics(topics: Topics, wanted: Iterable[str]) -> frozenset[str]:
    """Those that are named, else all that hold events. ConfigError if one is not known."""
    names = frozenset(wanted)
    if unknown := sorted(names - topics.topics.keys()):
        raise ConfigError(
            f"there is no topic {unknown[0]}", where="--topic", mend="`farandole topics list` shows what there is"
        )
    return names or frozenset(name for name, topic in topics.topics.items() if topic.events)


def bounds(source: Timed, selection: Selection) -> Bounds:
    """Where the selection lies now."""
    starts, ends = source.starts, source.ends()
    places = [place for place in starts if not selection.topics or place[0] in selection.topics]
    if selection.stretches:
        if unknown := sorted(selection.stretches.keys() - starts.keys()):
            raise ConfigError(f"there is no {unknown[0][0]}/{unknown[0][1]}", where="--offsets")
        places = sorted(selection.stretches)
    begin = source.at_time(selection.begin) if selection.begin is not None else {}
    end = source.at_time(selection.end) if selection.end is not None else {}
    first, last, gone = {}, {}, []
    for place in places:
        wanted, until = selection.stretches.get(place, (0, None))
        there = max(starts[place], begin.get(place, 0))
        if selection.stretches and wanted < starts[place]:
            gone.append(f"{place[0]}/{place[1]}: offsets {wanted} to {starts[place] - 1} are past retention")
        elif not selection.stretches and starts[place] > 0 and begin.get(place, 0) <= starts[place]:
            gone.append(f"{place[0]}/{place[1]}: what lay before offset {starts[place]} is past retention")
        first[place] = max(wanted, there)
        last[place] = max(first[place], min(ends[place], end.get(place, ends[place]), until or ends[place]))
    return Bounds(first, last, gone)
