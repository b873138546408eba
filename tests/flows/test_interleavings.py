"""Orders in a world where everything that can happen in another order does, by the thousand.

A seed is a run: `play(SEED)` in a debugger shows what a failing one did.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.flows.invariants import check
from tests.flows.scenarios import Scenario
from tests.flows.world import world

RUNS = 4_000
CAREFUL_RUNS = 250


ALL = ("order/1", "order-pay-first/1", "order-orchestrated/1", "order-hybrid/1")


def play(seed: int, careful: bool = False, flows: Sequence[str] = ALL[:1]) -> None:
    with world(careful) as it:
        scenario = Scenario.draw(it, seed, flows)
        scenario.play()
        check(it, dict(scenario.received))


def play_all(seeds: range, careful: bool = False, flows: Sequence[str] = ALL[:1]) -> None:
    for seed in seeds:
        try:
            play(seed, careful, flows)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


@pytest.mark.parametrize("first", range(0, RUNS, RUNS // 8))
def test_whatever_the_order_of_things_every_order_ends_once_and_nothing_is_lost_or_doubled(first: int) -> None:
    play_all(range(first, first + RUNS // 8))


@pytest.mark.parametrize("flows", [*((flow,) for flow in ALL[1:]), ALL], ids=[*ALL[1:], "mixed"])
@pytest.mark.parametrize("first", range(0, RUNS, RUNS // 4))
def test_so_it_is_in_other_flows_and_where_orders_of_several_compete(first: int, flows: Sequence[str]) -> None:
    play_all(range(first, first + RUNS // 8), flows=flows)


def test_a_decision_made_twice_is_the_same_decision() -> None:
    play_all(range(RUNS, RUNS + CAREFUL_RUNS), careful=True, flows=ALL)
