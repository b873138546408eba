"""Every decision of a run that is left to chance, in the order in which it was asked for.

Invariants:
- 0 is always the plain answer: nothing goes wrong, whoever has waited longest goes first. So a tape that has run out,
  and one of zeros, is a run in which everything goes as it should.
- The same seed and plan give the same tape, and a recorded tape gives the same run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

DEFAULT_RATE: Final = 0.02
"""How often something else than the plain answer is given, where a plan does not say."""


class Tape:
    """Answers by chance, and remembers its answers."""

    def __init__(self, seed: int, rates: Mapping[str, float]) -> None:
        self.answers: list[int] = []
        self.questions: list[str] = []
        self._random = Random(seed).random
        self._rates = rates

    def choose(self, n: int, what: str) -> int:
        """0 … n - 1. `what` is decided; it selects how often that is anything but 0."""
        if n <= 1:
            return 0
        rate = self._rates.get(what, DEFAULT_RATE)
        dice = self._random()
        answer = 0 if dice >= rate else 1 + int(dice / rate * (n - 1))
        self.answers.append(answer)
        self.questions.append(what)
        return answer


class Recorded(Tape):
    """Gives the answers that it was given, then 0. An answer that is too large for its question becomes the largest."""

    def __init__(self, answers: Sequence[int]) -> None:
        super().__init__(0, {})
        self._left = iter(answers)

    def choose(self, n: int, what: str) -> int:
        if n <= 1:
            return 0
        answer = min(next(self._left, 0), n - 1)
        self.answers.append(answer)
        self.questions.append(what)
        return answer
