"""The inventory service: what is there, for whom it is held, and what was sold.

It has two sides. The sku side hears topic `stock` and owns the quantities; the order side hears everything else and
owns the reservations. They talk by events only, because a sku and an order seldom lie in the same partition.

Invariants:
- For every sku, received = available + held + sold, and none of them is below zero.
- Every hold, release and commit that is requested for an order's line is answered once.
- An order that is rolled back is released once, whatever the number of its causes and however early they are heard.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from events import (
    CommitStock,
    Delivery,
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
    LinePhase,
    OrderPlaced,
    PaymentCharged,
    PaymentDeclined,
    PaymentFailed,
    ReleaseStock,
    Reservation,
    ReservationExpired,
    ReservedLine,
    ReserveStock,
    ShippingCancelled,
    ShippingDispatched,
    ShippingFailed,
    StockCommitRequested,
    StockHoldRequested,
    StockLevel,
    StockReceived,
    StockReleaseRequested,
)
from farandole import App, CancelTimer, Timer

app = App("inventory")
levels = app.Table("levels", value=StockLevel, help="The stock of each sku.")
holds = app.Table(
    "holds",
    value=Hold,
    ended=lambda hold: hold.phase != "held",
    help="What became of each order line, by order and line, in its sku's partition.",
)
deliveries = app.Table("deliveries", value=Delivery, help="Deliveries that were received, by sku and delivery.")
reservations = app.Table(
    "reservations",
    value=Reservation,
    ended=lambda reservation: reservation.phase in ("released", "committed"),
    help="The reservation of each order, by its id.",
)

MAX_SKU: Final = 64
EMPTY = StockLevel(available=0, held=0, sold=0)
UNHEARD_OF = Reservation(phase="holding")


# ---- the sku side: one sku's quantities


def receive(delivery: StockReceived) -> None:
    """Add a delivery to the stock. The same delivery again changes nothing."""
    assert delivery.sku.split() == [delivery.sku], "a sku has at least one character, and no spaces"
    assert len(delivery.sku) <= MAX_SKU, f"a sku has at most {MAX_SKU} characters, as in an order"
    assert delivery.quantity > 0, "a delivery is at least one piece"
    key = f"{delivery.sku} {delivery.saga}"
    known = deliveries.get(key)
    if known is None:
        deliveries[key] = Delivery(quantity=delivery.quantity)
        _move(delivery.sku, available=delivery.quantity)
        return
    assert known.quantity == delivery.quantity, f"the same delivery once had {known.quantity} pieces"


def hold(request: StockHoldRequested) -> InventoryLineHeld | InventoryLineShort | None:
    """Hold the quantity, if it is there. A line that was released before gets nothing any more."""
    assert request.quantity > 0, "a hold is of at least one piece"
    key = f"{request.saga}/{request.line}"
    known = holds.get(key)
    if known is not None and known.phase != "barred":
        return None
    available = (levels.get(request.sku) or EMPTY).available
    if known is not None or available < request.quantity:
        holds[key] = Hold(phase="released" if known else "short", quantity=request.quantity)
        return InventoryLineShort(line=request.line)
    holds[key] = Hold(phase="held", quantity=request.quantity)
    _move(request.sku, available=-request.quantity, held=request.quantity)
    return InventoryLineHeld(line=request.line)


def release(request: StockReleaseRequested) -> InventoryLineReleased | None:
    """Give back what is held. If that is nothing, see to it that nothing will be."""
    key = f"{request.saga}/{request.line}"
    known = holds.get(key)
    if known is None:
        holds[key] = Hold(phase="barred", quantity=0)
        return InventoryLineReleased(line=request.line, outcome="nothing_to_undo")
    assert known.phase != "committed", "what is sold cannot be released"
    if known.phase in ("released", "barred"):
        return None
    holds[key] = replace(known, phase="released")
    if known.phase == "short":
        return InventoryLineReleased(line=request.line, outcome="nothing_to_undo")
    _move(request.sku, held=-known.quantity, available=known.quantity)
    return InventoryLineReleased(line=request.line, outcome="undone")


def commit(request: StockCommitRequested) -> InventoryLineCommitted | None:
    """What is held is sold."""
    key = f"{request.saga}/{request.line}"
    known = holds[key]
    if known.phase == "committed":
        return None
    assert known.phase == "held", f"only what is held can be sold, this line is {known.phase}"
    holds[key] = replace(known, phase="committed")
    _move(request.sku, held=-known.quantity, sold=known.quantity)
    return InventoryLineCommitted(line=request.line)


def _move(sku: str, available: int = 0, held: int = 0, sold: int = 0) -> None:
    before = levels.get(sku) or EMPTY
    after = StockLevel(available=before.available + available, held=before.held + held, sold=before.sold + sold)
    assert min(after.available, after.held, after.sold) >= 0, f"the stock of {sku} would be {after}"
    levels[sku] = after


# ---- the order side: one order's reservation

Rollback = tuple[InventoryRejected | StockReleaseRequested | InventoryReleased | CancelTimer, ...]


def request_holds(
    order: OrderPlaced | PaymentCharged | ReserveStock,
) -> tuple[StockHoldRequested | Timer[ReservationExpired], ...] | None:
    """Ask for a hold on each line, and be reminded. An order that was stopped before it was heard of gets none."""
    if order.saga in reservations:
        return None
    reservations[order.saga] = Reservation(
        phase="holding",
        lines=tuple(ReservedLine(line=line.line, sku=line.sku, phase="asked") for line in order.lines),
        amount=order.amount,
        currency=order.currency,
        card_token="" if isinstance(order, PaymentCharged) else order.card_token,
        ship_to=order.ship_to,
    )
    requests = (StockHoldRequested(sku=line.sku, line=line.line, quantity=line.quantity) for line in order.lines)
    return *requests, Timer(ReservationExpired(), after=order.reserve_for)


def line_held(answer: InventoryLineHeld) -> InventoryReserved | Rollback | None:
    return _gather(answer.saga, answer.line, "held")


def line_short(answer: InventoryLineShort) -> InventoryReserved | Rollback | None:
    return _gather(answer.saga, answer.line, "short")


def _gather(saga: str, line: int, phase: LinePhase) -> InventoryReserved | Rollback | None:
    """Note a line's answer. When all have answered, the order is reserved, unless at least one line was short."""
    before = reservations[saga]
    if before.phase != "holding":
        return None
    after = reservations[saga] = replace(before, lines=_with_line(before.lines, line, phase))
    if _any_is(after.lines, "asked"):
        return None
    if _any_is(after.lines, "short"):
        short = ", ".join(str(each.line) for each in after.lines if each.phase == "short")
        return InventoryRejected(reason=f"not enough stock for line {short}"), *_roll_back(saga, after.lines)
    reservations[saga] = Reservation(phase="reserved", lines=after.lines)
    return InventoryReserved(
        amount=before.amount, currency=before.currency, card_token=before.card_token, ship_to=before.ship_to
    )


