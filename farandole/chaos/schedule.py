"""Which faults, in which order: from a seed.

Invariants: the same seed, kinds and number give the same list, and each fault's choices have a generator of their own;
every kind comes once before any comes again, if there is room.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from random import Random

from farandole.chaos.fault import Fault


@dataclass(frozen=True)
class Planned:
    """number: from 1; lasts: seconds between its injection and its healing"""

    number: int
    kind: type[Fault]
    lasts: float
    seed: str

    def rng(self) -> Random:
        """For the fault's own choices; a new one for each attempt, so that waiting changes none of them."""
        return Random(self.seed)


def plan(kinds: Mapping[str, type[Fault]], seed: int) -> Iterator[Planned]:
    """Without an end."""
    draw = Random(f"chaos {seed}")
    names = sorted(kinds)
    first = draw.sample(names, len(names))
    weights = [kinds[name].weight for name in names]
    number = 0
    while True:
        number += 1
        name = first.pop() if first else draw.choices(names, weights)[0]
        kind = kinds[name]
        yield Planned(number, kind, round(draw.uniform(*kind.lasts), 2), f"{seed} {number} {name}")
