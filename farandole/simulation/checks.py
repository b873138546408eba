"""What must hold when a run has come to rest: the audit's promises, and those that only the engine's own books show.

Invariant: a check looks at what is committed, and at the tables of the workers that live; never at what the run meant
to do.

    audit             every check of farandole.audit, the gateway's account included, on a system at rest
    tables-differ     a live worker's table is not what its changelog adds up to
    not-owned         a partition has no owner, or two
    not-taken         a committed record is in no stretch of a service's journal, or in two, or the group's position
                      contradicts it
    too-early         something happened before that on which it rests
    out-of-order      effects on one partition come in another order than their causes lay
    overtaken         a record of a parked saga was handled after the one that parked it
    letter-acted      a dead letter has effects, and was not redriven
    redriven-wrong    a letter was dealt with twice, or before one that came before it, or is left although an operator
                      has dealt with everything
    timer-too-soon    a timer fired before it was due, or over records from before that were not read
    call-too-soon     an outside call was performed that no transaction ever asked for
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Final, NamedTuple

from events import FarandoleJournal, FarandoleOutcome, FarandoleTimer
from farandole.audit.flows import audit_classes, for_flow
from farandole.audit.flows.order import Audit as OrderAudit
from farandole.audit.flows.order_facts import KINDS, any_of, names_of
from farandole.audit.flows.order_ruling import RestsOn
from farandole.audit.passcodes import Passcodes
from farandole.audit.records import LogRecord, Place
from farandole.audit.rounds import Options, audit
from farandole.errors import CodecError
from farandole.operations import DONE, REDRIVEN
from farandole.simulation import transfer_checks
from farandole.simulation.kafka_log import Stored
from farandole.simulation.run import Run, Violation
from farandole.simulation.workers import Service, Worker

Committed = dict[Place, list[Stored]]
"""Every committed record, by topic and partition."""


def check(run: Run) -> list[Violation]:
    """Everything that is wrong, the most telling first."""
    log = _read(run)
    found = [*_engine_checks(run, log)]
    report = audit(
        _Source(run, log),
        run.workshop.project.codec,
        run.workshop.topics,
        Options(True, pause=0),
        run.books.gateway(),
        passcodes=Passcodes(run.books.passcodes()) if run.plan.logins else None,
    )
    run.counts.update({f"logins {how}": count for how, count in report.figures.get("login", {}).items()})
    run.counts["records"] += report.reading.records
    run.counts.update({name: getattr(report.orders, name) for name in ("completed", "cancelled", "refused", "parked")})
    run.counts.update({f"transfers {end}": count for end, count in report.transfers.items()})
    found += [
        Violation(finding.check, str(finding)) for finding in report.findings if finding.where not in run.misplaced
    ]
    return found


def _read(run: Run) -> Committed:
    read, partitions = run.cluster.read, range(run.plan.partitions)
    return {(topic, p): read(topic, p) for topic in run.workshop.topics.topics for p in partitions}


class _Source:
    """The log as the audit reads it."""

    def __init__(self, run: Run, log: Committed) -> None:
        self._log, self._ends = log, run.cluster.ends()
        self.partitions: Mapping[str, int] = dict.fromkeys(run.workshop.topics.topics, run.plan.partitions)
        self.starts: Mapping[Place, int] = dict.fromkeys(log, 0)

    def ends(self) -> dict[Place, int]:
        return self._ends

    def read(
        self,
        first: Mapping[Place, int],
        end: Mapping[Place, int],
        take: Callable[[LogRecord], None],
        progress: Any,
        what: str,
    ) -> int:
        count = 0
        for place, records in self._log.items():
            start = first[place]
            for r in records:
                if r.offset >= start:
                    take(LogRecord(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, r.headers))
                    count += 1
        return count


# ---- the engine's own promises


def _engine_checks(run: Run, log: Committed) -> Iterator[Violation]:
    yield from _tables(run, log)
    yield from _too_early(run, log)
    if run.plan.transfers:
        for what in transfer_checks.too_early(log, run.workshop.project.codec):
            yield Violation("too-early", what)
    acted: set[tuple[bytes, bytes]] = set()
    yield from _order(run, log, acted)
    asked: set[str] = set()
    for name in run.plan.workers:
        service = run.workshop.services[name]
        workers = [worker for worker in run.workers if worker.service is service]
        for partition in range(run.plan.partitions):
            yield from _Partition(run, log, service, workers[0], partition).check(acted)
            records = log.get((f"{service.name}-calls-changelog", partition), ())
            asked.update((record.key or b"").decode() for record in records)
    for key in sorted(run.books.asked - asked):
        yield Violation("call-too-soon", f"{key} was performed, and no transaction asked for it")


def _tables(run: Run, log: Committed) -> Iterator[Violation]:
    owners = Counter[tuple[str, int]]()
    for worker in run.workers:
        processor = worker.processor
        if not worker.up:
            continue
        owners.update((worker.service.name, partition) for partition in processor.partitions)
        for topic, table in processor.changelog_topics().items():
            encode = processor._row_types[table].encode_row
            for partition, part in processor.tables[table].parts.items():
                kept = {key.encode(): encode(row) for key, row in part.rows.items()}
                if kept != _rows(log[topic, partition]):
                    differing = sorted(kept.items() ^ _rows(log[topic, partition]).items())[0][0]
                    what = (
                        f"{worker.name} has another row {differing.decode()} in {table}/{partition} than its changelog"
                    )
                    yield Violation("tables-differ", what)
    for service in run.plan.workers:
        for partition in range(run.plan.partitions):
            if owners[service, partition] != 1:
                yield Violation("not-owned", f"{owners[service, partition]} workers own {service}/{partition}")


def _rows(records: list[Stored]) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    for record in records:
        assert record.key is not None
        if record.value is None:
            rows.pop(record.key, None)
        else:
            rows[record.key] = record.value
    return rows


def _order(run: Run, log: Committed, acted: set[tuple[bytes, bytes]]) -> Iterator[Violation]:
    """Also gathers which service acted on which record."""
    newest: dict[tuple[Place, bytes, bytes, bytes], tuple[int, int]] = {}
    for place, records in log.items():
        topic = run.workshop.topics.topics[place[0]]
        if not topic.events:
            continue
        by_cause = not place[0].endswith((".calls", ".timers"))
        for record in records:
            head = head_of(record.value)
            if head is None or not head.caused:
                continue
            source, service, number = head.id.rsplit(b".", 2)
            acted.add((source, service))
            if by_cause:
                source, _, offset = source.rpartition(b"/")
                at = (int(offset), int(number))
                name = (place, source, service, head.saga)
                if newest.get(name, (-1, -1)) >= at:
                    where = f"{record.topic}/{record.partition}/{record.offset}"
                    yield Violation("out-of-order", f"{head.id.decode()} at {where} lies behind a later one")
                newest[name] = at


def _too_early(run: Run, log: Committed) -> Iterator[Violation]:
    """The audit looks at the end alone; virtual time, one clock for all, says what came first."""
    decoders, topics = run.workshop.project.codec.decoders, run.workshop.topics.topics
    records = [record for (topic, _), records in log.items() if topics[topic].events for record in records]
    records.sort(key=lambda record: record.timestamp)
    facts: dict[str, int] = {}
    fresh: list[_Fresh] = []
    moment = 0
    for record in records:
        if record.timestamp != moment:
            yield from _founded(fresh, facts)
            fresh.clear()
            moment = record.timestamp
        decoder = decoders.get((record.value or b"")[:5])
        kind = KINDS.get(decoder.type.cls) if decoder is not None else None
        if decoder is None or kind is None:
            continue
        try:
            _, _, flow, event = decoder.decode(record.value or b"")
        except CodecError:
            continue
        fact = kind.fact(event)
        facts[event.saga] = facts.get(event.saga, 0) | fact
        rules = (for_flow(_NEEDS, flow.decode()) or {}).get(fact)
        if rules:
            fresh.append((event.saga, fact, rules))
    yield from _founded(fresh, facts)


_Fresh = tuple[str, int, list[RestsOn]]
"""A saga, a fact of it, and the rules about that."""


def _founded(fresh: list[_Fresh], facts: dict[str, int]) -> Iterator[Violation]:
    for saga, fact, rules in fresh:
        for rule in rules:
            for group in rule.missing(facts[saga]):
                what = f"{saga}: {names_of(fact)[0]} came before {' or '.join(names_of(group))}"
                yield Violation("too-early", what)


def _needs(rests_on: tuple[RestsOn, ...]) -> dict[int, list[RestsOn]]:
    """Fact → the rules that say on what it rests."""
    needs: dict[int, list[RestsOn]] = {}
    for rule in rests_on:
        for name in names_of(rule.fact):
            needs.setdefault(any_of(name), []).append(rule)
    return needs


_NEEDS: Final = {
    flow: _needs(audit.rules.rests_on) if issubclass(audit, OrderAudit) else {}
    for flow, audit in audit_classes().items()
}
"""By flow."""


class Head(NamedTuple):
    """What the metadata of an event says."""

    id: bytes
    saga: bytes
    flow: bytes
    caused: bool


def head_of(value: bytes | None) -> Head | None:
    """None: there is none that can be read."""
    try:
        if value is None or value[0] != 0:
            return None
        id, at = _text(value, 5)
        saga, at = _text(value, at)
        flow, at = _text(value, at)
        return Head(id, saga, flow, value[at] != 0)
    except IndexError:
        return None


def _text(value: bytes, at: int) -> tuple[bytes, int]:
    length = value[at]
    at += 1
    if length > 127:
        length = length & 127 | value[at] << 7
        at += 1
    end = at + (length >> 1)
    return value[at:end], end


class _Partition:
    """One service's journal in one partition, beside what lies in the topics that it hears."""

    def __init__(self, run: Run, log: Committed, service: Service, worker: Worker, partition: int) -> None:
        self._run, self._log, self._service, self._partition = run, log, service, partition
        self._processor = worker.processor
        self._topics = worker.processor.topics
        self._lines: list[tuple[Stored, FarandoleJournal]] = []
        journal = run.workshop.project.codec.type_of(FarandoleJournal)
        for record in log[f"{service.name}.journal", partition]:
            assert record.value is not None
            self._lines.append((record, journal.decode_row(record.value)))

    def check(self, acted: set[tuple[bytes, bytes]]) -> Iterator[Violation]:
        self._taken: dict[tuple[str, int], int] = {}
        """(topic, offset) → number of the line that took it, in the order in which they were taken."""
        yield from self._coverage()
        redriven = yield from self._redriven()
        yield from self._parking(acted, redriven)
        if self._processor.timed:
            yield from self._timers()

    def _coverage(self) -> Iterator[Violation]:
        offsets = {topic: [r.offset for r in self._log[topic, self._partition]] for topic in self._topics}
        reached = dict.fromkeys(self._topics, 0)
        for number, (_, line) in enumerate(self._lines):
            for stretch in line.took:
                there = offsets[stretch.topic]
                at = reached[stretch.topic]
                if at < len(there) and there[at] < stretch.first:
                    yield self._not_taken(stretch.topic, there[at], "is in no stretch of the journal")
                while at < len(there) and there[at] <= stretch.last:
                    self._taken[stretch.topic, there[at]] = number
                    at += 1
                reached[stretch.topic] = max(at, reached[stretch.topic])
        positions = self._run.cluster.committed(self._service.name)
        for topic, there in offsets.items():
            if reached[topic] < len(there):
                yield self._not_taken(topic, there[reached[topic]], "is in no stretch of the journal")
            if there and positions.get((topic, self._partition), 0) <= there[-1]:
                yield self._not_taken(topic, there[-1], "lies behind the group's position")

    def _not_taken(self, topic: str, offset: int, why: str) -> Violation:
        return Violation("not-taken", f"{self._service.name}: {topic}/{self._partition}/{offset} {why}")

    def _redriven(self) -> Generator[Violation, None, set[tuple[str, int]]]:
        """Sources of the letters that were redriven."""
        name, partition = self._service.name, self._partition
        decoder = self._run.workshop.project.codec.decoders
        done: list[FarandoleOutcome] = []
        for record in self._log[f"{name}.operations", partition]:
            kind = decoder[(record.value or b"")[:5]]
            if kind.type.cls is FarandoleOutcome:
                outcome = kind.decode(record.value or b"")
                done += [outcome] if outcome.outcome in DONE else []
        due: Counter[str] = Counter()
        for outcome in done:
            if outcome.saga:
                if outcome.number not in (0, due[outcome.saga]):
                    what = f"{name}: letter {outcome.number} of {outcome.saga}, but {due[outcome.saga]} is next"
                    yield Violation("redriven-wrong", what)
                due[outcome.saga] = outcome.number + 1
        for place, times in Counter((outcome.topic, outcome.offset) for outcome in done).items():
            if times > 1:
                what = f"{name}: {place[0]}/{partition}/{place[1]} was dealt with {times} times"
                yield Violation("redriven-wrong", what)
        if self._run.plan.mends:
            dealt_with = {(outcome.topic, outcome.offset) for outcome in done}
            for left in {_source(record) for record in self._log[f"{name}.dlq", partition]} - dealt_with:
                yield Violation("redriven-wrong", f"{name}: {left[0]}/{partition}/{left[1]} is left")
        return {(outcome.topic, outcome.offset) for outcome in done if outcome.outcome == REDRIVEN}

    def _parking(self, acted: set[tuple[bytes, bytes]], redriven: set[tuple[str, int]]) -> Iterator[Violation]:
        name, partition = self._service.name, self._partition
        letters = {_source(record) for record in self._log[f"{name}.dlq", partition]}
        if not letters:
            return
        decode = self._processor._row_types["parked"].decode_row
        rows = _rows(self._log[f"{name}-parked-changelog", partition])
        parking = {(row.topic, row.offset): saga for saga, value in rows.items() for row in [decode(value)]}
        by_offset = {topic: {r.offset: r for r in self._log[topic, partition]} for topic in self._topics}
        parked: set[bytes] = set()
        for topic, offset in self._taken:
            where = f"{topic}/{partition}/{offset}"
            record = by_offset[topic][offset]
            saga = parking.get((topic, offset))
            if saga is not None:
                parked.add(saga)
            is_letter = (topic, offset) in letters
            if is_letter and (topic, offset) not in redriven and (where.encode(), name.encode()) in acted:
                yield Violation("letter-acted", f"{name} acted on {where}, which is a dead letter")
            head = head_of(record.value)
            if head is None or head.saga not in parked or is_letter:
                continue
            route = self._processor._routes[topic].get((record.value or b"")[:5])
            if route is not None and head.flow in route.decisions:
                what = f"{name} handled {where} of {head.saga.decode()}, which is parked there"
                yield Violation("overtaken", what)

    def _timers(self) -> Iterator[Violation]:
        name, partition = self._service.name, self._partition
        decode = self._run.workshop.project.codec.type_of(FarandoleTimer).decode_row
        dues: dict[str, list[int]] = {}
        for record in self._log[f"{name}-timers-changelog", partition]:
            if record.value is not None:
                dues.setdefault((record.key or b"").decode(), []).append(decode(record.value).due)
        for number, (written, line) in enumerate(self._lines):
            for timer in line.fired:
                if not dues.get(timer):
                    continue  # set and fired in one transaction: its row was never written
                due = dues[timer].pop(0)
                if written.timestamp < due:
                    yield Violation("timer-too-soon", f"{timer} fired {due - written.timestamp} ms before it was due")
                for topic in self._topics:
                    for record in self._log[topic, partition]:
                        if record.timestamp < due and self._taken.get((topic, record.offset), -1) > number:
                            where = f"{topic}/{partition}/{record.offset}"
                            yield Violation("timer-too-soon", f"{timer} fired before {where} was read, which is older")


def _source(letter: Stored) -> tuple[str, int]:
    headers = dict(letter.headers)
    topic, offset = headers["__dlq.errors.topic"], headers["__dlq.errors.offset"]
    return (topic or b"").decode(), int(offset or b"0")
