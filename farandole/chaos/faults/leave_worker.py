"""SIGTERM of a worker: it hands over and ends, and comes back later."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class LeaveWorker(Fault):
    name = "leave-worker"
    lasts = (1.0, 10.0)

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.leave(stage.pick_worker(rng))
