"""kill -9 of all workers of a service at once: nobody is left to take over."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class KillService(Fault):
    name = "kill-service"
    lasts = (0.5, 8.0)

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.kill(*stage.pick_service(rng))
