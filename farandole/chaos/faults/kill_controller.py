"""kill -9 of the broker that is the active controller: until there is another one, no leader moves."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class KillController(Fault):
    name = "kill-controller"
    lasts = (1.0, 10.0)
    within = 120.0

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.kill_broker(stage.pick_controller())
