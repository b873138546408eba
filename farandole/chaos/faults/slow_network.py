"""Everything between workers and brokers takes longer."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class SlowNetwork(Fault):
    name = "slow-network"
    lasts = (2.0, 8.0)

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.slow_down(rng.uniform(0.02, 0.2))
