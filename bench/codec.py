"""What an event costs to read and to write: the generated codec beside fastavro and the `avro` package.

    python -m bench.codec [--json]

Two events: one of ten flat fields, and an order with three lines, both with metadata, both as they cross the wire
(prefix included). The generated codec gives and takes typed objects and checks every value; the others give and take
dicts, and make or take the prefix by a slice. Best of several rounds, one core, so the figures are what the code
costs, not what the machine was doing beside it. CPU time and wall time are the same here: nothing waits.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import time
import timeit
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import avro.io
import fastavro

from farandole import generate
from farandole.codec import Codec, encode_meta
from farandole.event import Meta
from farandole.schemas import Schemas
from farandole.schematypes import META_FIELDS

ROUNDS, SECONDS = 7, 0.2

META = {
    "name": "meta",
    "type": {
        "type": "record",
        "name": "meta",
        "namespace": "farandole",
        "fields": [{"name": name, "type": "string"} for name in META_FIELDS],
    },
}
LINE = {
    "type": "record",
    "name": "line",
    "doc": "A line.",
    "fields": [
        {"name": "number", "type": "int", "doc": "from 1"},
        {"name": "sku", "type": "string", "doc": "sku"},
        {"name": "quantity", "type": "int", "doc": "pieces"},
        {"name": "price", "type": "long", "doc": "cents"},
    ],
}
SCHEMAS: dict[str, list[dict[str, Any]]] = {
    "flat": [
        *({"name": name, "type": "string", "doc": name} for name in ("customer", "sku", "currency", "email", "city")),
        *({"name": name, "type": "long", "doc": name} for name in ("quantity", "amount", "left", "operation", "at")),
    ],
    "order": [
        *({"name": name, "type": "string", "doc": name} for name in ("customer", "currency", "ship_to", "card_token")),
        {"name": "lines", "type": {"type": "array", "items": LINE}, "doc": "lines"},
        {"name": "email", "type": ["null", "string"], "doc": "email", "default": None},
        {"name": "reserve_for", "type": "int", "doc": "seconds"},
    ],
}
ENVELOPE = {
    "id": "order.commands/3/154211.0",
    "saga": "o-mzxw6ytboi4dkmrq",
    "flow": "order/1",
    "cause": "api/3/154199.0",
}
VALUES: dict[str, dict[str, Any]] = {
    "flat": {
        "customer": "customer-48211", "sku": "sku-00042", "currency": "EUR", "email": "someone@example.org",
        "city": "Lyon", "quantity": 3, "amount": 129900, "left": 999_998, "operation": 17, "at": 1_767_225_600_000,
    },
    "order": {
        "customer": "customer-48211", "currency": "EUR", "ship_to": "12 rue de la Farandole, Lyon",
        "card_token": "tok_4242424242424242", "email": "someone@example.org", "reserve_for": 900,
        "lines": [{"number": n, "sku": f"sku-{n:05}", "quantity": n, "price": 1999 * n} for n in (1, 2, 3)],
    },
}  # fmt: skip


def main() -> None:
    figures = {name: measure(name) for name in SCHEMAS}
    if "--json" in sys.argv[1:]:
        print(json.dumps({"codec": figures}))
        return
    print(f"{'µs per event':20} {'decode':>22} {'encode':>22}")
    for name, by_codec in figures.items():
        print(f"{name}, {by_codec['generated']['bytes']} bytes")
        for codec, figure in by_codec.items():
            ratio = {way: figure[way] / by_codec["generated"][way] for way in ("decode", "encode")}
            cells = (f"{figure[way]:8.2f} ({ratio[way]:5.1f} ×)" for way in ("decode", "encode"))
            print(f"  {codec:18} " + " ".join(f"{cell:>22}" for cell in cells))


def measure(name: str) -> dict[str, dict[str, float]]:
    """codec → µs to decode, µs to encode, bytes."""
    schema = {"type": "record", "name": name, "namespace": "bench", "doc": name, "fields": [META, *SCHEMAS[name]]}
    datum = {"meta": ENVELOPE, **VALUES[name]}
    schemas, codec = project(schema)
    kind = codec.type_named(f"bench.{name}")
    value, meta = avro_encode(schemas, datum), encode_meta(Meta(**ENVELOPE))
    event = codec.decode(value)[1]
    assert kind.encode(event, meta) == value == fast_encoder(schema)(datum)
    ways: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "generated": (bind(codec.decoders[value[:5]].decode, value), bind(kind.encode, event, meta)),
        "fastavro": (bind(fast_decoder(schema), value), bind(fast_encoder(schema), datum)),
        "avro": (bind(avro_decode, schemas, value), bind(avro_encode, schemas, datum)),
    }
    return {
        codec: {"decode": microseconds(decode), "encode": microseconds(encode), "bytes": len(value)}
        for codec, (decode, encode) in ways.items()
    }


def bind(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    return lambda: function(*arguments)


def microseconds(call: Callable[[], Any]) -> float:
    timer = timeit.Timer(call, timer=time.process_time)
    number, taken = timer.autorange()
    number = max(1, int(number * SECONDS / taken))
    return round(min(timer.repeat(ROUNDS, number)) / number * 1e6, 3)


def project(schema: dict[str, Any]) -> tuple[Schemas, Codec]:
    with tempfile.TemporaryDirectory() as directory:
        file = f"{schema['namespace']}.{schema['name']}.1.avsc"
        Path(directory, file).write_text(json.dumps(schema))
        Path(directory, "ids.json").write_text(json.dumps({"1": file}))
        schemas = Schemas.load(directory)
        events = types.ModuleType("events")
        exec(generate.generate(schemas), events.__dict__)
        return schemas, Codec.load(directory, events)


def fast_decoder(schema: dict[str, Any]) -> Callable[[bytes], Any]:
    parsed, read, stream = fastavro.parse_schema(schema), fastavro.schemaless_reader, io.BytesIO

    def decode(value: bytes) -> Any:
        body = stream(value)
        body.seek(5)
        return read(body, parsed, None)

    return decode


def fast_encoder(schema: dict[str, Any]) -> Callable[[Any], bytes]:
    parsed, write, stream = fastavro.parse_schema(schema), fastavro.schemaless_writer, io.BytesIO

    def encode(datum: Any) -> bytes:
        out = stream()
        out.write(b"\0\0\0\0\1")
        write(out, parsed, datum)
        return out.getvalue()

    return encode


def avro_decode(schemas: Schemas, value: bytes) -> Any:
    parsed = next(iter(schemas)).parsed
    return avro.io.DatumReader(parsed).read(avro.io.BinaryDecoder(io.BytesIO(value[5:])))


def avro_encode(schemas: Schemas, datum: Any) -> bytes:
    parsed, out = next(iter(schemas)).parsed, io.BytesIO()
    avro.io.DatumWriter(parsed).write(datum, avro.io.BinaryEncoder(out))
    return b"\0\0\0\0\1" + out.getvalue()


if __name__ == "__main__":
    main()
