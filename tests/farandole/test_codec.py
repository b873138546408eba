"""The codec against three others: the `avro` package, fastavro, and the careful half of itself.

What is promised: the same bytes as `avro` for the same value, the same value from whatever bytes `avro` may write,
and for all other bytes a CodecError, never another exception, never a value that `avro` would not give, never more
memory than the message.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import avro.io
import fastavro
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from farandole import plaincodec, straightline
from farandole.codec import Codec, encode_meta
from farandole.errors import CodecError, SchemaError
from farandole.event import Meta
from farandole.generate import class_name
from farandole.schemas import Version
from farandole.schematypes import META_FIELDS, Array, Enum, Nullable, Primitive, Record, Type, named_types
from tests.farandole import schemaproject as project
from tests.farandole.schemaproject import enum, event, field, nested, row

LINE = nested("line", field("sku", "string"), field("quantity", "int"), field("price", "long"))
PART = nested("part", field("weight", "double"), field("marks", {"type": "array", "items": "string"}))
OUTCOME = enum("outcome", "accepted", "refused", "unknown")
LETTERS = enum("letter", *(f"l{number}" for number in range(70)))
EVERYTHING = event(
    "order.everything",
    field("text", "string"),
    field("blob", "bytes"),
    field("small", "int"),
    field("big", "long"),
    field("flag", "boolean"),
    field("ratio", "double"),
    field("outcome", OUTCOME, default="accepted"),
    field("letter", LETTERS),
    field("lines", {"type": "array", "items": LINE}),
    field("first", "order.line"),
    field("maybe_text", ["null", "string"], default=None),
    field("maybe_number", ["null", "long"], default=None),
    field("maybe_line", ["null", "order.line"], default=None),
    field("maybe_lines", ["null", {"type": "array", "items": "order.line"}], default=None),
    field("parts", {"type": "array", "items": PART}),
    field("grid", {"type": "array", "items": {"type": "array", "items": "long"}}),
    field("gaps", {"type": "array", "items": ["null", "order.outcome"]}),
)
LEVEL = row("stock.tables.level", field("available", "long"), field("note", ["null", "string"], default=None))


class _Declined(Exception):
    pass


def _decline(*_: Any) -> Any:
    raise _Declined


class Known:
    """A codec, its events, and other people's codecs for the same schemas."""

    def __init__(self, directory: Path, *schemas: Any) -> None:
        self.codec, self.events = project.codec(directory, *schemas)

    def quick(self, version: Version) -> Callable[[bytes], Any]:
        """The generated decoder without the net below it: raises Declined where it would ask plaincodec."""
        latest = self.codec.schemas.latest[version.fullname]
        records = [named for named in named_types(latest.record) if isinstance(named, Record)]
        classes = {each.fullname: getattr(self.events, class_name(each.namespace, each.name)) for each in records}
        return straightline.decoder(version, latest, classes, _decline)

    def version(self, name: str) -> Version:
        return self.codec.schemas.latest[name]

    def avro_bytes(self, version: Version, datum: Any) -> bytes:
        out = io.BytesIO()
        avro.io.DatumWriter(version.parsed).write(datum, avro.io.BinaryEncoder(out))
        return wire(version, out.getvalue())

    def avro_datum(self, writer: Version, value: bytes, reader: Version | None = None) -> Any:
        """AssertionError if bytes are left over: `avro` does not look."""
        stream = io.BytesIO(value[5:])
        datum = avro.io.DatumReader(writer.parsed, (reader or writer).parsed).read(avro.io.BinaryDecoder(stream))
        assert stream.tell() == len(value) - 5
        return datum

    def object(self, type: Type, datum: Any) -> Any:
        """What the codec should make of a datum of the latest version."""
        match type:
            case Array(items=items):
                return tuple(self.object(items, each) for each in datum)
            case Nullable(inner=inner):
                return None if datum is None else self.object(inner, datum)
            case Record() if type.fullname == "farandole.meta":
                return datum["saga"]
            case Record():
                fields = {each.name: self.object(each.type, datum[each.name]) for each in type.fields}
                if "meta" in fields:
                    fields["saga"] = fields.pop("meta")
                return getattr(self.events, class_name(type.namespace, type.name))(**fields)
        return datum


def wire(version: Version, body: bytes) -> bytes:
    return b"\0" + version.id.to_bytes(4, "big") + body


