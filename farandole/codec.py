"""Events and rows to bytes and back: Confluent's wire format, byte 0, four bytes of schema id, the Avro body.

Invariants:
- Decoding raises CodecError, and nothing else, on whatever is not exactly one record of its schema. Encoding raises
  CodecError on whatever the schema cannot hold, so a bad output stops its own saga and poisons no topic.
- What was written with any kept version is read as the latest one.
- What crosses is checked: farandole.straightline is quick, farandole.plaincodec decides, `avro` is what tests hold
  both to.

    codec = Codec.load("schemas", events)
    kind = codec.type_of(OrderPlaced)
    value = kind.encode(placed, meta)                       # meta: the envelope, encoded, see `encode_meta`
    cause, context, flow, event = codec.decoders[value[:5]].decode(value)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, NoReturn, Protocol

from farandole import plaincodec, straightline
from farandole.errors import CodecError, SchemaError
from farandole.event import Meta
from farandole.generate import class_name, python_order
from farandole.grownschemas import Growing, GrownSchemas
from farandole.schemas import Schemas, Version
from farandole.schematypes import ENGINE_NAMESPACE, META_FIELDS, Field, Primitive, Record, named_types

Decoded = tuple[bytes, bytes, bytes, Any]


class Registry(Protocol):
    """Where schema ids come from when they are not those of ids.json; see farandole.registry."""

    def ids(self, schemas: Schemas) -> dict[str, int]:
        """File name → the registry's id, for every version, registering what is new."""
        ...


@dataclass(frozen=True, eq=False)
class EventType:
    """What a class is on the wire: the latest version of its schema.

    name:       "order.placed"; topic: "order", empty for rows, whose changelogs are named after their tables
    encode:     (event, encoded meta) → value of the Kafka record
    encode_row: row → value
    decode_row: value → row, written with whatever version
    """

    name: str
    topic: str
    cls: type[Any]
    schema_id: int
    prefix: bytes
    is_row: bool
    encode: Callable[[Any, bytes], bytes]
    encode_row: Callable[[Any], bytes]
    decode_row: Callable[[bytes], Any]


class Decoder(NamedTuple):
    """Reads the records of one version.

    decode: value → (id with its length, saga and flow with their lengths, flow, event). The first two are bytes to be
            copied into the metadata of what the event causes, `flow` is a key for looking up who hears it. For a
            row's version: the row.
    """

    prefix: bytes
    type: EventType
    decode: Callable[[bytes], Any]


