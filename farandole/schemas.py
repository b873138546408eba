"""The schemas of the project: every version of every record, read from schemas/ and checked.

Invariant: what `Schemas.load` returns is what the rest of the project can rely on without looking again. Every file
parses alone with the `avro` package and uses only the types that a generated class and a generated codec know; every
version has one id, for ever; a name means the same type wherever it is used. What is wrong with a file is a
SchemaError that names the file, the field, and what to write instead.

    schemas/order.placed.1.avsc    <full name>.<version>.avsc, self-contained: nested types are spelt out in each file
    schemas/ids.json               {"1": "order.placed.1.avsc"}: schema id to file, append-only

Recursive types are refused: a record of unknown depth would let forty bytes exhaust the stack of whoever reads them.
Logical types and aliases are refused too: the first would give the same bytes another Python type in another reader,
the second would let two names mean one record.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException

from farandole.errors import SchemaError

IDS_FILE: Final = "ids.json"
ENGINE_NAMESPACE: Final = "farandole"
PRIMITIVES: Final = ("string", "bytes", "int", "long", "boolean", "double")
META_FIELDS: Final = ("id", "saga", "flow", "cause")

_FILE_NAME = re.compile(r"(?P<name>[A-Za-z_][\w.]*)\.(?P<version>[1-9]\d*)\.avsc", re.ASCII)
_INT, _LONG = 1 << 31, 1 << 63
_RECORD_KEYS = {"type", "name", "namespace", "doc", "fields"}
_ENUM_KEYS = {"type", "name", "namespace", "doc", "symbols", "default"}
_TAKEN = {"self", "str", "bytes", "int", "float", "bool", "tuple"}  # a field of that name would hide the type itself
_FIELD_KEYS = {"name", "type", "doc", "default", "sensitive"}


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final[Any] = _Required()
"""In the place of a default: the field has none."""


@dataclass(frozen=True, slots=True)
class Primitive:
    name: str


@dataclass(frozen=True, slots=True)
class Enum:
    namespace: str
    name: str
    symbols: tuple[str, ...]
    default: str | None

    @property
    def fullname(self) -> str:
        return f"{self.namespace}.{self.name}"


@dataclass(frozen=True, slots=True)
class Array:
    items: Type


@dataclass(frozen=True, slots=True)
class Nullable:
    """The union ["null", X]."""

    inner: Type


@dataclass(frozen=True, slots=True)
class Field:
    """name, type and doc as in the file; default: the Python value, or REQUIRED; sensitive: no repr shows the value."""

    name: str
    type: Type
    doc: str
    default: Any
    sensitive: bool


@dataclass(frozen=True, slots=True)
class Record:
    namespace: str
    name: str
    doc: str
    fields: tuple[Field, ...]

    @property
    def fullname(self) -> str:
        return f"{self.namespace}.{self.name}"


Type = Primitive | Enum | Array | Nullable | Record


@dataclass(frozen=True)
class Version:
    """One .avsc file.

    fullname: "order.placed"; version: 1, 2, ...; id: the schema id of ids.json; file: its name within schemas/
    record:   the parsed record; for an event its first field is `meta`
    text:     the schema as one line of JSON, as a registry gets it
    parsed:   what the `avro` package makes of the file
    """

    fullname: str
    version: int
    id: int
    file: str
    record: Record
    text: str
    parsed: Any

    @property
    def is_row(self) -> bool:
        return is_row_namespace(self.record.namespace)

    @property
    def topic(self) -> str:
        """The topic of an event. A table's rows have none of their own: a changelog is named after its table."""
        return "" if self.is_row else self.record.namespace

    @property
    def body(self) -> tuple[Field, ...]:
        """The fields that the generated class has: all but `meta`."""
        return self.record.fields if self.is_row else self.record.fields[1:]


def is_row_namespace(namespace: str) -> bool:
    """Rows of tables and the engine's own records carry no `meta`."""
    return namespace == ENGINE_NAMESPACE or namespace.endswith(".tables")


