"""What the services keep for themselves: parked sagas, dead letters, outside calls that wait, timers, journals.

Invariant: of each table the newest row of each key is known, by service and partition, because one saga may be parked
in two partitions of one service (by order and by sku). No body of a call and no dead letter's bytes are kept: both
may hold secrets.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from events import FarandoleCall, FarandoleJournal, FarandoleOutcome, FarandoleParked, FarandoleTimer
from farandole.audit.findings import Findings
from farandole.audit.records import LogRecord, Where

BEHIND: Final = "behind"
"""Reason of a dead letter that merely follows an earlier one of its saga."""

REDRIVABLE: Final = frozenset({"decision-failed", "output-too-large", BEHIND})
"""Reasons that park the saga; once it is not parked any more, its letters have been delivered again, unless an outcome
says that they were discarded."""

REDRIVEN: Final = "redriven"
DISCARDED: Final = "discarded"
"""Outcomes of operations by which a letter is dealt with."""

LETTERS: Final = 1_000_000
"""Dead letters that are kept by place; more are only counted."""


class Letter(NamedTuple):
    """A dead letter: where it lies in the queue, and why."""

    where: Where
    reason: str


class Parked(NamedTuple):
    """A saga that one service has stopped handling.

    messages: of it that wait in the queue; source: the record that parked it; letter: its dead letter, None if it was
    not found
    since: record time, milliseconds since 1970
    """

    saga: str
    service: str
    reason: str
    error: str
    messages: int
    source: Where
    letter: Where | None
    since: int

    def to_dict(self) -> dict[str, Any]:
        letter = self.letter
        return {
            "saga": self.saga,
            "service": self.service,
            "reason": self.reason,
            "error": self.error,
            "messages": self.messages,
            "since": self.since,
            "source": str(self.source),
            "topic": letter.topic if letter else f"{self.service}.dlq",
            "partition": self.source.partition,
            "offset": letter.offset if letter else None,
        }


class Waiting(NamedTuple):
    """An outside call that has no answer yet. since: record time of its row, milliseconds since 1970"""

    saga: str
    service: str
    outside: str
    operation: str
    since: int

    def to_dict(self) -> dict[str, Any]:
        return self._asdict()


class Discarded(NamedTuple):
    """A dead letter that an operator left alone for good: what it would have caused never comes."""

    saga: str
    service: str
    source: Where
    who: str
    why: str

    def to_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "source": str(self.source)}


Row = tuple[str, int, str]
"""Service, partition and key of a row."""


class Services:
    """Folds changelogs, journals and dead letter queues."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._parked: dict[Row, FarandoleParked] = {}
        self._calls: dict[Row, Waiting] = {}
        self._timers: set[Row] = set()
        self._letters: dict[tuple[str, Where], Letter] = {}
        self._letter_ids: set[tuple[str, Where, bytes]] = set()
        self.letter_counts: Counter[tuple[str, str]] = Counter()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """Service and outcome → operations that ended so."""
        self.discarded: list[Discarded] = []
        self.edited: dict[tuple[str, Where], Any] = {}
        """Letters that were redriven with other fields → the event that was decided."""
        self._dealt_with: dict[tuple[str, Where], str] = {}
        self._due: Counter[Row] = Counter()
        self.taken: dict[tuple[str, str, int], int] = {}
        self._readers: defaultdict[tuple[str, int], set[str]] = defaultdict(set)

    # ---- folding

    def row(self, service: str, table: str, record: LogRecord, row: Any) -> None:
        """A row of one of the engine's tables; None: it was deleted."""
        name = (service, record.partition, (record.key or b"").decode(errors="replace"))
        if table == "parked":
            _put(self._parked, name, row)
        elif table == "calls":
            _put(self._calls, name, row and _waiting(service, record, row))
        elif table == "timers":
            self._timers.add(name) if isinstance(row, FarandoleTimer) else self._timers.discard(name)

    def journal(self, service: str, record: LogRecord, line: FarandoleJournal) -> None:
        for stretch in line.took:
            source = (service, stretch.topic, record.partition)
            last = self.taken.get(source, -1)
            if stretch.first <= last:
                what = (
                    f"{service} took {Where(stretch.topic, record.partition, stretch.first)} again, after offset {last}"
                )
                self._findings.add("taken-twice", what, where=record.where)
            self.taken[source] = max(last, stretch.last)
            self._readers[stretch.topic, record.partition].add(service)

    def letter(self, service: str, record: LogRecord) -> None:
        headers = {name: value or b"" for name, value in record.headers if name.startswith("__dlq.")}
        reason = headers.get("__dlq.reason", b"").decode(errors="replace") or "none given"
        self.letter_counts[service, reason] += 1
        source = _source(headers)
        if source is None or len(self._letters) >= LETTERS:
            return
        # A redrive that fails is a letter again, with a higher count.
        name = (service, source, headers.get("__dlq.errors.delivery.count", b""))
        if name in self._letter_ids:
            what = f"{source} is in {service}'s dead letter queue twice"
            self._findings.add("letter-twice", what, where=record.where)
        self._letter_ids.add(name)
        self._letters[service, source] = Letter(record.where, reason)

    def outcome(self, service: str, record: LogRecord, outcome: FarandoleOutcome) -> None:
        """What became of an operation."""
        self.outcomes[service, outcome.outcome] += 1
        if outcome.outcome not in (REDRIVEN, DISCARDED):
            return
        source = Where(outcome.topic, record.partition, outcome.offset)
        if (service, source) in self._dealt_with:
            what = f"{service} had {source} {self._dealt_with[service, source]}, and {outcome.outcome} again"
            self._findings.add("letter-done-twice", what, where=record.where, saga=outcome.saga)
        if outcome.saga:
            name = (service, record.partition, outcome.saga)
            if outcome.number != self._due[name]:
                what = f"{service}: letter {outcome.number} was {outcome.outcome}, {self._due[name]} was due"
                self._findings.add("letters-out-of-order", what, where=record.where, saga=outcome.saga)
            self._due[name] = outcome.number + 1 if outcome.left else 0
        self._dealt_with[service, source] = outcome.outcome
        if outcome.outcome == DISCARDED:
            self.discarded.append(Discarded(outcome.saga, service, source, outcome.who, outcome.why))

    # ---- what it amounts to

    def parked(self, findings: Findings) -> list[Parked]:
        """Every saga that is parked, with the dead letter that parked it."""
        found = []
        for (service, partition, saga), row in self._parked.items():
            source = Where(row.topic, partition, row.offset)
            letter = self._letters.get((service, source))
            if letter is None and len(self._letters) < LETTERS:
                what = f"{service} has parked it because of {source}, which is in no dead letter"
                findings.add("parked-without-letter", what, saga=saga, momentary=True)
            where = letter.where if letter else None
            left = row.count - row.done
            found.append(Parked(saga, service, row.reason, row.error, left, source, where, row.since))
        return found

    def is_parked(self, service: str, partition: int, saga: str) -> bool:
        return (service, partition, saga) in self._parked

    @property
    def waiting(self) -> Iterable[Waiting]:
        return self._calls.values()

    @property
    def timers(self) -> Counter[str]:
        """Timers that are set, by service."""
        return Counter(service for service, _, _ in self._timers)

    def refused(self, service: str, where: Where, saga: str) -> bool:
        """Whether the service put this record aside, and it still is."""
        letter = self._letters.get((service, where))
        if letter is None:
            return False
        dealt_with = self._dealt_with.get((service, where))
        if dealt_with is not None:
            return dealt_with != REDRIVEN
        return letter.reason not in REDRIVABLE or self.is_parked(service, where.partition, saga)

    def swallowed_by(self, where: Where) -> list[str]:
        """Services whose journal says that they took this record, and that have no dead letter for it."""
        return sorted(
            service
            for service in self._readers[where.topic, where.partition]
            if self.taken[service, where.topic, where.partition] >= where.offset
            and (service, where) not in self._letters
            and len(self._letters) < LETTERS
        )


def _put(rows: dict[Row, Any], name: Row, row: Any) -> None:
    if row is None:
        rows.pop(name, None)
    else:
        rows[name] = row


def _waiting(service: str, record: LogRecord, row: FarandoleCall) -> Waiting:
    return Waiting(row.saga, service, row.outside, row.operation, record.time)


def _source(headers: dict[str, bytes]) -> Where | None:
    """The place that a dead letter names, or None if it names none that can be read."""
    try:
        return Where(
            headers["__dlq.errors.topic"].decode(),
            int(headers["__dlq.errors.partition"]),
            int(headers["__dlq.errors.offset"]),
        )
    except (KeyError, ValueError):
        return None
