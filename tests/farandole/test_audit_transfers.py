"""The audit of transfers and accounts: a log of real decisions is clean, and what is planted in it is found."""

from __future__ import annotations

import functools
import io
import re
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from agents.accounts import CALLED_OFF
from events import (
    Account,
    AccountsCredited,
    AccountsRefunded,
    Booked,
    BookEntry,
    CloseAccount,
    CreditAccount,
    FundAccount,
    Movement,
    TransfersCompleted,
    TransfersFailed,
)
from farandole.audit.findings import TRANSFER_CHECKS
from farandole.audit.report import Report
from farandole.partitioner import partition_of
from tests.farandole.audit_log import Log, recording, topics
from tests.flows.transfers import ACCOUNT, TRANSFER, a_transfer, id_of, open_accounts, start

DONE, REFUSED, BACK, LATE = (id_of(a_transfer(key)) for key in ("done", "refused", "back", "late"))
FUNDED = "fund-anna"


@functools.cache
def clean() -> Log:
    """One transfer for each way in which one can go."""
    with recording() as world:
        open_accounts(world, anna=100, ben=0, carla=0)
        world.send(CloseAccount(account="carla"), "close-carla", ACCOUNT)
        start(world, a_transfer("done", amount=30))
        start(world, a_transfer("done", amount=31))
        start(world, a_transfer("refused", amount=1_000))
        start(world, a_transfer("back", target="carla"))
        start(world, a_transfer("invalid", amount=0))
        world.run()
        world.gates = {"CreditAccount@accounts"}
        start(world, a_transfer("late"))
        world.run()
        world.fire(("transfers", LATE, "AnswerDue"))
        world.run()
        [queue] = [queue for queue in world.queues.values() if queue]
        queue.reverse()
        world.gates = set()
        world.run()
        return world.finish()


def found(report: Report) -> set[str]:
    return set(report.counts)


def test_what_the_services_did_is_clean_and_counted() -> None:
    report = clean().audit()
    assert report.findings == []
    said = report.to_dict()
    assert said["transfers"] == {"completed": 1, "failed": 2, "failed and refunded": 2, "overdue": 1}
    assert said["bank"] == {"accounts": 3, "money": {"EUR": {"funded": 100, "held": 100, "in_flight": 0}}}
    assert CALLED_OFF in {clean().event(where).reason for where in clean().all(TransfersFailed)}


def test_what_is_under_way_is_no_finding_unless_all_is_at_rest() -> None:
    with recording() as world:
        open_accounts(world, anna=100, ben=0)
        world.gates = {"CreditAccount@accounts"}
        start(world, a_transfer())
        world.run()
        log = world.finish()
    live = log.audit(settled=False, open_for=1e12)
    assert live.findings == []
    assert live.to_dict()["bank"]["money"]["EUR"] == {"funded": 100, "held": 90, "in_flight": 10}
    assert found(log.audit()) == {"transfer-open"}


Plant = Callable[[Log], object]


def row(log: Log, name: str, **changes: int) -> None:
    known = Account(phase="open", currency="EUR", overdraft=0, balance=70)
    log.row("accounts-balances", partition_of(name, 6), name, replace(known, **changes))


def book(log: Log, cause: type, saga: str, *entries: tuple[str, int]) -> None:
    """Another posting, of something else."""
    posting = Booked(
        memo="credit",
        currency="EUR",
        entries=tuple(BookEntry(account=account, amount=amount) for account, amount in entries),
    )
    log.publish(posting, saga, log.one(cause, saga), "accounts.9", TRANSFER)


def booked(log: Log, saga: str, memo: str) -> object:
    return next(where for where in log.all(Booked, saga=saga) if log.event(where).memo == memo)


