"""Reads every topic of a system with nothing but confluent_kafka, avro and the folder schemas/: what any tool would do.

    python stock_consumer.py BOOTSTRAP_SERVERS PREFIX SCHEMAS

Prints one JSON object: topic → number of records, `unreadable` → what could not be read, `modules` → what of the
project was imported (nothing). Dead letter queues hold bytes as they came; what clients wrote may be anything.
"""

import io
import json
import sys
from pathlib import Path

import avro.io
import avro.schema
from confluent_kafka import Consumer, KafkaError

servers, prefix, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
files = json.loads((folder / "ids.json").read_text())
readers = {int(id): avro.io.DatumReader(avro.schema.parse((folder / file).read_text())) for id, file in files.items()}

consumer = Consumer(
    {
        "bootstrap.servers": servers,
        "group.id": f"{prefix}stock-consumer",
        "isolation.level": "read_committed",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
)
topics = {name: t for name, t in consumer.list_topics(timeout=10).topics.items() if name.startswith(prefix)}
consumer.subscribe(list(topics))
left = sum(len(topic.partitions) for topic in topics.values())
counts = dict.fromkeys((name.removeprefix(prefix) for name in topics), 0)
unreadable: dict[str, int] = {}
while left:
    message = consumer.poll(60)
    assert message is not None, "nothing came for a minute"
    error = message.error()
    if error is not None:
        assert error.code() == KafkaError._PARTITION_EOF, error
        left -= 1
        continue
    topic = (message.topic() or "").removeprefix(prefix)
    counts[topic] += 1
    value = message.value()
    if topic.endswith(".dlq") or value is None:
        continue
    try:
        assert value[0] == 0
        body = io.BytesIO(value[5:])
        readers[int.from_bytes(value[1:5], "big")].read(avro.io.BinaryDecoder(body))
        assert not body.read()
    except Exception:
        unreadable[topic] = unreadable.get(topic, 0) + 1
consumer.close()
ours = [name for name in sys.modules if name.split(".")[0] in ("farandole", "events", "agents", "flows")]
print(json.dumps({"counts": counts, "unreadable": unreadable, "modules": ours}))
