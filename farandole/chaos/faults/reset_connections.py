"""All connections of a worker to the brokers end, and new ones too, for a moment."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class ResetConnections(Fault):
    name = "reset-connections"
    lasts = (0.0, 3.0)

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.cut(stage.pick_worker(rng), mode="reset")
