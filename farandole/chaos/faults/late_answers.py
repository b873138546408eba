"""The outside world does what it is asked, and some answers come after the deadline (10 s), or never."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class LateAnswers(Fault):
    name = "late-answers"
    lasts = (3.0, 12.0)
    outside = ("gateway", "carrier")

    def inject(self, stage: Stage, rng: Random) -> None:
        system = rng.choice(stage.outside(self.outside))
        late = rng.choice((None, 2.0, 11.0, 15.0))
        stage.break_outside(system, lost={"rate": rng.uniform(0.2, 0.6), "answer_after": late})