class Codec:
    """Every event and row of the project.

    decoders: first five bytes of a value → Decoder, for events and rows, for all versions
    """

    def __init__(
        self, schemas: Schemas, events: ModuleType, ids: Mapping[str, int], grown: GrownSchemas | None = None
    ) -> None:
        self.schemas, self.grown = schemas, grown
        self.decoders: dict[bytes, Decoder] = Growing(self._learn) if grown else {}
        self._readers: dict[str, tuple[Version, Mapping[str, type]]] = {}
        self._by_class: dict[type, EventType] = {}
        self._by_name: dict[str, EventType] = {}
        for versions in schemas.versions.values():
            self._add(versions, _classes(versions[-1], events), ids)

    @classmethod
    def load(
        cls,
        schemas_dir: Path | str,
        events_module: ModuleType,
        registry: Registry | None = None,
        grown: Path | None = None,
    ) -> Codec:
        """Read all schemas and make the code for them. With a registry the ids are its own, else those of ids.json.

        grown: a directory of versions that came after this code and are to be read too (farandole.grownschemas)
        """
        schemas = Schemas.load(schemas_dir)
        schemas.check_compatibility()
        ids_of = registry.ids if registry else _own_ids
        return cls(schemas, events_module, ids_of(schemas), GrownSchemas(grown, ids_of) if grown else None)

    def type_of(self, cls: type[Any]) -> EventType:
        try:
            return self._by_class[cls]
        except KeyError:
            raise CodecError(f"{cls.__name__} is no class of events.py", mend="farandole events generate") from None

    def type_named(self, name: str) -> EventType:
        """By the schema's full name, such as `order.placed`."""
        try:
            return self._by_name[name]
        except KeyError:
            raise CodecError(f"there is no schema {name}", mend="farandole events generate") from None

    def __iter__(self) -> Any:
        return iter(self._by_name.values())

    def encode(self, event: Any, meta: Meta) -> bytes:
        return self.type_of(type(event)).encode(event, encode_meta(meta))

    def decode(self, value: bytes | None) -> tuple[Meta, Any]:
        """For clients, the audit and tests; the engine uses `decoders`."""
        decoder = self.decoder_for(value)
        if decoder.type.is_row:
            raise CodecError(f"{decoder.type.name} is a table's row, not an event")
        assert value is not None
        event = decoder.decode(value)[3]
        return self.meta_of(value), event

    def decoder_for(self, value: bytes | None) -> Decoder:
        """CodecError if the value has no known schema."""
        try:
            return self.decoders[value[:5]]  # type: ignore[index]  # None is a TypeError
        except (KeyError, TypeError):
            raise CodecError(_unknown(value), mend="is a newer version of the project writing this topic?") from None

    def meta_of(self, value: bytes) -> Meta:
        """The envelope alone, even if what follows it is malformed or of an unknown schema."""
        if not isinstance(value, bytes) or value[:1] != b"\0":
            raise CodecError("the record is not in Confluent's wire format")
        known = self.decoders.get(value[:5])
        if known is not None and known.type.is_row:
            raise CodecError(f"{known.type.name} is a table's row and has no metadata")
        return Meta(**plaincodec.Reader(value, known.type.name if known else "an unknown schema").read(_META))

    def _add(self, versions: list[Version], classes: Mapping[str, type], ids: Mapping[str, int]) -> None:
        latest = versions[-1]
        prefixes = {version.version: _prefix(ids[version.file]) for version in versions}
        decodes: dict[bytes, Callable[[bytes], Any]] = (
            Growing(lambda prefix: self._learn(prefix, latest.fullname).decode) if self.grown else {}
        )
        decodes.update((prefixes[each.version], _decoder(each, latest, classes)) for each in versions)
        encode = _encoder(latest, prefixes[latest.version])
        kind = EventType(
            name=latest.fullname,
            topic=latest.topic,
            cls=classes[latest.fullname],
            schema_id=ids[latest.file],
            prefix=prefixes[latest.version],
            is_row=latest.is_row,
            encode=_refuse(latest, "it is a row: use encode_row") if latest.is_row else encode,
            encode_row=encode if latest.is_row else _refuse(latest, "it is an event: use encode"),
            decode_row=_row_decoder(latest, decodes) if latest.is_row else _refuse(latest, "it is an event"),
        )
        self._by_class[kind.cls] = self._by_name[kind.name] = kind
        self._readers[latest.fullname] = latest, classes
        for prefix, decode in decodes.items():
            self.decoders[prefix] = Decoder(prefix, kind, decode)

    def _learn(self, prefix: bytes, name: str = "") -> Decoder:
        """A version that came after this code, read as the latest one that it knows. KeyError if that cannot be.

        name: what it must be a version of
        """
        assert self.grown is not None
        writer = self.grown.find(prefix)
        if name and writer.fullname != name:
            raise KeyError(prefix)
        latest, classes = self._readers[writer.fullname]
        return Decoder(prefix, self._by_name[writer.fullname], _decoder(writer, latest, classes))


_META = Record(
    ENGINE_NAMESPACE, "meta", "", tuple(Field(name, Primitive("string"), "", None, False) for name in META_FIELDS)
)


def encode_meta(meta: Meta) -> bytes:
    """The envelope as the first bytes of an event's body."""
    out = bytearray()
    plaincodec.write(meta, _META, out, "meta")
    return bytes(out)