class Schemas:
    """All versions of all records.

    versions: by full name, oldest first; ids: by schema id
    """

    def __init__(self, directory: Path, versions: Sequence[Version]) -> None:
        self.directory = directory
        self.versions: dict[str, list[Version]] = {}
        for version in sorted(versions, key=lambda each: (each.fullname, each.version)):
            self.versions.setdefault(version.fullname, []).append(version)
        self.ids = {version.id: version for version in versions}

    @classmethod
    def load(cls, directory: Path | str, ids: Mapping[int, str] | None = None) -> Schemas:
        """Read every .avsc file and ids.json. SchemaError says what is wrong with which file.

        ids: what ids.json is going to say, if it does not say it yet
        """
        directory = Path(directory)
        files = schema_files(directory)
        by_file = _ids_by_file(directory, files, read_ids(directory) if ids is None else ids)
        schemas = cls(directory, [_read_version(directory / file, by_file[file]) for file in files])
        schemas._check_names()
        return schemas

    def __iter__(self) -> Iterator[Version]:
        return (version for versions in self.versions.values() for version in versions)

    @cached_property
    def latest(self) -> dict[str, Version]:
        return {fullname: versions[-1] for fullname, versions in self.versions.items()}

    def check_compatibility(self) -> None:
        """FULL_TRANSITIVE: every version can be read as every other one. SchemaError names the first breach."""
        for versions in self.versions.values():
            for newer, older in ((n, o) for i, n in enumerate(versions) for o in versions[:i]):
                _check_readable(reader=newer, writer=older, changed=newer)
                _check_readable(reader=older, writer=newer, changed=newer)

    def _check_names(self) -> None:
        """A type's full name means one definition in all latest versions, so that it can be one Python class."""
        seen: dict[str, tuple[Record | Enum, Version]] = {}
        for version in self.latest.values():
            for named in named_types(version.record):
                known, where = seen.setdefault(named.fullname, (named, version))
                if known != named:
                    raise SchemaError(
                        f"{named.fullname} is defined differently in {where.file} and in {version.file}",
                        where=f"schemas/{version.file}",
                        mend="one name is one type: copy the definition, docs included, or rename one of them",
                    )


def schema_files(directory: Path) -> list[str]:
    """Names of the .avsc files, sorted. SchemaError if there is no such directory, or a file has no proper name."""
    if not directory.is_dir():
        raise SchemaError("there is no directory of schemas", where=str(directory))
    files = sorted(path.name for path in directory.iterdir() if path.suffix == ".avsc")
    for file in files:
        if not _FILE_NAME.fullmatch(file):
            raise SchemaError(
                f"{file} is no name of a schema file",
                where=str(directory / file),
                mend="call it <full name>.<version>.avsc, such as order.placed.1.avsc",
            )
    return files


def read_ids(directory: Path) -> dict[int, str]:
    """ids.json: schema id to file. An absent file is an empty one."""
    path = directory / IDS_FILE
    if not path.exists():
        return {}
    raw = _read_json(path)
    if not isinstance(raw, dict) or not all(isinstance(file, str) for file in raw.values()):
        raise SchemaError("it maps schema ids to file names", where=str(path), mend='{"1": "order.placed.1.avsc"}')
    ids: dict[int, str] = {}
    for key, file in raw.items():
        if not re.fullmatch(r"[1-9]\d{0,9}", key) or int(key) >= _INT:
            raise SchemaError(f"{key!r} is no schema id", where=str(path), mend="ids are whole numbers from 1")
        if file in ids.values():
            raise SchemaError(f"{file} has two ids", where=str(path), mend="keep the one that has been used")
        ids[int(key)] = file
    return ids


def named_types(type: Type) -> Iterator[Record | Enum]:
    """The records and enums in a type, itself included, innermost first. `meta` is left out: it is no class."""
    match type:
        case Array(items=inner) | Nullable(inner=inner):
            yield from named_types(inner)
        case Record():
            for field in type.fields:
                if not _is_meta(field):
                    yield from named_types(field.type)
            yield type
        case Enum():
            yield type


