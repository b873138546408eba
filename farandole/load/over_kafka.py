"""Orders into Kafka, each when it is due, by a thread that does nothing else.

Invariant: an order that Kafka did not take is counted and named, never forgotten.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
import time
from collections.abc import Iterable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from events import CancelOrder, StockReceived
from farandole.codec import Codec
from farandole.config import ClientConfig
from farandole.demo.flows import FLOW
from farandole.demo.place import RESTOCK
from farandole.demo.sending import Sender
from farandole.errors import BrokerError
from farandole.event import Event, Meta
from farandole.load.orders import Order, Orders
from farandole.load.recorder import MOST_IN_FLIGHT, Played, Recorder
from farandole.load.sending import Cpu, Pace

FLUSHED_WITHIN: Final = 3.0


def deliver(
    stock: Iterable[tuple[str, int]], client_config: ClientConfig, namespace: str, codec: Codec, run: str
) -> None:
    """Deliver (sku, pieces), and return when Kafka has it all: a sku's deliveries and holds lie in one partition, so no
    order can be sooner.
    """

    async def send_all() -> None:
        sender = Sender(client_config, namespace, codec, run)
        async with sender.polling():
            deliveries = (
                sender.send(StockReceived(sku=sku, quantity=pieces), f"{run}/{sku}", RESTOCK, key=sku)
                for sku, pieces in stock
            )
            await asyncio.gather(*deliveries)

    asyncio.run(send_all())


class KafkaSender:
    """Writes commands as any client would.

    others_cpu: CPU seconds of the generator's other Python threads
    """

    def __init__(
        self,
        orders: Orders,
        recorder: Recorder,
        *,
        client_config: ClientConfig,
        namespace: str,
        codec: Codec,
        run: str,
        others_cpu: Cpu,
    ) -> None:
        self._recorder, self._codec, self._run, self._namespace = recorder, codec, run, namespace
        self._commands = namespace + "order.commands"
        self._pace = Pace(orders, recorder, self._place, others_cpu)
        self._cancels: list[tuple[float, str]] = []
        self._producer = Producer(
            {
                **client_config,
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "linger.ms": 2,
                "queue.buffering.max.messages": MOST_IN_FLIGHT,
                # A report for each order would cost as much as placing it.
                "delivery.report.only.error": True,
                "log_level": 0,
            },
            on_delivery=self._reported,
        )
        self._thread = threading.Thread(target=self._pace.run, args=(self._idle,), name="sender", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def play(self, played: Played) -> None:
        self._pace.add(played)

    def cut(self) -> None:
        self._pace.cut()

    def stop(self) -> None:
        self._pace.halted.set()
        if self._thread.is_alive():
            self._thread.join()
        self._producer.flush(FLUSHED_WITHIN)

    def check(self) -> None:
        if self._pace.error is not None:
            raise BrokerError(f"no more orders can be placed: {self._pace.error}") from self._pace.error

    # ---- in the thread

    def _place(self, order: Order, due: float, played: Played) -> None:
        value = self._encoded(order.command, order.saga, FLOW)
        self._recorder.placed(order.saga.encode(), due, played)
        self._produce(value, order.saga)
        if order.cancel_after is not None:
            heapq.heappush(self._cancels, (time.monotonic() + order.cancel_after, order.saga))

    def _produce(self, value: bytes, saga: str) -> None:
        while True:
            try:
                self._producer.produce(self._commands, value, saga)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(0.05)
            except KafkaException as error:
                self._recorder.failed(saga.encode(), error.args[0].str())
                return

    def _idle(self, seconds: float) -> None:
        self._producer.poll(0)
        now = time.monotonic()
        while self._cancels and self._cancels[0][0] <= now:
            _, saga = heapq.heappop(self._cancels)
            self._produce(self._encoded(CancelOrder(), saga, FLOW, "/cancel"), saga)
        if self._cancels:
            seconds = min(seconds, self._cancels[0][0] - now)
        if seconds > 0:
            time.sleep(seconds)

    def _encoded(self, event: Event, saga: str, flow: str, suffix: str = "") -> bytes:
        return self._codec.encode(event, Meta(f"load/{self._run}/{saga}{suffix}", saga, flow, ""))

    def _reported(self, error: KafkaError | None, message: Any) -> None:
        if error is not None:
            self._recorder.failed(message.key() or b"", error.str())
