"""What must hold of who asks whom in an order's flow: everybody hears everybody, or an orchestrator commands."""

from __future__ import annotations

from events import (
    AuthorisePayment,
    CancelShipment,
    InventoryExpiryRequested,
    NotificationSent,
    Notify,
    OrderCancelRequested,
    OrderPlaced,
    OrderRefused,
)
from farandole import Event
from tests.flows.paying import paying
from tests.flows.world import World


def is_orchestrated(world: World, saga: str) -> bool:
    flow = world.flows[world.flow_of[saga]]
    return ("orchestrator", OrderPlaced) in flow.bindings


def _hears(world: World, saga: str, service: str, event: type[Event]) -> bool:
    return (service, event) in world.flows[world.flow_of[saga]].bindings


def refusal(world: World, saga: str) -> set[type[Event]]:
    """What is published about a refused order."""
    notify = {Notify} if _hears(world, saga, "notification", Notify) else set()
    return {OrderRefused, NotificationSent, *notify}


def owed(world: World, saga: str, cause: str) -> list[str]:
    """The confirmations that an order owes before it is cancelled for this cause. Nothing is voided that an
    orchestrator has not asked for."""
    if not is_orchestrated(world, saga):
        return list(paying(world, saga).owed[cause])
    asked = cause != "payment.declined" and world.events(saga, AuthorisePayment)
    return ["voided", "released"] if asked else ["released"]


def who_wants_a_stop(world: World, saga: str) -> set[str]:
    kinds = [(OrderCancelRequested, "customer"), (InventoryExpiryRequested, "clock")]
    return {asker for kind, asker in kinds if world.events(saga, kind)}


def who_asked_for_a_stop(world: World, saga: str) -> set[str]:
    """Of shipping, which answers."""
    if _hears(world, saga, "shipping", CancelShipment):
        return {command.asked_by for command in world.events(saga, CancelShipment)}
    return who_wants_a_stop(world, saga)


def check_trail(world: World, saga: str, refused: bool) -> None:
    """Whatever an orchestrator asked for has its answer, if only that it was taken back."""
    run = world.row("orchestrator", "orchestrations", saga)
    assert (run is not None) == (is_orchestrated(world, saga) and (not refused or Notify in refusal(world, saga)))
    if run is not None:
        assert run.phase == "ended"
        assert [step.command for step in run.steps if not step.answer] == []
