"""The decoders of the project's own events and rows, given bytes that nobody wrote, with `avro` as the oracle.

`tests/farandole/test_codec.py` does the same, deeper, with schemas made for it; here it is the schemas that are
deployed, and the processor around them.
"""

from __future__ import annotations

import functools
import io
import tracemalloc
from collections.abc import Callable
from typing import Any

import avro.io
import avro.schema
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from farandole.errors import CodecError
from farandole.event import Meta
from tests.poison import corpus
from tests.poison.test_corpus import Message, processor_of, run

fuzzed = settings(
    max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
PREFIXES = sorted(corpus.codec().decoders)
GOOD = [corpus.make(event, "saga-1", flow).record for event, flow in corpus.BASES.values()]
VARINTS = [
    *(b"\x00", b"\x01", b"\x7f", b"\x80", b"\xff\x01", b"\xfe\xff\xff\xff\x0f", b"\x80" * 11),
    *(b"\xff" * 9 + b"\x01", b"\xff" * 9 + b"\x02", b"\xfe" + b"\xff" * 7 + b"\x7f", b"\xfd" + b"\xff" * 7 + b"\x7f"),
]


@functools.cache
def schema(prefix: bytes) -> Any:
    kind = corpus.codec().decoders[prefix].type
    return avro.schema.parse(corpus.codec().schemas.latest[kind.name].text)


def by_avro(value: bytes) -> Any:
    """What avro reads, or None if it reads nothing or leaves something over."""
    stream = io.BytesIO(value[5:])
    try:
        datum = avro.io.DatumReader(schema(value[:5])).read(avro.io.BinaryDecoder(stream))
    except Exception:
        return None
    return datum if stream.tell() == len(value) - 5 else None


def plain(value: Any) -> Any:
    """An event or row as avro has it: dictionaries and lists."""
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    if hasattr(value, "__struct_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
    return value


def is_codec_error_or_what_avro_reads(value: bytes) -> None:
    decoder = corpus.codec().decoders[value[:5]]
    try:
        read = decoder.decode(value)
    except CodecError:
        return
    expected = by_avro(value)
    assert expected is not None, value
    if not decoder.type.is_row:
        meta = expected.pop("meta")
        assert corpus.codec().meta_of(value) == Meta(**meta)
        expected["saga"], read = meta["saga"], read[3]
    assert plain(read) == expected


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A good record with some of its bytes replaced, taken out or doubled, and odd numbers put in."""
    value = draw(st.sampled_from(GOOD)).value
    assert value is not None
    for _ in range(draw(st.integers(1, 4))):
        at, length = draw(st.integers(5, len(value))), draw(st.integers(0, 4))
        new = draw(st.sampled_from(VARINTS) | st.binary(max_size=4) | st.just(value[at : at + 9] * 2))
        value = value[:at] + new + value[at + length :]
    return value


@fuzzed
@given(prefix=st.sampled_from(PREFIXES), body=st.binary(max_size=200))
@example(prefix=PREFIXES[0], body=b"")
def test_any_bytes_are_a_codec_error_or_what_avro_reads(prefix: bytes, body: bytes) -> None:
    is_codec_error_or_what_avro_reads(prefix + body)


@fuzzed
@given(value=mutants())
def test_a_mutant_of_a_good_record_is_a_codec_error_or_what_avro_reads(value: bytes) -> None:
    is_codec_error_or_what_avro_reads(value)


def test_every_number_in_every_place_of_every_good_record() -> None:
    for record in GOOD:
        assert record.value is not None
        for at in range(5, len(record.value)):
            for number in VARINTS:
                is_codec_error_or_what_avro_reads(record.value[:at] + number + record.value[at + 1 :])


@pytest.mark.parametrize(
    "tail",
    [
        b"\xfe" + b"\xff" * 7 + b"\x7f",
        b"\xfd" + b"\xff" * 7 + b"\x7f",
        b"\x01" * 5_000,
        b"\x02" * 5_000,
        b"\xff" * 5_000,
        b"\x03\x00" * 2_500,
        bytes(5_000),
    ],
    ids=["2^62", "-2^62", "ones", "twos", "ff", "empty blocks", "zeros"],
)
def test_a_hostile_tail_costs_memory_in_proportion_to_its_length_and_no_more(tail: bytes) -> None:
    """In the record with an array in it: the smallest item takes four bytes, and some 200 as a Python object."""
    good = corpus.make(corpus.placed(), "saga-1").record.value
    assert good is not None
    decode: Callable[[bytes], Any] = corpus.codec().decoders[good[:5]].decode
    for at in range(5, len(good), 3):
        value = good[:at] + tail
        tracemalloc.start()
        try:
            decode(value)
        except CodecError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 100 * len(value) + 100_000


def test_whatever_a_topic_holds_a_processor_takes_it_and_goes_on() -> None:
    with processor_of("inventory") as processor:
        topics = [topic.removeprefix(processor.namespace) for topic in processor.topics]

        @fuzzed
        @given(value=st.binary(max_size=60) | mutants() | st.none(), key=st.binary(max_size=8) | st.just(b"saga-1"))
        def take(value: bytes | None, key: bytes) -> None:
            for offset, topic in enumerate(topics):
                run(processor, Message(corpus.Record(topic, key, value, [], 0, 0), offset, processor.namespace))

        take()
