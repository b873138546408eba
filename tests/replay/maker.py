"""A long history, made quickly: the processors of all services in one loop, each transaction written to logs in memory.

Nothing goes wrong in it but what the orders bring with them: cards that are declined, stock that runs out. It is as
long as one likes: a hundred thousand orders take a minute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Any

from events import OrderLine, PlaceOrder, StockReceived
from farandole.audit.records import LogRecord, Place
from farandole.event import Event, Meta
from farandole.eviction import Evictions
from farandole.partitioner import partition_of
from farandole.replay.replica import Replica
from farandole.simulation.workers import Workshop

BEGINNING = 1_750_000_000_000


class Message:
    """A record, with the methods of a Message."""

    def __init__(self, record: LogRecord) -> None:
        self.record = record

    def topic(self) -> str:
        return self.record.topic

    def partition(self) -> int:
        return self.record.partition

    def offset(self) -> int:
        return self.record.offset

    def key(self) -> bytes | None:
        return self.record.key

    def value(self) -> bytes | None:
        return self.record.value

    def headers(self) -> list[tuple[str, bytes]]:
        return []

    def timestamp(self) -> tuple[int, int]:
        return 2, self.record.time


class Maker:
    """A source, as `farandole.audit.reading.Reader` is one, that makes its own records.

    batch: messages that a transaction takes of one topic at the most
    """

    def __init__(self, workshop: Workshop, partitions: int = 6, batch: int = 200) -> None:
        self.batch = batch
        self.workshop, self.codec = workshop, workshop.project.codec
        self.partitions: Mapping[str, int] = dict.fromkeys(workshop.topics.topics, partitions)
        self._count = partitions
        places = [(topic, p) for topic in self.partitions for p in range(partitions)]
        self.log: dict[Place, list[LogRecord]] = {place: [] for place in places}
        self.starts: dict[Place, int] = dict.fromkeys(places, 0)
        self.now = BEGINNING
        self._clients = 0

    # ---- as it is read

    def ends(self) -> dict[Place, int]:
        return {place: len(records) for place, records in self.log.items()}

    def read(
        self,
        first: Mapping[Place, int],
        end: Mapping[Place, int],
        take: Callable[[LogRecord], None],
        progress: Any,
        what: str,
    ) -> int:
        count = 0
        for place, last in end.items():
            for record in self.log[place][first[place] : last]:
                take(record)
                count += 1
        return count

    # ---- as it is made

    def send(self, event: Event, saga: str, flow: str, key: str = "") -> None:
        """A client's record."""
        self._clients += 1
        value = self.codec.encode(event, Meta(f"client/{self._clients}", saga, flow, ""))
        self._append(self.codec.type_of(type(event)).topic, (key or saga).encode(), value)

    def _append(self, topic: str, key: bytes | None, value: bytes | None, partition: int | None = None) -> None:
        if partition is None:
            partition = partition_of((key or b"").decode(), self._count)
        records = self.log[topic, partition]
        records.append(LogRecord(topic, partition, len(records), self.now, key, value))

    def settle(self, outcome: Callable[[str, str], tuple[str, str, str]], keep: int | None = None) -> None:
        """Until nothing is left to do.

        outcome: of the operation of a saga's outside call
        keep:    milliseconds after which rows of ended sagas go; None: they stay
        """
        services = {
            name: Replica(name, self.workshop.project, self._count, service.bindings)
            for name, service in self.workshop.services.items()
        }
        with ExitStack() as stack:
            for replica in services.values():
                stack.enter_context(replica.entered())
                if keep is not None:
                    replica.processor.evictions = Evictions(replica.ended, dict.fromkeys(replica.ended, keep))
                for p in range(self._count):
                    replica.processor.add_partition(p)
            turns = [_Turn(self, replica, p, outcome) for replica in services.values() for p in range(self._count)]
            while any([turn.take() for turn in turns]):  # noqa: C419  # each has its turn
                pass


class _Turn:
    """One partition of one service."""

    def __init__(
        self, maker: Maker, replica: Replica, partition: int, outcome: Callable[[str, str], tuple[str, str, str]]
    ) -> None:
        self._maker, self._replica, self._partition, self._outcome = maker, replica, partition, outcome
        self._cursor = dict.fromkeys(replica.processor.topics, 0)
        self._calls: list[str] = []

    def take(self) -> bool:
        """A transaction. False if there was nothing to do."""
        processor, maker = self._replica.processor, self._maker
        messages: list[Message] = []
        for topic, at in self._cursor.items():
            some = maker.log[topic, self._partition][at : at + maker.batch]
            messages += map(Message, some)
            self._cursor[topic] += len(some)
        calls, self._calls = self._calls, []
        if not (messages or calls):
            return False
        maker.now += 7
        processor.process(messages)
        for key in calls:
            row = processor.tables["calls"].parts[self._partition].rows[key]
            processor.answer(self._partition, key, *self._outcome(row.saga, row.operation))
        self._calls += [key for part, key, _ in self._replica.undo if part.table == "calls" and key in part.rows]
        processor.evict(self._partition, maker.now)
        processor.seal()
        for topic, value, key in processor.events:
            maker._append(topic, key.encode(), value)
        for topic, row, name, partition in processor.records:
            maker._append(topic, None if name is None else name.encode(), row, partition)
        processor.commit(maker.now)
        return True


def ordered(maker: Maker, orders: Iterable[PlaceOrder], saga_of: Callable[[str, str], str]) -> None:
    """The orders, sent one millisecond after the other."""
    for order in orders:
        maker.now += 1
        maker.send(order, saga_of(order.customer, order.idempotency_key), "order/1")


def order(number: int, sku: str, quantity: int, price: int = 1_000, card: str = "tok_1") -> PlaceOrder:
    return PlaceOrder(
        customer="customer",
        idempotency_key=str(number),
        lines=(OrderLine(line=1, sku=sku, quantity=quantity, price=price),),
        currency="EUR",
        email="someone@example.org",
        ship_to="12 Harbour Street",
        card_token=card,
        reserve_for=900,
    )


def stocked(maker: Maker, sku: str, quantity: int) -> None:
    maker.send(StockReceived(sku=sku, quantity=quantity), f"delivery-{sku}", "restock/1", sku)
