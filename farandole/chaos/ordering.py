"""The order of every saga's effects: in a partition, what came first is answered first.

An id says where its cause lies and who acted: `order/3/1542.inventory.0`. So from the topics alone:

overtaken  a service's effects on a saga whose causes lie in one partition come in the order of the causes. Between two
           topics there is no order; answers of outside calls and timers come when they come, but as causes they count.
letters    a saga's dead letters from one partition lie in the queue in the order in which they were sent
passed     once a saga is parked in a service, what follows from the same partition is a dead letter too, and has no
           effect

Invariant: it shares nothing with the services but schemas/ and topics.yaml; an order that cannot be read is an error,
never a report.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import events
from farandole.audit.fold import linked
from farandole.audit.reading import PATIENCE, Reader
from farandole.audit.records import LogRecord
from farandole.codec import Codec
from farandole.config import ClientConfig
from farandole.errors import CodecError
from farandole.system import Progress, silent
from farandole.topics import Topics

COME_WHEN_THEY_COME: Final = (".calls", ".timers")
MOST_FOUND: Final = 50
PARKS: Final = frozenset({b"decision-failed", b"output-too-large", b"behind"})
"""Reasons of dead letters by which their saga is parked, or stays so (docs/audit.md)."""


@dataclass
class OrderReport:
    """effects, letters: how many were looked at; found: what is out of order, in sentences"""

    effects: int = 0
    letters: int = 0
    sagas: int = 0
    count: int = 0
    found: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.count

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "effects": self.effects,
            "letters": self.letters,
            "sagas": self.sagas,
            "count": self.count,
            "found": self.found,
        }


class OrderCheck:
    """Takes every record, in the order of each partition; partitions in any order. Then `finish`."""

    def __init__(self, codec: Codec, topics: Topics) -> None:
        self._codec = codec
        self._published = {
            topic.name
            for topic in topics.topics.values()
            if topic.events and not topic.name.endswith(COME_WHEN_THEY_COME)
        }
        self._queues = {f"{service}.dlq": service for service in topics.services}
        self._newest: dict[tuple[str, str, str, int, str], tuple[int, int]] = {}
        """(saga, who acted, topic and partition of the effect, those of the cause) → cause's offset, number of it."""
        self._furthest: dict[tuple[str, str, str], int] = {}
        self._letters: dict[tuple[str, str, str], int] = {}
        self._parked: dict[tuple[str, str, str], int] = {}
        self._sagas: set[str] = set()
        self._report = OrderReport()

    def take(self, record: LogRecord) -> None:
        if record.topic in self._published:
            self._effect(record)
        elif record.topic in self._queues:
            self._letter(self._queues[record.topic], record)

    def finish(self) -> OrderReport:
        for (saga, service, place), parked in self._parked.items():
            offset = self._furthest.get((saga, service, place), -1)
            if offset > parked:
                self._find(
                    f"passed: {service} parked {saga} at {place}/{parked}, and yet {place}/{offset} had an effect on it"
                )
        self._report.sagas = len(self._sagas)
        return self._report

    def _effect(self, record: LogRecord) -> None:
        found = linked(self._codec, record)
        if found is None or not found[0].cause:
            return
        saga = found[2]
        cause = _cause_of(found[0].id.decode(errors="replace"))
        if cause is None:
            return  # the audit names a malformed id
        place, offset, service, number = cause
        self._report.effects += 1
        self._sagas.add(saga)
        lane = (saga, service, record.topic, record.partition, place)
        before = self._newest.get(lane, (-1, -1))
        if (offset, number) < before:
            self._find(
                f"overtaken: {record.where}: {service} answers {place}/{offset} about {saga} after {place}/{before[0]}"
            )
        else:
            self._newest[lane] = (offset, number)
        passed = (saga, service, place)
        self._furthest[passed] = max(offset, self._furthest.get(passed, -1))

    def _letter(self, service: str, record: LogRecord) -> None:
        headers = dict(record.headers)
        try:
            saga = self._codec.decode(record.value)[1].saga
            place = f"{(headers['__dlq.errors.topic'] or b'').decode()}/{int(headers['__dlq.errors.partition'] or b'')}"
            offset = int(headers["__dlq.errors.offset"] or b"")
        except (CodecError, KeyError, ValueError):
            return  # no saga can be recovered from it, so nothing is parked
        self._report.letters += 1
        lane = (saga, service, place)
        if offset <= self._letters.get(lane, -1):
            self._find(f"letters: {record.where}: {place}/{offset} of {saga} lies behind {place}/{self._letters[lane]}")
        self._letters[lane] = max(offset, self._letters.get(lane, -1))
        if headers.get("__dlq.reason") in PARKS:
            self._parked.setdefault(lane, offset)

    def _find(self, what: str) -> None:
        self._report.count += 1
        if len(self._report.found) < MOST_FOUND:
            self._report.found.append(what)


def _cause_of(id: str) -> tuple[str, int, str, int] | None:
    """`order/3/1542.inventory.0` → (order/3, 1542, inventory, 0)."""
    place, slash, rest = id.rpartition("/")
    offset, _, who = rest.partition(".")
    service, _, number = who.rpartition(".")
    if not slash or not offset.isdecimal() or not number.isdecimal():
        return None
    return place, int(offset), service, int(number)


def check(
    client_config: ClientConfig, namespace: str, root: Path, codec: Codec | None = None, progress: Progress = silent
) -> OrderReport:
    """Check an installation that is at rest. AuditError if it cannot be read."""
    topics = Topics.load(root / "topics.yaml")
    codec = codec or Codec.load(root / "schemas", events)
    reader = Reader(client_config, namespace, topics.topics, PATIENCE)
    try:
        check = OrderCheck(codec, topics)
        reader.read(reader.starts, reader.ends(), check.take, progress, "checking every saga's order")
        return check.finish()
    finally:
        reader.close()
