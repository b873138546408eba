"""kill -9 of the payment gateway, the carrier or the mail sink."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class KillOutside(Fault):
    name = "kill-outside"
    lasts = (0.0, 5.0)
    outside = ("gateway", "carrier", "mail")

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.kill_outside(rng.choice(stage.outside(self.outside)))
