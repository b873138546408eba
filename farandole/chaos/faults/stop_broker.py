"""SIGSTOP of a broker beyond its session time-out (4 s), then SIGCONT: its connections stay, and nothing comes."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class StopBroker(Fault):
    name = "stop-broker"
    lasts = (2.0, 9.0)
    within = 120.0

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.stop_broker(stage.pick_broker(rng))
