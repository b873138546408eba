"""A letter with other fields: through the schema, so that what is redriven is a record of its topic.

What an edit may not change is where the letter belongs: its topic, its key, its saga, and metadata that can be read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from farandole.codec import Codec, EventType, encode_meta
from farandole.errors import CodecError, ConfigError
from farandole.event import Meta
from farandole.redrive.queue import Letter
from farandole.redrive.showing import MASK

_STEP = re.compile(r"([a-z][a-z0-9_]*)((?:\[\d+\])*)")


def edited(codec: Codec, letter: Letter, key: str | None, settings: Sequence[str], document: Any = None) -> bytes:
    """The letter's bytes with these changes. A FarandoleError says what does not fit.

    key:      name of the field that is the key of the letter's topic
    settings: `field=value`, a value of JSON or plain text; `lines[0].quantity=2` for what is further in
    document: as `show --json` prints it: `type`, `meta`, `fields`; what is masked there stays as it is
    """
    before = _read(codec, letter)
    kind, meta, fields = _begin(codec, letter, before, document or {})
    for setting in settings:
        _set(fields, setting)
    event = _convert(kind, fields)
    if letter.saga and meta.saga != letter.saga:
        raise CodecError(f"the letter is {letter.saga}'s, and would be {meta.saga}'s", mend="an edit keeps the saga")
    if before is not None and meta != before[0]:
        raise CodecError("the metadata of a letter that can be read stays as it is", mend="leave `meta` out")
    own = meta.saga if key in (None, "saga") else getattr(event, str(key))
    if own.encode() != letter.key:
        raise CodecError(
            f"the record's key would have to be {own!r}, it is {_text(letter.key)}",
            mend="discard the letter, and send the message anew",
        )
    value = kind.encode(event, encode_meta(meta))
    codec.decode(value)
    return value


def read_document(path: Path) -> Any:
    """ConfigError if it is no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"it cannot be read as JSON: {error}", where=str(path)) from None
    if not isinstance(found, dict):
        raise ConfigError(
            "a JSON object is wanted", where=str(path), mend='{"fields": {…}}, as `show --json` prints it'
        )
    return found.get("bytes", found)


def _read(codec: Codec, letter: Letter) -> tuple[Meta, Any] | None:
    try:
        return codec.decode(letter.value)
    except CodecError:
        return None


def _begin(
    codec: Codec, letter: Letter, before: tuple[Meta, Any] | None, document: Mapping[str, Any]
) -> tuple[EventType, Meta, dict[str, Any]]:
    """Type, metadata and fields to begin with: the document's, else the letter's own."""
    kind = _kind(codec, letter, before, document)
    meta = _meta(codec, letter, document)
    old = msgspec.to_builtins(before[1]) if before else {}
    old.pop("saga", None)
    fields = document.get("fields")
    if fields is None and before is None:
        raise CodecError("its fields cannot be read", mend="give all of them: --from-json FILE")
    if fields is not None and not isinstance(fields, dict):
        raise CodecError("`fields` is a JSON object", where="--from-json")
    return kind, meta, old if fields is None else _unmasked(fields, old)


def _kind(codec: Codec, letter: Letter, before: tuple[Meta, Any] | None, document: Mapping[str, Any]) -> EventType:
    name = document.get("type")
    try:
        kind = codec.type_named(name) if name else codec.decoder_for(letter.value).type
    except CodecError:
        of_topic = sorted(each.name for each in codec if each.topic == letter.source.topic)
        mend = f'"type": one of {", ".join(of_topic)} in the file of --from-json'
        raise CodecError("it is not known what kind of record it is to be", mend=mend) from None
    if kind.topic != letter.source.topic:
        raise CodecError(f"{kind.name} is no record of {letter.source.topic}", where="type")
    if before is not None and type(before[1]) is not kind.cls:
        raise CodecError("a letter that can be read stays of its type", where="type")
    return kind


def _meta(codec: Codec, letter: Letter, document: Mapping[str, Any]) -> Meta:
    said = document.get("meta")
    if said is None:
        try:
            return codec.meta_of(letter.value or b"")
        except CodecError:
            mend = '"meta": {"id": …, "saga": …, "flow": …, "cause": …} in the file of --from-json'
            raise CodecError("its metadata cannot be read", mend=mend) from None
    if (
        not isinstance(said, dict)
        or set(said) != set(Meta._fields)
        or not all(isinstance(v, str) for v in said.values())
    ):
        raise CodecError("metadata is the four texts id, saga, flow and cause", where="meta")
    return Meta(**said)


def _unmasked(new: Any, old: Any) -> Any:
    """The new fields; what is masked, and was there, is what it was."""
    if isinstance(new, dict):
        of = old if isinstance(old, dict) else {}
        return {name: _unmasked(each, of.get(name)) for name, each in new.items()}
    if isinstance(new, list):
        each_of = old if isinstance(old, list | tuple) else []
        return [_unmasked(each, each_of[n] if n < len(each_of) else None) for n, each in enumerate(new)]
    if new == MASK:
        if old is None:
            raise CodecError(
                "a masked value stands where nothing can be read", mend=f"write the value in place of {MASK}"
            )
        return old
    return new


def _set(fields: dict[str, Any], setting: str) -> None:
    path, equals, text = setting.partition("=")
    steps = [match for part in path.split(".") if (match := _STEP.fullmatch(part))]
    if not equals or len(steps) != len(path.split(".")):
        raise ConfigError(
            f"{setting.partition('=')[0]!r} is no field=value", where="--set", mend="quantity=2, lines[0].sku=a"
        )
    names: list[str | int] = []
    for step in steps:
        names += [step[1], *(int(n) for n in re.findall(r"\d+", step[2]))]
    at: Any = fields
    try:
        for name in names[:-1]:
            at = at[name]
        now = at[names[-1]]
    except (KeyError, IndexError, TypeError):
        raise ConfigError(f"there is no field {path}", where="--set", mend="`show` lists the fields") from None
    at[names[-1]] = text if isinstance(now, str) else _json(text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _convert(kind: EventType, fields: dict[str, Any]) -> Any:
    try:
        event = msgspec.convert(fields, kind.cls)
    except msgspec.ValidationError as error:
        raise CodecError(str(error), where=kind.name, mend="see schemas/") from None
    unknown = sorted(_unknown(fields, msgspec.to_builtins(event), ""))
    if unknown:
        raise CodecError(f"there is no field {unknown[0]}", where=kind.name, mend="see schemas/")
    return event


def _unknown(said: Any, known: Any, at: str) -> list[str]:
    if isinstance(said, dict) and isinstance(known, dict):
        inner = [
            name
            for each, value in said.items()
            if each in known
            for name in _unknown(value, known[each], f"{at}{each}.")
        ]
        return [f"{at}{each}" for each in said if each not in known or (not at and each == "saga")] + inner
    if isinstance(said, list) and isinstance(known, list | tuple):
        return [name for n, each in enumerate(said) for name in _unknown(each, known[n], f"{at[:-1]}[{n}].")]
    return []


def _text(key: bytes | None) -> str:
    return "none" if key is None else repr(key.decode(errors="replace"))
