"""How far a play is, as plain data: lines of JSON from which a new world goes on as the old one would have.

What follows from the logs alone is not written down, but worked out again: which answers and timers are still to come,
and what was taken, follow from how many lines of a journal were played. Rows have no times here: nothing goes by the
clock in a shadow replay.

Invariant: between two lines of a play everything that what comes can depend on is in what is dumped, or follows from
the logs and that.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from farandole.replay.chain import Chain
from farandole.replay.history import Replayed
from farandole.replay.track import Track
from farandole.replay.world import World

Line = list[Any]


def dump(world: World) -> Iterator[Line]:
    """The world between two lines that it plays."""
    yield ["world", world.messages, world.lines, world.now, world.heads, sorted(world.left), dict(world.unasked)]
    for service, replica in world.replicas.items():
        for table in replica.processor.tables:
            for p in range(replica.partitions):
                for key, row in replica.encoded(table, p).items():
                    yield ["row", service, table, p, key.decode(), _text(row)]
    for (topic, p), track in world.tracks.items():
        yield from _track([topic, p], track)
    for (service, p), chain in world.chains.items():
        place = [service, p]
        yield ["chain", *place, chain.played, chain.cursor, chain.news_at, chain.unused, chain.due, chain.timers]
        for message in chain.pending:
            yield ["pending", *place, *_message(message)]


def _track(place: Line, track: Track) -> Iterator[Line]:
    yield ["track", *place, track.frontier, track._next, _text(zlib.compress(track.state, 1))]
    for index, (key, value) in track.replaced.items():
        yield ["replaced", *place, index, _text(key), _text(value)]
    for after, message in track.news:
        yield ["news", *place, after, *_message(message)]
    for index, chains in track.missed.items():
        yield ["missed", *place, index, [[chain.service, chain.partition] for chain in chains]]
    for ident, index in track._skipped.items():
        yield ["skipped", *place, _text(ident), index]


def restore(world: World, lines: Iterable[Line]) -> None:
    """Bring a world that was just made to where the dumped one was. ValueError, KeyError, … if that cannot be."""
    reader = _Restorer(world)
    for kind, *said in lines:
        getattr(reader, f"take_{kind}")(*said)
    for replica in world.replicas.values():
        for p in range(replica.partitions):
            replica.processor.restored(p)


class _Restorer:
    """One function for each kind of line."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rows = {
            (service, table, p): replica.processor.restore(table, p)
            for service, replica in world.replicas.items()
            for table in replica.processor.tables
            for p in range(replica.partitions)
        }

    def take_world(
        self, messages: int, lines: int, now: int, heads: list[Line], left: list[str], unasked: dict[str, list[str]]
    ) -> None:
        world = self._world
        world.messages, world.lines, world.now = messages, lines, now
        world.heads = [(time, number) for time, number in heads]
        world.left = set(left)
        world.unasked.update(unasked)

    def take_row(self, service: str, table: str, partition: int, key: str, row: str) -> None:
        self._rows[service, table, partition](key.encode(), _bytes(row), 0)

    def take_track(self, topic: str, partition: int, frontier: int, next_: int, state: str) -> None:
        track = self._world.tracks[topic, partition]
        known = bytearray(zlib.decompress(_bytes(state)))
        if len(known) != len(track.state):
            raise ValueError(f"{topic}/{partition}: of {len(known)} records, there are {len(track.state)}")
        track.frontier, track._next, track.state = frontier, next_, known

    def take_replaced(self, topic: str, partition: int, index: int, key: str, value: str) -> None:
        self._world.tracks[topic, partition].replaced[index] = _bytes(key), _bytes(value)

    def take_news(self, topic: str, partition: int, after: int, *message: Any) -> None:
        self._world.tracks[topic, partition].news.append((after, _replayed(*message)))

    def take_missed(self, topic: str, partition: int, index: int, chains: list[Line]) -> None:
        found: list[Chain] = [self._world.chains[service, p] for service, p in chains]
        self._world.tracks[topic, partition].missed[index] = found

    def take_skipped(self, topic: str, partition: int, ident: str, index: int) -> None:
        self._world.tracks[topic, partition]._skipped[_bytes(ident)] = index

    def take_chain(
        self,
        service: str,
        partition: int,
        played: int,
        cursor: dict[str, int],
        news_at: dict[str, int],
        unused: dict[str, list[str]],
        due: list[Line],
        timers: dict[str, int],
    ) -> None:
        chain = self._world.chains[service, partition]
        chain.skip(played)
        chain.cursor, chain.news_at, chain.timers = cursor, news_at, timers
        chain.unused = {key: _outcome(said) for key, said in unused.items()}
        chain.due = [(key, _outcome(said)) for key, said in due]

    def take_pending(self, service: str, partition: int, *message: Any) -> None:
        self._world.chains[service, partition].pending.append(_replayed(*message))


def _outcome(said: list[str]) -> tuple[str, str, str]:
    outcome, reference, reason = said
    return outcome, reference, reason


def _message(message: Replayed) -> Line:
    key, value = message.key(), message.value()
    where = [message.topic(), message.partition(), message.offset(), message.timestamp()[1]]
    return [*where, None if key is None else _text(key), None if value is None else _text(value)]


def _replayed(topic: str, partition: int, offset: int, time: int, key: str | None, value: str | None) -> Replayed:
    return Replayed(
        topic,
        partition,
        offset,
        time,
        None if key is None else _bytes(key),
        None if value is None else _bytes(value),
    )


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
