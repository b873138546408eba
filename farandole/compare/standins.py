"""Stand-ins for services that want to know of completed orders: plain clients that keep nothing.

    python -m farandole.compare.standins readers 10 400      ten of them hear order.completed of 400 orders
    python -m farandole.compare.standins commander 10 400    somebody hears it, and sends each a command
    python -m farandole.compare.standins answerers 10 400    ten of them take their commands, and answer

No tables, no transactions: the least that it can cost. A command and an answer are as large as the event. Says that
it is ready, and, when all is done, what was read and written: a JSON object a line. Ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from farandole import config
from farandole.demo.stage import load_codec
from farandole.errors import BrokerError
from farandole.topics import Topics

COMPLETED: Final = "order.completed"
COMMANDS: Final = "standins.commands"
"""One partition for each stand-in; so have their answers."""
ANSWERS: Final = "standins.answers"
ANSWER_WITHIN: Final = 30.0
READ_AT_ONCE: Final = 500


class Done(NamedTuple):
    """Messages and bytes of one thread."""

    read: int
    read_bytes: int
    written: int
    written_bytes: int


class StandIns:
    """Of one process. number: of stand-ins; orders: that each of them has to hear of"""

    def __init__(self, number: int, orders: int) -> None:
        self._client_config, self._namespace = config.kafka_client_config(), config.namespace()
        self._number, self._orders = number, orders
        root = config.project_root()
        partitions = Topics.load(root / "topics.yaml").topics["order"].partitions
        self._events = [(self._namespace + "order", place) for place in range(partitions)]
        codec = load_codec(root, self._namespace)
        self._completed = next(prefix for prefix, each in codec.decoders.items() if each.type.name == COMPLETED)

    def play(self, role: str) -> None:
        every = range(self._number)
        if role == "readers":
            work = [self._worker(f"reader-{each}", self._events, self._orders, self._event) for each in every]
        elif role == "answerers":
            work = [
                self._worker(
                    f"answerer-{each}", [(self._namespace + COMMANDS, each)], self._orders, lambda _: True, [each]
                )
                for each in every
            ]
        else:
            answers = [(self._namespace + ANSWERS, each) for each in every]
            work = [
                self._worker("commander", self._events, self._orders, self._event, list(every)),
                self._worker("gatherer", answers, self._orders * self._number, lambda _: True),
            ]
        say({"ready": True})
        with ThreadPoolExecutor(len(work)) as pool:
            found = [each.result() for each in [pool.submit(each) for each in work]]
        say(Done(*(sum(column) for column in zip(*found, strict=True)))._asdict())

    def _event(self, message: Message) -> bool:
        value = message.value()
        return value is not None and value[:5] == self._completed

    def _worker(
        self,
        name: str,
        places: Sequence[tuple[str, int]],
        wanted: int,
        counts: Callable[[Message], bool],
        to: Sequence[int] = (),
    ) -> Callable[[], Done]:
        """It stands where its topics end when this returns. to: stand-ins to which it writes for each that counts"""
        consumer = Consumer(
            {
                **self._client_config,
                "group.id": f"{self._namespace}standins-{name}",
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "log_level": 0,
            }
        )
        consumer.assign([TopicPartition(topic, place, end_of(consumer, topic, place)) for topic, place in places])
        topic = self._namespace + (COMMANDS if name == "commander" else ANSWERS)
        return partial(self._take, consumer, wanted, counts, [(topic, each) for each in to])

    def _take(
        self,
        consumer: Consumer,
        wanted: int,
        counts: Callable[[Message], bool],
        to: Sequence[tuple[str, int]],
    ) -> Done:
        producer = Producer({**self._client_config, "enable.idempotence": True, "log_level": 0}) if to else None
        counted = read = read_bytes = written_bytes = 0
        while counted < wanted:
            for message in consumer.consume(READ_AT_ONCE, 0.1):
                if message.error():
                    raise BrokerError(f"a stand-in cannot read: {message.error()}")
                value = message.value() or b""
                read, read_bytes = read + 1, read_bytes + len(value)
                if not counts(message):
                    continue
                counted += 1
                for topic, place in to:
                    assert producer is not None
                    producer.produce(topic, value, message.key(), place)
                    written_bytes += len(value)
            if producer is not None:
                producer.poll(0)
        if producer is not None and producer.flush(ANSWER_WITHIN):
            raise BrokerError("a stand-in cannot write")
        consumer.close()
        return Done(read, read_bytes, counted * len(to), written_bytes)


def end_of(consumer: Consumer, topic: str, place: int) -> int:
    found: Any = consumer.get_watermark_offsets(TopicPartition(topic, place), timeout=ANSWER_WITHIN)
    if found is None:
        raise BrokerError(f"nobody says where {topic}[{place}] ends")
    return int(found[1])


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


def _end_with_parent() -> None:
    """Whoever started it holds its standard input open."""

    def watch() -> None:
        sys.stdin.read()
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main() -> None:
    _end_with_parent()
    StandIns(int(sys.argv[2]), int(sys.argv[3])).play(sys.argv[1])


if __name__ == "__main__":
    main()
