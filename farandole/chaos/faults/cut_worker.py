"""A worker and all brokers cannot reach each other: silence, shorter or longer than the session."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class CutWorker(Fault):
    name = "cut-worker"
    weight = 2.0
    lasts = (1.0, 14.0)

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.cut(stage.pick_worker(rng))