def data(type: Type) -> st.SearchStrategy[Any]:
    """Datums as `avro` takes them. Sizes around one and two bytes of varint are where mistakes live."""
    match type:
        case Primitive(name="string"):
            sizes = st.sampled_from([0, 1, 62, 63, 64, 65, 8191, 8192]).map(lambda size: "x" * size)
            return st.text(max_size=20) | sizes
        case Primitive(name="bytes"):
            return st.binary(max_size=100)
        case Primitive(name="int" | "long" as name):
            limit = (1 << 31 if name == "int" else 1 << 63) - 1
            edges = [sign * (1 << bit) + off for bit in range(63) for sign in (1, -1) for off in (-1, 0, 1)]
            legal = [edge for edge in edges if -limit - 1 <= edge <= limit] + [limit, -limit - 1]
            return st.sampled_from(legal) | st.integers(-limit - 1, limit)
        case Primitive(name="boolean"):
            return st.booleans()
        case Primitive(name="double"):
            return st.floats(allow_nan=False)
        case Enum(symbols=symbols):
            return st.sampled_from(symbols)
        case Array(items=items):
            return st.lists(data(items), max_size=4)
        case Nullable(inner=inner):
            return st.none() | data(inner)
        case Record(fields=fields):
            return st.fixed_dictionaries({each.name: data(each.type) for each in fields})
    raise AssertionError(type)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Known:
    return Known(tmp_path_factory.mktemp("schemas"), EVERYTHING, LEVEL)


def parse(schema: dict[str, Any]) -> Record:
    with tempfile.TemporaryDirectory() as directory:
        return next(iter(project.load(Path(directory), schema))).record


EVERYTHING_DATA = data(parse(EVERYTHING))
SIMPLE: dict[str, Any] = {
    "meta": {"id": "order/3/1542.0", "saga": "o-1", "flow": "order/1", "cause": "order.commands/3/7.0"},
    "text": "t", "blob": b"b", "small": 1, "big": 300, "flag": True, "ratio": 0.5, "outcome": "refused", "letter": "l3",
    "lines": [{"sku": "s", "quantity": 2, "price": 1999}], "first": {"sku": "é", "quantity": -1, "price": 0},
    "maybe_text": "m", "maybe_number": 5, "maybe_line": None, "maybe_lines": [],
    "parts": [{"weight": 1.0, "marks": ["a"]}], "grid": [[1], []], "gaps": [None, "unknown"],
}  # fmt: skip


def test_the_bytes_are_those_of_avro_and_of_fastavro(known: Known) -> None:
    version, kind = known.version("order.everything"), known.codec.type_named("order.everything")
    fast = fastavro.parse_schema(json.loads(version.text))

    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(EVERYTHING_DATA)
    def check(datum: dict[str, Any]) -> None:
        encoded = kind.encode(known.object(version.record, datum), encode_meta(Meta(**datum["meta"])))
        assert encoded == known.avro_bytes(version, datum)
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fast, datum)
        assert encoded == wire(version, out.getvalue())

    check()


def test_what_avro_writes_is_read_with_its_metadata(known: Known) -> None:
    version = known.version("order.everything")

    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(EVERYTHING_DATA)
    @example(SIMPLE)
    def check(datum: dict[str, Any]) -> None:
        value, meta = known.avro_bytes(version, datum), Meta(**datum["meta"])
        id_raw, context, flow, heard = known.codec.decoders[value[:5]].decode(value)
        assert heard == known.object(version.record, datum)
        assert id_raw + context + text(meta.cause) == encode_meta(meta)
        assert id_raw == text(meta.id)
        assert context == text(meta.saga) + text(meta.flow)
        assert flow == meta.flow.encode()
        assert known.codec.decode(value) == (meta, heard)
        assert known.codec.meta_of(value) == meta

    check()


def text(value: str) -> bytes:
    return plaincodec.varint(len(value.encode())) + value.encode()


def test_an_effect_needs_only_the_bytes_of_its_cause(known: Known) -> None:
    """The engine's way: id of its own, saga and flow copied, the cause's id as cause."""
    version, kind = known.version("order.everything"), known.codec.type_named("order.everything")
    value = known.avro_bytes(version, SIMPLE)
    cause, context, _, heard = known.codec.decoders[value[:5]].decode(value)
    effect = kind.encode(heard, text("order/0/9.0") + context + cause)
    meta, again = known.codec.decode(effect)
    assert meta == Meta("order/0/9.0", "o-1", "order/1", "order/3/1542.0")
    assert again == heard


