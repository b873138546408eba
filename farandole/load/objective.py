"""What a system is to hold under load, such as `p99<1000ms`, and whether a measurement says that it does.

Invariant: an objective that nothing was measured for is not held.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from farandole.errors import ConfigError
from farandole.load.histogram import Histogram

_FORM: Final = re.compile(r"\s*p(\d{1,2}(?:\.\d{1,3})?)\s*<\s*(\d+(?:\.\d+)?)\s*(ms|s)\s*")

USUAL: Final = "p99<1000ms"

_95_PERCENT: Final = 1.959964


@dataclass(frozen=True)
class Objective:
    """So many percent of all orders end within so many seconds of when they were meant to be placed."""

    percent: float
    seconds: float

    @classmethod
    def parse(cls, text: str) -> Objective:
        match = _FORM.fullmatch(text)
        if match is None or float(match[1]) <= 0 or float(match[2]) <= 0:
            raise ConfigError(f"not an objective: {text}", where="--objective", mend="such as p99<1000ms, or p99.9<2s")
        return cls(float(match[1]), float(match[2]) / (1_000 if match[3] == "ms" else 1))

    def __str__(self) -> str:
        return f"p{self.percent:g}<{self.seconds * 1000:g}ms"

    @property
    def allowed(self) -> float:
        """The share of orders that may take longer."""
        return 1 - self.percent / 100

    def held_by(self, measured: Histogram) -> bool:
        found = measured.percentile(self.percent)
        return found is not None and found < self.seconds


def share_between(some: int, of: int) -> tuple[float, float]:
    """Wilson's interval of 95 % for a share of which `some` in `of` were seen. (0, 1) of nothing."""
    if not of:
        return 0.0, 1.0
    share, z = some / of, _95_PERCENT
    middle = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return max(0.0, (middle - spread) / (1 + z * z / of)), min(1.0, (middle + spread) / (1 + z * z / of))
