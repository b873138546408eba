"""History replayed gives the tables that the services had, to the byte."""

from __future__ import annotations

import pytest

from farandole.replay.rebuilding import Live, Rebuilder, Rebuilt, read_live
from farandole.replay.replica import Replica
from farandole.simulation.plan import SERVICES
from farandole.simulation.run import Run
from farandole.simulation.workers import Workshop
from tests.replay.model import ModelSource, played, quiet

SEEDS = 30


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


def replica_of(workshop: Workshop, run: Run, service: str) -> Replica:
    return Replica(service, workshop.project, run.plan.partitions)


def rebuild(source: ModelSource, replica: Replica) -> tuple[Live, Rebuilt]:
    live = read_live(source, replica, quiet)
    assert live.moving == []
    return live, Rebuilder(source, replica).run(live.position, quiet)


def test_history_replayed_is_the_tables_as_their_changelogs_have_them(workshop: Workshop) -> None:
    """Crashes, aborts, parked sagas, fired timers, condemned messages among it; decisions that failed then fail not
    today: what was put aside is put aside all the same.
    """
    rows = dead = 0
    for seed in range(SEEDS):
        run = played(workshop, seed)
        source = ModelSource(run)
        workshop.heal()
        for service in SERVICES:
            replica = replica_of(workshop, run, service)
            live, rebuilt = rebuild(source, replica)
            assert rebuilt.rows == live.rows, f"seed {seed}, {service}: {rebuilt.notes.kept}"
            assert rebuilt.notes.count == 0, f"seed {seed}: {rebuilt.notes.kept}"
            rows += sum(len(each) for each in live.rows.values())
            dead += len(live.rows["parked", 0])
    assert rows > 10 * SEEDS
    assert dead > 0