def blocks(type: Type, datum: Any, draw: Callable[[int], int]) -> bytes:
    """A legal writer with moods: arrays in several blocks, with sizes or without, numbers padded."""
    match type:
        case Array(items=items):
            out, rest = b"", list(datum)
            while rest:
                taken = 1 + draw(len(rest) - 1)
                block = b"".join(blocks(items, item, draw) for item in rest[:taken])
                sized = plaincodec.varint(-taken) + plaincodec.varint(len(block))
                out += (sized if draw(1) else plaincodec.varint(taken)) + block
                rest = rest[taken:]
            return out + b"\0"
        case Nullable(inner=inner):
            return b"\0" if datum is None else b"\2" + blocks(inner, datum, draw)
        case Record(fields=fields):
            return b"".join(blocks(each.type, datum[each.name], draw) for each in fields)
        case Primitive(name="int" | "long") if draw(1):
            number = plaincodec.varint(datum)
            return number if len(number) > 9 else number[:-1] + bytes((number[-1] | 128, 0))
        case Enum(symbols=symbols):
            return plaincodec.varint(symbols.index(datum))
    plain = bytearray()
    plaincodec.write(datum, type, plain, "")
    return bytes(plain)


def test_blocks_sizes_and_padding_are_read_as_avro_reads_them(known: Known) -> None:
    version = known.version("order.everything")

    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(EVERYTHING_DATA, st.randoms(use_true_random=False))
    def check(datum: dict[str, Any], random: Any) -> None:
        value = wire(version, blocks(version.record, datum, lambda most: random.randint(0, most)))
        assert known.avro_datum(version, value) == datum
        assert known.codec.decode(value)[1] == known.object(version.record, datum)

    check()


