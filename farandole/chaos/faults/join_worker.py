"""One more worker of a service, for a while."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class JoinWorker(Fault):
    name = "join-worker"
    lasts = (5.0, 12.0)

    def inject(self, stage: Stage, rng: Random) -> None:
        stage.join(rng.choice(stage.services))
