"""What today's rules would have changed, saga by saga: how it ended, what it cost, and the first event that differs.

Invariant: a saga is told to differ only if an event of it has another content, is gone, or is new. Where they merely
have other ids, because something else came between, nothing differs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import events
from farandole.codec import Codec
from farandole.errors import CodecError
from farandole.replay.plain import content, moment
from farandole.replay.rebuilding import Live, TableDifference
from farandole.replay.track import OTHER, SAME, Track, body_of, saga_of
from farandole.replay.world import World

ENDINGS: Final[dict[type[Any], str]] = {
    events.OrderCompleted: "completed",
    events.OrderCancelled: "cancelled",
    events.OrderRefused: "refused",
}
"""Events that end a saga, and how people call it."""

PAID: Final = (events.PaymentCaptured, events.PaymentCharged)
TELLING: Final = frozenset((*ENDINGS, events.OrderPlaced, *PAID, events.PaymentRefunded))
"""What is decoded to say how a saga ended, and what it cost."""

OPEN, PARKED = "open", "parked"


class Seen(NamedTuple):
    """An event of a saga. place: its topic and partition; rank: its order there; new: it was not recorded there"""

    time: int
    topic: str
    partition: int
    rank: tuple[int, int]
    value: bytes


@dataclass
class Side:
    """A saga as it was, or as it would have been. charged: minor units that were taken and kept; amount: what it is
    about
    """

    ending: str = OPEN
    cause: str = ""
    parked: list[str] = field(default_factory=list)
    amount: int | None = None
    charged: int = 0
    events: int = 0

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__}


@dataclass
class Differing:
    """A saga with the first event that differs: of then, and of now; one of them may be missing.

    unasked: outside calls that were never made then, answered as the options say: what follows rests on that
    """

    saga: str
    flow: str
    before: Side
    after: Side
    first: dict[str, Any]
    unasked: list[str]

    @property
    def ended_otherwise(self) -> bool:
        return (self.before.ending, self.before.cause) != (self.after.ending, self.after.cause)

    def to_dict(self) -> dict[str, Any]:
        return {
            "saga": self.saga,
            "flow": self.flow,
            "ended_otherwise": self.ended_otherwise,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "first": self.first,
            "unasked": self.unasked,
        }


@dataclass
class Shadow:
    """The result of a shadow replay.

    before, after: how the orders that were chosen ended, and how many; chosen: by times or a flow
    left:          sagas that left the record or are parked otherwise, chosen or not, whatever came of it
    moving:        places of services that did not stand still: their tables were not compared
    partial:       places of topics that no service hears whose beginning is gone: their events were not compared
    """

    differing: list[Differing] = field(default_factory=list)
    before: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)
    tables: dict[str, list[TableDifference]] = field(default_factory=dict)
    moving: list[str] = field(default_factory=list)
    partial: list[str] = field(default_factory=list)
    left: int = 0
    chosen: bool = False
    records: int = 0
    messages: int = 0
    lines: int = 0
    seconds: float = 0.0
    read_seconds: float = 0.0
    play_seconds: float = 0.0

    @property
    def ended_otherwise(self) -> list[Differing]:
        return [each for each in self.differing if each.ended_otherwise]

    @property
    def rows_differing(self) -> int:
        return sum(table.count for tables in self.tables.values() for table in tables)

    def to_dict(self) -> dict[str, Any]:
        changes = Counter(f"{each.before.ending} → {each.after.ending}" for each in self.ended_otherwise)
        return {
            "records": self.records,
            "messages": self.messages,
            "journal_lines": self.lines,
            "seconds": round(self.seconds, 3),
            "read_seconds": round(self.read_seconds, 3),
            "play_seconds": round(self.play_seconds, 3),
            "before": dict(self.before),
            "after": dict(self.after),
            "left_the_record": self.left,
            "differing": len(self.differing),
            "ended_otherwise": len(self.ended_otherwise),
            "changes": dict(changes),
            "charged_before": sum(each.before.charged for each in self.differing),
            "charged_after": sum(each.after.charged for each in self.differing),
            "unasked": sum(len(each.unasked) for each in self.differing),
            "tables": {
                service: {table.table: table.count for table in tables} for service, tables in self.tables.items()
            },
            "rows": {
                service: {table.table: table.samples for table in tables if table.samples}
                for service, tables in self.tables.items()
            },
            "moving": self.moving,
            "not_compared": self.partial,
            "sagas": [each.to_dict() for each in self.differing],
        }


class Judge:
    """world: played; lives: the live tables, by service; window: when sagas began that are reported"""

    def __init__(
        self,
        world: World,
        codec: Codec,
        lives: Mapping[str, Live],
        window: tuple[int | None, int | None] = (None, None),
        flow: str = "",
    ) -> None:
        self._world, self._codec, self._lives = world, codec, lives
        self._window, self._flow = window, flow
        self._endings = {codec.type_of(cls).topic for cls in ENDINGS}

    def judge(self) -> Shadow:
        found = Shadow(moving=[f"{s}/{p}" for s, live in sorted(self._lives.items()) for p in live.moving])
        parked_then, parked_now = self._parked_then(), self._parked_now()
        parked_otherwise = self._parked_otherwise()
        judged = self._world.left | parked_otherwise
        found.left, found.chosen = len(judged), self._window != (None, None) or bool(self._flow)
        endings = self._all_endings(parked_then)
        if found.chosen:
            endings = self._only_wanted(endings)
        found.before, found.after = Counter(endings.values()), Counter(endings.values())
        before = self._gather(judged, now=False)
        after = self._gather(self._world.left, now=True)
        for saga in sorted(judged):
            then = before.get(saga, [])
            now = after.get(saga, []) if saga in self._world.left else then
            flow = self._flow_of(then or now)
            if not self._is_wanted(then or now, flow):
                continue
            first = self._first(then, now)
            sides = self._side(then, parked_then[saga]), self._side(now, parked_now[saga])
            if saga in endings:
                found.after[endings[saga]] -= 1
                found.after[sides[1].ending] += 1
            elif sides[1].amount is not None or sides[1].ending in ENDINGS.values():  # it is an order only now
                found.before[sides[0].ending] += 1
                found.after[sides[1].ending] += 1
            if first or sides[0].ending != sides[1].ending or saga in parked_otherwise:
                unasked = self._world.unasked.get(saga, [])
                found.differing.append(Differing(saga, flow, *sides, first or {}, unasked))
        found.before, found.after = +found.before, +found.after
        return found

    # ---- the events of the sagas that are judged

    def _gather(self, sagas: set[str], now: bool) -> dict[str, list[Seen]]:
        found = defaultdict[str, list[Seen]](list)
        if not sagas:
            return found
        for (topic, partition), track in self._world.tracks.items():
            for rank, time, value in _as_it_is(track) if now else _as_it_was(track):
                if value is not None and (saga := saga_of(value)) in sagas:
                    found[saga].append(Seen(time, topic, partition, rank, value))
        for seen in found.values():
            seen.sort(key=lambda each: (each.time, each.topic, each.partition, each.rank))
        return found

    def _first(self, then: list[Seen], now: list[Seen]) -> dict[str, Any] | None:
        """The first event that differs, in any topic; None: none does."""
        candidates = []
        places = {(each.topic, each.partition) for each in (*then, *now)}
        for place in places:
            old = [each for each in then if (each.topic, each.partition) == place]
            new = [each for each in now if (each.topic, each.partition) == place]
            for index in range(max(len(old), len(new))):
                was = old[index] if index < len(old) else None
                is_ = new[index] if index < len(new) else None
                if was is None or is_ is None or _content(was.value) != _content(is_.value):
                    candidates.append((min(each.time for each in (was, is_) if each), place, was, is_))
                    break
        if not candidates:
            return None
        _, (topic, partition), was, is_ = min(candidates, key=lambda each: each[:2])
        return {
            "topic": topic,
            "partition": partition,
            "before": None if was is None else self._told(was),
            "after": None if is_ is None else self._told(is_),
        }

    def _told(self, seen: Seen) -> dict[str, Any]:
        return {"time": moment(seen.time)} | content(self._codec, seen.value)

    def _side(self, seen: list[Seen], parked: set[str]) -> Side:
        side = Side(parked=sorted(parked), events=len(seen))
        for each in seen:
            event = self._event(each.value)
            if type(event) in ENDINGS and side.ending == OPEN:
                side.ending, side.cause = ENDINGS[type(event)], getattr(event, "cause", "")
            elif isinstance(event, events.OrderPlaced):
                side.amount = event.amount
            elif isinstance(event, PAID):
                side.charged += event.amount
            elif isinstance(event, events.PaymentRefunded):
                side.charged = 0
        if side.ending == OPEN and parked:
            side.ending = PARKED
        return side

    def _event(self, value: bytes) -> Any:
        """The event, if it is of a type that tells how a saga stands."""
        decoder = self._codec.decoders.get(value[:5])
        if decoder is None or decoder.type.cls not in TELLING:
            return None
        try:
            return decoder.decode(value)[3]
        except CodecError:
            return None

    def _flow_of(self, seen: list[Seen]) -> str:
        for each in seen:
            try:
                return self._codec.meta_of(each.value).flow
            except CodecError:
                continue
        return ""

    def _is_wanted(self, seen: list[Seen], flow: str) -> bool:
        begin, end = self._window
        since = min((each.time for each in seen), default=0)
        inside = (begin is None or since >= begin) and (end is None or since < end)
        return inside and self._flow in ("", flow)

    # ---- how all of them ended

    def _all_endings(self, parked: Mapping[str, set[str]]) -> dict[str, str]:
        """Of all sagas that are about an order, then."""
        endings: dict[str, str] = {}
        prefixes = {
            prefix: decoder.type.cls
            for prefix, decoder in self._codec.decoders.items()
            if decoder.type.cls in ENDINGS or decoder.type.cls is events.OrderPlaced
        }
        for (topic, _), track in self._world.tracks.items():
            if topic not in self._endings:
                continue
            for value in track.log.values():
                cls = prefixes.get(value[:5]) if value else None
                if cls is not None:
                    saga = saga_of(value)
                    if endings.get(saga, OPEN) == OPEN:
                        endings[saga] = ENDINGS.get(cls, OPEN)
        for saga, ending in endings.items():
            if ending == OPEN and parked.get(saga):
                endings[saga] = PARKED
        return endings

    def _only_wanted(self, endings: Mapping[str, str]) -> dict[str, str]:
        """Those that began within the window, and are of the flow."""
        first: dict[str, Seen] = {}
        for (topic, partition), track in self._world.tracks.items():
            for rank, time, value in _as_it_was(track):
                saga = saga_of(value)
                if value is not None and saga in endings and (saga not in first or time < first[saga].time):
                    first[saga] = Seen(time, topic, partition, rank, value)
        return {
            saga: ending
            for saga, ending in endings.items()
            if self._is_wanted([first[saga]], self._flow_of([first[saga]]))
        }

    def _parked_otherwise(self) -> set[str]:
        """Parked then and not now, or the other way round; of partitions that stood still."""
        found = set[str]()
        for service, live in self._lives.items():
            parts = self._world.replicas[service].processor.parked.table.parts
            for (table, p), rows in live.rows.items():
                if table == "parked" and p not in live.moving:
                    found |= {key.decode() for key in rows} ^ set(parts[p].rows)
        return found

    def _parked_then(self) -> defaultdict[str, set[str]]:
        found = defaultdict[str, set[str]](set)
        for service, live in self._lives.items():
            for (table, _), rows in live.rows.items():
                if table == "parked":
                    for key in rows:
                        found[key.decode()].add(service)
        return found

    def _parked_now(self) -> defaultdict[str, set[str]]:
        found = defaultdict[str, set[str]](set)
        for service, replica in self._world.replicas.items():
            for part in replica.processor.parked.table.parts.values():
                for saga in part.rows:
                    found[saga].add(service)
        return found


def _content(value: bytes) -> bytes:
    return body_of(value) if value[:1] == b"\0" else value


def _as_it_was(track: Track) -> Iterator[tuple[tuple[int, int], int, bytes | None]]:
    for index, value in enumerate(track.log.values()):
        yield (index, 0), track.log.times[index], value


def _as_it_is(track: Track) -> Iterator[tuple[tuple[int, int], int, bytes | None]]:
    for index in range(len(track.log)):
        if track.state[index] == SAME:
            yield (index, 0), track.log.times[index], track.log.value(index)
        elif track.state[index] == OTHER:
            yield (index, 0), track.log.times[index], track.replaced[index][1]
    for number, (after, message) in enumerate(track.news):
        yield (after, 1 + number), message.timestamp()[1], message.value()