def mutants() -> st.SearchStrategy[Callable[[bytes], bytes]]:
    """Ways to damage a message: change bytes, cut, repeat, insert, or make up everything behind the prefix."""
    places, some = st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=12)
    nasty = st.sampled_from(
        [b"\xff" * 9 + b"\1", b"\xff" * 10, b"\xff" * 60, b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\1"]
    )

    def at(value: bytes, place: float) -> int:
        return 5 + int(place * (len(value) - 5))

    return st.one_of(
        st.builds(lambda p, s: lambda v: v[: at(v, p)] + s + v[at(v, p) + len(s) :], places, some | nasty),
        st.builds(lambda p, s: lambda v: v[: at(v, p)] + s + v[at(v, p) :], places, some | nasty),
        st.builds(lambda p: lambda v: v[: at(v, p)], places),
        st.builds(lambda p, q: lambda v: v[: at(v, p)] + v[at(v, q) :], places, places),
        st.builds(lambda s: lambda v: v[:5] + s, st.binary(max_size=200)),
        st.builds(lambda s: lambda v: v + s, some),
    )


def test_damaged_bytes_are_a_codec_error_or_what_avro_reads(known: Known) -> None:
    version = known.version("order.everything")
    decode = known.codec.decoders[wire(version, b"")].decode

    @settings(deadline=None, max_examples=500, suppress_health_check=list(HealthCheck))
    @given(EVERYTHING_DATA, st.lists(mutants(), min_size=1, max_size=3))
    def check(datum: dict[str, Any], damages: list[Callable[[bytes], bytes]]) -> None:
        value = known.avro_bytes(version, datum)
        for damage in damages:
            value = damage(value)
        try:
            heard = decode(value)[3]
        except CodecError as error:
            named = "everything" in error.where
        else:
            named = repr(heard) == repr(known.object(version.record, known.avro_datum(version, value)))
        assert named

    check()


def test_every_cut_and_every_changed_byte_of_a_message_is_caught_or_harmless(known: Known) -> None:
    version = known.version("order.everything")
    decode = known.codec.decoders[wire(version, b"")].decode
    value = known.avro_bytes(version, SIMPLE)
    for end in range(len(value)):
        with pytest.raises(CodecError):
            decode(value[:end])
    refused = 0
    for place in range(5, len(value)):
        for byte in range(256):
            damaged = value[:place] + bytes((byte,)) + value[place + 1 :]
            try:
                heard = decode(damaged)[3]
            except CodecError:
                refused += 1
            else:
                assert repr(heard) == repr(known.object(version.record, known.avro_datum(version, damaged)))
    assert refused > len(value) * 100


# ---- every place of a message, and everything that must not stand there

LENGTHY: dict[str, Any] = SIMPLE | {
    "meta": {"id": "i" * 70, "saga": "s" * 9000, "flow": "f" * 80, "cause": "c" * 8200},
    "text": "x" * 100, "blob": b"y" * 9000, "small": -(1 << 31), "big": (1 << 63) - 1,
    "lines": [{"sku": "z" * 70, "quantity": 2, "price": 1 << 40}] * 2,
    "maybe_text": "m" * 9000, "maybe_number": 1 << 20,
}  # fmt: skip
Token = tuple[str, bytes]
NUMBERS = [b"\xff" * 9 + b"\2", b"\xff" * 9 + b"\x7f", b"\xff" * 10 + b"\1", b"\x80" * 12 + b"\0"]
LENGTHS = [
    plaincodec.varint(n) for n in (-1, -2, -64, -65, -9000, -(1 << 21), -(1 << 40), -(1 << 63), 1 << 20, 1 << 62)
]
NASTY: dict[str, list[bytes]] = {
    "int": [plaincodec.varint(n) for n in (1 << 31, -(1 << 31) - 1, 1 << 40, -(1 << 63))] + NUMBERS,
    "long": NUMBERS,
    "length": LENGTHS + NUMBERS,
    "count": [plaincodec.varint(n) for n in (1 << 20, -(1 << 20), 1 << 62, -(1 << 63))] + NUMBERS,
    "end": [plaincodec.varint(n) for n in (1 << 20, -(1 << 20), 1 << 62, -(1 << 63))] + NUMBERS,
    "branch": [plaincodec.varint(n) for n in (-1, 2, 64, -65, 1 << 40)] + NUMBERS,
    "boolean": [b"\2", b"\x80", b"\xff"],
    "double": [],
    "bytes": [],
}


def tokens(type: Type, datum: Any) -> list[Token]:
    """A message's parts with what they are."""
    match type:
        case Primitive(name="string"):
            return [("length", plaincodec.varint(len(datum.encode()))), ("text", datum.encode())]
        case Primitive(name="bytes"):
            return [("length", plaincodec.varint(len(datum))), ("bytes", datum)]
        case Primitive(name=name):
            plain = bytearray()
            plaincodec.write(datum, type, plain, "")
            return [(name, bytes(plain))]
        case Enum(symbols=symbols):
            return [(f"index {len(symbols)}", plaincodec.varint(symbols.index(datum)))]
        case Nullable(inner=inner):
            return [("branch", b"\0")] if datum is None else [("branch", b"\2"), *tokens(inner, datum)]
        case Array(items=items):
            begin = [("count", plaincodec.varint(len(datum)))] if datum else []
            return [*begin, *(token for item in datum for token in tokens(items, item)), ("end", b"\0")]
        case Record(fields=fields):
            return [token for each in fields for token in tokens(each.type, datum[each.name])]
    raise AssertionError(type)


def nasties(kind: str, good: bytes) -> list[bytes]:
    if kind.startswith("index"):
        count = int(kind.split()[1])
        return [plaincodec.varint(n) for n in (-1, count, count + 64, 1 << 20)] + NUMBERS
    if kind == "text":
        return [b"\xff" * len(good), b"\xc0\x80" + good[2:], b"\xed\xa0\x80" + good[3:]] if len(good) > 2 else []
    return NASTY[kind]


@pytest.mark.parametrize("datum", [SIMPLE, LENGTHY], ids=["simple", "lengthy"])
def test_nothing_that_must_not_stand_in_a_place_is_let_through_there(known: Known, datum: dict[str, Any]) -> None:
    """Each part of a message replaced by each thing that is illegal there; for the quick half alone as well."""
    version = known.version("order.everything")
    decode, quick = known.codec.decoders[wire(version, b"")].decode, known.quick(version)
    parts = tokens(version.record, datum)
    assert quick(wire(version, b"".join(part for _, part in parts)))[3] == known.object(version.record, datum)
    tried = 0
    for place, (kind, good) in enumerate(parts):
        before = b"".join(part for _, part in parts[:place])
        after = b"".join(part for _, part in parts[place + 1 :])
        for bad in nasties(kind, good):
            value = wire(version, before + bad + after)
            with pytest.raises(CodecError):
                decode(value)
            with pytest.raises(_Declined):
                quick(value)
            tried += 1
    assert tried > 350


@pytest.mark.parametrize("place", ["text", "blob"])
@pytest.mark.parametrize(
    ("length", "content"),
    [
        (b"\1\1", b"x" * 64),
        *((plaincodec.varint(n), b"x" * (-n - 1)) for n in (-65, -127, -8192, -9000, -(1 << 20))),
        (b"\x81\x80\x80\0", b""),
    ],
    ids=["one byte", "two bytes", "-127", "-8192", "three bytes", "four bytes", "padded"],
)
def test_a_negative_length_is_refused_even_if_the_bytes_would_fit(
    known: Known, place: str, length: bytes, content: bytes
) -> None:
    """Whoever forgets the sign finds exactly as many bytes as it looks for."""
    version = known.version("order.everything")
    parts = b""
    for each in version.record.fields:
        good = b"".join(part for _, part in tokens(each.type, SIMPLE[each.name]))
        parts += length + content if each.name == place else good
    with pytest.raises(CodecError, match="negative length"):
        known.codec.decode(wire(version, parts))
    with pytest.raises(_Declined):
        known.quick(version)(wire(version, parts))


def test_every_number_up_to_three_bytes_and_every_edge_is_that_of_avro(tmp_path: Path) -> None:
    numbers = Known(tmp_path, row("a.tables.number", field("wide", "long"), field("narrow", "int")))
    version, kind = numbers.version("a.tables.number"), numbers.codec.type_named("a.tables.number")
    edges = {sign * (1 << bit) + off for bit in range(63) for sign in (1, -1) for off in (-2, -1, 0, 1)}
    for number in {*range(-9000, 9000), *range(-1_100_000, 1_100_000, 97), *edges, (1 << 63) - 1, -(1 << 63)}:
        small = number if -(1 << 31) <= number < 1 << 31 else number >> 32
        value = wire(version, plaincodec.varint(number) + plaincodec.varint(small))
        made = numbers.events.Number(wide=number, narrow=small)
        assert kind.encode_row(made) == value
        assert kind.decode_row(value) == made
        if number in edges:
            assert numbers.avro_bytes(version, {"wide": number, "narrow": small}) == value


def test_an_arrays_block_is_as_long_as_it_says(tmp_path: Path) -> None:
    lists = Known(tmp_path, row("a.tables.list", field("items", {"type": "array", "items": "string"})))
    version, kind = lists.version("a.tables.list"), lists.codec.type_named("a.tables.list")
    for size, right in ((3, False), (4, True), (5, False), (-4, False)):
        value = wire(version, plaincodec.varint(-2) + plaincodec.varint(size) + b"\2a\2b" + b"\0")
        if right:
            assert kind.decode_row(value).items == ("a", "b")
        else:
            with pytest.raises(CodecError, match="block of 4 bytes"):
                kind.decode_row(value)


ENDINGS = {each["name"]: each for each in EVERYTHING["fields"][1:]}
INLINE = {
    "first": field("first", LINE),
    "maybe_line": field("maybe_line", ["null", LINE], default=None),
    "maybe_lines": field("maybe_lines", ["null", {"type": "array", "items": LINE}], default=None),
    "gaps": field("gaps", {"type": "array", "items": ["null", OUTCOME]}),
}


@pytest.mark.parametrize("name", ENDINGS)
@pytest.mark.parametrize("datum", [SIMPLE, LENGTHY], ids=["simple", "lengthy"])
def test_a_message_that_ends_too_early_or_too_late_is_refused_whatever_it_ends_with(
    tmp_path: Path, name: str, datum: dict[str, Any]
) -> None:
    ends = Known(tmp_path, event("order.ends", field("begin", "string"), INLINE.get(name, ENDINGS[name])))
    version = ends.version("order.ends")
    decode, quick = ends.codec.decoders[wire(version, b"")].decode, ends.quick(version)
    value = ends.avro_bytes(version, {"meta": SIMPLE["meta"], "begin": "b", name: datum[name]})
    quick(value)
    wrong = [value[:end] for end in range(5, len(value))] + [value + b"\0", value + b"\2", value + value]
    for damaged in wrong[-300:]:
        with pytest.raises(CodecError):
            decode(damaged)
        with pytest.raises(_Declined):
            quick(damaged)


def test_generated_code_agrees_with_the_careful_code_or_declines(known: Known) -> None:
    """Alone, without the net below it: what it returns is what plaincodec returns for the same bytes."""
    version = known.version("order.everything")
    quick = known.quick(version)
    counts = {"taken": 0, "declined": 0}

    @settings(deadline=None, max_examples=500, suppress_health_check=list(HealthCheck))
    @given(EVERYTHING_DATA, st.lists(mutants(), max_size=2))
    def check(datum: dict[str, Any], damages: list[Callable[[bytes], bytes]]) -> None:
        value = known.avro_bytes(version, datum)
        for damage in damages:
            value = damage(value)
        try:
            heard = quick(value)[3]
        except _Declined:
            counts["declined"] += 1
            return
        counts["taken"] += 1
        reader = plaincodec.Reader(value, "everything")
        read = reader.read(version.record)
        reader.end()
        assert repr(heard) == repr(known.object(version.record, read))

    check()
    assert counts["taken"] > 50
    assert counts["declined"] > 50


def test_generated_code_takes_what_is_common(known: Known) -> None:
    """Or the hot path would be the slow one and nobody would notice."""
    version = known.version("order.everything")
    value = known.avro_bytes(version, SIMPLE)
    heard = known.quick(version)(value)[3]
    assert heard == known.object(version.record, SIMPLE)
    assert straightline.encoder(version, value[:5], _decline)(heard, encode_meta(Meta(**SIMPLE["meta"]))) == value


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("text", {"text": 5}),
    ("text", {"text": None}),
    ("text", {"text": b"bytes"}),
    ("text", {"text": "\ud800"}),
    ("blob", {"blob": "text"}),
    ("blob", {"blob": bytearray(b"x")}),
    ("small", {"small": 1 << 31}),
    ("small", {"small": -(1 << 31) - 1}),
    ("small", {"small": True}),
    ("small", {"small": 1.0}),
    ("small", {"small": "1"}),
    ("big", {"big": 1 << 63}),
    ("big", {"big": -(1 << 63) - 1}),
    ("big", {"big": False}),
    ("big", {"big": None}),
    ("flag", {"flag": 1}),
    ("flag", {"flag": None}),
    ("ratio", {"ratio": True}),
    ("ratio", {"ratio": "0.5"}),
    ("ratio", {"ratio": 10**400}),
    ("outcome", {"outcome": "perhaps"}),
    ("outcome", {"outcome": None}),
    ("outcome", {"outcome": ["accepted"]}),
    ("letter", {"letter": "l70"}),
    ("lines", {"lines": None}),
    ("lines", {"lines": []}),
    ("lines[0].sku", {"lines": ("x",)}),
    ("first.sku", {"first": None}),
    ("maybe_text", {"maybe_text": 5}),
    ("maybe_number", {"maybe_number": True}),
    ("maybe_line.sku", {"maybe_line": "x"}),
    ("grid[1][0]", {"grid": ((1,), (1 << 63,))}),
    ("gaps[1]", {"gaps": (None, "nothing")}),
]


