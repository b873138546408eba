"""A record as JSON: what it says, where it lies, and nothing that its schema calls sensitive.

Invariant: whatever bytes lie in a topic, there is one JSON object for them. Bytes that cannot be read are shown as hex,
with the reason.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from farandole.audit.records import LogRecord
from farandole.codec import Codec
from farandole.errors import CodecError

MASK: Final = "***"
"""Stands for the value of a field that its schema calls sensitive."""

MAX_HEX: Final = 4_096
"""Bytes of a record that cannot be read that are shown."""


def plain(value: Any) -> Any:
    """Events, rows and what they are made of, as JSON has it."""
    if isinstance(value, msgspec.Struct):
        hidden: frozenset[str] = getattr(type(value), "__sensitive__", frozenset())
        fields = value.__struct_fields__
        return {name: MASK if name in hidden else plain(getattr(value, name)) for name in fields}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {str(name): plain(each) for name, each in value.items()}
    return _shortened(value) if isinstance(value, bytes) else value


def moment(time: int) -> str:
    """Milliseconds since 1970 as ISO 8601."""
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def described(codec: Codec, record: LogRecord) -> dict[str, Any]:
    """The record with its place, decoded as far as it goes."""
    said: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "time": moment(record.time),
        "key": None if record.key is None else record.key.decode("utf-8", "replace"),
    }
    said |= content(codec, record.value)
    headers = [(name, value) for name, value in record.headers if name.startswith("__dlq.") and value is not None]
    if headers:
        said["letter"] = {name.removeprefix("__dlq."): value.decode("utf-8", "replace") for name, value in headers}
    return said


def content(codec: Codec, value: bytes | None) -> dict[str, Any]:
    """Type, metadata and fields; or the bytes and why they cannot be read."""
    if value is None:
        return {"type": None}
    try:
        decoder = codec.decoder_for(value)
        decoded = decoder.decode(value)
        if decoder.type.is_row:
            return {"type": decoder.type.name, "row": plain(decoded)}
    except CodecError as error:
        return {"type": None, "undecodable": error.what, "bytes": _shortened(value)} | _metadata(codec, value)
    fields = plain(decoded[3])
    fields.pop("saga", None)
    return {"type": decoder.type.name} | _metadata(codec, value) | {"event": fields}


def _metadata(codec: Codec, value: bytes) -> dict[str, str]:
    """Id, saga, flow and cause, as far as they can be read: they come first, and may be whole where the rest is not."""
    try:
        return codec.meta_of(value)._asdict()
    except CodecError:
        return {}


def line(said: dict[str, Any]) -> str:
    """One line of JSON, in characters that any terminal and file takes."""
    return json.dumps(said, ensure_ascii=True, separators=(", ", ": "))


def _shortened(value: bytes) -> str:
    return value[:MAX_HEX].hex() + ("…" if len(value) > MAX_HEX else "")
