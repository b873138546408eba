"""Which decisions of a run keep failing, and for which saga.

Invariants:
- Every decision that a flow binds may fail, whatever the flow: what can be parked is parked in some run.
- What is drawn follows from the seed and the sagas alone, and nothing else of a plan from it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

import msgspec

from farandole.flow import Flow, load_flows

SHARE: Final = 0.3
"""Of all plans in which anything goes wrong: those in which decisions fail. Each kind of saga is drawn for itself."""

HOW_MANY: Final = (1, 1, 2, 3)
"""An order's flow has some forty decisions, and a run comes to half of them."""


class Failure(msgspec.Struct, frozen=True):
    """A decision that raises whenever it is asked about this saga."""

    decision: str
    saga: str


def draw(seed: int, kind: str, sagas: Mapping[str, str]) -> tuple[Failure, ...]:
    """Failures for some of these sagas. kind: what they are, such as orders; sagas: each with its flow's key."""
    random = Random(f"failures of {kind} {seed}")
    if not sagas or random.random() >= SHARE:
        return ()
    named = tuple(sagas)
    chosen = (random.choice(named) for _ in range(random.choice(HOW_MANY)))
    return tuple(Failure(random.choice(decisions_of(sagas[saga])), saga) for saga in chosen)


@functools.cache
def decisions_of(flow: str) -> Sequence[str]:
    """The names of all decisions that this flow binds."""
    return sorted({decision.name for decision in _flows()[flow].bindings.values()})


@functools.cache
def _flows() -> dict[str, Flow]:
    return load_flows()
