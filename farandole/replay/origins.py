"""Who published a record: what its id says, and how far whoever it was has come.

Invariant: what no service of today's publishes, and what was published before history begins, has no publisher here: it
is an input, and has always been there.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping

from farandole.codec import Codec
from farandole.event import Event
from farandole.replay.chain import Chain
from farandole.replay.track import SLACK_MS, Track, ident


class Origins:
    """internal: event classes that services publish; inside: those of them that are answers and fired timers

    chains: by service and partition
    """

    def __init__(
        self,
        codec: Codec,
        internal: Collection[type[Event]],
        inside: Collection[type[Event]],
        chains: Mapping[tuple[str, int], Chain],
    ) -> None:
        self._codec, self._internal, self._inside, self._chains = codec, internal, inside, chains

    def publisher(self, track: Track, index: int) -> tuple[Chain, Callable[[], bool]] | None:
        """The chain that published it, and whether it is past that; None: a client, or somebody before all this."""
        log = track.log
        value = log.value(index)
        decoder = self._codec.decoders.get(value[:5]) if value else None
        if decoder is None or decoder.type.is_row or decoder.type.cls not in self._internal:
            return None
        origin = origin_of(value)
        if origin is None:
            return None
        topic, partition, offset, service = origin
        inside = decoder.type.cls in self._inside
        chain = self._chains.get((service, log.partition if inside else partition))
        if chain is None:
            return None
        if inside:
            until = log.times[index] + SLACK_MS
            return chain, lambda: chain.exhausted or chain.next_time > until
        if offset < chain.floor.get(topic, sys.maxsize):
            return None
        return chain, lambda: chain.taken.get(topic, 0) > offset

    def is_over(self, chain: Chain, done: Callable[[], bool], track: Track, index: int) -> bool:
        """Whether the transaction that published it lies within what was played."""
        value = track.log.value(index) or b""
        if self._codec.decoders[value[:5]].type.cls in self._inside:
            return chain.last_time >= track.log.times[index]
        return done()


def origin_of(value: bytes | None) -> tuple[str, int, int, str] | None:
    """(topic, partition, offset, service) of an id that a service made; None: it is none."""
    where, _, _ = ident(value).decode("utf-8", "replace").rpartition(".")
    where, _, service = where.rpartition(".")
    where, _, offset = where.rpartition("/")
    topic, _, partition = where.rpartition("/")
    if not (topic and service and partition.isdigit() and offset.isdigit()):
        return None
    return topic, int(partition), int(offset), service
