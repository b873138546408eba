"""Operations on dead letters, in the processor alone: what counts, in which order, and that nothing counts twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agents import inventory, order
from events import OrderLine, OrderPlaced, PlaceOrder, StockReceived
from farandole.event import Meta
from tests.farandole.bench_of_letters import RESTOCK, Bench, broken_until_mended


@pytest.fixture
def desk() -> Iterator[Bench]:
    made = Bench(inventory.app)
    yield made
    made.processor.rollback()
    made.processor.drop_partition(0)


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    return broken_until_mended(monkeypatch)


def park(desk: Bench, *quantities: int, saga: str = "d-1") -> None:
    """Each of these deliveries is a letter of the saga."""
    desk.take(*(desk.received(quantity, saga, f"sku-{quantity}") for quantity in quantities))
    assert desk.parked()[saga].count == len(quantities)


def test_letters_are_decided_in_order_and_the_last_one_unparks(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1, 2, 3)
    mended.append(True)
    desk.take(desk.asked(0, 0))
    assert (desk.parked()["d-1"].done, desk.parked()["d-1"].count) == (1, 3)
    desk.take(desk.asked(1, 1), desk.asked(2, 2))
    assert desk.parked() == {}
    assert [(o.outcome, o.left) for o in desk.outcomes] == [("redriven", 2), ("redriven", 1), ("redriven", 0)]
    desk.take(desk.received(4, "d-2"))
    assert desk.level() == 1 + 4


def test_a_letter_is_decided_where_and_when_it_was_so_its_effects_have_the_ids_they_would_have_had(desk: Bench) -> None:
    line = OrderLine(line=1, sku="sku-1", quantity=1, price=1)
    event = OrderPlaced(
        customer="c", lines=(line,), amount=1, currency="EUR", ship_to="x", card_token="t", reserve_for=9
    )
    value = desk.codec.encode(event, Meta("t/1", "o-1", "order/1", ""))
    desk.message("order", None, None)  # so that it is not the first one
    torn = desk.message("order", b"o-1", value[:-1])
    desk.take(torn)
    desk.take(desk.asked(0, 0, value=value, edited=True))
    assert desk.said() == ["redriven"]
    [(topic, meta, _)] = desk.events
    assert (topic, meta.id, meta.cause) == ("stock", "order/0/1.inventory.0", "t/1")
    [timer] = desk.processor.tables["timers"].parts[0].rows.values()
    assert timer.due == torn.timestamp()[1] + 9_000


def test_a_repeated_operation_is_ignored(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1, 2)
    mended.append(True)
    first, second = desk.asked(0, 0), desk.asked(1, 1)
    desk.take(first, first, second, second, first)
    assert desk.said() == ["redriven", "ignored", "redriven", "ignored", "ignored"]
    assert (desk.level("sku-1"), desk.level("sku-2")) == (1, 2)


def test_an_operation_about_a_later_letter_is_ignored(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1, 2)
    mended.append(True)
    desk.take(desk.asked(1, 1), desk.asked(1, 2))
    assert desk.said() == ["ignored", "ignored"]
    assert desk.parked()["d-1"].done == 0
    assert desk.level("sku-2") == 0


def test_what_fails_again_leaves_nothing_and_stays_due(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1, 2)
    before = desk.parked()["d-1"]
    desk.take(desk.asked(0, 0), desk.asked(1, 1))
    assert desk.said() == ["failed-again", "ignored"]
    assert len(desk.letters) == 2
    assert desk.outcomes[0].error == "RuntimeError: a bug"
    row = desk.parked()["d-1"]
    assert (row.count, row.done, row.tries, row.updated > 0) == (2, 0, 1, True)
    assert (row.topic, row.offset, row.since) == (before.topic, before.offset, before.since)
    assert desk.processor.tables["deliveries"].parts[0].rows == {}
    mended.append(True)
    desk.take(desk.asked(0, 0), desk.asked(1, 1))
    assert desk.parked() == {}


def test_what_comes_meanwhile_is_behind_and_keeps_the_saga_parked(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1, 2)
    mended.append(True)
    desk.take(desk.asked(0, 0), desk.received(3, "d-1", "sku-3"), desk.asked(1, 1))
    assert desk.parked()["d-1"].count == 3
    assert desk.level("sku-3") == 0
    desk.take(desk.asked(2, 2))
    assert desk.parked() == {}
    assert desk.level("sku-3") == 3


def test_an_operation_about_an_earlier_parking_is_ignored(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1)
    late = desk.asked(0, 0)
    mended.append(True)
    desk.take(desk.asked(0, 0))
    mended.clear()
    desk.take(desk.received(2, "d-1", "sku-2"))
    mended.append(True)
    desk.take(late)
    assert desk.said() == ["redriven", "ignored"]
    assert (desk.level("sku-1"), desk.level("sku-2")) == (1, 0)


def test_a_discarded_letter_is_not_decided_and_the_next_one_is_due(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1, 2)
    mended.append(True)
    desk.take(desk.asked(0, 0, "discard", value=None, why="a test order"), desk.asked(1, 1))
    assert desk.said() == ["discarded", "redriven"]
    assert (desk.level("sku-1"), desk.level("sku-2")) == (0, 2)
    assert (desk.outcomes[0].who, desk.outcomes[0].why) == ("anna", "a test order")
    assert desk.parked() == {}


def test_other_sagas_letters_are_their_own(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1, saga="d-1")
    park(desk, 2, saga="d-2")
    mended.append(True)
    desk.take(desk.asked(1, 0))
    assert set(desk.parked()) == {"d-1"}


def test_an_edited_letter_of_another_saga_fails(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1)
    mended.append(True)
    meta, event = desk.codec.decode(desk.letters[0].value)
    other = desk.codec.encode(event, meta._replace(saga="d-2"))
    desk.take(desk.asked(0, 0, value=other, edited=True))
    assert desk.said() == ["failed-again"]
    assert desk.outcomes[0].reason == "bad-saga"


def test_a_letter_without_a_saga_is_dealt_with_once(desk: Bench) -> None:
    desk.take(desk.message("stock", b"sku-1", b"nobody can read this"))
    value = desk.codec.encode(StockReceived(sku="sku-1", quantity=5), Meta("t/1", "d-1", RESTOCK, ""))
    assert desk.parked() == {}
    desk.take(desk.asked(0, 0))
    assert desk.said() == ["failed-again"]
    again = desk.asked(0, 0, value=value, edited=True)
    desk.take(again)
    desk.take(again, desk.asked(0, 0, "discard"))
    assert desk.said() == ["failed-again", "redriven", "ignored", "ignored"]
    assert desk.level() == 5
    assert desk.handled()["stock/0"].outcome == "redriven"


def test_a_letter_without_a_saga_does_not_overtake_those_of_a_parked_one(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1)
    mended.append(True)
    desk.take(desk.message("stock", b"sku-1", b"nobody can read this"))
    value = desk.codec.encode(StockReceived(sku="sku-1", quantity=5), Meta("t/1", "d-1", RESTOCK, ""))
    desk.take(desk.asked(1, 0, value=value, edited=True))
    assert desk.said() == ["failed-again"]
    assert desk.level() == 0


def test_nonsense_among_the_operations_is_a_dead_letter_and_harms_nobody(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1)
    mended.append(True)
    good = desk.asked(0, 0)
    torn = desk.message("inventory.operations", b"", (good.value() or b"")[:-1])
    alien = desk.message("inventory.operations", b"", b"hello")
    elsewhere = desk.asked(0, 0, topic="mail")
    unknown = desk.asked(0, 0, "explode")
    desk.take(torn, alien, elsewhere, unknown, good)
    assert len(desk.letters) == 3
    assert desk.said() == ["failed-again", "ignored", "redriven"]


def test_an_operation_that_does_not_commit_is_undone(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1)
    before = desk.parked()["d-1"]
    mended.append(True)
    asked = desk.asked(0, 0)
    desk.processor.process([asked])
    desk.processor.rollback()
    assert desk.parked() == {"d-1": before}
    desk.take(asked)
    assert desk.parked() == {}
    assert desk.level() == 1


def test_the_positions_that_are_committed_are_those_of_the_operations(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1)
    asked = desk.asked(0, 0)
    desk.processor.process([asked])
    assert desk.processor.ahead == {("inventory.operations", 0): asked.offset() + 1}
    desk.processor.rollback()


def test_what_the_broker_refuses_of_a_redriven_letter_fails_again(desk: Bench, mended: list[bool]) -> None:
    park(desk, 1)
    mended.append(True)
    asked = desk.asked(0, 0)
    desk.processor.condemn("inventory.operations", 0, asked.offset())
    desk.take(asked)
    assert (desk.said(), desk.outcomes[0].reason) == (["failed-again"], "output-too-large")


def test_a_letter_of_what_the_broker_refused_once_can_be_redriven(desk: Bench) -> None:
    refused = desk.received(5, "d-1")
    desk.processor.condemn("stock", 0, refused.offset())
    desk.take(refused)
    assert desk.parked()["d-1"].reason == "output-too-large"
    again = desk.asked(0, 0)
    desk.processor.condemn("inventory.operations", 0, again.offset())  # what it causes is still too large
    desk.take(again)
    assert (desk.said(), desk.level()) == (["failed-again"], 0)
    desk.take(desk.asked(0, 0))
    assert (desk.said(), desk.level()) == (["failed-again", "redriven"], 5)


def test_a_command_is_looked_at_as_when_it_came() -> None:
    """Whoever may edit could otherwise begin a saga on a partition where it never meets its answers."""
    desk = Bench(order.app)
    desk.processor.partition_count = 6
    value = desk.codec.encode(
        PlaceOrder(
            customer="c",
            idempotency_key="k",
            lines=(),
            currency="EUR",
            email="e",
            ship_to="s",
            card_token="t",
            reserve_for=9,
        ),
        Meta("t/1", "o-2", "order/1", ""),
    )
    desk.take(desk.message("order.commands", b"o-2", value))
    assert [dict(letter.headers)["__dlq.reason"] for letter in desk.letters] == [b"wrong-partition"]
    operation = desk.asked(0, 0)
    desk.take(desk.message("order.operations", b"", operation.value()))
    assert (desk.said(), desk.outcomes[0].reason) == (["failed-again"], "wrong-partition")
    desk.processor.drop_partition(0)
