"""A project of schemas made up by a test: its directory, its generated events module, its codec."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from farandole import generate
from farandole.codec import Codec
from farandole.schemas import Schemas

META = {
    "name": "meta",
    "type": {
        "type": "record",
        "name": "meta",
        "namespace": "farandole",
        "fields": [{"name": name, "type": "string"} for name in ("id", "saga", "flow", "cause")],
    },
}


def field(name: str, type: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": type, "doc": f"the {name}, in units", **more}


def row(fullname: str, *fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    namespace, _, name = fullname.rpartition(".")
    doc = f"A {name}."
    return {"type": "record", "name": name, "namespace": namespace, "doc": doc, "fields": list(fields), **more}


def event(fullname: str, *fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return row(fullname, META, *fields, **more)


def nested(name: str, *fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "doc": f"A {name}.", "fields": list(fields), **more}


def enum(name: str, *symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": name, "symbols": list(symbols), **more}


def put(directory: Path, *schemas: dict[str, Any], version: int = 1) -> None:
    """Write schema files and nothing else."""
    for schema in schemas:
        file = directory / f"{schema['namespace']}.{schema['name']}.{version}.avsc"
        file.write_text(json.dumps(schema, indent=2))


def number(directory: Path) -> None:
    """Give each schema file an id."""
    files = sorted(path.name for path in directory.glob("*.avsc"))
    (directory / "ids.json").write_text(json.dumps({str(id): file for id, file in enumerate(files, 1)}))


def load(directory: Path, *schemas: dict[str, Any]) -> Schemas:
    put(directory, *schemas)
    number(directory)
    return Schemas.load(directory)


def events_module(schemas: Schemas) -> types.ModuleType:
    """What `import events` would give."""
    module = types.ModuleType("events")
    exec(generate.generate(schemas), module.__dict__)
    return module


def codec(directory: Path, *schemas: dict[str, Any] | Iterable[dict[str, Any]]) -> tuple[Codec, Any]:
    """Codec and events of these schemas; an argument that is a list holds versions 1, 2, ... of one record."""
    for each in schemas:
        for version, schema in enumerate([each] if isinstance(each, dict) else each, 1):
            put(directory, schema, version=version)
    number(directory)
    events = events_module(Schemas.load(directory))
    return Codec.load(directory, events), events
