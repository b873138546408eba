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
from farandole.schemareader import Reader, read_json
from farandole.schematypes import (
    REQUIRED,
    Array,
    Enum,
    Field,
    Nullable,
    Primitive,
    Record,
    Type,
    is_row_namespace,
    named_types,
)

IDS_FILE: Final = "ids.json"

_MOST_IDS = 1 << 31
_FILE_NAME = re.compile(r"(?P<name>[A-Za-z_][\w.]*)\.(?P<version>[1-9]\d*)\.avsc", re.ASCII)


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


def growing(directory: Path) -> Schemas:
    """Those versions in a directory that have an id: a file without one is being added at this moment."""
    return Schemas(directory, [_read_version(directory / file, id) for id, file in read_ids(directory).items()])


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
    raw = read_json(path)
    if not isinstance(raw, dict) or not all(isinstance(file, str) for file in raw.values()):
        raise SchemaError("it maps schema ids to file names", where=str(path), mend='{"1": "order.placed.1.avsc"}')
    ids: dict[int, str] = {}
    for key, file in raw.items():
        if not re.fullmatch(r"[1-9]\d{0,9}", key) or int(key) >= _MOST_IDS:
            raise SchemaError(f"{key!r} is no schema id", where=str(path), mend="ids are whole numbers from 1")
        if file in ids.values():
            raise SchemaError(f"{file} has two ids", where=str(path), mend="keep the one that has been used")
        ids[int(key)] = file
    return ids


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
    raw = read_json(path)
    reader = Reader(path)
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
