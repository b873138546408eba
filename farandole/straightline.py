"""Source code of decoders and encoders: straight-line Python for one schema, as fast as plain Python gets.

Invariant: generated code either does exactly what farandole.plaincodec does, or raises, whatever the exception; then
the caller asks plaincodec, which returns the value or says what is wrong. So a check here costs something only where
it cannot be left to an exception that would happen anyway:

- An index past the end raises by itself. A slice past the end does not, so the last line compares where reading ended
  with the message's length: any stretch that was cut short makes the two differ.
- A length goes through the table `L`: one byte to the bytes that the string takes, its length byte included, and 0
  for what is negative or goes on in a second byte. So one test tells the common case from all others.
- Small numbers and short lengths come out of tables that hold their encoding; a lookup past the end declines.
- A `try` costs nothing until something is raised.

Names in the generated code: b the message, i the place in it, e the event or row, m the encoded meta, vN values, L Z
V W the tables below. `print(decoder_source(...))` is the way to look at it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from farandole.generate import python_order
from farandole.schemas import Version
from farandole.schematypes import REQUIRED, Array, Enum, Field, Nullable, Primitive, Record, Type

Namespace = dict[str, Any]
Places = dict[str, str]


class Declined(Exception):
    """Not for generated code: plaincodec decides."""


S: Final = [bytes((n,)) for n in range(128)]
U: Final = [bytes((n & 127 | 128, n >> 7 | 128)) for n in range(1 << 14)]


def varint(z: int) -> bytes:
    """Seven bits to a byte, two bytes at a time; z is not negative."""
    if z < 1 << 7:
        return S[z]
    if z < 1 << 14:
        return bytes((z & 127 | 128, z >> 7))
    return U[z & 0x3FFF] + varint(z >> 14)


_SMALL: Final = 4096
"""Numbers from -4096 to 4095 and lengths to 4095 have their encoding in a table, about half a megabyte in all."""

L: Final = [(byte >> 1) + 1 if byte < 128 and not byte & 1 else 0 for byte in range(256)]
Z: Final = [(value >> 1) ^ -(value & 1) for value in range(1 << 14)]
W: Final = [varint(n << 1) for n in range(_SMALL)] + [varint(~n << 1 | 1) for n in range(-_SMALL, 0)]
V: Final = W[:_SMALL]


def long_at(b: bytes, i: int) -> tuple[int, int]:
    """A number that takes more than three bytes, and where it ends."""
    z = b[i] + (b[i + 1] << 7) + (b[i + 2] << 14) - 0x20_4080
    shift = 21
    for c in b[i + 3 : i + 10]:
        if c < 128:
            z += c << shift
            if z >> 64:
                raise Declined
            return (z >> 1) ^ -(z & 1), i + shift // 7 + 1
        z += c - 128 << shift
        shift += 7
    raise Declined


def int_at(b: bytes, i: int) -> tuple[int, int]:
    number, i = long_at(b, i)
    if not -0x8000_0000 <= number <= 0x7FFF_FFFF:
        raise Declined
    return number, i


def span_at(b: bytes, i: int) -> tuple[int, int]:
    """Begin and end of a string or bytes whose length takes more than one byte."""
    n, c = b[i], b[i + 1]
    if n & 1:  # all negative numbers, however long
        raise Declined
    if c < 128:
        i += 2
        return i, i + ((n & 127 | c << 7) >> 1)
    c = b[i + 2]
    if c < 128:
        i += 3
        return i, i + (((n & 127) + (b[i - 2] - 128 << 7) + (c << 14)) >> 1)
    length, i = long_at(b, i)
    return i, i + length


def text_at(b: bytes, i: int) -> tuple[str, int]:
    i, end = span_at(b, i)
    return b[i:end].decode(), end


def bytes_at(b: bytes, i: int) -> tuple[bytes, int]:
    i, end = span_at(b, i)
    return b[i:end], end


def check_texts(b: bytes, i: int, count: int) -> None:
    """So many strings follow each other, and all of them are UTF-8."""
    for _ in range(count):
        k = L[b[i]]
        begin, i = (i + 1, i + k) if k else span_at(b, i)
        b[begin:i].decode()


def long_of(number: int) -> bytes:
    """Encoding of a number that is not in the table."""
    if type(number) is not int or not -0x8000_0000_0000_0000 <= number <= 0x7FFF_FFFF_FFFF_FFFF:
        raise Declined
    return varint(number << 1 if number >= 0 else ~number << 1 | 1)


def int_of(number: int) -> bytes:
    if not -0x8000_0000 <= number <= 0x7FFF_FFFF:
        raise Declined
    return long_of(number)


def decline(_: Any) -> Any:
    raise Declined


_DOUBLE = struct.Struct("<d")
_HELPERS: Final[Mapping[str, Any]] = {
    **{helper.__name__: helper for helper in (long_at, int_at, span_at, text_at, bytes_at, check_texts)},
    **{helper.__name__: helper for helper in (long_of, int_of, decline, Declined)},
    "L": L,
    "Z": Z,
    "V": V,
    "W": W,
    "double_at": _DOUBLE.unpack_from,
    "double_of": _DOUBLE.pack,
}


class _Source:
    """Lines of code under way, the constants they use, and fresh names."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.constants: Namespace = {}
        self._depth, self._count = 0, 0

    def add(self, *lines: str) -> None:
        self.lines.extend("    " * self._depth + line for line in lines)

    def block(self, opening: str) -> _Source:
        self.add(opening)
        return self

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1

    def name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = value
        return name

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


