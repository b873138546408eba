"""What lies in the topics afterwards, by order: every committed record, read once, after all that is measured."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final, NamedTuple

from farandole.audit.reading import Progress, Source
from farandole.audit.records import LogRecord
from farandole.codec import Codec
from farandole.replay.origins import origin_of
from farandole.replay.track import saga_of
from farandole.topics import Topics

MESSAGE: Final = "messages"
ROW: Final = "rows"
JOURNAL: Final = "journal"
OTHER: Final = "other"


class Fact(NamedTuple):
    """A message of one order. at: the broker's time in milliseconds; by: the service that wrote it, or a client"""

    name: str
    topic: str
    at: int
    by: str
    size: int


class Traffic(NamedTuple):
    """What was written to topics of one kind in one second of the broker's time."""

    at: int
    kind: str
    size: int


@dataclass
class Facts:
    """of: saga → its messages, by time; traffic: every record, by time; records: how many"""

    of: dict[str, list[Fact]] = field(default_factory=dict)
    traffic: list[Traffic] = field(default_factory=list)

    @property
    def records(self) -> int:
        return len(self.traffic)

    def at(self, saga: str, *names: str) -> int | None:
        """When the last of these came; None: none did."""
        return max((fact.at for fact in self.of.get(saga, ()) if fact.name in names), default=None)

    def written(self, since: int, until: int) -> dict[str, tuple[int, int]]:
        """Kind of topic → (records, bytes) of a stretch of the broker's time."""
        found: dict[str, tuple[int, int]] = {}
        first, last = (bisect_left(self.traffic, at, key=attrgetter("at")) for at in (since, until))
        for each in self.traffic[first:last]:
            count, size = found.get(each.kind, (0, 0))
            found[each.kind] = count + 1, size + each.size
        return found


def read(source: Source, codec: Codec, topics: Topics, progress: Progress) -> Facts:
    """Everything that there is now."""
    facts = Facts()
    take = _taking(facts, codec, topics)
    source.read(source.starts, source.ends(), take, progress, "reading the topics")
    for each in facts.of.values():
        each.sort(key=attrgetter("at"))
    facts.traffic.sort(key=attrgetter("at"))
    return facts


def _taking(facts: Facts, codec: Codec, topics: Topics) -> Callable[[LogRecord], None]:
    kinds = {name: kind_of(name, bool(topic.events)) for name, topic in topics.topics.items()}
    known: Mapping[bytes, str] = {prefix: each.type.name for prefix, each in codec.decoders.items()}

    def take(record: LogRecord) -> None:
        kind, size = kinds[record.topic], len(record.key or b"") + len(record.value or b"")
        facts.traffic.append(Traffic(record.time, kind, size))
        if kind != MESSAGE or record.value is None:
            return
        fact = Fact(known.get(record.value[:5], "?"), record.topic, record.time, writer(record), size)
        facts.of.setdefault(saga_of(record.value), []).append(fact)

    return take


def kind_of(topic: str, has_events: bool) -> str:
    if has_events:
        return MESSAGE
    if topic.endswith("-changelog"):
        return ROW
    return JOURNAL if topic.endswith(".journal") else OTHER


def writer(record: LogRecord) -> str:
    """The service that wrote a message; empty for a client's. Answers and fired timers are their service's own."""
    service, _, own = record.topic.partition(".")
    if own in ("calls", "timers"):
        return service
    origin = origin_of(record.value)
    return origin[3] if origin else ""
