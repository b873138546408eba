"""Half of the requests to a part of the outside world are answered with an error."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class OutsideErrors(Fault):
    name = "outside-errors"
    lasts = (2.0, 10.0)
    outside = ("gateway", "carrier", "mail")

    def inject(self, stage: Stage, rng: Random) -> None:
        system = rng.choice(stage.outside(self.outside))
        status = rng.choice((500, 503, 429, 408))
        stage.break_outside(system, errors={"rate": rng.uniform(0.3, 0.8), "status": status})
