"""kill -9 of the broker that coordinates the consumer group of a service."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class KillGroupCoordinator(Fault):
    name = "kill-group-coordinator"
    lasts = (1.0, 10.0)
    within = 120.0

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.kill_broker(stage.pick_group_coordinator(rng.choice(stage.services)))
