"""Every record of the installation, in any order, into what is known of ids, sagas, stock, money and services.

Invariant: a record is folded once, by what its topic is for: events into the chain of causes and into their saga, rows
into their table, journals and dead letters into their service. What cannot be read is kept by its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final, NamedTuple

from events import FarandoleJournal, FarandoleOperation, FarandoleOutcome, StockLevel
from farandole.audit import bank
from farandole.audit.books import Ledger, Stock
from farandole.audit.chain import Chain, Link, Offsets, Witness, origin_of, place_name
from farandole.audit.findings import Findings
from farandole.audit.flows import Books, FlowAudit, Saga, flow_audits, for_flow
from farandole.audit.passcodes import Passcodes
from farandole.audit.records import LogRecord, Where
from farandole.audit.services import REDRIVEN, Services
from farandole.codec import Codec, Decoder
from farandole.errors import CodecError
from farandole.partitioner import partition_of
from farandole.topics import Topic, Topics

BAD_KEPT: Final = 10_000
"""Unreadable records that are kept by place; more are only counted."""

KEYS_KEPT: Final = 1_000_000
"""Keys other than sagas (skus) whose partition is remembered."""

ENGINE_TABLES: Final = ("parked", "calls", "timers")


class Bad(NamedTuple):
    """A record of an event topic that is no event of that topic.

    unknown: not even its first five bytes are those of one, so every service that hears the topic has to notice
    """

    where: Where
    why: str
    unknown: bool


class _EventTopic(NamedTuple):
    decoders: dict[bytes, Decoder]
    key: Callable[[Any], str] | None
    partitions: int


class Fold:
    """partitions: of each topic on the cluster, without the namespace; passcodes: to be looked for"""

    def __init__(
        self, codec: Codec, topics: Topics, partitions: Mapping[str, int], passcodes: Passcodes | None = None
    ) -> None:
        self.findings = Findings()
        self._passcodes = passcodes
        self.chain = Chain()
        self.services = Services(self.findings)
        self.stock = Stock(self.findings)
        self.ledger = Ledger(self.findings)
        self.bank = bank.Bank(self.findings)
        self.flows = flow_audits(Books(self.findings, self.stock, self.ledger, self.bank))
        self.sagas: dict[str, Saga] = {}
        self.unchecked: Counter[str] = Counter()
        self.bad: list[Bad] = []
        self.counts = Counter[str]()
        self._edited: dict[tuple[str, int, int], LogRecord] = {}
        """Service, partition and offset of an operation → the letter as it was edited, at its old place."""
        self._redriven: list[tuple[str, LogRecord]] = []
        self._nobodys: set[Where] = set()
        """Places of records that happened to nobody, because they cannot be read or lie under a wrong key."""
        self._codec = codec
        self._audits: dict[bytes, tuple[str, FlowAudit | None]] = {}
        self._homes: dict[tuple[str, int], int] = {}
        self._event_topics = {
            topic.name: _event_topic(topic, codec, partitions[topic.name])
            for topic in topics.topics.values()
            if topic.events
        }
        self._handlers = {topic.name: self._handler(topic) for topic in topics.topics.values()}
        self._here: tuple[tuple[str, int], bytes, Offsets] = (("", -1), b"", self.chain.at(("", -1)))

    def _handler(self, topic: Topic) -> Callable[[LogRecord], None]:
        owner = topic.owner
        if topic.events:
            return self._event
        if topic.name == f"{owner}.journal":
            return lambda record: self._journal(owner, record)
        if topic.name == f"{owner}.operations":
            return lambda record: self._operation(owner, record)
        if topic.name == f"{owner}.dlq":
            return lambda record: self._letter(owner, record)
        if topic.name.endswith("-changelog"):
            table = topic.name.removeprefix(f"{owner}-").removesuffix("-changelog")
            return lambda record: self._row(owner, table, record)
        return lambda record: None

    def take(self, record: LogRecord) -> None:
        if self._passcodes is not None:
            self._passcodes.look(record, self.findings)
        self._handlers[record.topic](record)

    # ---- events

    def _event(self, record: LogRecord) -> None:
        value, time = record.value, record.time
        kind = self._event_topics[record.topic]
        self.counts["events"] += 1
        try:
            decoder = kind.decoders[value[:5]]  # type: ignore[index]  # a tombstone is a TypeError
        except (KeyError, TypeError):
            self._is_bad(record, self._why_none(value), unknown=True)
            return
        assert value is not None
        try:
            id, context, flow, event = decoder.decode(value)
        except CodecError as error:
            self._is_bad(record, error.what, unknown=False)
            return
        link = _link(value, id, context)
        self._chain_up(record, link, event, flow)
        saga = self.sagas.get(event.saga)
        text, audit = self._audits.get(flow) or self._audit_of(flow)
        if saga is None:
            home = partition_of(event.saga, kind.partitions)
            saga = audit.begin(text, home, time) if audit else Saga(text, home, time)
            self.sagas[event.saga] = saga
        elif time < saga.since:
            saga.since = time
        if self._is_out_of_place(record, kind, saga, event, bool(link.cause)):
            return
        if saga.flow != text and self._moves(saga, text, audit, bool(link.cause)):
            saga.flow = text
        elif saga.flow != text and not link.cause and audit is not None and type(event) in audit.beginnings:
            self.counts["other_flows"] += 1
            return
        elif saga.flow != text:
            what = f"{decoder.type.name} belongs to {text}, other events of the saga to {saga.flow}"
            self.findings.add("two-flows", what, where=record.where, saga=event.saga)
            audit = self._audits[saga.flow.encode()][1]
        if audit is None:
            self.unchecked[text] += 1
            return
        if not link.cause and type(event) not in audit.clients:
            what = f"{decoder.type.name} without a cause"
            self.findings.add("uncaused", what, where=record.where, saga=event.saga)
        audit.take(saga, event, record)

    def _moves(self, saga: Saga, flow: str, audit: FlowAudit | None, caused: bool) -> bool:
        """A saga is of the flow in which a service took it up. A request to begin it in another one happened to nobody:
        a key that is used in two flows at once is one order, in the flow that was first.
        """
        before = self._audits[saga.flow.encode()][1]
        return caused and audit is not None and before is not None and before.is_only_asked(saga)

    def _chain_up(self, record: LogRecord, link: Link, event: Any, flow: bytes) -> None:
        """Where it lies, and of what it says it is an effect."""
        place = (record.topic, record.partition)
        if self._here[0] != place:
            self._here = place, place_name(place), self.chain.at(place)
        self.chain.read(self._here[1], self._here[2], record.offset, link)
        if link.cause:
            origin = origin_of(link.id)
            if origin is None:
                what = f"id {link.id.decode()!r}"
                self.findings.add("malformed-id", what, where=record.where, saga=event.saga)
            else:
                self.chain.claim(link, origin)

    def _audit_of(self, flow: bytes) -> tuple[str, FlowAudit | None]:
        text = flow.decode()
        found = self._audits[flow] = (text, for_flow(self.flows, text))
        return found

    def _is_out_of_place(self, record: LogRecord, kind: _EventTopic, saga: Saga, event: Any, caused: bool) -> bool:
        """A client's record under a wrong key is a dead letter wherever it is heard: it happened to nobody."""
        if kind.key is None:
            key, home = event.saga, saga.home
        else:
            key = kind.key(event)
            home = self._home(key, kind.partitions)
        if record.key != key.encode():
            if not caused:
                self.counts["wrong_keys"] += 1
                self._nobodys.add(record.where)
                return True
            what = f"key {_text(record.key)}, but its content says {key!r}"
            self.findings.add("wrong-key", what, where=record.where, saga=event.saga)
        elif record.partition != home:
            what = f"{key} belongs in partition {home}"
            self.findings.add("wrong-partition", what, where=record.where, saga=event.saga)
        return False

    def _home(self, key: str, partitions: int) -> int:
        home = self._homes.get((key, partitions))
        if home is None:
            home = partition_of(key, partitions)
            if len(self._homes) < KEYS_KEPT:
                self._homes[key, partitions] = home
        return home

    def _why_none(self, value: bytes | None) -> str:
        try:
            return f"{self._codec.decoder_for(value).type.name} does not belong in this topic"
        except CodecError as error:
            return error.what

    def _is_bad(self, record: LogRecord, why: str, unknown: bool) -> None:
        self.counts["undecodable"] += 1
        if len(self.bad) < BAD_KEPT:
            self.bad.append(Bad(record.where, why, unknown))
            self._nobodys.add(record.where)

    # ---- what services keep

    def _row(self, service: str, table: str, record: LogRecord) -> None:
        row: Any = None
        if record.value is not None:
            row = self._decoded(record, f"table {table}")
            if row is None:
                return
        if table in ENGINE_TABLES:
            self.services.row(service, table, record, row)
        elif table == "levels" and (row is None or isinstance(row, StockLevel)):
            self.stock.level(record, row)
        elif service == "accounts" and table in bank.TABLES:
            self.bank.row(table, record, row)

    def _journal(self, service: str, record: LogRecord) -> None:
        line = self._decoded(record, "the journal")
        if isinstance(line, FarandoleJournal):
            self.services.journal(service, record, line)

    def _decoded(self, record: LogRecord, what: str) -> Any:
        """The row, or None: it cannot be read."""
        try:
            decoder = self._codec.decoder_for(record.value)
            if not decoder.type.is_row:
                raise CodecError(f"{decoder.type.name} is no row")
            return decoder.decode(record.value or b"")
        except CodecError as error:
            self.findings.add("undecodable-row", f"{what}: {error.what}", where=record.where)
            return None

    def _letter(self, service: str, record: LogRecord) -> None:
        """A dead letter. It may be a cause, too: what it brings about when it is redriven names this place."""
        self.services.letter(service, record)
        found = linked(self._codec, record)
        if found is not None:
            place = (record.topic, record.partition)
            self.chain.read(place_name(place), self.chain.at(place), record.offset, found[0])

    def _operation(self, service: str, record: LogRecord) -> None:
        """What an operator asked, or what became of it. What is neither is a dead letter, and counted there."""
        try:
            row = self._codec.decoder_for(record.value).decode(record.value or b"")
        except CodecError:
            return
        if isinstance(row, FarandoleOutcome):
            self.services.outcome(service, record, row)
            edited = self._edited.pop((service, record.partition, row.operation), None)
            if edited is not None and row.outcome == REDRIVEN:
                self._redriven.append((service, edited))
        elif isinstance(row, FarandoleOperation) and row.edited and row.topic in self._event_topics:
            letter = LogRecord(row.topic, record.partition, row.offset, row.time, row.key, row.value)
            self._edited[service, record.partition, record.offset] = letter

    def settle(self) -> None:
        """Up to a point everything was read: what was edited and redriven counts in place of what came. Where nobody
        could read that, or it lay under a wrong key, it has not been counted at all.
        """
        for service, letter in self._redriven:
            if letter.where in self._nobodys:
                self._nobodys.discard(letter.where)
                self._event(letter)
            try:
                event = self._codec.decode(letter.value)[1]
            except CodecError:
                continue  # a service has read what this version of the project cannot
            self.services.edited[service, letter.where] = event
        self._redriven.clear()

    # ---- the second reading

    def witness(self, witness: Witness) -> Callable[[LogRecord], None]:
        """A function that takes every record once more, to tell what is wrong at suspect places."""
        letters = {name for name in self._handlers if name.endswith(".dlq")}

        def hear(record: LogRecord) -> None:
            if record.topic not in self._event_topics and record.topic not in letters:
                return
            found = linked(self._codec, record)
            if found is not None:
                link, name, saga, flow = found
                witness.hear(record.where, name, link, saga, flow, copy=record.topic in letters)

        return hear


