"""SIGSTOP of a worker, and SIGCONT before its session ends: a long garbage collection, a busy machine."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class PauseWorker(Fault):
    name = "pause-worker"
    lasts = (0.5, 5.0)

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.stop(stage.pick_worker(rng))
