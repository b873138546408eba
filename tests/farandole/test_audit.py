"""The audit bites: a clean history has no finding, and whatever is wrong with one is found, named and placed."""

from __future__ import annotations

from random import Random

import pytest

from farandole.audit.records import LogRecord
from tests.farandole.audit_log import recording
from tests.farandole.audit_orders import told
from tests.flows.scenarios import Scenario

# ---- nothing wrong


def test_a_clean_history_has_no_finding() -> None:
    log, _ = told()
    report = log.audit()
    assert (report.findings, report.notes) == ([], [])
    assert report.ok
    orders = report.orders
    assert (orders.accepted, orders.completed, orders.cancelled, orders.refused) == (12, 4, 8, 1)
    assert orders.open == orders.parked == 0
    assert orders.cancelled_by["inventory.rejected"] == 1
    assert report.reading.rounds == 1, "nothing was doubtful, so nothing was looked at again"


def test_stock_and_money_are_added_up_from_events_alone() -> None:
    log, _ = told()
    report = log.audit()
    apple = report.skus["apple"]
    assert apple.received == 100, "the delivery that was announced twice counts once"
    assert (apple.held, apple.sold, apple.available) == (0, 5, 95)
    sums = {account: figures.posted for (_, account), figures in report.accounts.items()}
    assert sums["sales"] == -(sums["gateway.receivable"] + sums["losses.written_off"])
    assert sums["losses.written_off"] == 250


MIXES = [("order/1",), ("order-pay-first/1",), ("order/1", "order-pay-first/1")]


@pytest.mark.parametrize("flows", MIXES, ids="+".join)
@pytest.mark.parametrize("seed", range(150))
def test_whatever_the_services_do_in_whatever_order_it_is_read_there_is_no_false_alarm(
    seed: int, flows: tuple[str, ...]
) -> None:
    with recording() as world:
        Scenario.draw(world, seed, flows).play()
        log = world.finish()
    log.in_order = lambda records: interleaved(records, Random(seed))
    report = log.audit()
    assert report.findings == []


@pytest.mark.parametrize("flows", MIXES, ids="+".join)
@pytest.mark.parametrize("seed", range(20))
def test_a_system_in_the_middle_of_its_work_has_open_orders_and_no_finding(seed: int, flows: tuple[str, ...]) -> None:
    """Wherever the topics end: a cut through causes and effects is looked at again, with what came later."""
    with recording() as world:
        Scenario.draw(world, seed, flows).play()
        log = world.finish()
    whole = log.copy()
    random = Random(seed)
    for place, records in log.records.items():
        if not place[0].endswith(("-changelog", ".journal")):
            del records[random.randint(0, len(records)) :]
    log.growing = [lambda log: log.records.update(whole.records)]
    report = log.audit(settled=False)
    assert report.findings == []
    assert report.orders.accepted >= report.orders.completed


def interleaved(records: list[LogRecord], random: Random) -> list[LogRecord]:
    """In order within each partition, at random between them."""
    partitions: dict[tuple[str, int], list[LogRecord]] = {}
    for record in records:
        partitions.setdefault((record.topic, record.partition), []).append(record)
    waiting = [iter(each) for each in partitions.values()]
    found = []
    while waiting:
        partition = random.choice(waiting)
        try:
            found.append(next(partition))
        except StopIteration:
            waiting.remove(partition)
    return found
