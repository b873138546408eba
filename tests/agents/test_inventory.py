"""Every piece is available, held or sold; every request is answered once; an order is released once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import inventory
from events import (
    Hold,
    InventoryCommitted,
    InventoryExpiryRequested,
    InventoryLineCommitted,
    InventoryLineHeld,
    InventoryLineReleased,
    InventoryLineShort,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    OrderLine,
    OrderPlaced,
    PaymentDeclined,
    PaymentFailed,
    Reservation,
    ReservationExpired,
    ReservationPhase,
    ReservedLine,
    ShippingCancelled,
    ShippingDispatched,
    ShippingFailed,
    StockCommitRequested,
    StockHoldRequested,
    StockLevel,
    StockReceived,
    StockReleaseRequested,
)
from farandole import CancelTimer, Timer
from farandole.testing import tables

PLACED = OrderPlaced(
    customer="anna",
    lines=(
        OrderLine(line=1, sku="apple", quantity=2, price=250),
        OrderLine(line=2, sku="apple", quantity=1, price=250),
    ),
    amount=750,
    currency="EUR",
    ship_to="1 Main Street",
    card_token="tok_good",
    reserve_for=60,
    saga="o-1",
)
CAUSES = [
    PaymentDeclined(reason="no", saga="o-1"),
    PaymentFailed(outcome="unknown", reason="no", saga="o-1"),
    ShippingFailed(reason="no", saga="o-1"),
    ShippingCancelled(asked_by="customer", saga="o-1"),
]
EXPIRED = ReservationExpired(saga="o-1")
DISPATCHED = ShippingDispatched(tracking="parcel-1", saga="o-1")
NO_TIMER = CancelTimer(ReservationExpired)


@pytest.fixture(autouse=True)
def _tables() -> Iterator[None]:
    with tables(inventory.app):
        yield


def receive(quantity: int, delivery: str = "d-1") -> None:
    inventory.receive(StockReceived(sku="apple", quantity=quantity, saga=delivery))


def hold(line: int = 1, quantity: int = 2) -> Any:
    return inventory.hold(StockHoldRequested(sku="apple", line=line, quantity=quantity, saga="o-1"))


def release(line: int = 1) -> Any:
    return inventory.release(StockReleaseRequested(sku="apple", line=line, saga="o-1"))


def commit(line: int = 1) -> Any:
    return inventory.commit(StockCommitRequested(sku="apple", line=line, saga="o-1"))


def level(available: int, held: int = 0, sold: int = 0) -> StockLevel:
    return StockLevel(available=available, held=held, sold=sold)


# ---- the sku side


def test_a_delivery_is_added_once() -> None:
    receive(5)
    receive(5)
    receive(2, "d-2")
    assert inventory.levels["apple"] == level(7)


def test_the_same_delivery_with_another_quantity_is_a_contradiction() -> None:
    receive(5)
    with pytest.raises(AssertionError, match="once had 5"):
        receive(6)


@pytest.mark.parametrize(("sku", "quantity"), [("", 1), ("an apple", 1), (" apple", 1), ("apple", 0), ("apple", -1)])
def test_a_delivery_of_nothing_is_none(sku: str, quantity: int) -> None:
    with pytest.raises(AssertionError):
        inventory.receive(StockReceived(sku=sku, quantity=quantity, saga="d-1"))


def test_what_is_there_is_held_to_the_last_piece() -> None:
    receive(2)
    assert hold() == InventoryLineHeld(line=1)
    assert inventory.levels["apple"] == level(0, held=2)


def test_what_is_not_there_is_short_and_stays_so() -> None:
    receive(1)
    assert hold() == InventoryLineShort(line=1)
    receive(9, "d-2")
    assert hold() is None
    assert inventory.levels["apple"] == level(10)


def test_a_sku_that_nobody_ever_delivered_is_short() -> None:
    assert hold() == InventoryLineShort(line=1)


def test_a_hold_of_nothing_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        hold(quantity=0)


def test_two_lines_of_one_order_hold_the_same_sku_each_for_itself() -> None:
    receive(5)
    hold(1, 2)
    hold(2, 1)
    assert inventory.levels["apple"] == level(2, held=3)
    release(1)
    assert inventory.levels["apple"] == level(4, held=1)


def test_a_hold_is_released_once() -> None:
    receive(2)
    hold()
    assert release() == InventoryLineReleased(line=1, outcome="undone")
    assert release() is None
    assert hold() is None
    assert inventory.levels["apple"] == level(2)


def test_a_hold_is_sold_once() -> None:
    receive(2)
    hold()
    assert commit() == InventoryLineCommitted(line=1)
    assert commit() is None
    assert hold() is None
    assert inventory.levels["apple"] == level(0, sold=2)


def test_a_short_line_has_nothing_to_release() -> None:
    hold()
    assert release() == InventoryLineReleased(line=1, outcome="nothing_to_undo")
    assert release() is None


def test_a_release_before_its_hold_is_confirmed_and_the_hold_refused() -> None:
    receive(2)
    assert release() == InventoryLineReleased(line=1, outcome="nothing_to_undo")
    assert release() is None
    assert inventory.holds["o-1/1"] == Hold(phase="barred", quantity=0)
    assert hold() == InventoryLineShort(line=1)
    assert hold() is None
    assert release() is None
    assert inventory.levels["apple"] == level(2)


def test_what_is_sold_is_not_released() -> None:
    receive(5)
    hold()
    hold(2)
    commit()
    with pytest.raises(AssertionError, match="what is sold cannot be released"):
        release()


def test_no_level_goes_below_zero_whatever_a_row_says() -> None:
    receive(5)
    hold()
    inventory.levels["apple"] = level(5)
    with pytest.raises(AssertionError, match="would be"):
        release()


def test_what_is_not_held_is_not_sold() -> None:
    with pytest.raises(KeyError):
        commit()
    hold()
    with pytest.raises(AssertionError, match="short"):
        commit()
    release()
    with pytest.raises(AssertionError, match="released"):
        commit()


requests = st.lists(
    st.tuples(
        st.sampled_from(["receive", "hold", "release", "commit"]),
        st.sampled_from(["o-1", "o-2", "o-3"]),
        st.integers(1, 2),
        st.integers(1, 5),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(requests)
def test_whatever_is_asked_in_whatever_order_every_piece_is_somewhere(asked: list[tuple[str, str, int, int]]) -> None:
    with tables(inventory.app):
        received = 0
        held: dict[tuple[str, int], int] = {}
        sold = 0
        for what, saga, line, quantity in asked:
            lies = held.get((saga, line), 0)
            try:
                if what == "receive":
                    delivery = f"{saga}.{line}.{quantity}"
                    new = f"apple {delivery}" not in inventory.deliveries
                    receive(quantity, delivery)
                    received += quantity * new
                elif what == "hold":
                    request = StockHoldRequested(sku="apple", line=line, quantity=quantity, saga=saga)
                    if isinstance(inventory.hold(request), InventoryLineHeld):
                        held[saga, line] = quantity
                elif what == "release":
                    inventory.release(StockReleaseRequested(sku="apple", line=line, saga=saga))
                    held.pop((saga, line), None)
                else:
                    inventory.commit(StockCommitRequested(sku="apple", line=line, saga=saga))
                    sold += held.pop((saga, line), 0)
            except (AssertionError, KeyError):
                assert what != "hold"
                assert held.get((saga, line), 0) == lies
            now = inventory.levels.get("apple") or inventory.EMPTY
            assert (now.available, now.held, now.sold) == (
                received - sum(held.values()) - sold,
                sum(held.values()),
                sold,
            )
            assert now.available >= 0


# ---- the order side


def phase(wanted: ReservationPhase, first: Any = "held", second: Any = "held") -> None:
    """Put the order's reservation into a phase."""
    lines = (ReservedLine(line=1, sku="apple", phase=first), ReservedLine(line=2, sku="apple", phase=second))
    inventory.reservations["o-1"] = Reservation(phase=wanted, lines=lines, amount=750, currency="EUR")


