"""What must hold when everything has come to rest, whatever the order in which it happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from agents import payment
from agents.order import OWED
from events import (
    AnswerOverdue,
    AuthorisePayment,
    CancelShipment,
    InventoryCommitted,
    InventoryExpiryRequested,
    InventoryLineCommitted,
    InventoryLineHeld,
    InventoryLineReleased,
    InventoryLineShort,
    InventoryRejected,
    InventoryReleased,
    InventoryReserved,
    NotificationSent,
    Notify,
    OrderCancelled,
    OrderCancelRequested,
    OrderCompleted,
    OrderPlaced,
    OrderRefused,
    PaymentAuthorised,
    PaymentCaptured,
    PaymentDeclined,
    PaymentFailed,
    PaymentVoided,
    PaymentWrittenOff,
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
from tests.flows.world import World, saga_of, topic_of

CAUSES = (InventoryRejected, PaymentDeclined, PaymentFailed, ShippingFailed, ShippingCancelled)


class Promises(NamedTuple):
    """What one flow promises beyond what all of them do.

    refusal: what is published about a refused order
    owes:    the confirmations, besides inventory.released, that an order owes before it is cancelled for this cause
    asked:   who has asked shipping to stop it
    """

    refusal: frozenset[type[Event]]
    owes: Callable[[World, str, str], bool]
    asked: Callable[[World, str], set[str]]


def _void_for_cause(world: World, saga: str, cause: str) -> bool:
    return "voided" in OWED[cause]


def _void_if_asked_for(world: World, saga: str, cause: str) -> bool:
    return cause != "payment.declined" and bool(world.events(saga, AuthorisePayment))


def _asked_directly(world: World, saga: str) -> set[str]:
    kinds = [(OrderCancelRequested, "customer"), (InventoryExpiryRequested, "clock")]
    return {asker for kind, asker in kinds if world.events(saga, kind)}


def _asked_by_command(world: World, saga: str) -> set[str]:
    return {command.asked_by for command in world.events(saga, CancelShipment)}


PROMISES: Final = {
    "order/1": Promises(frozenset({OrderRefused, NotificationSent}), _void_for_cause, _asked_directly),
    "order-orchestrated/1": Promises(
        frozenset({OrderRefused, Notify, NotificationSent}), _void_if_asked_for, _asked_by_command
    ),
    "order-hybrid/1": Promises(frozenset({OrderRefused, NotificationSent}), _void_if_asked_for, _asked_directly),
}
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
        assert {type(event) for event in world.events(saga)} == promises(world, saga).refusal
    assert world.row("order", "orders", saga).phase == full_name(end).removeprefix("order.")
    check_answers(world, saga)
    check_stops(world, saga)
    check_ledger(world, saga)
    check_mail(world, saga, end)
    check_trail(world, saga, end)


def promises(world: World, saga: str) -> Promises:
    return PROMISES[world.flow_of[saga]]


def check_trail(world: World, saga: str, end: Event) -> None:
    """Whatever an orchestrator asked for has its answer, if only that it was taken back."""
    run = world.row("orchestrator", "orchestrations", saga)
    if run is None:
        begun = (service for service, _ in world.flows[world.flow_of[saga]].bindings)
        assert "orchestrator" not in begun or isinstance(end, OrderRefused), "it has no trail"
        return
    assert run.phase == "ended"
    assert [step.command for step in run.steps if not step.answer] == []


def check_completed(world: World, saga: str, end: OrderCompleted) -> None:
    assert not world.events(saga, *CAUSES), "completed, although something stopped it"
    assert not world.events(saga, InventoryReleased, PaymentVoided), "completed, although something was taken back"
    for kind in (OrderPlaced, InventoryReserved, PaymentAuthorised, ShippingDispatched, InventoryCommitted):
        assert len(world.events(saga, kind)) == 1, kind
    written_off = [event for event in world.events(saga, PaymentWrittenOff) if event.what == "capture"]
    assert len(world.events(saga, PaymentCaptured)) + len(written_off) == 1, "paid or written off, and once"
    assert end.written_off == bool(written_off)
    authorisation = f"{saga}/authorise"
    assert written_off or world.outside.captured[authorisation] == end.amount, "the card was not charged"
    assert authorisation not in world.outside.voided
    assert f"{saga}/book" in world.outside.booked - world.outside.unbooked, "completed, but nobody carries it"


def check_cancelled(world: World, saga: str, end: OrderCancelled) -> None:
    assert not world.events(saga, *BEHIND), "cancelled behind the point of no return"
    authorisation, booking = f"{saga}/authorise", f"{saga}/book"
    given_up = [event for event in world.events(saga, PaymentWrittenOff) if event.what == "void"]
    assert authorisation not in world.outside.captured, "cancelled, and the card charged"
    assert authorisation not in world.outside.authorised or authorisation in world.outside.voided or given_up
    assert booking not in world.outside.booked - world.outside.unbooked, "cancelled, and on its way"
    fired = [event for event in world.fired if saga_of(event) == saga and isinstance(event, AnswerOverdue)]
    assert end.cause in {full_name(event) for event in (*world.events(saga, *CAUSES), *fired)}
    check_owed(world, saga, end)
    check_steps(world, saga, end, bool(given_up))


def check_owed(world: World, saga: str, end: OrderCancelled) -> None:
    """Whatever the cause owes was published before the order was said to be cancelled."""
    before = [full_name(event) for event in world.events(saga)]
    before = before[: before.index("order.cancelled")]
    assert before.count("inventory.released") == 1
    if promises(world, saga).owes(world, saga, end.cause):
        assert before.count("payment.voided") + before.count("payment.written_off") == 1


def check_steps(world: World, saga: str, end: OrderCancelled, given_up: bool) -> None:
    """The steps that are listed are those that were done, each with what took it back."""
    listed = {step.step: step.undone_by for step in end.steps}
    was_held = bool(world.events(saga, InventoryLineHeld))
    [released] = world.events(saga, InventoryReleased)
    assert (released.outcome == "undone") == was_held
    assert listed.get("hold") == ("inventory.released" if was_held else None)
    voided = world.events(saga, PaymentVoided)
    assert len(voided) + given_up <= 1
    if given_up:
        assert listed.get("authorise") == "payment.written_off"
    elif voided and voided[0].outcome == "undone":
        assert listed.get("authorise") == "payment.voided"
    else:
        assert "authorise" not in listed
        assert f"{saga}/authorise" not in world.outside.authorised, "an authorisation that nobody took back"
        assert not world.events(saga, PaymentAuthorised, PaymentFailed)


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
    asked = promises(world, saga).asked(world, saga)
    assert refused <= asked
    if world.events(saga, OrderCompleted):
        assert _asked_directly(world, saga) <= refused, "who asked too late was not told"
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


def check_ledger(world: World, saga: str) -> None:
    sums = balance(world.events(saga, Posted))
    expected: Counter[str] = Counter()
    for end in world.events(saga, OrderCompleted):
        assert isinstance(end, OrderCompleted)
        recovered = any(event.memo == "recover" for event in world.events(saga, Posted))
        debit = payment.LOSSES if end.written_off and not recovered else payment.RECEIVABLE
        expected = Counter({debit: end.amount, payment.SALES: -end.amount})
        assert debit == payment.LOSSES or f"{saga}/authorise" in world.outside.captured
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
