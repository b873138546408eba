"""A service's processor with one partition, fed by hand, and what it writes about its dead letters."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from agents import inventory
from events import FarandoleHandled, FarandoleOperation, FarandoleOutcome, FarandoleParked, StockReceived
from farandole.assembly import assemble
from farandole.audit.records import LogRecord
from farandole.event import Event, Meta
from farandole.message import DeadLetter

RESTOCK = "restock/1"


def broken_until_mended(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """`inventory.receive` fails as long as this is empty."""
    deploy: list[bool] = []
    decide = inventory._move

    def move(*arguments: Any, **named: Any) -> Any:
        if not deploy:
            raise RuntimeError("a bug")
        return decide(*arguments, **named)

    monkeypatch.setattr(inventory, "_move", move)
    return deploy


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


class Bench:
    """A service's processor with one partition, fed by hand; each `take` is a batch that is committed.

    letters, outcomes, events: all there were so far; events as (topic, metadata, event)
    log: what lies in the topics of dead letters, as a reader sees it
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
        self.log: list[LogRecord] = []

    def take(self, *messages: Incoming) -> None:
        processor = self.processor
        for message in messages:
            if message.topic() == processor.operations.topic:
                self._write(message.topic(), message.offset(), message.key(), message.value())
        processor.process(messages)
        processor.seal()
        self.letters += processor.letters
        for letter in processor.letters:
            self._write(letter.topic, self._next(letter.topic), letter.key, letter.value, letter.headers)
        self.events += [(topic, *self.codec.decode(value)) for topic, value, _ in processor.events]
        kind = self.codec.type_of(FarandoleOutcome)
        for topic, value, _, _ in processor.records:
            if topic == processor.operations.topic and value is not None:
                self.outcomes.append(kind.decode_row(value))
        for topic, value, key, _ in processor.records:
            self._write(topic, self._next(topic), (key or "").encode(), value)
        processor.commit(0)

    def _write(
        self, topic: str, offset: int, key: bytes | None, value: bytes | None, headers: Sequence[Any] = ()
    ) -> None:
        if topic.endswith((".dlq", ".operations", "-parked-changelog", "-handled-changelog")):
            self.log.append(LogRecord(topic, 0, offset, next(self._clock), key, value, headers))

    def _next(self, topic: str) -> int:
        return next(self._offsets.setdefault(topic, itertools.count()))

    def message(self, topic: str, key: bytes | None, value: bytes | None) -> Incoming:
        return Incoming(topic, self._next(topic), key, value, next(self._clock))

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
