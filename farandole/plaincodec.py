"""Avro, read and written the slow and careful way: one function per kind of type, every step checked.

Invariant: whatever bytes it is given, `read` returns a value of the schema or raises CodecError with the field and
the byte at fault; whatever value it is given, `write` returns what every other Avro library reads as that value, or
raises CodecError with the field. Nothing it allocates is larger than the message.

The generated code of farandole.straightline handles what is common and declines everything else: long array blocks,
odd but legal encodings, and all that is malformed. What it declines comes here. So this module decides what is legal,
and the errors are worded in one place. Errors show types and places, never values: a value may be a secret.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

from farandole.errors import CodecError
from farandole.schematypes import REQUIRED, Array, Enum, Nullable, Primitive, Record, Type

PREFIX: Final = 5
"""Bytes before the Avro body: a zero and the schema id."""

LONGEST_VARINT: Final = 10
"""Bytes of a 64-bit number, seven bits each."""

_DOUBLE = struct.Struct("<d")
_LIMIT = {"int": 1 << 31, "long": 1 << 63}
_PYTHON = {"string": str, "bytes": bytes, "int": int, "long": int, "boolean": bool}

Build = Callable[[Record, Mapping[str, Any]], Any]
"""Makes the Python object of a record from its fields."""


class Reader:
    """A message and how far it has been read. `name` is what errors call the message's type."""

    def __init__(self, data: bytes, name: str, at: int = PREFIX) -> None:
        self.data, self.name, self.at = data, name, at
        self.path = ""

    def fail(self, what: str) -> NoReturn:
        field = f", field {self.path}" if self.path else ""
        raise CodecError(what, where=f"{self.name}{field}, byte {self.at} of {len(self.data)}")

    def read(self, type: Type) -> Any:
        """The next value; a record is a dict, an array a tuple."""
        match type:
            case Primitive(name="string"):
                return self._text()
            case Primitive(name="bytes"):
                return self._stretch("bytes")
            case Primitive(name="int" | "long" as name):
                return self._number(name)
            case Primitive(name="boolean"):
                return self._one_of(2, "a boolean") == 1
            case Primitive(name="double"):
                return _DOUBLE.unpack(self._take(8))[0]
            case Primitive(name=other):
                raise AssertionError(other)
            case Enum(symbols=symbols):
                return symbols[self._one_of(len(symbols), "an enum's symbol", self._number("int"))]
            case Nullable(inner=inner):
                return self.read(inner) if self._one_of(2, "a union's branch", self._number("int")) else None
            case Array(items=items):
                return tuple(self._items(items))
            case Record():
                return self._record(type)

    def end(self) -> None:
        if self.at != len(self.data):
            self.path = ""
            self.fail(f"{len(self.data) - self.at} bytes are left over")

    def _record(self, record: Record) -> dict[str, Any]:
        outer, values = self.path, {}
        for field in record.fields:
            self.path = f"{outer}.{field.name}" if outer else field.name
            values[field.name] = self.read(field.type)
        self.path = outer
        return values

    def _items(self, type: Type) -> list[Any]:
        """Blocks of items, each with its count; a negative count is followed by the block's size in bytes."""
        outer, items = self.path, list[Any]()
        while count := self._number("long"):
            size, begin = None, self.at
            if count < 0:
                count, size, begin = -count, self._number("long"), self.at
            if count > len(self.data) - self.at:
                self.fail(f"an array of {count} items, more than there are bytes")
            for _ in range(count):
                self.path = f"{outer}[{len(items)}]"
                items.append(self.read(type))
            self.path = outer
            if size is not None and size != self.at - begin:
                self.fail(f"an array's block of {self.at - begin} bytes says that it has {size}")
        return items

    def _text(self) -> str:
        stretch = self._stretch("a string")
        try:
            return stretch.decode()
        except UnicodeDecodeError:
            self.fail("a string is not UTF-8")

    def _stretch(self, what: str) -> bytes:
        length = self._number("long")
        if length < 0:
            self.fail(f"{what} of negative length")
        return self._take(length)

    def _take(self, length: int) -> bytes:
        if length > len(self.data) - self.at:
            self.fail(f"{length} bytes are wanted, {len(self.data) - self.at} are there")
        self.at += length
        return self.data[self.at - length : self.at]

    def _one_of(self, count: int, what: str, index: int | None = None) -> int:
        index = self._take(1)[0] if index is None else index
        if not 0 <= index < count:
            self.fail(f"{what} is {index}, of {count} there are")
        return index

    def _number(self, type: str) -> int:
        """A zigzag varint. Padding (more bytes than are needed) is legal, more than ten bytes or 64 bits are not."""
        value, shift, byte = 0, 0, 128
        while byte > 127:
            if shift == 7 * LONGEST_VARINT:
                self.fail(f"a number of more than {LONGEST_VARINT} bytes")
            byte = self._take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
        number = (value >> 1) ^ -(value & 1)
        if not -_LIMIT[type] <= number < _LIMIT[type]:
            self.fail(f"a number beyond {type}")
        return number


