"""What the engine needs of the world: Kafka's clients, and whoever performs outside calls. What fits is used, real or
a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from farandole.processor import Processor


class Answer(NamedTuple):
    """The outcome of an outside call, on its way into the calls topic."""

    partition: int
    key: str
    outcome: str
    reference: str
    reason: str


class Clients(Protocol):
    """Kafka: `farandole.clients` has the real ones, `farandole.simulation.clients` a model's."""

    consumer: Any

    def open_consumer(self, topics: list[str], on_assign: Any, on_revoke: Any, on_lost: Any) -> None: ...
    def producer(self, transactional_id: str) -> Any: ...
    def fence(self, transactional_ids: list[str]) -> None: ...
    def first_offsets(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]: ...
    def count_partitions(self, topic: str) -> int: ...
    def end_offsets(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]: ...
    def restore(self, processor: Processor, partitions: set[int], producer: Any) -> int: ...
    def has_history(self, topic: str, partition: int) -> bool: ...
    def close(self) -> None: ...


class Performer(Protocol):
    """What the engine needs of whoever performs outside calls."""

    def start(self, partition: int, key: str, call: Any) -> None: ...
    def stop(self, partition: int, key: str) -> None: ...
    def under_way(self) -> int: ...
    def forget(self, partition: int) -> None: ...
