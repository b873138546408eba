"""What a schema is made of: the types that a generated class and a generated codec know, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

ENGINE_NAMESPACE: Final = "farandole"
PRIMITIVES: Final = ("string", "bytes", "int", "long", "boolean", "double")
META_FIELDS: Final = ("id", "saga", "flow", "cause")


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


def is_row_namespace(namespace: str) -> bool:
    """Rows of tables and the engine's own records carry no `meta`."""
    return namespace == ENGINE_NAMESPACE or namespace.endswith(".tables")


def named_types(type: Type) -> Iterator[Record | Enum]:
    """The records and enums in a type, itself included, innermost first. `meta` is left out: it is no class."""
    match type:
        case Array(items=inner) | Nullable(inner=inner):
            yield from named_types(inner)
        case Record():
            for field in type.fields:
                if not is_meta(field):
                    yield from named_types(field.type)
            yield type
        case Enum():
            yield type


def is_meta(field: Field) -> bool:
    """The envelope, whatever docs it has."""
    type = field.type
    if not isinstance(type, Record) or type.fullname != f"{ENGINE_NAMESPACE}.meta" or field.name != "meta":
        return False
    strings = tuple((each.name, each.type) for each in type.fields)
    return strings == tuple((name, Primitive("string")) for name in META_FIELDS) and field.default is REQUIRED
