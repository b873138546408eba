"""events.py, generated from schemas/: a misspelt field is an error of the type checker, not of a night.

Invariant: events.py says exactly what the latest version of every schema says, and nothing else; `check` holds it to
that. So nobody edits it, and whoever reads it reads the docs of the schemas.

`order.placed` becomes `OrderPlaced`; a record in a dotted namespace keeps only its own name
(`order.commands.place_order` becomes `PlaceOrder`), because the namespace is then a topic's and not part of what
people call it. Nested records and enums follow the same rule; an enum is an alias of a `Literal`.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from farandole.errors import SchemaError
from farandole.schemas import IDS_FILE, Schemas, Version, read_ids, schema_files
from farandole.schematypes import REQUIRED, Array, Enum, Field, Nullable, Primitive, Record, Type, named_types

_PYTHON = {"string": "str", "bytes": "bytes", "int": "int", "long": "int", "boolean": "bool", "double": "float"}
_WIDTH = 116

_HEADER = '''"""Every event, and every row of a table, as a typed Python class.

Generated from schemas/ by `farandole events generate`. Edit the schemas, not this file.
"""

# fmt: off
# ruff: noqa

from __future__ import annotations

from typing import Literal

from farandole.event import Event, Row
'''


def class_name(namespace: str, name: str) -> str:
    """`order` + `placed` → OrderPlaced; a dotted namespace is left out."""
    words = name if "." in namespace else f"{namespace}_{name}"
    return "".join(word[:1].upper() + word[1:] for word in words.split("_"))


def annotation(type: Type) -> str:
    """The Python type of an Avro type."""
    match type:
        case Primitive(name=name):
            return _PYTHON[name]
        case Array(items=items):
            return f"tuple[{annotation(items)}, ...]"
        case Nullable(inner=inner):
            return f"{annotation(inner)} | None"
        case Record() | Enum():
            return class_name(type.namespace, type.name)


def python_order(fields: Iterable[Field]) -> list[Field]:
    """The order of a class's fields: those without a default first."""
    return sorted(fields, key=lambda field: field.default is not REQUIRED)


def generate(schemas: Schemas) -> str:
    """The text of events.py."""
    _check_class_names(schemas)
    latest = schemas.latest.values()
    nested = {named.fullname: named for version in latest for named in named_types(version.record)}
    roots = {version.fullname for version in latest}
    enums = [_enum(each) for each in nested.values() if isinstance(each, Enum)]
    parts = [_class(e, e.fields, "Row") for e in nested.values() if isinstance(e, Record) and e.fullname not in roots]
    classes = [_class(version.record, version.body, "Row" if version.is_row else "Event") for version in latest]
    return _HEADER + "".join(f"\n{enum}" for enum in enums) + "".join(f"\n\n{each}" for each in [*parts, *classes])


def write(directory: Path, target: Path) -> list[str]:
    """Give new schema files an id, and write events.py; nothing is written if any schema is refused.

    Returns what changed, a line each.
    """
    ids = read_ids(directory)
    numbered = len(ids)
    for file in schema_files(directory):
        if file not in ids.values():
            ids[max(ids, default=0) + 1] = file
    schemas = Schemas.load(directory, ids)
    schemas.check_compatibility()
    text = generate(schemas)
    changes = [f"{IDS_FILE}: {id} is {file}" for id, file in list(ids.items())[numbered:]]
    if changes:
        lines = ",\n".join(f'  "{id}": {json.dumps(file)}' for id, file in ids.items())
        (directory / IDS_FILE).write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    if not target.exists() or target.read_text(encoding="utf-8") != text:
        target.write_text(text, encoding="utf-8")
        changes.append(f"{target.name}: {len(schemas.latest)} classes")
    return changes


def check(directory: Path, target: Path) -> None:
    """SchemaError unless events.py and ids.json are what `write` would leave."""
    schemas = Schemas.load(directory)
    schemas.check_compatibility()
    if not target.exists() or target.read_text(encoding="utf-8") != generate(schemas):
        mend = "farandole events generate"
        raise SchemaError(f"{target.name} is not what schemas/ say", where=str(target), mend=mend)


def _check_class_names(schemas: Schemas) -> None:
    taken: dict[str, tuple[str, Version]] = {name: ("", next(iter(schemas))) for name in ("Event", "Row", "Literal")}
    for version in schemas.latest.values():
        for named in named_types(version.record):
            name = class_name(named.namespace, named.name)
            other, where = taken.setdefault(name, (named.fullname, version))
            if other != named.fullname:
                raise SchemaError(
                    f"{named.fullname} and {other or 'a class of the engine'} would both be the class {name}",
                    where=f"{schemas.directory / version.file} and {where.file}" if other else version.file,
                    mend="give one of them another name; a nested type may have a namespace of its own",
                )


def _enum(enum: Enum) -> str:
    symbols = ", ".join(f'"{symbol}"' for symbol in enum.symbols)
    line = f"{class_name(enum.namespace, enum.name)} = Literal[{symbols}]"
    return f"{line}\n" if len(line) <= _WIDTH else line.replace("Literal[", "Literal[\n    ")[:-1] + ",\n]\n"


def _class(record: Record, fields: Iterable[Field], base: str) -> str:
    fields = list(fields)
    lines = [f"class {class_name(record.namespace, record.name)}({base}, frozen=True, gc=False):"]
    lines += _docstring(record, fields)
    lines += [f"    {field.name}: {annotation(field.type)}{_default(field)}" for field in python_order(fields)]
    if base == "Event":
        lines.append('    saga: str = ""')
    if hidden := [f'"{field.name}"' for field in fields if field.sensitive]:
        lines += ["", f"    __sensitive__ = frozenset({{{', '.join(hidden)}}})"]
    return "\n".join(lines) + "\n"


def _default(field: Field) -> str:
    return "" if field.default is REQUIRED else f" = {field.default!r}"


def _docstring(record: Record, fields: Iterable[Field]) -> Iterator[str]:
    """What the schema says of the record and of each field, so that an editor shows units at hand."""
    yield from _wrapped(f'"""{_safe(record.doc)}', "    ", "    ")
    yield ""
    for field in python_order(fields):
        yield from _wrapped(f"{field.name}: {_safe(field.doc)}", "    ", "        ")
    yield '    """'
    yield ""


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False)


def _safe(doc: str) -> str:
    return doc.replace("\\", "\\\\").replace('"', "'")
