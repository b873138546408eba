"""The same orders in each flow: all at once, or one after the other at a pace, in turns.

Invariants: the flows' orders differ in their ids and in nothing else (one seed for all of them); an order that is
placed late counts from when it was meant to be placed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from confluent_kafka import Producer

from farandole.codec import Codec
from farandole.compare.flows import FLOWS
from farandole.config import ClientConfig
from farandole.demo.plan import Kinds
from farandole.errors import BrokerError
from farandole.event import Meta
from farandole.load.orders import Mix, Orders

COMMANDS: Final = "order.commands"
SKUS: Final = 100
CLIENT: Final = {"partitioner": "murmur2_random", "queue.buffering.max.messages": 1_000_000, "log_level": 0}
ANSWER_WITHIN: Final = 30.0


class Placed(NamedTuple):
    """flow: the word for it"""

    saga: str
    flow: str
    kind: Kinds
    value: bytes


class Placing:
    """One run's orders."""

    def __init__(self, client_config: ClientConfig, namespace: str, codec: Codec, run: str, seed: int) -> None:
        self._client_config, self._topic, self._codec = client_config, namespace + COMMANDS, codec
        self._run, self._seed = run, seed
        self._numbers = itertools.count(1)

    def stock(self) -> list[tuple[str, int]]:
        return list(Orders(Mix(skus=SKUS), self._run).stock())

    def orders(self, name: str, count: int, kinds: Mapping[Kinds, float] | None = None) -> dict[str, list[Placed]]:
        """`count` of each flow. name: other orders for another one"""
        mix = Mix(kinds=kinds or {}, skus=SKUS)
        return {word: self._of(word, Orders(mix, f"{self._run}/{name}/{word}", self._seed), count) for word in FLOWS}

    def _of(self, word: str, orders: Orders, count: int) -> list[Placed]:
        made = (orders.next() for _ in range(count))
        return [Placed(each.saga, word, each.kind, self._encode(each.command, each.saga, word)) for each in made]

    def _encode(self, command: object, saga: str, word: str) -> bytes:
        meta = Meta(f"compare/{self._run}/{next(self._numbers)}", saga, FLOWS[word], "")
        return self._codec.encode(command, meta)

    def backlog(self, placed: Sequence[Placed]) -> Callable[[], None]:
        """They lie on the broker, in a transaction that nobody reads until what this returns is called."""
        producer = Producer({**self._client_config, **CLIENT, "transactional.id": f"{self._topic}-backlog"})
        producer.init_transactions(ANSWER_WITHIN)
        producer.begin_transaction()
        for each in placed:
            producer.produce(self._topic, each.value, each.saga)
        producer.flush(ANSWER_WITHIN)
        return lambda: producer.commit_transaction(ANSWER_WITHIN)

    def pace(self, placed: Sequence[Placed], rate: float, looked: Callable[[int], None]) -> dict[str, float]:
        """`rate` a second. Returns when each was meant to be placed, by time.monotonic.

        looked: told how many were placed, some times a second
        """
        producer = Producer({**self._client_config, **CLIENT, "enable.idempotence": True, "linger.ms": 0})
        producer.list_topics(self._topic, timeout=ANSWER_WITHIN)
        begin, told, meant = time.monotonic() + 0.2, 0.0, {}
        for number, each in enumerate(placed):
            due = meant[each.saga] = begin + number / rate
            while (left := due - time.monotonic()) > 0:
                time.sleep(min(left, 0.2))
            producer.produce(self._topic, each.value, each.saga)
            producer.poll(0)
            if due - told > 0.3:
                told = due
                looked(number)
        if left := producer.flush(ANSWER_WITHIN):
            raise BrokerError(f"{left} orders were not taken within {ANSWER_WITHIN:.0f} s", where=self._topic)
        return meant


def in_turns(orders: Mapping[str, Sequence[Placed]]) -> list[Placed]:
    """One of each flow, then the next of each; who is first changes each time."""
    words = list(orders)
    found = []
    for number, row in enumerate(zip(*orders.values(), strict=True)):
        first = number % len(words)
        found += [*row[first:], *row[:first]]
    return found
