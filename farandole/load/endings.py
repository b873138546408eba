"""Sees the ends of orders, as an outsider who reads committed records only and commits nothing.

Lean, for thousands a second: an ending is known by the five bytes that name its schema and by its key, and is not
decoded. farandole.demo.watch decodes everything, and keeps it.

Invariant: an order has ended when a committed record of its end was received, and not before.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from farandole.codec import Codec
from farandole.config import ClientConfig
from farandole.errors import BrokerError
from farandole.topics import Topics

ANSWER_WITHIN: Final = 30.0
"""Seconds for a broker to say where a partition ends."""

ENDINGS: Final = {"order.completed": "completed", "order.cancelled": "cancelled", "order.refused": "refused"}


class Listener(Protocol):
    """Who is told: farandole.load.recorder.Recorder, for one."""

    def ended(self, saga: bytes, how: str, at: float) -> None: ...
    def park(self, saga: bytes, parked: bool) -> None: ...


class Endings:
    """Reads from where the topics end when it is started, in a thread of its own.

    endings: full name of an event that is an end → the word for it
    """

    def __init__(
        self,
        recorder: Listener,
        client_config: ClientConfig,
        namespace: str,
        topics: Topics,
        codec: Codec,
        endings: Mapping[str, str] = ENDINGS,
    ) -> None:
        self._recorder = recorder
        self._how = {
            prefix: endings[decoder.type.name]
            for prefix, decoder in codec.decoders.items()
            if decoder.type.name in endings
        }
        told = sorted({codec.type_named(name).topic for name in endings})
        self._parked = {f"{namespace}{service}-parked-changelog" for service in topics.services}
        self._places = [
            (name, p)
            for name in (*(namespace + topic for topic in told), *sorted(self._parked))
            for p in range(topics.topics[name.removeprefix(namespace)].partitions)
        ]
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._run, name="endings", daemon=True)
        self._error: BaseException | None = None
        self.cpu = 0.0
        """CPU seconds of its thread so far."""
        self._consumer = Consumer(
            {
                **client_config,
                "group.id": f"{namespace}load-endings",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 100,
                "fetch.queue.backoff.ms": 5,
                "queued.max.messages.kbytes": 65_536,
                "log_level": 0,
            }
        )

    def start(self) -> None:
        try:
            starts = [TopicPartition(t, p, self._end(t, p)) for t, p in self._places]
        except KafkaException as error:
            raise BrokerError(
                f"the topics' ends cannot be had: {error.args[0].str()}",
                mend="farandole topics plan says what is missing",
            ) from error
        self._consumer.assign(starts)
        self._thread.start()

    def _end(self, topic: str, partition: int) -> int:
        found: Any = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_WITHIN)
        if found is None:
            raise BrokerError(f"nobody says where {topic}[{partition}] ends")
        return int(found[1])

    def stop(self) -> None:
        self._halt.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        if self._error is not None:
            raise BrokerError(f"the topics cannot be read any more: {self._error}") from self._error

    def _run(self) -> None:
        consume = self._consumer.consume
        try:
            while not self._halt.is_set():
                messages = consume(2_000, 0) or consume(1, 0.05)
                now = time.monotonic()
                for message in messages:
                    self._take(message, now)
                self.cpu = time.thread_time()
        except BaseException as error:
            self._error = error
        finally:
            self._consumer.close()

    def _take(self, message: Message, now: float) -> None:
        error = message.error()
        if error is not None:
            self._complain(error)
            return
        value, key = message.value(), message.key()
        if not isinstance(key, bytes):
            return
        if message.topic() in self._parked:
            self._recorder.park(key, value is not None)
        elif value is not None and (how := self._how.get(value[:5])):
            self._recorder.ended(key, how, now)

    @staticmethod
    def _complain(error: KafkaError) -> None:
        if error.code() >= 0 and not error.retriable():
            raise KafkaException(error)  # below 0: the client's own, a broker that is away, and it asks again by itself