def now() -> Reservation:
    return inventory.reservations["o-1"]


def held(line: int) -> Any:
    return inventory.line_held(InventoryLineHeld(line=line, saga="o-1"))


def short(line: int) -> Any:
    return inventory.line_short(InventoryLineShort(line=line, saga="o-1"))


def released(line: int, outcome: Any = "undone") -> Any:
    return inventory.line_released(InventoryLineReleased(line=line, outcome=outcome, saga="o-1"))


def committed(line: int) -> Any:
    return inventory.line_committed(InventoryLineCommitted(line=line, saga="o-1"))


RELEASES = (StockReleaseRequested(sku="apple", line=1), StockReleaseRequested(sku="apple", line=2))


def test_every_line_is_asked_for_and_the_clock_set() -> None:
    assert inventory.request_holds(PLACED) == (
        StockHoldRequested(sku="apple", line=1, quantity=2),
        StockHoldRequested(sku="apple", line=2, quantity=1),
        Timer(ReservationExpired(), after=60),
    )
    assert inventory.request_holds(PLACED) is None


def test_an_order_is_reserved_when_all_lines_are_held_and_its_card_forgotten() -> None:
    inventory.request_holds(PLACED)
    assert held(2) is None
    assert held(2) is None
    assert held(1) == InventoryReserved(amount=750, currency="EUR", card_token="tok_good", ship_to="1 Main Street")
    assert now().card_token == ""
    assert held(1) is None


def test_an_order_is_rejected_only_when_all_lines_have_answered() -> None:
    inventory.request_holds(PLACED)
    assert short(1) is None
    assert held(2) == (InventoryRejected(reason="not enough stock for line 1"), NO_TIMER, RELEASES[1])
    assert released(2) == InventoryReleased(outcome="undone")
    assert released(2) is None


