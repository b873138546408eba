"""`transfer/1` end to end, on a real Kafka, over HTTP and by commands: workers that are killed, an account service that
stands still, races, closed accounts; and the audit, which adds up the money.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from farandole.demo import transfers
from farandole.demo.mischief import Kill
from farandole.demo.run import Options
from farandole.demo.transfer_plan import KINDS
from farandole.pytest_plugin import TestKafka
from farandole.system import silent


@pytest.fixture(autouse=True)
def environment(kafka: TestKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's Kafka, and a home of this test's own."""
    for name, value in kafka.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path))


def play(**options: Any) -> Any:
    with transfers.prepared(Options(**options), silent) as demo:
        return demo.play(silent)


def check(outcome: Any) -> None:
    assert outcome.problems == []
    assert outcome.transfers["open"] == 0
    audit = outcome.audit
    assert audit is not None
    assert audit["ok"]
    [parked] = outcome.parked
    assert parked.service == "accounts"
    money = audit["bank"]["money"]
    assert all(each["held"] + each["in_flight"] == each["funded"] for each in money.values())
    assert money["USD"]["in_flight"] == 0


def test_workers_of_both_services_are_killed_and_no_money_is_made_or_lost() -> None:
    outcome = play(
        orders=150, seed=1, rate=30.0, kills=(Kill("accounts", 40), Kill("transfers", 90)), workers=(("transfers", 2),)
    )
    check(outcome)
    assert {each.service for each in outcome.restarts} == {"accounts", "transfers"}
    assert {row.kind for row in outcome.rows} == {kind.title for kind in KINDS.values()}
    assert set(outcome.requests["reject"]) == {"422"}
    assert outcome.requests["look for nothing"] == {"404": 2}


def test_accounts_that_stand_still_answer_after_the_deadline_and_the_money_is_where_they_say() -> None:
    outcome = play(orders=100, seed=2, rate=30.0)
    check(outcome)
    assert outcome.audit["transfers"]["overdue"] > 0