@pytest.mark.parametrize(("where", "wrong"), WRONG)
def test_a_value_beyond_its_schema_is_refused_and_its_field_named(
    known: Known, where: str, wrong: dict[str, Any]
) -> None:
    version = known.version("order.everything")
    good = known.object(version.record, SIMPLE)
    bad = type(good)(**{name: getattr(good, name) for name in good.__struct_fields__} | wrong)
    with pytest.raises(CodecError) as caught:
        known.codec.encode(bad, Meta("i", "s", "f", "c"))
    assert caught.value.where == f"order.everything.{where}"


def test_an_item_of_an_array_is_checked_like_a_field(known: Known) -> None:
    version = known.version("order.everything")
    good = known.object(version.record, SIMPLE)
    line = known.events.OrderLine(sku="s", quantity=1, price=1 << 63)
    bad = type(good)(**{name: getattr(good, name) for name in good.__struct_fields__} | {"lines": (good.first, line)})
    with pytest.raises(CodecError) as caught:
        known.codec.encode(bad, Meta("i", "s", "f", "c"))
    assert caught.value.where == "order.everything.lines[1].price"


def test_an_error_shows_no_value(known: Known) -> None:
    version = known.version("order.everything")
    good = known.object(version.record, SIMPLE)
    fields = {name: getattr(good, name) for name in good.__struct_fields__}
    with pytest.raises(CodecError) as caught:
        known.codec.encode(type(good)(**fields | {"outcome": "tok_secret"}), Meta("i", "s", "f", "c"))
    assert "tok_secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize("count", [1 << 20, 1 << 40, (1 << 62), -(1 << 62), -(1 << 63)])