PLANTS: list[tuple[str, Plant]] = [
    ("transfer-open", lambda log: log.drop(log.one(TransfersCompleted, DONE))),
    (
        "transfer-ended-twice",
        lambda log: log.publish(
            TransfersFailed(reason="no", refunded=False), DONE, log.one(AccountsCredited, DONE), "transfers.9", TRANSFER
        ),
    ),
    ("transfer-repeated", lambda log: log.again(log.one(AccountsCredited, DONE))),
    (
        "transfer-contradiction",
        lambda log: log.publish(AccountsCredited(), BACK, log.one(CreditAccount, BACK), "accounts.9", TRANSFER),
    ),
    ("transfer-unfounded", lambda log: log.drop(log.one(AccountsCredited, DONE))),
    ("transfer-unfounded", lambda log: log.drop(log.one(AccountsRefunded, BACK))),
    ("transfer-differs", lambda log: log.change(log.one(CreditAccount, DONE), amount=31)),
    ("transfer-differs", lambda log: log.change(log.one(TransfersCompleted, DONE), target="carla")),
    ("booking-missing", lambda log: log.drop(booked(log, DONE, "credit"))),  # type: ignore[arg-type]
    ("wrong-booking", lambda log: book(log, CreditAccount, DONE, ("in_flight", 30), ("account:ben", -29))),
    ("wrong-booking", lambda log: book(log, CreditAccount, DONE, ("cash", 30), ("account:ben", -30))),
    (
        "debit-unsettled",
        lambda log: log.row("accounts-movements", 0, f"{DONE}/debit", Movement(phase="debited", amount=30)),
    ),
    ("deposit-differs", lambda log: log.again(log.one(Booked, FUNDED))),
    ("deposit-differs", lambda log: log.change(log.one(FundAccount, FUNDED), amount=99)),
    ("deposit-missing", lambda log: log.drop(log.one(Booked, FUNDED))),
    ("account-drift", lambda log: row(log, "anna", balance=69)),
    ("account-drift", lambda log: log.row("accounts-balances", partition_of("ben", 6), "ben", None)),
    ("in-flight-drift", lambda log: log.drop(booked(log, BACK, "refund"))),  # type: ignore[arg-type]
    ("below-overdraft", lambda log: row(log, "anna", balance=-1)),
]


@pytest.mark.parametrize(("check", "plant"), PLANTS, ids=[f"{check}-{n}" for n, (check, _) in enumerate(PLANTS)])
def test_what_is_planted_is_found(check: str, plant: Plant) -> None:
    log = clean().copy()
    plant(log)
    assert check in found(log.audit())


def test_every_check_is_planted() -> None:
    assert {check for check, _ in PLANTS} == set(TRANSFER_CHECKS)


def shortened(*kept: str) -> Log:
    """The same, but of event topics only these are whole."""
    log = clean().copy()
    for (topic, partition), records in log.records.items():
        if topics().topics[topic].events and topic not in kept:
            log.starts[topic, partition] = len(records)
    return log


def test_balances_are_compared_for_as_long_as_the_ledger_is_whole() -> None:
    log = shortened("accounts.ledger")
    report = log.audit()
    assert report.findings == []
    assert report.to_dict()["bank"] == {"accounts": 3, "money": {"EUR": {"funded": 100, "held": 100, "in_flight": 0}}}
    assert any("what is in flight is not compared" in note for note in report.notes)
    row(log, "anna", balance=69)
    assert found(log.audit()) == {"account-drift"}


def test_balances_are_not_compared_with_a_part_of_the_ledger() -> None:
    report = shortened().audit()
    assert report.findings == []
    assert report.bank.accounts == 0
    assert any(note.startswith("records of the accounts have been deleted") for note in report.notes)


def test_a_transfer_that_is_parked_is_no_finding() -> None:
    log = clean().copy()
    log.drop(log.one(TransfersCompleted, DONE))
    log.park("transfers", log.one(AccountsCredited, DONE), DONE)
    report = log.audit()
    assert not {"transfer-open", "transfer-unfounded"} & found(report)
    assert report.transfers["parked"] == 1


def test_people_are_shown_how_transfers_ended_and_where_the_money_is() -> None:
    from rich.console import Console

    from farandole.cli.audit import show

    console = Console(record=True, width=120, file=io.StringIO())
    show(clean().audit(), console)
    said = console.export_text()
    assert re.search(r"failed and refunded +2", said)
    assert re.search(r"3 bank accounts.*\nEUR +100 +100 +0", said)