def _own_ids(schemas: Schemas) -> dict[str, int]:
    return {version.file: version.id for version in schemas}


def _prefix(schema_id: int) -> bytes:
    return b"\0" + schema_id.to_bytes(4, "big")


def _classes(version: Version, events: ModuleType) -> dict[str, type]:
    """The generated classes of a record and of those in it. SchemaError if events.py is not of today."""
    classes = {}
    for record in named_types(version.record):
        if isinstance(record, Record):
            name = class_name(record.namespace, record.name)
            cls = getattr(events, name, None)
            fields = version.body if record is version.record else record.fields
            expected = [field.name for field in python_order(fields)]
            if record is version.record and not version.is_row:
                expected.append("saga")
            if cls is None or list(cls.__struct_fields__) != expected:
                raise SchemaError(
                    f"{name} in events.py is not what {version.file} says",
                    where=str(getattr(events, "__file__", events.__name__)),
                    mend="farandole events generate",
                )
            classes[record.fullname] = cls
    return classes


def _decoder(writer: Version, latest: Version, classes: Mapping[str, type]) -> Callable[[bytes], Any]:
    """Generated code first; what it declines is read, or refused, by plaincodec."""
    return straightline.decoder(writer, latest, classes, _slow_decoder(writer, latest, classes))


def _slow_decoder(writer: Version, latest: Version, classes: Mapping[str, type]) -> Callable[[bytes], Any]:
    def decode(value: bytes) -> Any:
        if not isinstance(value, bytes):
            raise CodecError("the record has no value", where=writer.file)
        reader = plaincodec.Reader(value, writer.file)
        written = reader.read(writer.record)
        reader.end()
        meta = None if writer.is_row else written["meta"]

        def build(record: Record, fields: Mapping[str, Any]) -> Any:
            if meta is not None and record is latest.record:
                fields = {name: each for name, each in fields.items() if name != "meta"} | {"saga": meta["saga"]}
            return classes[record.fullname](**fields)

        def made(record: Record, fields: Mapping[str, Any]) -> Any:
            return meta if record.fullname == _META.fullname else build(record, fields)

        event = plaincodec.resolve(written, writer.record, latest.record, made)
        return event if meta is None else (*_raw_meta(value), event)

    return decode


def _raw_meta(value: bytes) -> tuple[bytes, bytes, bytes]:
    """The stretches of a legal envelope that are copied as they are: id, saga with flow, flow without its length."""
    reader = plaincodec.Reader(value, "meta")
    text = Primitive("string")
    reader.read(text)
    id_end = reader.at
    reader.read(text)
    flow = reader.read(text).encode()
    return value[plaincodec.PREFIX : id_end], value[id_end : reader.at], flow


def _encoder(version: Version, prefix: bytes) -> Callable[..., bytes]:
    body = Record(version.record.namespace, version.record.name, version.record.doc, version.body)

    def slow(event: Any, *meta: bytes) -> bytes:
        out = bytearray(b"".join((prefix, *meta)))
        plaincodec.write(event, body, out, version.fullname)
        return bytes(out)

    return straightline.encoder(version, prefix, slow)


def _row_decoder(latest: Version, decodes: Mapping[bytes, Callable[[bytes], Any]]) -> Callable[[bytes], Any]:
    def decode_row(value: bytes) -> Any:
        try:
            decode = decodes[value[:5]]
        except (KeyError, TypeError):
            raise CodecError(_unknown(value), where=f"a row of {latest.fullname}") from None
        return decode(value)

    return decode_row


def _refuse(version: Version, why: str) -> Callable[..., NoReturn]:
    def refuse(*_: Any) -> NoReturn:
        raise CodecError(why, where=version.fullname)

    return refuse


def _unknown(value: Any) -> str:
    if not isinstance(value, bytes):
        return "the record has no value"
    if len(value) < plaincodec.PREFIX or value[0] != 0:
        return "the record is not in Confluent's wire format"
    return f"schema id {int.from_bytes(value[1:5], 'big')} is not known here"