def test_an_absurd_count_costs_no_memory(known: Known, count: int) -> None:
    version = known.version("order.everything")
    record = version.record
    upto = Record(record.namespace, record.name, "", record.fields[:9])
    before = blocks(upto, {each.name: SIMPLE[each.name] for each in upto.fields}, lambda _: 0)
    value = wire(version, before + plaincodec.varint(count) + b"\2" * 50)
    tracemalloc.start()
    with pytest.raises(CodecError, match=r"more than there are bytes|beyond long"):
        known.codec.decode(value)
    assert tracemalloc.get_traced_memory()[1] < 200_000
    tracemalloc.stop()


@pytest.mark.parametrize("value", [None, b"", b"\0", b"\0\0\0\0", b"\0\0\0\0\xff", b'{"json": 1}', b"\0" * 5])
def test_what_has_no_known_schema_is_a_codec_error(known: Known, value: bytes | None) -> None:
    with pytest.raises(CodecError):
        known.codec.decode(value)


@pytest.mark.parametrize("value", [None, b"", b"\0", 5, "text"])
def test_a_decoder_given_no_message_raises_a_codec_error(known: Known, value: Any) -> None:
    with pytest.raises(CodecError):
        known.codec.type_named("stock.tables.level").decode_row(value)
    with pytest.raises(CodecError):
        known.codec.decoders[wire(known.version("order.everything"), b"")].decode(value)