def expire(timer: ReservationExpired) -> InventoryExpiryRequested | Rollback | None:
    """Before it is reserved, inventory may reject the order by itself; afterwards shipping alone decides."""
    reservation = reservations[timer.saga]
    if reservation.phase == "holding":
        reason = "the reservation ran out before every line was held"
        return InventoryRejected(reason=reason), *_roll_back(timer.saga, reservation.lines)
    if reservation.phase == "reserved":
        reservations[timer.saga] = replace(reservation, phase="expiring")
        return InventoryExpiryRequested()
    return None


def request_releases(
    cause: PaymentDeclined | PaymentFailed | ShippingFailed | ShippingCancelled | ReleaseStock,
) -> Rollback | None:
    """Somebody stopped the order: release what is held for it, or see to it that nothing will be."""
    reservation = reservations.get(cause.saga) or UNHEARD_OF
    assert reservation.phase not in ("committing", "committed"), "behind the point of no return nothing is taken back"
    if reservation.phase in ("releasing", "released"):
        return None
    return _roll_back(cause.saga, reservation.lines)


def _roll_back(saga: str, lines: tuple[ReservedLine, ...]) -> Rollback:
    """Release every line that is not known to be short: one that has not answered may be held by now."""
    requests = tuple(StockReleaseRequested(sku=line.sku, line=line.line) for line in lines if line.phase != "short")
    if not requests:
        reservations[saga] = Reservation(phase="released")
        return CancelTimer(ReservationExpired), InventoryReleased(outcome="nothing_to_undo")
    reservations[saga] = Reservation(phase="releasing", lines=lines)
    return CancelTimer(ReservationExpired), *requests


def line_released(answer: InventoryLineReleased) -> InventoryReleased | None:
    """When no line is held any more, the order is released: its rollback is complete here."""
    before = reservations[answer.saga]
    if before.phase == "released":
        return None
    assert before.phase == "releasing", f"nobody asked for a release, the reservation is {before.phase}"
    lines = _with_line(before.lines, answer.line, "released" if answer.outcome == "undone" else "short")
    if _any_is(lines, "asked") or _any_is(lines, "held"):
        reservations[answer.saga] = Reservation(phase="releasing", lines=lines)
        return None
    reservations[answer.saga] = Reservation(phase="released")
    return InventoryReleased(outcome="undone" if _any_is(lines, "released") else "nothing_to_undo")


def request_commits(event: ShippingDispatched | CommitStock) -> tuple[StockCommitRequested | CancelTimer, ...] | None:
    """The order has left: what is held for it is sold."""
    reservation = reservations[event.saga]
    if reservation.phase in ("committing", "committed"):
        return None
    assert reservation.phase in ("reserved", "expiring"), f"it was dispatched, but its stock is {reservation.phase}"
    reservations[event.saga] = Reservation(phase="committing", lines=reservation.lines)
    requests = (StockCommitRequested(sku=line.sku, line=line.line) for line in reservation.lines)
    return CancelTimer(ReservationExpired), *requests


def line_committed(answer: InventoryLineCommitted) -> InventoryCommitted | None:
    before = reservations[answer.saga]
    if before.phase == "committed":
        return None
    assert before.phase == "committing", f"nobody asked for a commit, the reservation is {before.phase}"
    lines = _with_line(before.lines, answer.line, "committed")
    if _any_is(lines, "held"):
        reservations[answer.saga] = Reservation(phase="committing", lines=lines)
        return None
    reservations[answer.saga] = Reservation(phase="committed")
    return InventoryCommitted()


def _with_line(lines: tuple[ReservedLine, ...], number: int, phase: LinePhase) -> tuple[ReservedLine, ...]:
    return tuple(replace(line, phase=phase) if line.line == number else line for line in lines)


def _any_is(lines: tuple[ReservedLine, ...], phase: LinePhase) -> bool:
    return any(line.phase == phase for line in lines)


@app.agent(app.inbox)
async def inventory(batches: Any) -> None:
    """Holds stock for orders, gives it back, and sells it."""
    async for batch in batches:
        batch.decide()
