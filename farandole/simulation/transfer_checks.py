"""What the audit cannot see of transfers, because it looks at the end alone: what came before that on which it rests.

Virtual time is one clock for all. Records of one moment are one transaction, or might be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from farandole.audit.flows.transfer import BIT, FACT_OF, RESTS_ON
from farandole.codec import Codec
from farandole.errors import CodecError
from farandole.simulation.kafka_log import Stored


def too_early(log: Mapping[tuple[str, int], Sequence[Stored]], codec: Codec) -> Iterator[str]:
    """What is wrong, in words. log: every committed record by topic and partition"""
    facts: dict[str, int] = {}
    for _, moment in groupby(sorted(_told(log, codec), key=lambda told: told[0]), key=lambda told: told[0]):
        fresh = [(saga, fact) for _, saga, fact in moment]
        for saga, fact in fresh:
            facts[saga] = facts.get(saga, 0) | BIT[fact]
        for saga, fact in fresh:
            for ground in RESTS_ON.get(fact, ()):
                if not facts[saga] & BIT[ground]:
                    yield f"{saga}: {fact} came before {ground}"


def _told(log: Mapping[tuple[str, int], Sequence[Stored]], codec: Codec) -> Iterator[tuple[int, str, str]]:
    """When, of which transfer, which fact."""
    for (topic, _), records in log.items():
        if not topic.startswith(("transfers", "accounts")):
            continue
        for record in records:
            decoder = codec.decoders.get((record.value or b"")[:5])
            kind: Any = FACT_OF.get(decoder.type.cls) if decoder is not None else None
            if decoder is None or kind is None:
                continue
            try:
                event = decoder.decode(record.value or b"")[3]
            except CodecError:
                continue
            if kind(event) in BIT:
                yield record.timestamp, event.saga, kind(event)