def test_metadata_is_found_though_the_body_is_broken(known: Known) -> None:
    version = known.version("order.everything")
    value = known.avro_bytes(version, SIMPLE)
    whole = encode_meta(Meta(**SIMPLE["meta"]))
    assert known.codec.meta_of(value[: 5 + len(whole)] + b"\xff").saga == "o-1"
    assert known.codec.meta_of(b"\0\0\0\3\xe7" + whole).saga == "o-1"
    for broken in (value[:10], b"", b"\1" + value[1:], wire(known.version("stock.tables.level"), whole)):
        with pytest.raises(CodecError):
            known.codec.meta_of(broken)


@pytest.mark.parametrize("place", ["id", "saga", "flow", "cause"])
@pytest.mark.parametrize("length", [3, 100])
def test_metadata_that_is_no_utf8_is_refused_in_each_field(known: Known, place: str, length: int) -> None:
    """Whatever is let through here would be copied into every event that this one causes."""
    version = known.version("order.everything")
    good = known.avro_bytes(version, SIMPLE)[5 + len(encode_meta(Meta(**SIMPLE["meta"]))) :]
    parts = {name: text(value) for name, value in SIMPLE["meta"].items()}
    parts[place] = plaincodec.varint(length) + b"\xff" * length
    with pytest.raises(CodecError) as caught:
        known.codec.decoders[wire(version, b"")].decode(wire(version, b"".join(parts[n] for n in META_FIELDS) + good))
    assert f"meta.{place}" in caught.value.where


def test_rows_have_no_metadata_and_events_are_no_rows(known: Known) -> None:
    level = known.events.Level(available=5)
    kind = known.codec.type_of(known.events.Level)
    value = kind.encode_row(level)
    assert kind.decode_row(value) == level
    assert value == known.avro_bytes(known.version("stock.tables.level"), {"available": 5, "note": None})
    for wrong in (lambda: kind.encode(level, b""), lambda: known.codec.decode(value)):
        with pytest.raises(CodecError):
            wrong()
    other = known.codec.type_named("order.everything")
    for wrong in (lambda: other.encode_row(level), lambda: other.decode_row(value), lambda: kind.decode_row(b"\0" * 9)):
        with pytest.raises(CodecError):
            wrong()


def test_an_unknown_class_or_name_is_a_codec_error(known: Known) -> None:
    with pytest.raises(CodecError, match="is no class of events"):
        known.codec.type_of(int)
    with pytest.raises(CodecError, match="no schema"):
        known.codec.type_named("order.nothing")


def test_events_py_of_yesterday_is_refused_at_the_start(tmp_path: Path) -> None:
    _, events = project.codec(tmp_path, event("order.placed", field("customer", "string")))
    project.put(tmp_path, event("order.placed", field("customer", "string"), field("email", "string")))
    with pytest.raises(SchemaError, match="is not what order"):
        Codec.load(tmp_path, events)


# ---- old versions

