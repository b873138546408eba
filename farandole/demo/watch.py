"""What is seen of the orders from outside, by a consumer that reads committed records only and commits nothing itself.

Invariant: an order counts as ended when a committed record says so, and as parked when its service's committed table
does; never because a program of ours believes it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import IsolationLevel, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from events import (
    FarandoleParked,
    OrderCancelled,
    OrderCompleted,
    OrderPlaced,
    OrderRefused,
    ShippingDispatched,
    TransfersCompleted,
    TransfersFailed,
)
from farandole.codec import Codec
from farandole.config import ClientConfig
from farandole.demo.following import Follower, Where
from farandole.errors import BrokerError, CodecError
from farandole.topics import Topics

ANSWER_WITHIN: Final = 30.0
"""Seconds for the cluster to say where its topics end."""

AGAIN_AFTER: Final = 0.5
"""Seconds before the cluster is asked once more by a new client."""

MOST_LETTERS: Final = 1_000
"""Dead letters that are kept one by one; the rest is only counted."""

ENDINGS: Final = ("order", "shipping", "transfers")
"""Topics with what becomes of orders and transfers."""

EXPIRING: Final = ("login", "login.timers")
"""Topics that grow for as long as a challenge lives, long after the last visitor has left."""

EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Ending:
    """how: completed, refused or cancelled, of transfers completed, failed or refunded; cause: the event or the reason
    that stopped it; at: when it was seen, monotonic clock."""

    how: str
    cause: str
    at: float


@dataclass(frozen=True)
class DeadLetter:
    """One record of a dead letter queue: where it came from, why it is there, where it lies."""

    service: str
    topic: str
    partition: int
    offset: int
    reason: str
    error: str
    queue: str
    queue_partition: int
    queue_offset: int


@dataclass(frozen=True)
class Parked:
    """A saga that one service no longer handles, with the message that stopped it."""

    saga: str
    service: str
    topic: str
    partition: int
    offset: int
    reason: str
    error: str
    letters: int


@dataclass
class Seen:
    """All that was seen of the orders (or transfers) that are looked for, and of whatever is parked or dead.

    hows:  the ways to end that are counted
    ended: how many ended how
    """

    orders: AbstractSet[str]
    hows: tuple[str, ...] = ("completed", "cancelled", "refused")
    ended: Counter[str] = field(default_factory=Counter)
    placed: set[str] = field(default_factory=set)
    dispatched: set[str] = field(default_factory=set)
    endings: dict[str, Ending] = field(default_factory=dict)
    parked: dict[tuple[str, str], Parked] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    letter_counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def parked_sagas(self) -> set[str]:
        return {saga for _, saga in list(self.parked)}

    def counts(self) -> dict[str, int]:
        """How many of the orders have come to what. An order that ended and is parked has ended."""
        counts = {how: self.ended[how] for how in self.hows}
        counts["parked"] = sum(saga in self.orders and saga not in self.endings for saga in self.parked_sagas)
        return {**counts, "open": len(self.orders) - sum(counts.values())}


class Watcher:
    """Reads what orders and transfers become, in a thread of its own.

    seen:       with the ones to look for; more may be added before they are placed
    everything: from the beginning of its topics; otherwise from their present end
    """

    def __init__(
        self,
        seen: Seen,
        client_config: ClientConfig,
        namespace: str,
        topics: Topics,
        codec: Codec,
        *,
        everything: bool,
    ) -> None:
        self.seen = seen
        self._config, self._namespace, self._topics, self._codec = client_config, namespace, topics, codec
        self._everything = everything
        self._parked_row = codec.type_of(FarandoleParked)
        self._admin = AdminClient({**client_config, "log_level": 0})
        self._follower = Follower(client_config, namespace, "demo-watcher", "the topics", self._take)
        self._takes: dict[str, Callable[[Message], None]] = dict.fromkeys(ENDINGS, self._event)
        for service in topics.services:
            self._takes[f"{service}.dlq"] = self._dead_letter
            self._takes[f"{service}-parked-changelog"] = self._parked

    def start(self) -> None:
        """Begin here: what is published from now on is seen."""
        watched = [topic for topic in self._topics.topics.values() if topic.name in self._takes]
        partitions = [(self._namespace + topic.name, p) for topic in watched for p in range(topic.partitions)]
        self._follower.start(self._offsets(partitions, EARLIEST if self._everything else LATEST))

    def stop(self) -> None:
        self._follower.stop()

    def check(self) -> None:
        """Raise what ended the watching, if anything did."""
        self._follower.check()

    def ends(self) -> dict[Where, int]:
        """Where every topic ends now, but for journals and changelogs, and for challenges that expire by and by: while
        it does not change, nothing happens."""
        quiet = ("-changelog", ".journal")
        named = [
            topic
            for topic in self._topics.topics.values()
            if not topic.name.endswith(quiet) and topic.name not in EXPIRING
        ]
        partitions = [(self._namespace + topic.name, p) for topic in named for p in range(topic.partitions)]
        return self._offsets(partitions, LATEST)

    def _offsets(self, partitions: Iterable[Where], spec: Any) -> dict[Where, int]:
        asked = list(partitions)
        for last in (False, False, True):
            try:
                return self._ask_offsets(asked, spec)
            except BrokerError:
                if last:
                    raise
                # A client that was there when a broker restarted may keep an old leader's epoch for ever.
                self._admin = AdminClient({**self._config, "log_level": 0})
                time.sleep(AGAIN_AFTER)
        raise AssertionError("unreachable")

    def _ask_offsets(self, partitions: Iterable[Where], spec: Any) -> dict[Where, int]:
        wanted = {TopicPartition(topic, partition): spec for topic, partition in partitions}
        found = self._admin.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=ANSWER_WITHIN
        )
        try:
            return {(tp.topic, tp.partition): future.result().offset for tp, future in found.items()}
        except KafkaException as error:
            raise BrokerError(
                f"the topics' ends cannot be had: {error.args[0].str()}",
                where=str(self._config["bootstrap.servers"]),
                mend="farandole topics plan says what is missing",
            ) from error

    # ---- in the thread

    def _take(self, message: Message) -> None:
        self._takes[(message.topic() or "")[len(self._namespace) :]](message)

    def _event(self, message: Message) -> None:
        try:
            _, event = self._codec.decode(message.value())
        except CodecError:
            return  # whoever hears the topic sends it to its dead letters
        seen, saga = self.seen, event.saga
        if saga not in seen.orders:
            return
        if isinstance(event, OrderPlaced):
            seen.placed.add(saga)
        elif isinstance(event, ShippingDispatched):
            seen.dispatched.add(saga)
        elif isinstance(event, OrderCompleted):
            self._ended(saga, "completed")
        elif isinstance(event, OrderRefused):
            self._ended(saga, "refused")
        elif isinstance(event, OrderCancelled):
            self._ended(saga, "cancelled", event.cause)
        elif isinstance(event, TransfersCompleted):
            self._ended(saga, "completed")
        elif isinstance(event, TransfersFailed):
            self._ended(saga, "refunded" if event.refunded else "failed", event.reason)

    def _ended(self, saga: str, how: str, cause: str = "") -> None:
        if saga not in self.seen.endings:  # two endings are the audit's to find
            self.seen.endings[saga] = Ending(how, cause, time.monotonic())
            self.seen.ended[how] += 1

    def _dead_letter(self, message: Message) -> None:
        headers = {name: _text(value) for name, value in dict(message.headers() or []).items()}
        queue = (message.topic() or "")[len(self._namespace) :]
        letter = DeadLetter(
            service=queue.removesuffix(".dlq"),
            topic=headers.get("__dlq.errors.topic", ""),
            partition=_number(headers.get("__dlq.errors.partition")),
            offset=_number(headers.get("__dlq.errors.offset")),
            reason=headers.get("__dlq.reason", ""),
            error=headers.get("__dlq.errors.message", ""),
            queue=queue,
            queue_partition=_number(message.partition()),
            queue_offset=_number(message.offset()),
        )
        self.seen.letter_counts[letter.service, letter.reason] += 1
        if len(self.seen.letters) < MOST_LETTERS:
            self.seen.letters.append(letter)

    def _parked(self, message: Message) -> None:
        service = (message.topic() or "")[len(self._namespace) :].removesuffix("-parked-changelog")
        saga = _text(message.key())
        value = message.value()
        if value is None:
            self.seen.parked.pop((service, saga), None)
            return
        row: FarandoleParked = self._parked_row.decode_row(value)
        self.seen.parked[service, saga] = Parked(
            saga=saga,
            service=service,
            topic=row.topic,
            partition=_number(message.partition()),
            offset=row.offset,
            reason=row.reason,
            error=row.error,
            letters=row.count,
        )


def _text(raw: str | bytes | None) -> str:
    return raw.decode(errors="replace") if isinstance(raw, bytes) else raw or ""


def _number(text: str | int | None) -> int:
    try:
        return -1 if text is None else int(text)
    except ValueError:
        return -1