def _ids_by_file(directory: Path, files: Sequence[str], ids: Mapping[int, str]) -> dict[str, int]:
    by_file = {file: id for id, file in ids.items()}
    where = str(directory / IDS_FILE)
    for file in files:
        if file not in by_file:
            raise SchemaError(f"{file} has no schema id", where=where, mend="farandole events generate")
    for file, id in by_file.items():
        if file not in files:
            raise SchemaError(
                f"id {id} belongs to {file}, which is not there",
                where=where,
                mend="every version is kept for ever, because topics hold it: bring the file back",
            )
    return by_file


def _read_version(path: Path, id: int) -> Version:
    name = _FILE_NAME.fullmatch(path.name)
    assert name is not None, path
    raw = _read_json(path)
    reader = _Reader(path)
    record = reader.record(raw, namespace="", at="")
    if record.fullname != name["name"]:
        raise SchemaError(
            f"the file is named after {name['name']}, the record in it is {record.fullname}",
            where=str(path),
            mend=f"rename the file to {record.fullname}.{name['version']}.avsc, or mend name and namespace",
        )
    reader.check_meta(record)
    text = json.dumps(raw, separators=(",", ":"))
    try:
        parsed = avro.schema.parse(text)
    except (AvroException, ValueError) as error:
        raise SchemaError(f"it is no Avro schema: {error}", where=str(path)) from error
    return Version(record.fullname, int(name["version"]), id, path.name, record, text, parsed)


def _read_json(path: Path) -> Any:
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


class _Reader:
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
            if any(_is_meta(field) for field in record.fields):
                raise self.fail("a table's row and the engine's records have no meta", "field meta", "remove it")
        elif not record.fields or not _is_meta(record.fields[0]):
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


def _is_meta(field: Field) -> bool:
    """The envelope, whatever docs it has."""
    type = field.type
    if not isinstance(type, Record) or type.fullname != f"{ENGINE_NAMESPACE}.meta" or field.name != "meta":
        return False
    strings = tuple((each.name, each.type) for each in type.fields)
    return strings == tuple((name, Primitive("string")) for name in META_FIELDS) and field.default is REQUIRED


def _check_readable(*, reader: Version, writer: Version, changed: Version) -> None:
    """What `writer` wrote, `reader` can read. Stricter than Avro in one point: text and bytes are not each other."""
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(reader.parsed, writer.parsed)
    problem = _type_change(reader.record, writer.record, "")
    if result.compatibility is SchemaCompatibilityType.compatible and not problem:
        return
    reason = problem or "; ".join(sorted(result.messages)) + " at " + ", ".join(sorted(result.locations))
    raise SchemaError(
        f"with {reader.file} one cannot read what was written with {writer.file}: {reason}",
        where=str(changed.file),
        mend="a field may come or go only if it has a default, and keeps its type; anything else is a new event",
    )


def _type_change(reader: Type, writer: Type, at: str) -> str:
    """The first difference that cannot be bridged, in the words of whoever writes schemas; empty if there is none."""
    match reader, writer:
        case Record(), Record() if reader.fullname == writer.fullname:
            old = {field.name: field for field in writer.fields}
            for field in reader.fields:
                place = f"{at}.{field.name}" if at else f"field {field.name}"
                if field.name not in old:
                    if field.default is REQUIRED:
                        return f"{place} is only in the reader and has no default"
                elif problem := _type_change(field.type, old[field.name].type, place):
                    return problem
            return ""
        case Array(), Array():
            return _type_change(reader.items, writer.items, at + "[]")
        case Nullable(), Nullable():
            return _type_change(reader.inner, writer.inner, at)
        case Enum(), Enum() if reader.fullname == writer.fullname:
            lost = [symbol for symbol in writer.symbols if symbol not in reader.symbols]
            return f"{at}: the reader has no symbol {lost[0]}, and no default" if lost and not reader.default else ""
        case Primitive(), Primitive() if reader == writer or (reader.name, writer.name) == ("long", "int"):
            return ""
    return f"{at} changes its type"
