"""Reading topics from given offsets on, in a thread of its own, outside any group's positions.

Invariant: committed records only. A broker that is away ends nothing, the client asks again by itself; what does end
the reading is kept, and raised by `check`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from farandole.config import ClientConfig
from farandole.errors import BrokerError

AT_ONCE: Final = 5_000
"""Records that are taken between two looks at whether to stop."""

LOOK_EVERY: Final = 0.05

Where = tuple[str, int]
"""Topic, with the namespace, and partition."""


class Follower:
    """Gives each record to `take`.

    name: of the thread and, behind the namespace, of the group that the cluster sees
    what: is being read, for the error
    """

    def __init__(
        self, client_config: ClientConfig, namespace: str, name: str, what: str, take: Callable[[Message], None]
    ) -> None:
        self._config, self._group, self._what, self._take = client_config, f"{namespace}{name}", what, take
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._error: BaseException | None = None

    def start(self, offsets: Mapping[Where, int]) -> None:
        self._consumer = Consumer(
            {
                **self._config,
                "group.id": self._group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
                "log_level": 0,
            }
        )
        self._consumer.assign([TopicPartition(topic, p, offset) for (topic, p), offset in offsets.items()])
        self._thread.start()

    def stop(self) -> None:
        self._halt.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        """Raise what ended the reading, if anything did."""
        if self._error is not None:
            raise BrokerError(f"{self._what} cannot be read any more: {self._error}") from self._error

    def _run(self) -> None:
        try:
            while not self._halt.is_set():
                for message in self._consumer.consume(AT_ONCE, LOOK_EVERY):
                    error = message.error()
                    if error is None:
                        self._take(message)
                    elif error.fatal() or error.code() == KafkaError._AUTO_OFFSET_RESET:
                        raise KafkaException(error)
        except BaseException as error:
            self._error = error
        finally:
            self._consumer.close()
