"""Operations on dead letters, in the processor alone: what counts, in which order, and that nothing counts twice."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from agents import inventory, order
from events import (
    FarandoleHandled,
    FarandoleOperation,
    FarandoleOutcome,
    FarandoleParked,
    OrderLine,
    OrderPlaced,
    PlaceOrder,
    StockReceived,
)
from farandole.assembly import assemble
from farandole.event import Event, Meta
from farandole.message import DeadLetter

RESTOCK = "restock/1"


class Incoming:
    """A message as a consumer hands it out."""

    def __init__(self, topic: str, offset: int, key: bytes | None, value: bytes | None, time: int) -> None:
        self._said = topic, offset, key, value, time

    def topic(self) -> str:
        return self._said[0]

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._said[1]

    def key(self) -> bytes | None:
        return self._said[2]

    def value(self) -> bytes | None:
        return self._said[3]

    def headers(self) -> list[tuple[str, bytes]] | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return 1, self._said[4]


class Desk:
    """A service's processor with one partition, fed by hand; each `take` is a batch that is committed.

    letters, outcomes, events: all there were so far; events as (topic, metadata, event)
    """

    def __init__(self, app: Any) -> None:
        self.processor, _ = assemble(app)
        self.codec = self.processor.codec
        self.processor.partition_count = 1
        self.processor.add_partition(0)
        self.processor.restored(0)
        self._clock = itertools.count(1_000)
        self._offsets: dict[str, itertools.count[int]] = {}
        self.letters: list[DeadLetter] = []
        self.outcomes: list[FarandoleOutcome] = []
        self.events: list[tuple[str, Meta, Event]] = []

    def take(self, *messages: Incoming) -> None:
        processor = self.processor
        processor.process(messages)
        processor.seal()
        self.letters += processor.letters
        self.events += [(topic, *self.codec.decode(value)) for topic, value, _ in processor.events]
        kind = self.codec.type_of(FarandoleOutcome)
        for topic, value, _, _ in processor.records:
            if topic == processor.operations.topic and value is not None:
                self.outcomes.append(kind.decode_row(value))
                next(self._offsets[topic])  # it lies there itself
        processor.commit(0)

    def message(self, topic: str, key: bytes | None, value: bytes | None) -> Incoming:
        offset = next(self._offsets.setdefault(topic, itertools.count()))
        return Incoming(topic, offset, key, value, next(self._clock))

    def received(self, quantity: int, saga: str, sku: str = "sku-1") -> Incoming:
        value = self.codec.encode(StockReceived(sku=sku, quantity=quantity), Meta(f"t/{quantity}", saga, RESTOCK, ""))
        return self.message("stock", sku.encode(), value)

    def asked(self, letter: int, number: int, action: str = "redrive", **changes: Any) -> Incoming:
        """An operation about the letter with this index in the queue, which is the saga's with this number."""
        found = self.letters[letter]
        said = {name: value.decode() for name, value in found.headers}
        saga = said["__dlq.saga"]
        row = self.parked().get(saga)
        operation = FarandoleOperation(
            action=action,
            saga=saga,
            first=f"{row.topic}/0/{row.offset}" if row else "",
            number=number,
            topic=said["__dlq.errors.topic"],
            offset=int(said["__dlq.errors.offset"]),
            time=int(said["__dlq.timestamp"]),
            key=found.key,
            value=found.value,
            edited=False,
            who="anna",
            why="",
        )
        operation = replace(operation, **changes)
        value = self.codec.type_of(FarandoleOperation).encode_row(operation)
        return self.message("inventory.operations", saga.encode(), value)

    def parked(self) -> dict[str, FarandoleParked]:
        return self.processor.tables["parked"].parts[0].rows

    def handled(self) -> dict[str, FarandoleHandled]:
        return self.processor.tables["handled"].parts[0].rows

    def level(self, sku: str = "sku-1") -> int:
        row = self.processor.tables["levels"].parts[0].rows.get(sku)
        return row.available if row else 0

    def said(self) -> list[str]:
        return [outcome.outcome for outcome in self.outcomes]


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk(inventory.app)
    yield made
    made.processor.rollback()
    made.processor.drop_partition(0)


