"""events.py says what the schemas say, is current, and lets the type checker catch a misspelt field."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from farandole import generate
from farandole.errors import SchemaError
from farandole.event import Event, Row
from farandole.schemas import Schemas
from tests.farandole import schemaproject as project
from tests.farandole.schemaproject import enum, event, field, nested, row

ROOT = Path(__file__).resolve().parents[2]
LINE = nested("line", field("sku", "string"), field("price", "long"))
PLACED = event(
    "order.placed",
    field("email", ["null", "string"], default=None),
    field("customer", "string"),
    field("lines", {"type": "array", "items": LINE}),
    field("card_token", "string", sensitive=True),
    field("kind", enum("kind", "web", "shop"), default="shop"),
)


def test_names_follow_the_topic_unless_it_has_a_dot() -> None:
    assert generate.class_name("order", "placed") == "OrderPlaced"
    assert generate.class_name("stock", "hold_requested") == "StockHoldRequested"
    assert generate.class_name("order.commands", "place_order") == "PlaceOrder"
    assert generate.class_name("inventory.tables", "stock_level") == "StockLevel"
    assert generate.class_name("farandole", "journal") == "FarandoleJournal"


def test_an_event_has_its_fields_required_ones_first_and_its_saga_last(tmp_path: Path) -> None:
    events = project.events_module(project.load(tmp_path, PLACED))
    placed = events.OrderPlaced("c", (events.OrderLine("s", 1),), "tok_1")
    assert placed.__struct_fields__ == ("customer", "lines", "card_token", "email", "kind", "saga")
    assert (placed.email, placed.kind, placed.saga) == (None, "shop", "")
    assert hash(placed) == hash(msgspec.structs.replace(placed))
    with pytest.raises(AttributeError):
        placed.customer = "d"
    assert isinstance(placed, Event)


def test_rows_are_rows_and_have_no_saga(tmp_path: Path) -> None:
    events = project.events_module(project.load(tmp_path, row("stock.tables.level", field("left", "long"))))
    assert events.Level.__struct_fields__ == ("left",)
    assert issubclass(events.Level, Row)


def test_what_is_sensitive_shows_in_no_repr(tmp_path: Path) -> None:
    events = project.events_module(project.load(tmp_path, PLACED))
    shown = repr(events.OrderPlaced("c", (), "tok_1"))
    assert "tok_1" not in shown
    assert "customer='c'" in shown


def test_docs_are_in_the_docstring_whatever_is_in_them(tmp_path: Path) -> None:
    doc = '"quoted" \\ and """more""" ' + "long " * 60 + '"'
    odd = event("order.placed", {**field("amount", "long"), "doc": doc}, doc=doc)
    events = project.events_module(project.load(tmp_path, odd))
    assert "amount: 'quoted' \\ and" in (events.OrderPlaced.__doc__ or "")


def test_only_the_latest_version_is_a_class(tmp_path: Path) -> None:
    project.put(tmp_path, event("order.placed", field("a", "string"), field("b", "string", default="x")), version=2)
    events = project.events_module(project.load(tmp_path, event("order.placed", field("a", "string"))))
    assert events.OrderPlaced("1").b == "x"


def test_two_records_that_would_be_one_class_are_refused(tmp_path: Path) -> None:
    one, two = row("stock.tables.level", field("a", "int")), row("order.tables.level", field("b", "int"))
    with pytest.raises(SchemaError, match="would both be the class Level"):
        generate.generate(project.load(tmp_path, one, two))


def test_a_misspelt_field_is_an_error_of_the_type_checker(tmp_path: Path) -> None:
    schemas = tmp_path / "schemas"
    schemas.mkdir()
    (tmp_path / "made.py").write_text(generate.generate(project.load(schemas, PLACED)))
    (tmp_path / "use.py").write_text(
        "from made import OrderLine, OrderPlaced\n"
        "good = OrderPlaced(customer='c', lines=(OrderLine(sku='s', price=1),), card_token='t')\n"
        "good.customer\n"
        "good.custommer\n"
        "OrderPlaced(customer='c', lines=(), card_token='t', knid='web')\n"
        "OrderPlaced(customer='c', lines=(), card_token='t', kind='wbe')\n"
        "OrderPlaced(customer='c', lines=(), card_token=5)\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path), "use.py"]
    environment = {"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    wrong = {int(line.split(":")[1]) for line in run.stdout.splitlines() if line.startswith("use.py")}
    assert wrong == {4, 5, 6, 7}, run.stdout + run.stderr
    assert "made.py" not in run.stdout


# ---- writing and checking


def test_new_files_get_the_next_ids_and_old_ones_keep_theirs(tmp_path: Path) -> None:
    project.put(tmp_path, PLACED)
    (tmp_path / "ids.json").write_text('{"7": "order.placed.1.avsc"}')
    project.put(tmp_path, event("order.refused", field("reason", "string")), event("order.aborted", field("a", "int")))
    changes = generate.write(tmp_path, tmp_path / "events.py")
    assert json.loads((tmp_path / "ids.json").read_text()) == {
        "7": "order.placed.1.avsc",
        "8": "order.aborted.1.avsc",
        "9": "order.refused.1.avsc",
    }
    assert len(changes) == 3
    before = (tmp_path / "events.py").read_bytes(), (tmp_path / "ids.json").read_bytes()
    assert generate.write(tmp_path, tmp_path / "events.py") == []
    assert before == ((tmp_path / "events.py").read_bytes(), (tmp_path / "ids.json").read_bytes())


def test_a_schema_that_is_refused_changes_no_file(tmp_path: Path) -> None:
    project.put(tmp_path, PLACED)
    generate.write(tmp_path, tmp_path / "events.py")
    before = (tmp_path / "events.py").read_bytes(), (tmp_path / "ids.json").read_bytes()
    project.put(tmp_path, event("order.wrong", field("a", "float")))
    with pytest.raises(SchemaError):
        generate.write(tmp_path, tmp_path / "events.py")
    assert before == ((tmp_path / "events.py").read_bytes(), (tmp_path / "ids.json").read_bytes())


def test_check_tells_when_events_py_is_of_yesterday(tmp_path: Path) -> None:
    project.put(tmp_path, PLACED)
    target = tmp_path / "events.py"
    with pytest.raises(SchemaError, match="has no schema id"):
        generate.check(tmp_path, target)
    generate.write(tmp_path, target)
    generate.check(tmp_path, target)
    target.write_text(target.read_text().replace("customer: str", "customer: int"))
    with pytest.raises(SchemaError, match="is not what schemas/ say"):
        generate.check(tmp_path, target)


def test_the_projects_own_events_py_is_current() -> None:
    generate.check(ROOT / "schemas", ROOT / "events.py")


def test_the_command_changes_nothing_twice_and_fails_a_check_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "schemas").mkdir()
    (tmp_path / "topics.yaml").touch()
    project.put(tmp_path / "schemas", PLACED)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        call = [sys.executable, "-m", "farandole.cli.main", "events", "generate", *arguments]
        environment = {"FARANDOLE_PROJECT": str(tmp_path), "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}
        return subprocess.run(call, env=environment, capture_output=True, text=True, check=False)

    first = command("--check")
    assert first.returncode == 1
    assert "farandole events generate" in first.stderr
    assert "Traceback" not in first.stderr
    assert command().returncode == 0
    second = command("--json")
    assert json.loads(second.stdout) == {"current": True, "changes": []}
    assert command("--check").returncode == 0


def test_generated_code_needs_no_other_version_of_the_schemas(tmp_path: Path) -> None:
    """The file's text depends on the schemas alone, not on the order in which the directory lists them."""
    project.put(tmp_path, PLACED, event("order.refused", field("reason", "string")))
    project.number(tmp_path)
    assert generate.generate(Schemas.load(tmp_path)) == generate.generate(Schemas.load(tmp_path))