# Outside the handler, so that the error that follows does not carry this one along: it could show a value.
_HAND_ON: Final = ("except Exception:", "    pass")


# ---- decoding


def decoder_source(writer: Version, reader: Version, classes: Mapping[str, type]) -> tuple[str, Namespace]:
    """Source of `decode(b)` and the constants that it needs, for bytes of `writer` into the class of `reader`.

    An event gives (id with its length, saga and flow with their lengths, flow, event), a row the row. What it
    declines it hands to `slow(b)`.
    """
    source = _Source()
    with source.block("def decode(b):"):
        with source.block("try:"):
            source.add(*(["i = 5"] if writer.is_row else _READ_META))
            values = _read_fields(source, writer.body, reader.body)
            if not writer.is_row:
                values.append("saga")
            made = f"{source.constant(classes[reader.fullname])}({', '.join(values)})"
            with source.block("if i != len(b):"):
                source.add("raise Declined")
            source.add(f"return {made}" if writer.is_row else f"return b[5:j], b[j:n], b[f:n], {made}")
        source.add(*_HAND_ON, "return slow(b)")
    return source.text(), source.constants


# The envelope: j, m, n and i are where id, saga, flow and cause end. All four have to be UTF-8, whether or not they
# are decoded here, because they are copied into whatever this event causes; if the whole stretch is ASCII, that is
# one test.
_READ_META: Final = (
    "k = L[b[5]]",
    "j = 5 + k if k else span_at(b, 5)[1]",
    "k = L[b[j]]",
    "if k:",
    "    m = j + k",
    "    saga = b[j + 1 : m].decode()",
    "else:",
    "    saga, m = text_at(b, j)",
    "k = L[b[m]]",
    "if k:",
    "    f = m + 1",
    "    n = m + k",
    "else:",
    "    f, n = span_at(b, m)",
    "k = L[b[n]]",
    "i = n + k if k else span_at(b, n)[1]",
    "if not b[5:i].isascii():",
    "    check_texts(b, 5, 4)",
)


def _read_fields(source: _Source, written: Sequence[Field], wanted: Sequence[Field]) -> list[str]:
    """Read a record's fields; returns what its class is called with, in the class's order."""
    types = {field.name: field.type for field in wanted}
    places: Places = {field.name: _read(source, field.type, types.get(field.name)) for field in written}
    return [_place_or_default(source, field, places) for field in python_order(wanted)]


def _place_or_default(source: _Source, field: Field, places: Places) -> str:
    if field.name in places:
        return places[field.name]
    assert field.default is not REQUIRED, field
    return source.constant(field.default)


