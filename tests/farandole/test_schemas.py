"""schemas/: what is accepted, what is refused, and that a refusal names file and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farandole.errors import SchemaError
from farandole.schemas import Schemas
from farandole.schematypes import Array, Enum, Nullable, Primitive, Record
from tests.farandole import schemaproject as project
from tests.farandole.schemaproject import META, enum, event, field, nested, row

ROOT = Path(__file__).resolve().parents[2]
LINE = nested("line", field("sku", "string"), field("quantity", "int"))


def test_a_schema_is_read_with_its_types_docs_and_defaults(tmp_path: Path) -> None:
    schema = event(
        "order.placed",
        field("customer", "string", sensitive=True),
        field("lines", {"type": "array", "items": LINE}, default=[]),
        field("note", ["null", "string"], default=None),
        field("kind", enum("kind", "web", "shop"), default="shop"),
        field("token", "bytes", default="\u00ff"),
    )
    version = project.load(tmp_path, schema).latest["order.placed"]
    assert (version.topic, version.is_row, version.id, version.file) == ("order", False, 1, "order.placed.1.avsc")
    customer, lines, note, kind, token = version.body
    assert customer.sensitive
    assert customer.doc == "the customer, in units"
    assert isinstance(lines.type, Array)
    assert isinstance(lines.type.items, Record)
    assert lines.type.items.fullname == "order.line"
    assert lines.default == ()
    assert note.type == Nullable(Primitive("string"))
    assert kind.type == Enum("order", "kind", ("web", "shop"), None)
    assert (note.default, kind.default, token.default) == (None, "shop", b"\xff")


def test_rows_and_the_engines_records_have_no_topic(tmp_path: Path) -> None:
    schemas = project.load(
        tmp_path, row("stock.tables.level", field("left", "long")), row("farandole.call", field("a", "int"))
    )
    assert [(version.is_row, version.topic) for version in schemas] == [(True, ""), (True, "")]


PLAIN = field("customer", "string")
REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("no attribute that is known", "field a", event("order.placed", field("a", "string", defualt=""))),
    (
        "no attribute that is known",
        "field a",
        event("order.placed", field("a", {"type": "long", "logicalType": "date"})),
    ),
    ("no attribute that is known", "order.placed.1.avsc", event("order.placed", PLAIN, aliases=["x"])),
    ("no type that is supported", "field a", event("order.placed", field("a", {"type": "map", "values": "long"}))),
    (
        "no type that is supported",
        "field a",
        event("order.placed", field("a", {"type": "fixed", "name": "f", "size": 4})),
    ),
    ("no type that is known", "field a", event("order.placed", field("a", "float"))),
    ("no type that is known", "field a", event("order.placed", field("a", "order.line"))),
    ("no type that is known", "field a", event("order.placed", field("a", "strnig"))),
    ("only union", "field a", event("order.placed", field("a", ["string", "null"]))),
    ("only union", "field a", event("order.placed", field("a", ["null", "string", "long"]))),
    ("contains itself", "field a[]", event("order.placed", field("a", {"type": "array", "items": "order.placed"}))),
    (
        "contains itself",
        "field a.next",
        event("order.placed", field("a", nested("node", field("next", ["null", "node"], default=None)))),
    ),
    ("first field of every event", "field meta", row("order.placed", PLAIN)),
    ("first field of every event", "field meta", row("order.placed", PLAIN, META)),
    ("first field of every event", "field meta", row("order.placed", field("meta", "string"))),
    ("have no meta", "field meta", row("stock.tables.level", META, PLAIN)),
    ("has its saga already", "field saga", event("order.placed", field("saga", "string"))),
    ("stands there twice", "order.placed", event("order.placed", PLAIN, PLAIN)),
    ("doc is missing", "field a", event("order.placed", {"name": "a", "type": "string"})),
    ("doc is missing", "field a", event("order.placed", {"name": "a", "type": "string", "doc": " "})),
    ("doc is missing", "order.placed", {**event("order.placed", PLAIN), "doc": ""}),
    ("doc is missing", "field a.b", event("order.placed", field("a", nested("n", {"name": "b", "type": "int"})))),
    ("cannot be a name", "field class", event("order.placed", field("class", "string"))),
    ("cannot be a name", "field Amount", event("order.placed", field("Amount", "string"))),
    ("cannot be a name", "field str", event("order.placed", field("str", "string"))),
    ("needs a name", "its fields", event("order.placed", {"type": "string"})),
    ("cannot be the default", "field a", event("order.placed", field("a", "long", default="7"))),
    ("cannot be the default", "field a", event("order.placed", field("a", "long", default=True))),
    ("cannot be the default", "field a", event("order.placed", field("a", "int", default=1 << 31))),
    ("cannot be the default", "field a", event("order.placed", field("a", ["null", "string"], default="x"))),
    ("cannot be the default", "field a", event("order.placed", field("a", enum("e", "x"), default="y"))),
    ("none of its symbols", "field a", event("order.placed", field("a", enum("e", "x", default="y")))),
    ("symbol", "field a", event("order.placed", field("a", enum("e", "not-a-name")))),
    ("symbol", "field a", event("order.placed", field("a", enum("e", "x", "x")))),
    ("list of symbols", "field a", event("order.placed", field("a", enum("e")))),
    ("defined twice", "field b", event("order.placed", field("a", LINE), field("b", LINE))),
    ("no fields", "field a", event("order.placed", field("a", nested("empty")))),
    ("true or false", "field a", event("order.placed", field("a", "string", sensitive="yes"))),
    ("is no type", "field a", event("order.placed", field("a", 5))),
    ("holds one record", "order.placed.1.avsc", {**event("order.placed"), "type": "enum", "symbols": ["x"]}),
]


@pytest.mark.parametrize(("what", "where", "schema"), REFUSED)
def test_what_cannot_be_used_is_refused_by_file_and_field(
    tmp_path: Path, what: str, where: str, schema: dict[str, Any]
) -> None:
    with pytest.raises(SchemaError) as caught:
        project.load(tmp_path, schema)
    assert what in caught.value.what
    assert caught.value.where.startswith(str(tmp_path / f"{schema['namespace']}.{schema['name']}.1.avsc"))
    assert caught.value.where.endswith(where)


FILES = [
    ("no JSON", "line 2", {"order.placed.1.avsc": '{\n"type": record}'}),
    ("stands there twice", "", {"order.placed.1.avsc": '{"type": "record", "type": "record"}'}),
    ("no UTF-8", "", {"order.placed.1.avsc": b"\xff"}),
    ("no name of a schema file", "", {"order.placed.avsc": "{}"}),
    ("no name of a schema file", "", {"order.placed.0.avsc": "{}"}),
    ("the file is named after order.placed", "", {"order.placed.1.avsc": json.dumps(event("order.refused", PLAIN))}),
]


@pytest.mark.parametrize(("what", "where", "files"), FILES)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, what: str, where: str, files: dict[str, Any]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    project.number(tmp_path)
    with pytest.raises(SchemaError, match=what) as caught:
        Schemas.load(tmp_path)
    assert next(iter(files)) in caught.value.where
    assert where in caught.value.where


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no directory of schemas"):
        Schemas.load(tmp_path / "nothing")


IDS = [
    ("has no schema id", {}),
    ("which is not there", {"1": "order.placed.1.avsc", "2": "order.lost.1.avsc"}),
    ("is no schema id", {"0": "order.placed.1.avsc"}),
    ("is no schema id", {"one": "order.placed.1.avsc"}),
    ("is no schema id", {"2147483648": "order.placed.1.avsc"}),
    ("has two ids", {"1": "order.placed.1.avsc", "2": "order.placed.1.avsc"}),
    ("maps schema ids", ["order.placed.1.avsc"]),
    ("maps schema ids", {"1": 1}),
]


@pytest.mark.parametrize(("what", "ids"), IDS)
def test_ids_and_files_belong_together_one_to_one(tmp_path: Path, what: str, ids: Any) -> None:
    project.put(tmp_path, event("order.placed", PLAIN))
    (tmp_path / "ids.json").write_text(json.dumps(ids))
    with pytest.raises(SchemaError, match=what) as caught:
        Schemas.load(tmp_path)
    assert "ids.json" in caught.value.where


def test_a_name_means_one_type_in_all_latest_versions(tmp_path: Path) -> None:
    other = nested("line", field("sku", "string"))
    with pytest.raises(SchemaError, match=r"order\.line is defined differently in .*placed.* and in .*refused"):
        project.load(tmp_path, event("order.placed", field("a", LINE)), event("order.refused", field("a", other)))


# ---- compatibility

FIRST = event("order.placed", field("customer", "string"), field("kind", enum("kind", "web")))
CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("field note is only in the reader", event("order.placed", *FIRST["fields"][1:], field("note", "string"))),
    ("field customer is only in the reader", event("order.placed", FIRST["fields"][2])),
    ("field customer changes its type", event("order.placed", field("customer", "bytes"), FIRST["fields"][2])),
    ("field customer changes its type", event("order.placed", field("customer", "long"), FIRST["fields"][2])),
    (
        "field customer changes its type",
        event("order.placed", field("customer", ["null", "string"]), FIRST["fields"][2]),
    ),
    ("no symbol shop", event("order.placed", FIRST["fields"][1], field("kind", enum("kind", "web", "shop")))),
    ("field kind changes its type", event("order.placed", FIRST["fields"][1], field("kind", enum("sort", "web")))),
]


@pytest.mark.parametrize(("what", "second"), CHANGES)
def test_a_version_that_not_everybody_can_read_is_refused_by_its_field(
    tmp_path: Path, what: str, second: dict[str, Any]
) -> None:
    project.put(tmp_path, second, version=2)
    schemas = project.load(tmp_path, FIRST)
    with pytest.raises(SchemaError, match=what) as caught:
        schemas.check_compatibility()
    assert caught.value.where.endswith("order.placed.2.avsc")


def test_a_breach_between_versions_far_apart_is_found(tmp_path: Path) -> None:
    """Transitive: 1 and 2 agree, 2 and 3 agree, 1 and 3 do not."""
    project.put(tmp_path, event("order.placed", field("a", "string"), field("b", "long", default=0)), version=1)
    project.put(tmp_path, event("order.placed", field("a", "string")), version=2)
    project.put(tmp_path, event("order.placed", field("a", "string"), field("b", "string", default="")), version=3)
    project.number(tmp_path)
    with pytest.raises(
        SchemaError, match=r"with order\.placed\.3\.avsc .* written with order\.placed\.1\.avsc.*field b"
    ):
        Schemas.load(tmp_path).check_compatibility()


def test_fields_with_defaults_may_come_and_go(tmp_path: Path) -> None:
    project.put(tmp_path, event("order.placed", PLAIN, field("a", "long", default=1)), version=1)
    project.put(tmp_path, event("order.placed", field("b", ["null", LINE], default=None), PLAIN), version=2)
    project.number(tmp_path)
    Schemas.load(tmp_path).check_compatibility()


def test_versions_are_ordered_as_numbers(tmp_path: Path) -> None:
    for version in (1, 2, 10):
        project.put(tmp_path, event("order.placed", PLAIN), version=version)
    project.number(tmp_path)
    assert [each.version for each in Schemas.load(tmp_path).versions["order.placed"]] == [1, 2, 10]


def test_the_projects_own_schemas_are_in_order() -> None:
    schemas = Schemas.load(ROOT / "schemas")
    schemas.check_compatibility()
    assert {"order.placed", "farandole.journal"} <= set(schemas.latest)
