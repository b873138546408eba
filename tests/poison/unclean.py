"""Records that no client of ours would let through: written by hand, below the level at which clients look."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy
from confluent_kafka import Producer


class _Bytes(str):
    """A header's name that claims to be text and encodes to bytes that are no UTF-8."""

    def encode(self, *_: Any, **__: Any) -> bytes:
        return b"\xff\xfe"


def send_with_a_headers_name_that_is_not_utf8(config: dict[str, Any], topic: str, partition: int) -> int:
    """Offset of the record."""

    async def send() -> int:
        producer = AIOKafkaProducer(bootstrap_servers=config["bootstrap.servers"])
        await producer.start()
        try:
            batch = producer.create_batch()
            batch._builder = _DefaultRecordBatchBuilderPy(
                magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
                batch_size=16_384,
            )  # fmt: skip
            batch.append(key=b"k", value=b"?", timestamp=None, headers=[(_Bytes("name"), b"v")])
            sent = await (await producer.send_batch(batch, topic, partition=partition))
            return int(sent.offset)
        finally:
            await producer.stop()

    return asyncio.run(send())


def send_what_grows(config: dict[str, Any], topic: str, partition: int, megabytes: int) -> int:
    """Ones, compressed to some kilobytes, so that every broker takes them. Offset of the record."""
    offsets: list[int] = []

    def delivered(error: Any, message: Any) -> None:
        offsets.append(message.offset())

    producer = Producer({**config, "compression.type": "zstd", "message.max.bytes": 1_000_000_000})
    producer.produce(topic, b"\1" * (megabytes << 20), b"k", partition, on_delivery=delivered)
    producer.flush(60)
    return offsets[0]
