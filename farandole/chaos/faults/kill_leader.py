"""kill -9 of the broker that leads a partition of a topic that services hear."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class KillLeader(Fault):
    name = "kill-leader"
    lasts = (1.0, 10.0)
    within = 120.0

    def inject(self, stage: Stage, rng: Random) -> None:
        topic = rng.choice(stage.topics())
        stage.kill_broker(stage.pick_leader(topic, rng.randrange(stage.partitions)))
