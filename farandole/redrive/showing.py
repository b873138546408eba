"""A dead letter's bytes in words: by its schema field by field, else its metadata, else in hex.

Invariant: no value of a field whose schema says `sensitive` is shown, whole or torn. Bytes that cannot be told apart
are shown in hex only where nothing that belongs there has such a field; there, what looks like metadata of a record of
an unknown schema is shown only if its saga is the record's key and its flow is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from farandole.codec import Codec
from farandole.errors import CodecError
from farandole.event import Meta
from farandole.flow import load_flows
from farandole.plaincodec import PREFIX, Reader
from farandole.redrive.queue import Letter
from farandole.schemas import Version
from farandole.schematypes import Array, Nullable, Record, Type, is_meta, named_types

MASK: Final = "***"
HEX: Final = 256
"""Bytes that are shown in hex."""


def words(codec: Codec, letter: Letter) -> dict[str, Any]:
    """What can be said of the bytes: `type`, `meta`, `fields`, `hex` and `note`, as far as each goes."""
    value = letter.value
    if value is None:
        return {"note": "the queue could not take its bytes" if letter.truncated else "it has no value"}
    version = version_of(codec, value)
    if version is None or version.is_row:
        return _without_schema(codec, letter, value)
    said: dict[str, Any] = {"type": version.fullname, "fields": {}}
    reader = Reader(value, version.fullname)
    try:
        for field in version.record.fields:
            reader.path = field.name
            read = _shown(reader.read(field.type), field.type)
            if is_meta(field):
                said["meta"] = read
            else:
                said["fields"][field.name] = MASK if field.sensitive else read
        reader.end()
    except CodecError as error:
        said["note"] = f"{error.what}: {error.where}"
        if not has_secrets(version):
            said["hex"] = value[reader.at :][:HEX].hex(" ")
    return said


def version_of(codec: Codec, value: bytes) -> Version | None:
    """The schema that a value was written with; None: it is not known here."""
    try:
        kind = codec.decoder_for(value).type
    except CodecError:
        return None
    versions = codec.schemas.versions[kind.name]
    written = int.from_bytes(value[1:PREFIX], "big")
    return next((version for version in versions if version.id == written), versions[-1])


def has_secrets(version: Version) -> bool:
    return any(
        field.sensitive for each in named_types(version.record) if isinstance(each, Record) for field in each.fields
    )


def _without_schema(codec: Codec, letter: Letter, value: bytes) -> dict[str, Any]:
    said: dict[str, Any] = {}
    belonging = [each for each in codec.schemas.latest.values() if each.topic == letter.source.topic]
    secret = any(has_secrets(version) for version in belonging)
    try:
        meta = codec.meta_of(value)
        if not secret or _is_meta(meta, letter):
            said["meta"] = meta._asdict()
    except CodecError:
        said["note"] = letter.error
    if secret:
        said["note"] = f"{len(value)} bytes, not shown: records of {letter.source.topic} have fields that are sensitive"
    else:
        said["hex"] = value[:HEX].hex(" ")
    return said


def _is_meta(meta: Meta, letter: Letter) -> bool:
    """Four texts may as well be fields, of a record that has no metadata in front."""
    return meta.saga.encode() == letter.key and meta.flow in load_flows()


def _shown(value: Any, type: Type) -> Any:
    """As JSON has it, masked."""
    match type:
        case Record() if isinstance(value, Mapping):
            kinds = {field.name: field for field in type.fields}
            return {
                name: MASK if kinds[name].sensitive else _shown(each, kinds[name].type) for name, each in value.items()
            }
        case Array(items=items):
            return [_shown(each, items) for each in value]
        case Nullable(inner=inner):
            return None if value is None else _shown(value, inner)
    return value.hex() if isinstance(value, bytes) else value
