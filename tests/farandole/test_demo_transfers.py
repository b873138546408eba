"""The plan of a demo of transfers, and what its report makes of how they ended."""

from __future__ import annotations

from collections import Counter

import pytest

from agents.transfers import validate
from farandole.demo.transfer_plan import COMPLETED, FAILED, KINDS, Kinds, TransferPlan, make
from farandole.demo.transfer_report import impossible, rows_of
from farandole.demo.watch import Ending, Seen
from web.transfers import read_request


def plan(
    count: int = 200, seed: int = 0, failures: bool = True, ways: tuple[str, ...] = ("http", "kafka")
) -> TransferPlan:
    return make("run", "", count, seed, failures, ways, planted=True)


def test_a_seed_gives_one_plan_and_every_kind_is_in_it() -> None:
    assert plan() == plan()
    assert plan() != plan(seed=1)
    assert {asked.kind for asked in plan().placements} == set(Kinds)
    assert plan().broken in {asked.order for asked in plan().placements}


@pytest.mark.parametrize("count", [1, 2, 10, 1_000])
def test_there_are_as_many_as_were_asked_for_and_one_that_is_made_to_fail(count: int) -> None:
    assert len(plan(count).placements) == count + 1
    quiet = plan(count, failures=False)
    assert Counter(asked.kind for asked in quiet.placements) == {Kinds.PLAIN: count}
    assert (quiet.broken, quiet.rejected) == ("", ())


def test_every_request_is_valid_and_every_rejected_body_is_not() -> None:
    made = plan()
    assert [problem for asked in made.placements for problem in validate(asked.command)] == []
    assert len({asked.order for asked in made.placements}) == len(made.placements)
    assert all(isinstance(read_request(body), list) for body in made.rejected)


def test_only_those_that_are_to_fail_miss_an_account_and_races_come_in_pairs() -> None:
    made = plan()
    there = {account.name for account in made.accounts}
    for asked in made.placements:
        missing = {asked.command.source, asked.command.target} - there
        assert bool(missing) == (asked.kind in (Kinds.NO_SOURCE, Kinds.NO_TARGET))
    races = Counter(asked.command.source for asked in made.placements if asked.kind is Kinds.RACE)
    assert set(races.values()) == {2}


def ended(made: TransferPlan, **of_race: str) -> Seen:
    """Each as its kind allows first; the first and second of each race as named."""
    seen = Seen(frozenset(asked.order for asked in made.placements))
    raced: Counter[str] = Counter()
    for asked in made.placements:
        how = min(KINDS[asked.kind].ends)
        if asked.kind is Kinds.RACE:
            raced[asked.command.source] += 1
            how = of_race["first" if raced[asked.command.source] == 1 else "second"]
        seen.endings[asked.order] = Ending(how, "", 2.0)
    return seen


def test_a_race_that_both_or_neither_have_won_is_a_problem() -> None:
    made = plan()
    assert list(impossible(made, ended(made, first=COMPLETED, second=FAILED))) == []
    for how in (COMPLETED, FAILED):
        said = list(impossible(made, ended(made, first=how, second=how)))
        assert said
        assert all("of two transfers got the balance" in each for each in said)


def test_an_end_that_its_kind_does_not_allow_is_a_problem_and_rows_count_them() -> None:
    made = plan(10, failures=False)
    seen = ended(made)
    assert [row.ends for row in rows_of(made, seen, dict.fromkeys(seen.orders, 1.0))] == [{COMPLETED: 10}]
    seen.endings[made.placements[0].order] = Ending(FAILED, "", 2.0)
    [said] = impossible(made, seen)
    assert "is failed; possible: completed" in said