def resolve(value: Any, writer: Type, reader: Type, build: Build) -> Any:
    """What `Reader.read(writer)` returned, as the reader's version of the type wants it, records made by `build`.

    Knows the changes that `Schemas.check_compatibility` lets through, and int to long.
    """
    match writer, reader:
        case Record(), Record():
            written = {field.name: field.type for field in writer.fields}
            fields = {}
            for field in reader.fields:
                if field.name in written:
                    fields[field.name] = resolve(value[field.name], written[field.name], field.type, build)
                elif field.default is not REQUIRED:
                    fields[field.name] = field.default
                else:
                    where = f"{reader.fullname}, field {field.name}"
                    raise CodecError("it was not written, and has no default", where=where)
            return build(reader, fields)
        case Array(), Array():
            return tuple(resolve(item, writer.items, reader.items, build) for item in value)
        case Nullable(), Nullable():
            return None if value is None else resolve(value, writer.inner, reader.inner, build)
        case Enum(), Enum() if value not in reader.symbols:
            return reader.default
    return value


def write(value: Any, type: Type, out: bytearray, path: str) -> None:
    """Append a value. CodecError names `path` where it does not fit."""
    match type:
        case Nullable(inner=inner):
            out += b"\0" if value is None else b"\2"
            if value is not None:
                write(value, inner, out, path)
        case Array(items=items):
            _expect(value, tuple, path)
            if value:
                out += varint(len(value))
            for number, item in enumerate(value):
                write(item, items, out, f"{path}[{number}]")
            out += b"\0"
        case Record():
            for field in type.fields:
                at = f"{path}.{field.name}"
                try:
                    item = getattr(value, field.name)
                except AttributeError:
                    raise CodecError(f"{_kind(value)} has no such field", where=at) from None
                write(item, field.type, out, at)
        case Enum(symbols=symbols):
            if not isinstance(value, str) or value not in symbols:
                raise CodecError("it is none of the enum's symbols", where=path, mend=f"one of {', '.join(symbols)}")
            out += varint(symbols.index(value))
        case Primitive(name=name):
            _write_primitive(value, name, out, path)


def _write_primitive(value: Any, name: str, out: bytearray, path: str) -> None:
    if name == "double":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CodecError(f"a double is wanted, this is {_kind(value)}", where=path)
        try:
            out += _DOUBLE.pack(value)
        except (OverflowError, struct.error):
            raise CodecError("the number is beyond double", where=path) from None
        return
    _expect(value, _PYTHON[name], path)
    if name == "boolean":
        out.append(value)
    elif name == "string":
        try:
            encoded = value.encode()
        except UnicodeEncodeError:
            raise CodecError("the text has half a surrogate pair, which UTF-8 cannot hold", where=path) from None
        out += varint(len(encoded)) + encoded
    elif name == "bytes":
        out += varint(len(value)) + value
    else:
        if not -_LIMIT[name] <= value < _LIMIT[name]:
            raise CodecError(f"the number is beyond {name}", where=path)
        out += varint(value)


def varint(number: int) -> bytes:
    """A number as zigzag varint."""
    value = number << 1 if number >= 0 else (~number << 1) | 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _expect(value: Any, cls: type, path: str) -> None:
    """bool is an int for Python, not for Avro."""
    if not isinstance(value, cls) or (cls is int and isinstance(value, bool)):
        raise CodecError(f"{cls.__name__} is wanted, this is {_kind(value)}", where=path)


def _kind(value: Any) -> str:
    return type(value).__name__
