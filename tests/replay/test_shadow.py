"""What today's rules would have done to recorded orders: nothing, if they are those of then; else exactly what differs.
"""

from __future__ import annotations

import pytest

from farandole.replay.differing import Shadow
from farandole.replay.replica import Replica
from farandole.replay.shadowing import shadow
from farandole.simulation.plan import SERVICES
from farandole.simulation.run import Run
from farandole.simulation.workers import Workshop
from tests.replay.model import ModelSource, played, quiet

SEEDS = 30


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


def shadowed(workshop: Workshop, run: Run, **options: str) -> Shadow:
    """The handlers are those of the run, with what fails on purpose in it."""
    replicas = {
        service: Replica(service, workshop.project, run.plan.partitions, workshop.services[service].bindings)
        for service in SERVICES
    }
    return shadow(ModelSource(run), workshop.topics, replicas, quiet, **options)  # type: ignore[arg-type]


def test_with_the_rules_of_then_nothing_differs_not_even_a_row(workshop: Workshop) -> None:
    messages = 0
    for seed in range(SEEDS):
        run = played(workshop, seed)
        found = shadowed(workshop, run)
        assert found.differing == [], f"seed {seed}: {[each.to_dict() for each in found.differing]}"
        assert found.rows_differing == 0, f"seed {seed}: {found.to_dict()['tables']}"
        messages += found.messages
    assert messages > 30 * SEEDS
