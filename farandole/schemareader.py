"""One schema file: what is in it, checked.

Invariant: what a Reader returns uses only the types of farandole.schematypes, with defaults that fit them. What is
wrong is a SchemaError that names the file, the field, and what to write instead.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farandole.errors import SchemaError
from farandole.schematypes import (
    ENGINE_NAMESPACE,
    META_FIELDS,
    PRIMITIVES,
    REQUIRED,
    Array,
    Enum,
    Field,
    Nullable,
    Primitive,
    Record,
    Type,
    is_meta,
    is_row_namespace,
)

_INT, _LONG = 1 << 31, 1 << 63
_RECORD_KEYS = {"type", "name", "namespace", "doc", "fields"}
_ENUM_KEYS = {"type", "name", "namespace", "doc", "symbols", "default"}
_TAKEN = {"self", "str", "bytes", "int", "float", "bool", "tuple"}  # a field of that name would hide the type itself
_FIELD_KEYS = {"name", "type", "doc", "default", "sensitive"}


def read_json(path: Path) -> Any:
    def no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key in {key for key, _ in pairs}:
            if sum(key == other for other, _ in pairs) > 1:
                raise SchemaError(f"the key {key!r} stands there twice", where=str(path))
        return dict(pairs)

    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=no_duplicates)
    except json.JSONDecodeError as error:
        raise SchemaError(f"it is no JSON: {error.msg}", where=f"{path}, line {error.lineno}") from error
    except UnicodeDecodeError as error:
        raise SchemaError("it is no UTF-8", where=str(path)) from error


class Reader:
    """Turns the JSON of one file into the model above; everything unexpected is an error at its place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, Record | Enum] = {}
        self.open: list[str] = []

    def fail(self, what: str, at: str, mend: str = "") -> SchemaError:
        return SchemaError(what, where=f"{self.path}, {at}" if at else str(self.path), mend=mend)

    def check_meta(self, record: Record) -> None:
        """The engine copies `saga` and `flow` as one stretch of bytes, so the four fields and their order are fixed."""
        if is_row_namespace(record.namespace):
            if any(is_meta(field) for field in record.fields):
                raise self.fail("a table's row and the engine's records have no meta", "field meta", "remove it")
        elif not record.fields or not is_meta(record.fields[0]):
            strings = [{"name": name, "type": "string"} for name in META_FIELDS]
            envelope = {"type": "record", "name": "meta", "namespace": ENGINE_NAMESPACE, "fields": strings}
            mend = json.dumps({"name": "meta", "type": envelope})
            raise self.fail("the first field of every event is meta", "field meta", mend)
        elif any(field.name == "saga" for field in record.fields):
            raise self.fail("every event has its saga already, in meta", "field saga", "remove the field, or rename it")

    def type(self, raw: Any, namespace: str, at: str) -> Type:
        if isinstance(raw, list):
            return self._union(raw, namespace, at)
        if isinstance(raw, str):
            return self._named(raw, namespace, at)
        if not isinstance(raw, dict):
            raise self.fail(f"{raw!r} is no type", at)
        kind = raw.get("type")
        if kind == "record":
            return self.record(raw, namespace, at)
        if kind == "enum":
            return self._enum(raw, namespace, at)
        if kind == "array":
            self._check_keys(raw, {"type", "items"}, at)
            return Array(self.type(raw.get("items"), namespace, at + "[]"))
        if isinstance(kind, str) and kind in PRIMITIVES:
            self._check_keys(raw, {"type"}, at)
            return Primitive(kind)
        known = ", ".join(PRIMITIVES)
        raise self.fail(f"{kind!r} is no type that is supported", at, f"use {known}, enum, array or record")

    def record(self, raw: Any, namespace: str, at: str) -> Record:
        if not isinstance(raw, dict) or raw.get("type") != "record":
            raise self.fail("a schema file holds one record", at, '{"type": "record", "namespace": ..., "name": ...}')
        self._check_keys(raw, _RECORD_KEYS, at)
        namespace, name = self._fullname(raw, namespace, at)
        fullname = f"{namespace}.{name}"
        is_meta = fullname == f"{ENGINE_NAMESPACE}.meta"
        self.open.append(fullname)
        fields = raw.get("fields")
        if not isinstance(fields, list) or not fields:
            raise self.fail(f"{fullname} has no fields", at, "a record has at least one field")
        record = Record(
            namespace=namespace,
            name=name,
            doc="" if is_meta else self._doc(raw, at or f"record {fullname}"),
            fields=tuple(self._field(each, namespace, at, documented=not is_meta) for each in fields),
        )
        self.open.pop()
        for field in record.fields:
            if sum(field.name == other.name for other in record.fields) > 1:
                raise self.fail(f"the field {field.name} stands there twice", at or f"record {fullname}")
        self.known[fullname] = record
        return record

    def _field(self, raw: Any, namespace: str, at: str, documented: bool) -> Field:
        name = raw.get("name") if isinstance(raw, dict) else None
        if not isinstance(name, str):
            raise self.fail(f"a field needs a name: {raw!r}", at or "its fields")
        at = f"{at}.{name}" if at else f"field {name}"
        self._check_keys(raw, _FIELD_KEYS, at)
        self._check_name(name, at)
        type = self.type(raw.get("type"), namespace, at)
        sensitive = raw.get("sensitive", False)
        if not isinstance(sensitive, bool):
            raise self.fail("`sensitive` is true or false", at)
        is_meta = isinstance(type, Record) and type.fullname == f"{ENGINE_NAMESPACE}.meta"
        return Field(
            name=name,
            type=type,
            doc=self._doc(raw, at) if documented and not is_meta else "",
            default=self._default(raw["default"], type, at) if "default" in raw else REQUIRED,
            sensitive=sensitive,
        )

    def _enum(self, raw: dict[str, Any], namespace: str, at: str) -> Enum:
        self._check_keys(raw, _ENUM_KEYS, at)
        namespace, name = self._fullname(raw, namespace, at)
        symbols, default = raw.get("symbols"), raw.get("default")
        if not isinstance(symbols, list) or not symbols or not all(isinstance(symbol, str) for symbol in symbols):
            raise self.fail("an enum has a list of symbols", at, '"symbols": ["accepted", "refused"]')
        for symbol in symbols:
            if not re.fullmatch(r"[A-Za-z_]\w*", symbol, re.ASCII) or symbols.count(symbol) > 1:
                raise self.fail(f"the symbol {symbol!r} is no name, or stands there twice", at, "letters, digits and _")
        if default is not None and default not in symbols:
            raise self.fail(f"the enum's default {default!r} is none of its symbols", at)
        enum = Enum(namespace, name, tuple(symbols), default)
        self.known[enum.fullname] = enum
        return enum

    def _union(self, raw: list[Any], namespace: str, at: str) -> Nullable:
        if len(raw) != 2 or raw[0] != "null" or raw[1] == "null" or isinstance(raw[1], list):
            raise self.fail("the only union that is supported is an optional value", at, '["null", X], null first')
        return Nullable(self.type(raw[1], namespace, at))

    def _named(self, raw: str, namespace: str, at: str) -> Type:
        if raw in PRIMITIVES:
            return Primitive(raw)
        fullname = raw if "." in raw else f"{namespace}.{raw}"
        if fullname in self.open:
            raise self.fail(f"{fullname} contains itself", at, "flatten it, or keep an array of parts with an id")
        if fullname not in self.known:
            known = ", ".join([*PRIMITIVES, *self.known])
            raise self.fail(f"{raw!r} is no type that is known here", at, f"known so far: {known}")
        return self.known[fullname]

    def _fullname(self, raw: dict[str, Any], namespace: str, at: str) -> tuple[str, str]:
        name, namespace = raw.get("name"), raw.get("namespace", namespace)
        if not isinstance(name, str) or "." in name:
            raise self.fail("a record or enum has a name without dots", at, "put the dotted part into `namespace`")
        if not isinstance(namespace, str) or not namespace:
            raise self.fail(f"{name} has no namespace", at, "the namespace of an event is its topic")
        for part in (name, *namespace.split(".")):
            self._check_name(part, at)
        fullname = f"{namespace}.{name}"
        if fullname in self.open:
            raise self.fail(f"{fullname} contains itself", at, "give the inner type another name")
        if fullname in self.known:
            raise self.fail(f"{fullname} is defined twice in this file", at, f'use it by name: "{fullname}"')
        return namespace, name

    def _check_name(self, name: str, at: str) -> None:
        """Snake case, because every name becomes a Python name, a class name or a topic."""
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name, re.ASCII) or keyword.iskeyword(name) or name in _TAKEN:
            raise self.fail(f"{name!r} cannot be a name here", at, "lower case, digits and _, and no word of Python's")

    def _check_keys(self, raw: Mapping[str, Any], allowed: set[str], at: str) -> None:
        unknown = sorted(set(raw) - allowed)
        if unknown:
            mend = f"known: {', '.join(sorted(allowed))}"
            raise self.fail(f"{unknown[0]!r} is no attribute that is known here", at, mend)

    def _doc(self, raw: Mapping[str, Any], at: str) -> str:
        doc = raw.get("doc")
        if not isinstance(doc, str) or not doc.strip():
            raise self.fail("the doc is missing", at, 'say what it is and in which unit: "doc": "amount, in cents"')
        return doc.strip()

    def _default(self, raw: Any, type: Type, at: str) -> Any:
        match type:
            case Nullable() if raw is None:
                return None
            case Array() if raw == []:
                return ()
            case Enum(symbols=symbols) if isinstance(raw, str) and raw in symbols:
                return raw
            case Primitive(name="boolean") if isinstance(raw, bool):
                return raw
            case Primitive(name="string") if isinstance(raw, str):
                return raw
            case Primitive(name="bytes") if isinstance(raw, str) and all(ord(char) < 256 for char in raw):
                return raw.encode("latin-1")
            case Primitive(name="double") if isinstance(raw, int | float) and not isinstance(raw, bool):
                return float(raw)
            case Primitive(name="int" | "long" as name) if isinstance(raw, int) and not isinstance(raw, bool):
                limit = _INT if name == "int" else _LONG
                if -limit <= raw < limit:
                    return raw
        raise self.fail(f"{raw!r} cannot be the default here", at, "null for an optional value, [] for an array")