@pytest.fixture
def mended(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`receive` fails as long as the list that it gives is empty."""
    deploy: list[bool] = []
    decide = inventory._move

    def move(*arguments: Any, **named: Any) -> Any:
        if not deploy:
            raise RuntimeError("a bug")
        return decide(*arguments, **named)

    monkeypatch.setattr(inventory, "_move", move)
    return deploy


def park(desk: Desk, *quantities: int, saga: str = "d-1") -> None:
    """Each of these deliveries is a letter of the saga."""
    desk.take(*(desk.received(quantity, saga, f"sku-{quantity}") for quantity in quantities))
    assert desk.parked()[saga].count == len(quantities)


def test_letters_are_decided_in_order_and_the_last_one_unparks(desk: Desk, mended: list[bool]) -> None:
    park(desk, 1, 2, 3)
    mended.append(True)
    desk.take(desk.asked(0, 0))
    assert (desk.parked()["d-1"].done, desk.parked()["d-1"].count) == (1, 3)
    desk.take(desk.asked(1, 1), desk.asked(2, 2))
    assert desk.parked() == {}
    assert [(o.outcome, o.left) for o in desk.outcomes] == [("redriven", 2), ("redriven", 1), ("redriven", 0)]
    desk.take(desk.received(4, "d-2"))
    assert desk.level() == 1 + 4


def test_a_letter_is_decided_where_and_when_it_was_so_its_effects_have_the_ids_they_would_have_had(desk: Desk) -> None:
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


def test_a_repeated_operation_is_ignored(desk: Desk, mended: list[bool]) -> None:
    park(desk, 1, 2)
    mended.append(True)
    first, second = desk.asked(0, 0), desk.asked(1, 1)
    desk.take(first, first, second, second, first)
    assert desk.said() == ["redriven", "ignored", "redriven", "ignored", "ignored"]
    assert (desk.level("sku-1"), desk.level("sku-2")) == (1, 2)


def test_an_operation_about_a_later_letter_is_ignored(desk: Desk, mended: list[bool]) -> None:
    park(desk, 1, 2)
    mended.append(True)
    desk.take(desk.asked(1, 1), desk.asked(1, 2))
    assert desk.said() == ["ignored", "ignored"]
    assert desk.parked()["d-1"].done == 0
    assert desk.level("sku-2") == 0


def test_what_fails_again_leaves_nothing_and_stays_due(desk: Desk, mended: list[bool]) -> None:
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


def test_what_comes_meanwhile_is_behind_and_keeps_the_saga_parked(desk: Desk, mended: list[bool]) -> None:
    park(desk, 1, 2)
    mended.append(True)
    desk.take(desk.asked(0, 0), desk.received(3, "d-1", "sku-3"), desk.asked(1, 1))
    assert desk.parked()["d-1"].count == 3
    assert desk.level("sku-3") == 0
    desk.take(desk.asked(2, 2))
    assert desk.parked() == {}
    assert desk.level("sku-3") == 3


def test_an_operation_about_an_earlier_parking_is_ignored(desk: Desk, mended: list[bool]) -> None:
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


def test_a_discarded_letter_is_not_decided_and_the_next_one_is_due(desk: Desk, mended: list[bool]) -> None:
    park(desk, 1, 2)
    mended.append(True)
    desk.take(desk.asked(0, 0, "discard", value=None, why="a test order"), desk.asked(1, 1))
    assert desk.said() == ["discarded", "redriven"]
    assert (desk.level("sku-1"), desk.level("sku-2")) == (0, 2)
    assert (desk.outcomes[0].who, desk.outcomes[0].why) == ("anna", "a test order")
    assert desk.parked() == {}


def test_other_sagas_letters_are_their_own(desk: Desk, mended: list[bool]) -> None:
    park(desk, 1, saga="d-1")
    park(desk, 2, saga="d-2")
    mended.append(True)
    desk.take(desk.asked(1, 0))
    assert set(desk.parked()) == {"d-1"}


def test_an_edited_letter_of_another_saga_fails(desk: Desk, mended: list[bool]) -> None:
    park(desk, 1)
    mended.append(True)
    meta, event = desk.codec.decode(desk.letters[0].value)
    other = desk.codec.encode(event, meta._replace(saga="d-2"))
    desk.take(desk.asked(0, 0, value=other, edited=True))
    assert desk.said() == ["failed-again"]
    assert desk.outcomes[0].reason == "bad-saga"


def test_a_letter_without_a_saga_is_dealt_with_once(desk: Desk) -> None:
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


def test_a_letter_without_a_saga_does_not_overtake_those_of_a_parked_one(desk: Desk, mended: list[bool]) -> None:
    park(desk, 1)
    mended.append(True)
    desk.take(desk.message("stock", b"sku-1", b"nobody can read this"))
    value = desk.codec.encode(StockReceived(sku="sku-1", quantity=5), Meta("t/1", "d-1", RESTOCK, ""))
    desk.take(desk.asked(1, 0, value=value, edited=True))
    assert desk.said() == ["failed-again"]
    assert desk.level() == 0


def test_nonsense_among_the_operations_is_a_dead_letter_and_harms_nobody(desk: Desk, mended: list[bool]) -> None:
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


def test_an_operation_that_does_not_commit_is_undone(desk: Desk, mended: list[bool]) -> None:
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


def test_the_positions_that_are_committed_are_those_of_the_operations(desk: Desk, mended: list[bool]) -> None:
    park(desk, 1)
    asked = desk.asked(0, 0)
    desk.processor.process([asked])
    assert desk.processor.ahead == {("inventory.operations", 0): asked.offset() + 1}
    desk.processor.rollback()


def test_what_the_broker_refuses_of_a_redriven_letter_fails_again(desk: Desk, mended: list[bool]) -> None:
    park(desk, 1)
    mended.append(True)
    asked = desk.asked(0, 0)
    desk.processor.condemn("inventory.operations", 0, asked.offset())
    desk.take(asked)
    assert (desk.said(), desk.outcomes[0].reason) == (["failed-again"], "output-too-large")


def test_a_command_is_looked_at_as_when_it_came() -> None:
    """Whoever may edit could otherwise begin a saga on a partition where it never meets its answers."""
    desk = Desk(order.app)
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