def test_an_order_without_any_stock_has_nothing_to_release() -> None:
    inventory.request_holds(PLACED)
    short(2)
    assert short(1) == (
        InventoryRejected(reason="not enough stock for line 1, 2"),
        NO_TIMER,
        InventoryReleased(outcome="nothing_to_undo"),
    )


@pytest.mark.parametrize("first", ["asked", "held", "short"])
def test_a_reservation_that_runs_out_releases_every_line_that_may_be_held(first: str) -> None:
    phase("holding", first, "asked")
    rejected, *rest = inventory.expire(EXPIRED)  # type: ignore[misc]
    assert isinstance(rejected, InventoryRejected)
    assert rest == [NO_TIMER, *(RELEASES if first != "short" else RELEASES[1:])]
    assert inventory.expire(EXPIRED) is None


def test_a_line_that_answers_after_the_reservation_ran_out_changes_nothing() -> None:
    phase("holding", "asked", "asked")
    inventory.expire(EXPIRED)
    assert held(1) is None
    assert short(2) is None
    assert released(2, "nothing_to_undo") is None
    assert released(1) == InventoryReleased(outcome="undone")


def test_after_it_is_reserved_shipping_is_asked_once_to_stop_the_order() -> None:
    phase("reserved")
    assert inventory.expire(EXPIRED) == InventoryExpiryRequested()
    assert inventory.expire(EXPIRED) is None


@pytest.mark.parametrize("ended", ["releasing", "released", "committing", "committed"])
def test_the_clock_says_nothing_about_what_is_decided(ended: ReservationPhase) -> None:
    phase(ended)
    assert inventory.expire(EXPIRED) is None


@pytest.mark.parametrize("cause", CAUSES, ids=lambda each: type(each).__name__)
class TestACause:
    def test_before_the_order_was_heard_of_is_confirmed_at_once_and_the_order_gets_nothing(self, cause: Any) -> None:
        assert inventory.request_releases(cause) == (NO_TIMER, InventoryReleased(outcome="nothing_to_undo"))
        assert inventory.request_releases(cause) is None
        assert inventory.request_holds(PLACED) is None

    @pytest.mark.parametrize("before", ["holding", "reserved", "expiring"])
    def test_releases_every_line_and_stops_the_clock(self, cause: Any, before: ReservationPhase) -> None:
        phase(before)
        assert inventory.request_releases(cause) == (NO_TIMER, *RELEASES)
        assert inventory.request_releases(cause) is None
        assert released(1) is None
        assert released(2) == InventoryReleased(outcome="undone")
        assert inventory.request_releases(cause) is None

    @pytest.mark.parametrize("behind", ["committing", "committed"])
    def test_behind_the_point_of_no_return_is_a_bug(self, cause: Any, behind: ReservationPhase) -> None:
        phase(behind)
        with pytest.raises(AssertionError, match="point of no return"):
            inventory.request_releases(cause)


@pytest.mark.parametrize("before", ["reserved", "expiring"])
def test_what_is_dispatched_is_sold_line_by_line(before: ReservationPhase) -> None:
    phase(before)
    assert inventory.request_commits(DISPATCHED) == (
        NO_TIMER,
        StockCommitRequested(sku="apple", line=1),
        StockCommitRequested(sku="apple", line=2),
    )
    assert inventory.request_commits(DISPATCHED) is None
    assert committed(2) is None
    assert [line.phase for line in now().lines] == ["held", "committed"]
    assert committed(2) is None
    assert committed(1) == InventoryCommitted()
    assert committed(1) is None
    assert inventory.request_commits(DISPATCHED) is None


@pytest.mark.parametrize("before", ["holding", "releasing", "released"])
def test_a_dispatch_of_what_is_not_reserved_is_a_bug(before: ReservationPhase) -> None:
    phase(before)
    with pytest.raises(AssertionError, match="dispatched"):
        inventory.request_commits(DISPATCHED)


@pytest.mark.parametrize("before", ["holding", "reserved", "committing", "committed"])
def test_a_release_that_nobody_asked_for_is_a_bug(before: ReservationPhase) -> None:
    phase(before)
    with pytest.raises(AssertionError, match="nobody asked"):
        released(1)


@pytest.mark.parametrize("before", ["holding", "reserved", "releasing", "released"])
def test_a_commit_that_nobody_asked_for_is_a_bug(before: ReservationPhase) -> None:
    phase(before)
    with pytest.raises(AssertionError, match="nobody asked"):
        committed(1)


def test_an_ended_reservation_keeps_nothing_but_that_it_has_ended() -> None:
    phase("committing")
    committed(1)
    committed(2)
    assert now() == Reservation(phase="committed")
    phase("releasing")
    released(1)
    released(2)
    assert now() == Reservation(phase="released")
