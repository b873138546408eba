"""A worker reaches two brokers and not the third."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class CutOneBroker(Fault):
    name = "cut-one-broker"
    lasts = (1.0, 12.0)

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.cut(stage.pick_worker(rng), brokers=[rng.randint(1, 3)])
