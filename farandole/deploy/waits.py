"""The longest that an order waited while services were rolled, by what was committed and when.

An order's wait is the time between two records of it that follow each other, by the broker's clock: from its command to
`order.placed`, from there to its holds, and so on to its end. Waits for the outside world are in it, as customers wait
for that too. An order that has not ended when the watch ends waits since its last record.

Invariant: only committed records count, up to an order's end, and only waits that were not over when the rollout began.
An order that had stood still for longer than BEFORE_MS by then is seen from its next record on: the figure says "at
least" where services had been away before.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from farandole.codec import Codec
from farandole.config import ClientConfig
from farandole.deploy import health
from farandole.deploy.manifest import Manifest
from farandole.errors import CodecError

ASKS: Final = "order.commands.place_order"
BEGINS: Final = "order.placed"
ENDS: Final = frozenset({"order.completed", "order.cancelled", "order.refused"})

BEFORE_MS: Final = 10_000
"""Milliseconds before the rollout from which records are read, for the waits that were under way."""

MOST_RECORDS: Final = 5_000_000
"""Records that are looked at. 200 orders a second write 4,000."""

CAUGHT_UP_WITHIN: Final = 30.0
ANSWER_WITHIN: Final = 10.0


@dataclass(frozen=True)
class Longest:
    """seconds: the longest wait (None: no order was under way); saga: whose; after: the record after which;
    orders: that were looked at; open: that had not ended at the end of the watch; usual: the longest wait of an order
    in the seconds before
    """

    seconds: float | None
    saga: str
    after: str
    orders: int
    open: int
    usual: float | None
    complete: bool


class Waits:
    """Begin to watch, and say at the end. `topics`: the ones that carry events."""

    def __init__(self, client_config: ClientConfig, namespace: str, manifest: Manifest, codec: Codec) -> None:
        self._config, self._namespace, self._codec = client_config, namespace, codec
        heard = {event for bindings in manifest.flows.values() for each in bindings for event in [each.event]}
        said = {event for bindings in manifest.flows.values() for each in bindings for event in each.publishes}
        topics = {event.rpartition(".")[0] for event in heard | said}
        self._places = [
            (namespace + name, p) for name in sorted(topics) for p in range(manifest.topics[name].partitions)
        ]
        self._records: dict[str, list[tuple[int, str]]] = {}
        self._asked: dict[str, tuple[str, int, int]] = {}
        """Orders whose command was seen, and where it lies."""
        self._deciders = [name for name, topics in manifest.hears.items() if ASKS.rpartition(".")[0] in topics]
        self._count = 0
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waits", daemon=True)
        self._error: Exception | None = None
        self._at: dict[tuple[str, int], int] = {}
        """How far each partition was read."""

    def start(self) -> None:
        self.began = time.time()
        self._consumer = health.asked(self._config, self._assigned)
        self._thread.start()

    def _assigned(self) -> Any:
        consumer = Consumer(
            {
                **self._config,
                "group.id": f"{self._namespace}deploy-waits",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "fetch.wait.max.ms": 200,
                "queued.max.messages.kbytes": 32_768,
                "log_level": 0,
            }
        )
        since = round(self.began * 1000) - BEFORE_MS
        try:
            starts = consumer.offsets_for_times(
                [TopicPartition(topic, partition, since) for topic, partition in self._places], timeout=ANSWER_WITHIN
            )
            for tp in starts:
                if tp.error is not None:
                    raise KafkaException(tp.error)
                if tp.offset < 0:  # nothing has come since
                    tp.offset = consumer.get_watermark_offsets(tp, timeout=ANSWER_WITHIN)[1]
        except KafkaException:
            consumer.close()
            raise
        self._at = {(tp.topic, tp.partition): tp.offset for tp in starts}
        consumer.assign(starts)
        return consumer

    def end(self) -> Longest:
        """Read what there is by now, and say."""
        ended = time.time()
        deadline = time.monotonic() + CAUGHT_UP_WITHIN
        complete, undecided = False, set[str]()
        with contextlib.suppress(KafkaException):  # what was read is told all the same
            ends = {place: self._high(place) for place in self._places}
            while self._thread.is_alive() and time.monotonic() < deadline and not self._has_read(ends):
                time.sleep(0.1)
            undecided = self._undecided()
            complete = self._error is None and self._count < MOST_RECORDS and self._has_read(ends)
        self.halt()
        return longest(self._records, round(self.began * 1000), round(ended * 1000), complete, undecided)

    def _undecided(self) -> set[str]:
        """Orders whose command nobody has taken yet. One that was taken and caused nothing was a repetition."""
        places = sorted({(topic, partition) for topic, partition, _ in self._asked.values()})
        taken: dict[tuple[str, int], int] = {}
        for service in self._deciders if places else ():
            consumer = Consumer({**self._config, "group.id": self._namespace + service, "log_level": 0})
            with contextlib.closing(consumer):
                committed = consumer.committed([TopicPartition(*each) for each in places], timeout=ANSWER_WITHIN)
            taken.update({(tp.topic, tp.partition): tp.offset for tp in committed})
        return {saga for saga, (topic, p, offset) in self._asked.items() if offset >= taken.get((topic, p), 0)}

    def halt(self) -> None:
        """Watch no longer. Calling it again does nothing."""
        if not self._halt.is_set():
            self._halt.set()
            self._thread.join(ANSWER_WITHIN)
            self._consumer.close()

    def _high(self, place: tuple[str, int]) -> int:
        _, high = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=ANSWER_WITHIN)
        return int(high)

    def _has_read(self, ends: Mapping[tuple[str, int], int]) -> bool:
        return all(self._at[place] >= end for place, end in ends.items())

    def _run(self) -> None:
        try:
            while not self._halt.is_set() and self._count < MOST_RECORDS:
                for message in self._consumer.consume(2_000, 0.2):
                    self._take(message)
        except KafkaException as error:
            self._error = error

    def _take(self, message: Any) -> None:
        error, place = message.error(), (message.topic(), message.partition())
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # behind the marker of the last transaction
                self._at[place] = message.offset()
            return
        self._at[place] = message.offset() + 1
        try:
            value = message.value()
            saga = self._codec.meta_of(value).saga
            name = self._codec.decoder_for(value).type.name
        except CodecError:
            return
        self._count += 1
        if name == ASKS:
            self._asked[saga] = (*place, message.offset())
        self._records.setdefault(saga, []).append((message.timestamp()[1], name))


def longest(
    records: Mapping[str, list[tuple[int, str]]],
    began: int,
    ended: int,
    complete: bool = True,
    undecided: Collection[str] = (),
) -> Longest:
    """
    records: saga → (milliseconds, event), in any order
    began, ended: of the rollout, milliseconds
    undecided: sagas whose command lies in its topic, and nobody has taken it
    """
    best: tuple[float, str, str] | None = None
    usual: float | None = None
    orders = still_open = 0
    for saga, found in records.items():
        found.sort()
        end = next((n for n, (_, name) in enumerate(found) if name in ENDS), len(found))
        del found[end + 1 :]  # nobody waits for what comes behind an order's end
        waits = [(then - at, then, name) for (at, name), (then, _) in itertools.pairwise(found)]
        names = {name for _, name in found}
        is_open = (BEGINS in names or saga in undecided) and not names & ENDS
        if is_open:
            waits.append((max(0, ended - found[-1][0]), ended, found[-1][1]))
        during = [each for each in waits if each[1] >= began]
        before = [each[0] for each in waits if each[1] < began]
        usual = max([*before, *([usual] if usual is not None else [])], default=None)
        if during:
            orders += 1
            still_open += is_open
            wait, _, name = max(during)
            if best is None or wait > best[0]:
                best = wait, saga, name
    seconds = None if best is None else best[0] / 1000
    _, saga, after = best or (0, "", "")
    return Longest(seconds, saga, after, orders, still_open, None if usual is None else usual / 1000, complete)
