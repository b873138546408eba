"""SIGSTOP of a worker beyond the session time-out (6 s), then SIGCONT: it wakes up as a zombie, in mid-transaction."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class StopWorker(Fault):
    name = "stop-worker"
    weight = 2.0
    lasts = (7.0, 14.0)

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.stop(stage.pick_worker(rng))
