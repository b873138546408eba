"""What must hold when everything has come to rest, whatever the order in which it happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from events import (
    AnswerOverdue,
    InventoryCommitted,
    InventoryLineCommitted,
    InventoryLineHeld,
    InventoryLineReleased,
    InventoryLineShort,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    NotificationSent,
    OrderCancelled,
    OrderCompleted,
    OrderPlaced,
    OrderRefused,
    PaymentCaptured,
    PaymentDeclined,
    PaymentFailed,
    Posted,
    ShippingCancelled,
    ShippingCancelRefused,
    ShippingDispatched,
    ShippingFailed,
    StockCommitRequested,
    StockHoldRequested,
    StockReleaseRequested,
)
from farandole import Event
from tests.flows.asking import check_trail, owed, refusal, who_asked_for_a_stop, who_wants_a_stop
from tests.flows.paying import paying
from tests.flows.world import World, saga_of, topic_of

CAUSES = (InventoryRejected, PaymentDeclined, PaymentFailed, ShippingFailed, ShippingCancelled)
BEHIND = (ShippingDispatched, PaymentCaptured, InventoryCommitted, StockCommitRequested)


def full_name(event: Event) -> str:
    """`payment.voided`"""
    name = type(event).__name__
    topic = topic_of()[name]
    words = "".join(f"_{char.lower()}" if char.isupper() else char for char in name).strip("_")
    return f"{topic}.{words.removeprefix(topic + '_')}"


def check(world: World, received: dict[str, int]) -> None:
    """received: pieces by sku that were delivered."""
    assert not any(world.queues.values()), "something was not read"
    assert not world.calls, f"calls that nobody answers: {[call.name for call in world.calls.values()]}"
    assert not world.timers, f"timers of orders that have ended: {world.timers}"
    assert [each for each, count in Counter(world.published).items() if count > 1] == [], "published twice"
    sagas = {saga_of(event) for _, event in world.published}
    for saga in sagas:
        check_order(world, saga)
    check_stock(world, received)


def check_order(world: World, saga: str) -> None:
    ends = world.events(saga, OrderCompleted, OrderCancelled, OrderRefused)
    assert len(ends) == 1, f"{saga} has ended {len(ends)} times: {ends}"
    end = ends[0]
    if isinstance(end, OrderCompleted):
        check_completed(world, saga, end)
    elif isinstance(end, OrderCancelled):
        check_cancelled(world, saga, end)
    else:
        assert {type(event) for event in world.events(saga)} == refusal(world, saga)
    assert world.row("order", "orders", saga).phase == full_name(end).removeprefix("order.")
    check_answers(world, saga)
    check_stops(world, saga)
    check_ledger(world, saga, end)
    check_mail(world, saga, end)
    check_trail(world, saga, isinstance(end, OrderRefused))


def check_completed(world: World, saga: str, end: OrderCompleted) -> None:
    assert not world.events(saga, *CAUSES), "completed, although something stopped it"
    for kind in (OrderPlaced, InventoryReserved, ShippingDispatched, InventoryCommitted):
        assert len(world.events(saga, kind)) == 1, kind
    paying(world, saga).completed(world, saga, end)
    assert f"{saga}/book" in world.outside.booked - world.outside.unbooked, "completed, but nobody carries it"


def check_cancelled(world: World, saga: str, end: OrderCancelled) -> None:
    assert not world.events(saga, *BEHIND), "cancelled behind the point of no return"
    booking = f"{saga}/book"
    assert booking not in world.outside.booked - world.outside.unbooked, "cancelled, and on its way"
    check_owed(world, saga, end)
    check_steps(world, saga, end)


def check_owed(world: World, saga: str, end: OrderCancelled) -> None:
    """Whatever the cause owes was published before the order was said to be cancelled."""
    before = [full_name(event) for event in world.events(saga)]
    before = before[: before.index("order.cancelled")]
    overdue = [event for event in world.fired if saga_of(event) == saga and isinstance(event, AnswerOverdue)]
    assert end.cause in {full_name(event) for event in (*world.events(saga, *CAUSES), *overdue)}
    confirmations = paying(world, saga).confirmations
    for each in owed(world, saga, end.cause):
        assert sum(before.count(name) for name in confirmations[each]) == 1, each


def check_steps(world: World, saga: str, end: OrderCancelled) -> None:
    """The steps that are listed are those that were done, each with what took it back."""
    listed = {step.step: step.undone_by for step in end.steps}
    was_held = bool(world.events(saga, InventoryLineHeld))
    released = world.events(saga, InventoryReleased)
    assert len(released) == 1 if was_held else len(released) <= 1
    assert all((event.outcome == "undone") == was_held for event in released)
    assert listed.get("hold") == ("inventory.released" if was_held else None)
    paying(world, saga).cancelled(world, saga, listed)


def check_answers(world: World, saga: str) -> None:
    """Every hold, release and commit is answered once, whatever is asked twice."""

    held = {event.line for event in world.events(saga, InventoryLineHeld)}
    short = {event.line for event in world.events(saga, InventoryLineShort)}
    assert not held & short
    assert held | short == {request.line for request in world.events(saga, StockHoldRequested)}
    released = {answer.line for answer in world.events(saga, InventoryLineReleased)}
    assert released == {request.line for request in world.events(saga, StockReleaseRequested)}
    committed = {answer.line for answer in world.events(saga, InventoryLineCommitted)}
    assert committed == {request.line for request in world.events(saga, StockCommitRequested)}
    row = world.row("inventory", "reservations", saga)
    assert row is None or not (row.card_token or row.lines or row.ship_to), "an ended reservation keeps nothing"


def check_stops(world: World, saga: str) -> None:
    """Whoever asked for a stop gets it, or learns that it is too late."""
    refused = {event.asked_by for event in world.events(saga, ShippingCancelRefused)}
    stopped = bool(world.events(saga, ShippingCancelled, ShippingFailed))
    asked = who_asked_for_a_stop(world, saga)
    assert refused <= asked
    assert not world.events(saga, OrderCompleted) or who_wants_a_stop(world, saga) <= refused, "too late, and not told"
    assert all((asker in refused) != stopped for asker in asked), f"{asked} asked, {refused} were refused, {stopped=}"


def balance(posted: Iterable[Event]) -> Counter[str]:
    """Sum by account."""
    sums: Counter[str] = Counter()
    for event in posted:
        assert isinstance(event, Posted)
        assert sum(entry.amount for entry in event.entries) == 0, f"{event} does not balance"
        for entry in event.entries:
            sums[entry.account] += entry.amount
    return sums


def check_ledger(world: World, saga: str, end: Event) -> None:
    sums, expected = balance(world.events(saga, Posted)), paying(world, saga).balance(world, saga, end)
    assert {name: sum for name, sum in sums.items() if sum} == {name: sum for name, sum in expected.items() if sum}


def check_mail(world: World, saga: str, end: Event) -> None:
    template = full_name(end).removeprefix("order.")
    [sent] = world.events(saga, NotificationSent)
    assert sent.template == template
    mails = [each for each in world.outside.mails if each[0] == saga]
    assert mails in ([], [(saga, template)])
    assert mails or sent.outcome == "gave_up"


def check_stock(world: World, received: dict[str, int]) -> None:
    """Every piece is available or sold; nothing is held for an order that has ended."""
    sold: Counter[str] = Counter()
    completed = {event.saga for _, event in world.published if isinstance(event, OrderCompleted)}
    for _, event in world.published:
        if isinstance(event, OrderPlaced) and event.saga in completed:
            for line in event.lines:
                sold[line.sku] += line.quantity
    levels = world.rows("inventory")["levels"]
    for sku, quantity in received.items():
        level = levels[sku]
        assert (level.available, level.held, level.sold) == (quantity - sold[sku], 0, sold[sku]), sku
    assert set(levels) == set(received)