STAGES = [
    event("order.placed", field("customer", "string"), field("old", ["null", LINE], default=None)),
    event(
        "order.placed",
        field("amount", "long", default=7),
        field("customer", "string"),
        field("old", ["null", LINE], default=None),
        field("kind", enum("kind", "web", "shop", default="web"), default="shop"),
    ),
    event(
        "order.placed",
        field("customer", "string"),
        field("note", ["null", "string"], default=None),
        field("kind", enum("kind", "shop", "web", "phone", default="web"), default="phone"),
        field("tags", {"type": "array", "items": "string"}, default=[]),
        field("amount", "long", default=9),
    ),
]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Known:
    return Known(tmp_path_factory.mktemp("schemas"), STAGES)


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_every_kept_version_is_read_as_avro_resolves_it(grown: Known, stage: int) -> None:
    writer, latest = grown.codec.schemas.versions["order.placed"][stage], grown.version("order.placed")

    @settings(deadline=None, suppress_health_check=list(HealthCheck))
    @given(data(writer.record), st.randoms(use_true_random=False))
    def check(datum: dict[str, Any], random: Any) -> None:
        for value in (
            grown.avro_bytes(writer, datum),
            wire(writer, blocks(writer.record, datum, lambda most: random.randint(0, most))),
        ):
            meta, heard = grown.codec.decode(value)
            assert meta == Meta(**datum["meta"])
            assert heard == grown.object(latest.record, grown.avro_datum(writer, value, latest))

    check()


def test_a_symbol_that_the_reader_lacks_becomes_its_default(tmp_path: Path) -> None:
    kinds = [enum("kind", "web", "phone", default="web"), enum("kind", "web", default="web")]
    known = Known(tmp_path, [event("order.placed", field("kind", kind)) for kind in kinds])
    value = known.avro_bytes(known.codec.schemas.versions["order.placed"][0], {"meta": SIMPLE["meta"], "kind": "phone"})
    assert known.codec.decode(value)[1].kind == "web"
    padded = value[:-1] + bytes((value[-1] | 128, 0))
    assert known.codec.decode(padded)[1].kind == "web", "by the careful half too"


def test_a_damaged_old_version_is_a_codec_error(grown: Known) -> None:
    writer = grown.codec.schemas.versions["order.placed"][0]

    @settings(deadline=None, max_examples=500, suppress_health_check=list(HealthCheck))
    @given(data(writer.record), mutants())
    def check(datum: dict[str, Any], damage: Callable[[bytes], bytes]) -> None:
        with contextlib.suppress(CodecError):
            grown.codec.decode(damage(grown.avro_bytes(writer, datum)))

    check()


def test_a_fields_skipped_value_is_checked_all_the_same(grown: Known) -> None:
    writer = grown.codec.schemas.versions["order.placed"][0]
    value = grown.avro_bytes(
        writer, {"meta": SIMPLE["meta"], "customer": "c", "old": {"sku": "sku", "quantity": 1, "price": 1}}
    )
    with pytest.raises(CodecError, match="UTF-8"):
        grown.codec.decode(value.replace(b"sku", b"s\xffu"))


# ---- schemas nobody thought of


@st.composite
def types(draw: st.DrawFn, names: Iterator[int], depth: int = 3) -> Any:
    simple = st.sampled_from(["string", "bytes", "int", "long", "boolean", "double"])
    kind = draw(st.sampled_from(["simple", "simple", "enum", "array", "null", "record"])) if depth else "simple"
    if kind == "enum":
        return enum(f"e{next(names)}", *(f"s{n}" for n in range(draw(st.sampled_from([1, 2, 64, 65])))))
    if kind == "array":
        return {"type": "array", "items": draw(types(names, depth - 1))}
    if kind == "null":
        inner = draw(types(names, depth - 1))
        return inner if isinstance(inner, list) else ["null", inner]
    if kind == "record":
        return nested(f"r{next(names)}", *draw(records(names, depth - 1)))
    return draw(simple)


@st.composite
def records(draw: st.DrawFn, names: Iterator[int], depth: int) -> list[dict[str, Any]]:
    count = draw(st.integers(1, 4))
    return [field(f"f{number}", draw(types(names, depth))) for number in range(count)]


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_schema_that_is_accepted_goes_there_and_back_as_with_avro(
    tmp_path_factory: pytest.TempPathFactory, given_data: st.DataObject
) -> None:
    names = iter(range(1000))
    schema = event("shop.thing", *given_data.draw(records(names, 3)))
    known = Known(tmp_path_factory.mktemp("any"), schema)
    version = known.version("shop.thing")
    for _ in range(3):
        datum = given_data.draw(data(version.record))
        value = known.avro_bytes(version, datum)
        heard = known.codec.decode(value)[1]
        assert heard == known.object(version.record, datum)
        assert known.codec.encode(heard, Meta(**datum["meta"])) == value
        damaged = given_data.draw(mutants())(value)
        try:
            heard = known.codec.decode(damaged)[1]
        except CodecError:
            continue
        assert repr(heard) == repr(known.object(version.record, known.avro_datum(version, damaged)))
