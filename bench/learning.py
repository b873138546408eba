"""What Farandole writes for each event of an order, seen where it hands it to librdkafka: the raw loop's templates.

In the worker, `record_transactions` makes every transaction take one message at the most, and writes down what it
produces. In the benchmark, `learn` says which message each record was written for: an event names its cause in its
metadata, and a row belongs to the message that its transaction's journal line took last.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from farandole.codec import Codec

Place = tuple[str, int, int]
"""Topic without namespace, partition, offset."""


class Written(msgspec.Struct, frozen=True):
    """One call of `produce`. partition -1: by the key."""

    topic: str
    value: bytes | None
    key: str | None
    partition: int


class Collector(msgspec.Struct, frozen=True):
    """How Python's garbage collector is set."""

    enabled: bool = True
    thresholds: tuple[int, int, int] = (700, 10, 10)
    frozen: bool = False

    @classmethod
    def here(cls) -> Collector:
        return cls(gc.isenabled(), gc.get_threshold(), gc.get_freeze_count() > 0)

    def apply(self) -> None:
        gc.set_threshold(*self.thresholds)
        if self.frozen:
            gc.collect()
            gc.freeze()
        if not self.enabled:
            gc.disable()


class Note(msgspec.Struct, frozen=True):
    """A line of the file that the worker writes: a subscription, or a committed transaction."""

    group: str = ""
    topics: tuple[str, ...] = ()
    written: tuple[Written, ...] = ()
    collector: Collector = Collector()


class Output(msgspec.Struct, frozen=True):
    """A record to write: its key is the saga's or the sku's with `suffix` behind it."""

    topic: str
    value: bytes | None
    by: Literal["saga", "sku"]
    suffix: str


class Reaction(msgspec.Struct, frozen=True):
    """What one service writes because of one type of event.

    events:  to the partition of their key
    joined:  the events are written when this and the other cause have both been heard, whichever comes last
    rows:    changelog records, to the partition of the message
    answers: what is written when the call that it started is answered, to the partition of the message
    """

    events: list[Output] = []
    rows: list[Output] = []
    answers: list[Output] = []
    joined: bool = False


class Templates(msgspec.Struct, frozen=True):
    """topics:    service → what it hears
    reactions: service → schema prefix (hex) → what it writes then
    collector: how Farandole's worker had set its garbage collector
    """

    topics: dict[str, list[str]]
    reactions: dict[str, dict[str, Reaction]]
    collector: Collector = Collector()

    def save(self, path: Path) -> None:
        path.write_bytes(msgspec.json.encode(self))

    @classmethod
    def load(cls, path: Path) -> Templates:
        return msgspec.json.decode(path.read_bytes(), type=cls)

    def carrying(self) -> set[str]:
        """Prefixes of events that are keyed by sku, so that their saga is in the value alone."""
        every = [reaction for by_type in self.reactions.values() for reaction in by_type.values()]
        return {prefix_of(each) for reaction in every for each in reaction.events if each.by == "sku"}


def prefix_of(output: Output) -> str:
    assert output.value is not None
    return output.value[:5].hex()


# ---- in the worker


def record_transactions(path: Path) -> None:
    from farandole import clients, engine

    engine.BATCH = 1
    lock, out, encode = threading.Lock(), path.open("ab"), msgspec.json.encode

    def note(what: Note) -> None:
        with lock:
            out.write(encode(what) + b"\n")
            out.flush()

    class RecordingConsumer(clients.GroupConsumer):
        def __init__(self, config: dict[str, Any], **options: Any) -> None:
            self.group = str(config["group.id"])
            super().__init__(config, **options)

        def subscribe(self, topics: list[str], **callbacks: Any) -> None:  # type: ignore[override]
            note(Note(group=self.group, topics=tuple(topics)))
            super().subscribe(topics, **callbacks)

    class RecordingProducer(clients.TransactionalProducer):
        def begin_transaction(self) -> None:
            self.written: list[Written] = []
            super().begin_transaction()

        def produce(
            self, topic: str, value: Any = None, key: Any = None, partition: int = -1, *rest: Any, **options: Any
        ) -> None:
            text = key.decode() if isinstance(key, bytes) else key
            if not (text or "").startswith(clients.MARK.decode()):  # written once, when partitions arrive
                self.written.append(Written(topic, value, text, partition))
            super().produce(topic, value, key, partition, *rest, **options)

        def produce_batch(  # type: ignore[override]
            self, topic: str, messages: list[dict[str, Any]], partition: int = -1, **options: Any
        ) -> int:
            for message in messages:
                self.produce(topic, message.get("value"), message.get("key"), message.get("partition", partition))
            return len(messages)

        def commit_transaction(self, *timeout: float) -> None:
            super().commit_transaction(*timeout)
            note(Note(written=tuple(self.written), collector=Collector.here()))

    vars(clients).update(GroupConsumer=RecordingConsumer, TransactionalProducer=RecordingProducer)


