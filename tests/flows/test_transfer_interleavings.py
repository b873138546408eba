"""Transfers in a world where everything that can happen in another order does, by the thousand.

A seed is a run: `play(SEED)` in a debugger shows what a failing one did.
"""

from __future__ import annotations

from collections import Counter

import pytest

from events import TransfersCompleted, TransfersFailed
from tests.flows.transfers import Scenario, check_at_rest
from tests.flows.world import world

RUNS = 2_000
CAREFUL_RUNS = 150


def play(seed: int, careful: bool = False) -> Counter[str]:
    """How its transfers ended."""
    with world(careful) as it:
        try:
            Scenario.draw(it, seed).play()
            check_at_rest(it)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        ends: Counter[str] = Counter()
        for _, event in it.published:
            if isinstance(event, TransfersFailed):
                ends[f"refunded: {event.reason}" if event.refunded else event.reason] += 1
            elif isinstance(event, TransfersCompleted):
                ends["completed"] += 1
        return ends


@pytest.mark.parametrize("first", range(0, RUNS, RUNS // 2))
def test_whatever_the_order_of_things_no_money_is_made_or_lost_and_every_transfer_ends_once(first: int) -> None:
    ends: Counter[str] = Counter()
    for seed in range(first, first + RUNS // 2):
        ends += play(seed)
    called_off = "it was called off before it was done"
    for end in ("completed", "the account does not have so much", called_off, f"refunded: {called_off}"):
        assert ends[end], f"never happened: {end}"


def test_a_decision_made_twice_is_the_same_decision() -> None:
    for seed in range(RUNS, RUNS + CAREFUL_RUNS):
        play(seed, careful=True)
