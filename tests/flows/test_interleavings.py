"""Orders in a world where everything that can happen in another order does, by the thousand.

A seed is a run: `play(SEED)` in a debugger shows what a failing one did.
"""

from __future__ import annotations

import pytest

from tests.flows.invariants import PROMISES, check
from tests.flows.scenarios import Scenario
from tests.flows.world import world

RUNS = 4_000
RUNS_OF_OTHERS = 1_500
CAREFUL_RUNS = 250
AT_ONCE = 500

CASES = [
    (flow, first) for flow in PROMISES for first in range(0, RUNS if flow == "order/1" else RUNS_OF_OTHERS, AT_ONCE)
]


def play(seed: int, flow: str, careful: bool = False) -> None:
    with world(careful) as it:
        scenario = Scenario.draw(it, seed, flow)
        scenario.play()
        check(it, dict(scenario.received))


def play_all(seeds: range, flow: str, careful: bool = False) -> None:
    for seed in seeds:
        try:
            play(seed, flow, careful)
        except Exception as error:
            error.add_note(f"{flow}, seed {seed}")
            raise


@pytest.mark.parametrize(("flow", "first"), CASES)
def test_whatever_the_order_of_things_every_order_ends_once_and_nothing_is_lost_or_doubled(
    flow: str, first: int
) -> None:
    play_all(range(first, first + AT_ONCE), flow)


@pytest.mark.parametrize("flow", PROMISES)
def test_a_decision_made_twice_is_the_same_decision(flow: str) -> None:
    play_all(range(RUNS, RUNS + CAREFUL_RUNS), flow, careful=True)