# ---- in the benchmark


def learn(
    notes: Iterable[Note],
    log: Mapping[Place, bytes],
    codec: Codec,
    causes: Mapping[str, set[str]],
    namespace: str,
    saga: str,
) -> Templates:
    """Templates from what was written while one order, `saga`, went through.

    log:    the value of every record in the topics of events
    causes: event type → the types that can cause it
    """
    topics: dict[str, list[str]] = {}
    reactions: dict[str, dict[str, Reaction]] = {}
    collector = Collector()
    for note in notes:
        if note.topics:
            topics[note.group.removeprefix(namespace)] = [topic.removeprefix(namespace) for topic in note.topics]
        elif note.written:
            transaction = _Transaction(note.written, log, codec, namespace, saga)
            transaction.add_to(reactions.setdefault(transaction.service, {}))
            collector = note.collector
    both = {service: _joined(by_type, codec, causes) for service, by_type in reactions.items()}
    return Templates(topics, both, collector)


def _joined(by_type: dict[str, Reaction], codec: Codec, causes: Mapping[str, set[str]]) -> dict[str, Reaction]:
    """An event that one of its possible causes had, and another that was heard too had not: it takes both."""
    joined = dict(by_type)
    names = {prefix: codec.decoders[bytes.fromhex(prefix)].type.name for prefix in by_type}
    for reaction in by_type.values():
        for event in reaction.events:
            could = causes.get(codec.decoders[bytes.fromhex(prefix_of(event))].type.name, set())
            pair = [prefix for prefix, name in names.items() if name in could]
            if any(not by_type[prefix].events for prefix in pair):
                for prefix in pair:
                    joined[prefix] = msgspec.structs.replace(by_type[prefix], events=reaction.events, joined=True)
    return joined


class _Transaction:
    """One committed transaction of the learning worker."""

    def __init__(
        self, written: Iterable[Written], log: Mapping[Place, bytes], codec: Codec, namespace: str, saga: str
    ) -> None:
        self._log, self._codec, self._saga = log, codec, saga
        records = [msgspec.structs.replace(each, topic=each.topic.removeprefix(namespace)) for each in written]
        journals = [each for each in records if each.topic.endswith(".journal")]
        self.service = journals[0].topic.removesuffix(".journal")
        self._lines = {
            line.partition: codec.decoders[line.value[:5]].decode(line.value) for line in journals if line.value
        }
        self._records = [each for each in records if each not in journals]

    def add_to(self, reactions: dict[str, Reaction]) -> None:
        for record in self._records:
            cause = self._cause(record)
            if self._is_of_the_order(cause):
                reaction = reactions.setdefault(cause[:5].hex(), Reaction())
                self._list_for(record, reaction).append(self._output(record))

    def _is_answer(self, record: Written) -> bool:
        """The answer itself, or the end of the call's row."""
        if record.topic.endswith("-calls-changelog"):
            return record.value is None and record.key in self._lines[record.partition].answered
        return record.partition >= 0 and not record.topic.endswith("-changelog")

    def _list_for(self, record: Written, reaction: Reaction) -> list[Output]:
        if self._is_answer(record):
            return reaction.answers
        return reaction.rows if record.partition >= 0 else reaction.events

    def _cause(self, record: Written) -> bytes:
        """The message for whose sake a record was written; of an answer, the message that started the call."""
        if not record.topic.endswith("-changelog"):
            assert record.value is not None
            return self._at(self._codec.meta_of(record.value).id)
        if self._is_answer(record):
            return self._cause(next(each for each in self._records if self._answers(each, record)))
        stretch = self._lines[record.partition].took[-1]
        return self._log[stretch.topic, record.partition, stretch.last]

    def _answers(self, record: Written, tombstone: Written) -> bool:
        """Answers come in the order of their calls' ends; with one order under way there is one."""
        return self._is_answer(record) and record.value is not None and record.partition == tombstone.partition

    def _at(self, identifier: str) -> bytes:
        """The message that an id names: `order/3/1542.inventory.0` lies at offset 1542 in partition 3 of `order`."""
        topic, partition, offset = identifier.split("/")
        return self._log[topic, int(partition), int(offset.partition(".")[0])]

    def _is_of_the_order(self, message: bytes) -> bool:
        return self._codec.meta_of(message).saga == self._saga

    def _output(self, record: Written) -> Output:
        assert record.key is not None
        if record.key.startswith(self._saga):
            return Output(record.topic, record.value, "saga", record.key.removeprefix(self._saga))
        return Output(record.topic, record.value, "sku", "")
