"""One order for each way in which an order can go, recorded from the real decisions: what the audit's tests damage."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from msgspec.structs import replace

from events import CancelOrder, PlaceOrder, StockReceived, WriteOff
from tests.farandole.audit_log import Log, Recording, recording
from tests.flows.outside import Plan
from tests.flows.scenarios import an_order, saga_of


class _Telling:
    """Takes orders through the world, one after the other, and remembers their sagas."""

    def __init__(self, world: Recording) -> None:
        self.world = world
        self.sagas: dict[str, str] = {}

    def order(self, name: str, *lines: tuple[str, int], plan: Plan | None = None, gate: str = "") -> str:
        """Place it and run until it has ended, or until nothing is left but what the gate holds back."""
        return self.command(name, an_order(name, *lines), plan, gate)

    def command(self, name: str, order: PlaceOrder, plan: Plan | None = None, gate: str = "") -> str:
        saga = self.sagas[name] = saga_of(order)
        self.world.outside.plans[saga] = plan or Plan()
        self.world.gates = {gate} if gate else set()
        self.world.send(order, saga)
        self.world.run()
        return saga

    def open(self) -> None:
        """Take the gates away, and let everything end."""
        self.world.gates, self.world.deadlines = set(), set()
        self.world.run()

    def tell(self) -> None:
        world = self.world
        for number, sku in enumerate(("apple", "pear", "apple")):
            world.send(StockReceived(sku=sku, quantity=50), f"delivery-{number}", "restock/1")
        world.send(StockReceived(sku="apple", quantity=50), "delivery-0", "restock/1")
        world.run()
        self.order("completed", ("apple", 2), ("pear", 1))
        self.order("short", ("apple", 1), ("pear", 1_000))
        self.order("declined", plan=Plan(declines=True))
        self.order("undeliverable", plan=Plan(books=False))
        self.command("refused", replace(an_order("refused"), currency="euro"))
        self._stopped_in_time()
        self._expired()
        self._too_late()
        self._unanswered()
        self._written_off()

    def _stopped_in_time(self) -> None:
        saga = self.order("cancelled", ("apple", 1), ("apple", 2), gate="PaymentAuthorised@shipping")
        self.world.send(CancelOrder(), saga)
        self.world.run()
        self.open()

    def _expired(self) -> None:
        saga = self.order("expired", gate="InventoryReserved@payment")
        self.world.fire(("inventory", saga, "ReservationExpired"))
        self.world.run()
        self.open()

    def _too_late(self) -> None:
        saga = self.order("too late", gate="book@shipping")
        self.world.send(CancelOrder(), saga)
        self.world.run()
        self.open()

    def _unanswered(self) -> None:
        self.world.deadlines = {"authorise@payment"}
        self.order("authorisation unknown")
        self.world.deadlines = {"book@shipping"}
        self.order("booking unknown")
        self.world.deadlines = set()

    def _written_off(self) -> None:
        saga = self.order("capture written off", gate="capture@payment")
        self.world.send(WriteOff(reason="gone"), saga)
        self.open()
        saga = self.order("void written off", plan=Plan(books=False), gate="void@payment")
        self.world.send(WriteOff(reason="gone"), saga)
        self.open()
        saga = self.order("recovered", gate="CaptureAnswered@payment")
        self.world.send(WriteOff(reason="gone"), saga)
        self.world.run()
        self.open()


@functools.cache
def _told() -> tuple[Log, Mapping[str, str]]:
    with recording() as world:
        telling = _Telling(world)
        telling.tell()
        return world.finish(), telling.sagas


def told() -> tuple[Log, Mapping[str, str]]:
    """A log of all of them, to be damaged, and their sagas by name."""
    log, sagas = _told()
    return log.copy(), sagas
