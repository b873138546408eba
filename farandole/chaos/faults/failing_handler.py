"""An order, transfer or login on which one decision of one service fails, every time: it is parked, and no other is."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Refused, Stage


class FailingHandler(Fault):
    name = "failing-handler"
    weight = 2.0
    within = 180.0  # its decision may be the last one

    def inject(self, stage: Stage, rng: Random) -> None:
        decisions = stage.decisions()
        if not decisions:
            raise Refused("nothing is left to fail on")
        stage.place_doomed(rng.choice(decisions))
