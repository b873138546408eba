"""kill -9 of a worker. Others take over its partitions, or it comes back before they do."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class KillWorker(Fault):
    name = "kill-worker"
    weight = 3.0
    lasts = (0.5, 10.0)

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.kill(stage.pick_worker(rng))
