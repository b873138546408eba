"""The payment gateway or the carrier is gone for a while: it answers 503, or refuses connections."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class Outage(Fault):
    name = "outage"
    lasts = (2.0, 12.0)
    outside = ("gateway", "carrier")

    def inject(self, stage: Stage, rng: Random) -> None:
        system = rng.choice(stage.outside(self.outside))
        stage.break_outside(system, outage={"lasts": 60, "refuse": rng.random() < 0.5})
