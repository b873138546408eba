"""A broker is shut down and started again, as in an upgrade."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class RestartBroker(Fault):
    name = "restart-broker"
    lasts = (0.5, 4.0)
    within = 120.0

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.shut_broker(stage.pick_broker(rng))