def _read(source: _Source, written: Type, wanted: Type | None) -> str:
    """Read one value into a variable, and return its name. wanted None: no reader asks for it; it must be legal."""
    name = source.name()
    match written:
        case Primitive(name="string"):
            _read_stretch(source, f"{name} = b[i + 1 : i + k].decode()", f"{name}, i = text_at(b, i)")
        case Primitive(name="bytes"):
            _read_stretch(source, f"{name} = b[i + 1 : i + k]", f"{name}, i = bytes_at(b, i)")
        case Primitive(name="int" | "long" as kind):
            _read_number(source, name, kind)
        case Primitive(name="boolean"):
            source.add(f"{name} = {source.constant((False, True))}[b[i]]", "i += 1")
        case Primitive(name="double"):
            source.add(f"{name} = double_at(b, i)[0]", "i += 8")
        case Enum():
            source.add(f"{name} = {source.constant(_symbols(written, wanted))}[b[i]]", "i += 1")
        case Nullable(inner=inner):
            _read_nullable(source, name, inner, wanted.inner if isinstance(wanted, Nullable) else None)
        case Array(items=items):
            _read_array(source, name, items, wanted.items if isinstance(wanted, Array) else None)
        case Record():
            _read_record(source, name, written, wanted if isinstance(wanted, Record) else None)
    return name


def _read_stretch(source: _Source, short: str, long: str) -> None:
    source.add("k = L[b[i]]")
    with source.block("if k:"):
        source.add(short, "i += k")
    with source.block("else:"):
        source.add(long)


def _read_number(source: _Source, name: str, kind: str) -> None:
    source.add("z = b[i]")
    with source.block("if z < 128:"):
        source.add(f"{name} = Z[z]", "i += 1")
    with source.block("else:"):
        source.add("y = b[i + 1]")
        with source.block("if y < 128:"):
            source.add(f"{name} = Z[z - 128 + (y << 7)]", "i += 2")
        with source.block("else:"):
            source.add("x = b[i + 2]")
            with source.block("if x < 128:"):
                source.add("z += (y << 7) + (x << 14) - 0x4080", f"{name} = (z >> 1) ^ -(z & 1)", "i += 3")
            with source.block("else:"):
                source.add(f"{name}, i = {kind}_at(b, i)")


def _symbols(written: Enum, wanted: Type | None) -> dict[int, str | None]:
    """First byte → symbol. Symbols from the 65th on take two bytes and are left to plaincodec."""
    known = wanted if isinstance(wanted, Enum) else written
    symbols = enumerate(written.symbols[:64])
    return {index << 1: symbol if symbol in known.symbols else known.default for index, symbol in symbols}


def _read_nullable(source: _Source, name: str, inner: Type, wanted: Type | None) -> None:
    source.add("z = b[i]", "i += 1")
    with source.block("if z == 2:"):
        source.add(f"{name} = {_read(source, inner, wanted)}")
    with source.block("elif z:"):
        source.add("raise Declined")
    with source.block("else:"):
        source.add(f"{name} = None")


def _read_array(source: _Source, name: str, items: Type, wanted: Type | None) -> None:
    """One block, which is what everybody writes. Every item takes a byte, so an absurd count soon is an index error."""
    count = source.name()
    _read_number(source, count, "long")
    with source.block(f"if {count}:"):
        with source.block(f"if {count} < 0:"):
            source.add("raise Declined")
        source.add(f"{name} = []")
        with source.block(f"for _ in range({count}):"):
            source.add(f"{name}.append({_read(source, items, wanted)})")
        with source.block("if b[i]:"):
            source.add("raise Declined")
        source.add("i += 1", f"{name} = tuple({name})")
    with source.block("else:"):
        source.add(f"{name} = ()")


def _read_record(source: _Source, name: str, written: Record, wanted: Record | None) -> None:
    values = _read_fields(source, written.fields, wanted.fields if wanted else ())
    if wanted:
        source.add(f"{name} = {wanted.fullname.replace('.', '__')}({', '.join(values)})")
    else:
        source.add(f"{name} = None")