def linked(codec: Codec, record: LogRecord) -> tuple[Link, str, str, str] | None:
    """What an event says of itself: its link, name, saga and flow; None if it cannot be read."""
    try:
        decoder = codec.decoder_for(record.value)
        if decoder.type.is_row or record.value is None:
            return None
        id, context, flow, event = decoder.decode(record.value)
    except CodecError:
        return None
    return _link(record.value, id, context), decoder.type.name, event.saga, flow.decode()


def _event_topic(topic: Topic, codec: Codec, partitions: int) -> _EventTopic:
    decoders = {prefix: each for prefix, each in codec.decoders.items() if each.type.topic == topic.name}
    key = None if topic.key in (None, "saga") else attrgetter(str(topic.key))
    return _EventTopic(decoders, key, partitions)


def _link(value: bytes, id: bytes, context: bytes) -> Link:
    """id: with its length, as decoders return it. The cause is what follows id, saga and flow."""
    at = 5 + len(id) + len(context)
    length, at = _length(value, at)
    return Link(id[1:] if id[0] < 128 else id[_length(id, 0)[1] :], context, value[at : at + length])


def _length(value: bytes, at: int) -> tuple[int, int]:
    """An Avro string's length and where the string begins. The value was decoded before, so it is there and not
    negative."""
    byte = value[at]
    number, shift, at = byte & 127, 7, at + 1
    while byte > 127:
        byte = value[at]
        number |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
    return number >> 1, at


def _text(key: bytes | None) -> str:
    return "none" if key is None else repr(key.decode(errors="replace"))
