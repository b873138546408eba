"""kill -9 of the broker that coordinates the transactions of a service's worker."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class KillTransactionCoordinator(Fault):
    name = "kill-txn-coordinator"
    lasts = (1.0, 10.0)
    within = 120.0

    def inject(self, stage: Stage, rng: Random) -> None:
        service = rng.choice(stage.services)
        stage.kill_broker(stage.pick_transaction_coordinator(service, 0))