# ---- encoding


def encoder_source(version: Version) -> tuple[str, Namespace]:
    """Source of `encode(e, m)` for an event, `encode(e)` for a row; what it declines it hands to `slow`."""
    source = _Source()
    given = "e" if version.is_row else "e, m"
    with source.block(f"def encode({given}):"):
        with source.block("try:"):
            parts = ["prefix"] if version.is_row else ["prefix", "m"]
            for field in version.body:
                parts += _write(source, field.type, f"e.{field.name}")
            source.add(f"return b''.join(({', '.join(parts)}))")
        source.add(*_HAND_ON, f"return slow({given})")
    return source.text(), source.constants


def _write(source: _Source, type: Type, value: str) -> list[str]:
    """Statements that prepare a value; returns the expressions whose bytes it consists of."""
    if isinstance(type, Record):
        return _write_record(source, type, value)
    name = source.name()
    match type:
        case Primitive(name="string"):
            source.add(f"{name} = {value}.encode()")
            return [f"V[len({name})]", name]
        case Primitive(name="bytes"):
            source.add(f"{name} = {value}")
            return [f"V[len({name})]", f"{name} if type({name}) is bytes else decline({name})"]
        case Primitive(name="int" | "long" as kind):
            source.add(f"{name} = {value}")
            return [f"W[{name}] if type({name}) is int and -{_SMALL} <= {name} < {_SMALL} else {kind}_of({name})"]
        case Primitive(name="boolean"):
            source.add(f"{name} = {value}")
            return [f"b'\\1' if {name} is True else b'\\0' if {name} is False else decline({name})"]
        case Primitive(name="double"):
            source.add(f"{name} = {value}")
            return [f"double_of({name}) if type({name}) is float or type({name}) is int else decline({name})"]
        case Enum(symbols=symbols):
            table = source.constant({symbol: V[index] for index, symbol in enumerate(symbols)})
            return [f"{table}[{value}]"]
        case Nullable(inner=inner):
            source.add(f"{name} = {value}")
            with source.block(f"if {name} is None:"):
                source.add(f"{name} = b'\\0'")
            with source.block("else:"):
                source.add(f"{name} = b''.join((b'\\2', {', '.join(_write(source, inner, name))}))")
            return [name]
        case Array(items=items):
            return [_write_array(source, items, value, name)]
    raise AssertionError(type)


def _write_record(source: _Source, record: Record, value: str) -> list[str]:
    name = source.name()
    source.add(f"{name} = {value}")
    return [part for field in record.fields for part in _write(source, field.type, f"{name}.{field.name}")]


def _write_array(source: _Source, items: Type, value: str, name: str) -> str:
    parts, item = source.name(), source.name()
    source.add(f"{name} = {value}")
    with source.block(f"if type({name}) is not tuple:"):
        source.add("raise Declined")
    source.add(f"{parts} = [V[len({name})]]")
    with source.block(f"for {item} in {name}:"):
        source.add(f"{parts} += ({', '.join(_write(source, items, item))},)")
    with source.block(f"if {name}:"):
        source.add(f"{parts}.append(b'\\0')")
    return f"b''.join({parts})"


# ---- from source to function


def decoder(
    writer: Version, reader: Version, classes: Mapping[str, type], slow: Callable[[bytes], Any]
) -> Callable[[bytes], Any]:
    source, constants = decoder_source(writer, reader, classes)
    made = {name.replace(".", "__"): cls for name, cls in classes.items()}
    return _compile(source, "decode", {**made, **constants, "slow": slow}, writer.file)


def encoder(version: Version, prefix: bytes, slow: Callable[..., bytes]) -> Callable[..., bytes]:
    source, constants = encoder_source(version)
    return _compile(source, "encode", {**constants, "prefix": prefix, "slow": slow}, version.file)


def _compile(source: str, name: str, constants: Namespace, file: str) -> Callable[..., Any]:
    namespace: Namespace = {**_HELPERS, **constants}
    exec(compile(source, f"<{name} {file}>", "exec"), namespace)
    function: Callable[..., Any] = namespace[name]
    return function
