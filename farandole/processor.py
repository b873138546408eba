"""What one service does to a batch of messages: the deterministic heart of the engine.

Given the same tables and the same messages in the same order, it produces the same bytes. It knows no Kafka, no clock
and no thread: the engine feeds it what it consumed and carries out what it says, and so do the simulation and replay.

Invariants:
- A message's effects are all there or none: its decision has a savepoint in the undo log, and its outputs are
  encoded before the first of them counts.
- A message whose decision raises, or that cannot be read, ends in the dead letter queue, and its saga is parked in its
  partition: what comes later for that saga follows it there, in order. Every other saga goes on.
- After `rollback` tables and outputs are what they were before the batch.
- The journal tells what was taken, answered, fired and evicted, in that order, for each partition.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

from events import FarandoleJournal
from farandole import calls, deadletters, timers
from farandole.backpressure import OpenSagas
from farandole.codec import Codec, Decoder, EventType
from farandole.errors import CodecError
from farandole.event import Call, CancelTimer, Event, Timer, Withdraw
from farandole.eviction import Evictions
from farandole.flow import Decision
from farandole.grownschemas import Growing
from farandole.journal import Journal
from farandole.message import (
    MAX_RECORD,
    MAX_SAGA,
    BadSaga,
    DeadLetter,
    Message,
    Record,
    TooLarge,
    UnknownFlow,
    WrongKey,
    WrongPartition,
)
from farandole.operations import Failure, Operations, Redriven, refused
from farandole.partitioner import partition_of
from farandole.table import Changes, Part, Partitioned, UndoLog, changes, undo


class _Route(NamedTuple):
    """What happens to one event type on one topic: how it is read, and who decides, by flow."""

    decode: Callable[[bytes], tuple[bytes, bytes, bytes, Any]]
    decisions: dict[bytes, tuple[Callable[..., Any], bool]]
    key: Callable[[Any], Any]


class _Out(NamedTuple):
    topic: str
    encode: Callable[[Any, bytes], bytes]
    key: Callable[[Any], Any] | None


# The length prefix of an Avro string, by length. Ids are shorter than a topic name (249) and two numbers.
_LENGTH = [bytes([n << 1]) if n < 64 else bytes([n << 1 & 127 | 128, n >> 6]) for n in range(512)]


class Processor:
    """The tables, routes and parked sagas of one service in one worker, for the partitions it owns.

    Args:
        service:   the service's name
        tables:    its tables, already bound to `log`
        log:       the undo log that all of them write to
        bindings:  (flow key, event class, decision) of all that the service hears
        codec:     reads and writes the events
        key_of:    topic → name of the field that is its key (`saga` or another)
        flows:     keys of all flows there are
        internal:  event classes that decisions publish; what else is heard comes from clients
        namespace: prefix of every topic
        keep:      seconds for which the row of an ended saga stays
        counted:   whether open sagas are counted
    """

    def __init__(
        self,
        service: str,
        tables: Iterable[Partitioned[Any]],
        log: UndoLog,
        bindings: Sequence[tuple[str, type[Event], Decision]],
        codec: Codec,
        key_of: dict[str, str],
        flows: Iterable[str],
        internal: Iterable[type[Event]] = (),
        namespace: str = "",
        keep: float = 7 * 24 * 3600.0,
        counted: bool = False,
    ) -> None:
        self.service, self.log, self.codec, self.namespace = service, log, codec, namespace
        self.group = namespace + service
        self._external = frozenset(event for _, event, _ in bindings) - frozenset(internal)
        self._flows = {flow.encode() for flow in flows}
        self.key_of = key_of
        self.parked = deadletters.ParkedSagas(log)
        self.timers = timers.Timers(log)
        self.calls = calls.Calls(log)
        self.timed = any(decision.timers for _, _, decision in bindings)
        self._routes: dict[str, dict[bytes, _Route | None]] = {}
        self._build_routes(bindings)
        self.operations = Operations(service, namespace, codec, self.parked, self._routes)
        self._routes[self.operations.topic] = dict.fromkeys(self.operations.prefixes)
        engines: list[Partitioned[Any]] = [self.parked.table, self.operations.handled]
        engines += [self.timers.table] if self.timed else []
        engines += [self.calls.table] if any(decision.calls for _, _, decision in bindings) else []
        self.tables: dict[str, Partitioned[Any]] = {table.name: table for table in (*tables, *engines)}
        ended = {table.name: table.ended for table in self.tables.values() if table.ended is not None}
        stays = {name: round(1000 * (table.keep or float)(keep)) for name, table in self.tables.items()}
        self.evictions = Evictions(ended, stays)
        self._open = OpenSagas(ended if counted else {})
        self.reads_ends = self.timed or bool(ended)
        """Whether it has to know that a topic was read to its end: before timers fire, and before rows go."""
        self._changelogs = {name: f"{self.group}-{name}-changelog" for name in self.tables}
        self._row_types = {name: codec.type_of(table.row) for name, table in self.tables.items()}
        self._answers: dict[str, tuple[str, type[Any], Callable[[Any, bytes], bytes]]] = {}
        self._journal = Journal(codec.type_of(FarandoleJournal))
        self._journal_topic = f"{namespace}{service}.journal"
        self._dlq = f"{namespace}{service}.dlq"
        self._outs: dict[type[Event], _Out] = {}
        self.partitions: set[int] = set()
        self.partition_count = 0
        self._condemned: dict[tuple[str, int, int], int] = {}
        self._reset()

    # ---- what is known beforehand

    def _build_routes(self, bindings: Sequence[tuple[str, type[Event], Decision]]) -> None:
        wanted: dict[type[Event], dict[bytes, tuple[Callable[..., Any], bool]]] = {}
        for flow, event, decision in bindings:
            wanted.setdefault(event, {})[flow.encode()] = (decision.function, decision.takes_time)

        def route(decoder: Decoder) -> _Route | None:
            decisions, key = wanted.get(decoder.type.cls), self.key_of[decoder.type.topic]
            return _Route(decoder.decode, decisions, attrgetter(key)) if decisions else None

        def learn(prefix: bytes, topic: str) -> _Route | None:
            decoder = self.codec.decoders[prefix]
            if decoder.type.topic != topic:
                raise KeyError(prefix)
            return route(decoder)

        for topic in sorted({self.codec.type_of(event).topic for event in wanted}):
            known = [each for each in self.codec.decoders.values() if each.type.topic == topic]
            routes: dict[bytes, _Route | None] = Growing(partial(learn, topic=topic)) if self.codec.grown else {}
            routes.update((decoder.prefix, route(decoder)) for decoder in known)
            self._routes[self.namespace + topic] = routes

    @property
    def topics(self) -> list[str]:
        """Every topic that the service hears, with the namespace."""
        return sorted(self._routes)

    def _out(self, cls: type[Event]) -> _Out:
        """Where events of this class go; worked out when the first one is published."""
        kind: EventType = self.codec.type_of(cls)
        field = self.key_of[kind.topic]
        out = _Out(self.namespace + kind.topic, kind.encode, None if field == "saga" else attrgetter(field))
        self._outs[cls] = out
        return out

    # ---- which partitions

    def add_partition(self, partition: int) -> None:
        """An empty partition of every table; `restore` then fills it."""
        self.partitions.add(partition)
        for table in self.tables.values():
            table.parts[partition] = Part(table.name, partition)
        self._open.restored(partition, [table.parts[partition] for table in self.tables.values()])

    def drop_partition(self, partition: int) -> None:
        self.partitions.discard(partition)
        for table in self.tables.values():
            table.parts.pop(partition, None)
        self.timers.forget(partition)
        self.evictions.forget(partition)
        self._open.forget(partition)
        self._condemned = {where: strikes for where, strikes in self._condemned.items() if where[1] != partition}

    def changelog_topics(self) -> dict[str, str]:
        """Changelog topic, with the namespace → table."""
        return {topic: table for table, topic in self._changelogs.items()}

    def restore(self, table: str, partition: int) -> Callable[[bytes, bytes | None, int], None]:
        """A function that takes one changelog record's key, value and time (ms) into the table's partition."""
        rows = self.tables[table].parts[partition].rows
        decode = self._row_types[table].decode_row
        note_time = self.evictions.times(table, partition)

        def take(key: bytes, value: bytes | None, at: int) -> None:
            name = key.decode()
            if value is None:
                rows.pop(name, None)
            else:
                rows[name] = decode(value)
                if note_time is not None:
                    note_time(name, at)

        return take

    def restored(self, partition: int) -> None:
        """The changelog has been read: make what is derived from the tables."""
        if self.timed:
            self.timers.rebuild(partition)
        parts = [table.parts[partition] for table in self.tables.values()]
        self.evictions.restored(partition, parts)
        self._open.restored(partition, parts)

    # ---- a batch

    def process(self, messages: Iterable[Message], again: list[Failure] | None = None) -> None:
        """Decide messages in the given order. Effects gather in `events`, `records` and `letters`.

        again: what failed is noted here and leaves no trace, nor does what was taken: it is one message, redriven.
               None: it is taken from its topic, and what fails is parked.
        """
        routes: dict[bytes, _Route | None] = {}
        topic, partition, first, last = "", -1, -1, -1
        source = ""
        log, outs, append = self.log, self._outs, self.events.append
        # Who: several services act on one record, and each numbers its own effects.
        by = f".{self.service}."
        by_first = f"{by}0"
        parked: dict[str, Any] = {}
        condemned, operations = self._condemned, self.operations.topic
        external = self._external if self.partition_count else None
        for message in messages:
            if message.topic() != topic or message.partition() != partition:
                self._took(topic, partition, first, last)
                topic, partition, first = message.topic(), message.partition(), message.offset()
                routes = self._enter(topic, partition)
                parked = self.parked.table.rows if again is None else {}
                source = f"{topic[len(self.namespace) :]}/{partition}/"
            last = message.offset()
            mark, published = len(log), len(self.events)
            saga: str | None = None
            try:
                value = message.value()
                route = routes[value[:5]]  # type: ignore[index]  # a tombstone is a TypeError, handled below
                if route is None:
                    if topic == operations:
                        self._carry_out_operation(message)
                    continue
                cause, context, flow, event = route.decode(value)  # type: ignore[arg-type]
                found = route.decisions.get(flow)
                if found is None:
                    if flow in self._flows:
                        continue
                    raise UnknownFlow(flow.decode())
                saga = event.saga
                if message.key() != route.key(event).encode():
                    saga = None
                    raise WrongKey(f"key {message.key()!r}, content says {route.key(event)!r}")
                if parked and saga in parked:
                    self._park(message, saga, None)
                    continue
                if external is not None and type(event) in external:
                    saga = None
                    self._check_beginning(message, event.saga)
                    saga = event.saga
                # What is redriven may have been edited or mended; the broker's word on that is about its operation.
                if condemned and again is None and (topic, partition, last) in condemned:
                    raise TooLarge("the broker refuses what this message causes")
                decide, takes_time = found
                effects = decide(event, message.timestamp()[1]) if takes_time else decide(event)
                if effects is None:
                    continue
                out = outs.get(type(effects))
                if out is not None:
                    id = f"{source}{last}{by_first}".encode()
                    encoded = out.encode(effects, b"".join((_LENGTH[len(id)], id, context, cause)))
                    if len(encoded) > MAX_RECORD:
                        raise TooLarge(f"{type(effects).__name__} of {len(encoded)} bytes")
                    append((out.topic, encoded, saga if out.key is None else out.key(effects)))
                else:
                    self._carry_out(effects, message, f"{source}{last}{by}", context + cause, saga)
            except Exception as error:
                undo(log, mark)
                del self.events[published:]
                if again is None:
                    self._park(message, saga, error)
                else:
                    again.append(Failure(self._named(message, saga, error), saga is not None))
        if again is None:
            self._took(topic, partition, first, last)

    def _enter(self, topic: str, partition: int) -> dict[bytes, _Route | None]:
        for table in self.tables.values():
            table.switch(partition)
        return self._routes[topic]

    def _took(self, topic: str, partition: int, first: int, last: int) -> None:
        if not topic:
            return
        self.ahead[topic, partition] = last + 1
        self._journal.took(topic[len(self.namespace) :], partition, first, last)

    def _carry_out(self, effects: Any, message: Message, name: str, origin: bytes, saga: str) -> None:
        """Any effects but a single event of a class met before."""
        several = effects if isinstance(effects, (list, tuple)) else (effects,)
        outs = self._outs
        for number, effect in enumerate(several):
            id = f"{name}{number}".encode()
            meta = b"".join((_LENGTH[len(id)], id, origin))
            if type(effect) in outs or isinstance(effect, Event):
                self.events.append(self._encode(effect, meta, saga))
            elif isinstance(effect, Call):
                self.calls.start(effect, saga, meta, self.codec.type_of(effect.answer))
            elif isinstance(effect, Withdraw):
                self.calls.withdraw(effect.key)
            elif isinstance(effect, Timer):
                due = message.timestamp()[1] + round(effect.after * 1000)
                _, encoded, key = self._encode(effect.event, meta, saga)
                self.timers.set(saga, type(effect.event).__name__, due, key, encoded)
            elif isinstance(effect, CancelTimer):
                self.timers.cancel(saga, effect.event.__name__)
            else:
                raise TypeError(f"a decision returned {type(effect).__name__}, which is no effect")

    def _encode(self, event: Event, meta: bytes, saga: str) -> tuple[str, bytes, str]:
        out = self._outs.get(type(event)) or self._out(type(event))
        encoded = out.encode(event, meta)
        if len(encoded) > MAX_RECORD:
            raise TooLarge(f"{type(event).__name__} of {len(encoded)} bytes")
        return out.topic, encoded, saga if out.key is None else out.key(event)

    # ---- what did not go well

    def _park(self, message: Message, saga: str | None, error: Exception | None) -> None:
        """Into the dead letter queue; error None: the saga is parked already and this follows."""
        source = message.topic()[len(self.namespace) :]
        error = None if error is None else self._named(message, saga, error)
        reason = deadletters.reason_of(error, decided=saga is not None)
        if saga is None and not isinstance(error, (WrongKey, WrongPartition, BadSaga)):
            saga = self._saga_of(message)
        strikes = self._condemned.get((message.topic(), message.partition(), message.offset()), 0)
        letter = deadletters.record(
            self._dlq, self.group, message, source, reason, error, with_value=strikes < 2, saga=saga
        )
        self.letters.append(letter)
        self.dead.append((reason, source, saga, error))
        if saga is not None:
            self.parked.add(saga, reason, error, source, message.offset(), message.timestamp()[1])

    def _named(self, message: Message, saga: str | None, error: Exception) -> Exception:
        """The error in words, where it is only that of the look at the message's first five bytes."""
        if saga is None and isinstance(error, (KeyError, TypeError)):
            return deadletters.of_no_known_type(message)
        return error

    def _carry_out_operation(self, message: Message) -> None:
        """What an operator asks about a dead letter."""
        if (message.topic(), message.partition(), message.offset()) in self._condemned:
            outcome = self.operations.carry_out(message, lambda letter: refused())
        else:
            outcome = self.operations.carry_out(message, self._decide_again)
        if outcome is not None:
            self.records.append(outcome)

    def _decide_again(self, letter: Redriven) -> Failure | None:
        failed: list[Failure] = []
        self.process([letter], failed)
        return failed[0] if failed else None

    def _check_beginning(self, message: Message, saga: str) -> None:
        """Clients choose their sagas' names, and their partitioner; a saga that begins on a wrong partition never
        meets its answers.
        """
        if not 0 < len(saga) <= MAX_SAGA:
            raise BadSaga(f"its saga's name has {len(saga)} characters, 1 to {MAX_SAGA} are allowed")
        key = message.key()
        expected = partition_of(key.decode() if key else "", self.partition_count)
        if message.partition() != expected:
            raise WrongPartition(
                f"its key belongs in partition {expected}; produce with the murmur2 partitioner "
                "(librdkafka: partitioner=murmur2_random)"
            )

    def condemn(self, topic: str, partition: int, offset: int) -> None:
        """The broker refuses what this message causes: it will be a dead letter, and without its bytes if not even that
        is taken.
        """
        where = (topic, partition, offset)
        self._condemned[where] = self._condemned.get(where, 0) + 1

    def _saga_of(self, message: Message) -> str | None:
        """The saga of a message whose body is unreadable, if its metadata is not and agrees with its key."""
        try:
            saga = self.codec.meta_of(message.value() or b"").saga
        except CodecError:
            return None
        return saga if 0 < len(saga) <= MAX_SAGA and (message.key() or b"") == saga.encode() else None

    # ---- what comes from inside

    def answer(self, partition: int, key: str, outcome: str, reference: str, reason: str) -> bool:
        """Record the answer of an outside call. False if nobody here waits for it any more."""
        if partition not in self.partitions:
            return False
        self.calls.table.switch(partition)
        row = self.calls.table.get(key)
        if row is None:
            return False
        if row.answer not in self._answers:
            kind = self.codec.type_named(row.answer)
            self._answers[row.answer] = (self.namespace + kind.topic, kind.cls, kind.encode)
        topic, cls, encode = self._answers[row.answer]
        event = cls(outcome=outcome, reference=reference, reason=reason)
        self.records.append((topic, encode(event, row.meta), row.saga, partition))
        self.calls.table.remove(key)
        self._journal.of(partition).answered.append(key)
        return True

    def fire(self, partition: int, until: int) -> int:
        """Publish the events of the timers due at or before `until` (ms). Returns how many."""
        self.timers.table.switch(partition)
        fired = self.timers.take_due(partition, until)
        for name, row in fired:
            kind = self.codec.decoders[row.event[:5]].type
            self.records.append((self.namespace + kind.topic, row.event, row.key, partition))
            self._journal.of(partition).fired.append(name)
        return len(fired)

    def evict(self, partition: int, until: int) -> bool:
        """Remove rows that were to go at or before `until` (ms). False: there are more."""
        parked = self.parked.table.parts[partition].rows
        for part, key in self.evictions.take(partition, until, parked):
            table = self.tables[part.table]
            table.switch(partition)
            table.remove(key)
            self._journal.of(partition).evicted.append(f"{part.table} {key}")
        return not self.evictions.is_due(partition, until)

    def open_sagas(self, partition: int) -> int:
        """Sagas that have begun and not ended, but for the parked ones; 0 if they are not counted."""
        return self._open.count(partition)

    # ---- the end of a batch

    def seal(self) -> None:
        """The batch is complete: add the changelog and the journal to its records."""
        append = self.records.append
        self._changed.update(changes(self.log))
        for part, rows in self._changed.items():
            topic, partition = self._changelogs[part.table], part.partition
            encode = self._row_types[part.table].encode_row
            for key, row in rows.items():
                value = None if row is None else encode(row)
                if value is not None and len(value) + len(key) > MAX_RECORD:
                    raise CodecError(f"a row of {len(value)} bytes", where=f"table {part.table}")
                append((topic, value, key, partition))
        for partition, line in self._journal.records():
            append((self._journal_topic, line, None, partition))

    @property
    def silent(self) -> bool:
        """Nothing has come of what was taken so far: it can wait for the next transaction that has something to say."""
        return not (self.events or self.records or self.letters or self.log)

    @property
    def touched(self) -> set[int]:
        """Partitions whose tables the batch may have written."""
        return self._journal.partitions()

    def commit(self, at: int) -> Changes:
        """The batch has been committed, at `at` (ms): forget how to undo it. Returns what changed."""
        changed = self._changed
        self.timers.committed()
        self.evictions.committed()
        self.evictions.note(changed, at)
        self._open.note(changed)
        self._reset()
        return changed

    def rollback(self) -> None:
        """The batch will not be committed: everything as before."""
        undo(self.log)
        self.timers.rolled_back()
        self.evictions.rolled_back()
        self._reset()

    def _reset(self) -> None:
        self.log.clear()
        self.events: list[tuple[str, bytes, str]] = []
        self.records: list[Record] = []
        self.letters: list[DeadLetter] = []
        self.ahead: dict[tuple[str, int], int] = {}
        """(topic, partition) → the offset after the last message taken since the last commit."""
        self._changed: Changes = {}
        self.dead: list[tuple[str, str, str | None, Exception | None]] = []
        self._journal.clear()
        for table in self.tables.values():
            table.leave()
