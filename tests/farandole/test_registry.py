"""With a schema registry, ids are the registry's own, and every version is there before the first record is."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from farandole.codec import Codec
from farandole.errors import BrokerError, ConfigError, SchemaError
from farandole.event import Meta
from farandole.registry import SchemaRegistry
from farandole.schemas import Schemas
from tests.farandole import schemaproject as project
from tests.farandole.schemaproject import event, field, row

PLACED = [
    event("order.placed", field("customer", "string")),
    event("order.placed", field("customer", "string"), field("note", ["null", "string"], default=None)),
]
LEVEL = row("stock.tables.level", field("left", "long"))


class FakeRegistry:
    """Confluent's interface, as far as it is used: subjects with versions, one id per schema, a rule per subject."""

    def __init__(self) -> None:
        self.subjects: dict[str, list[str]] = {}
        self.schemas: list[str] = ["somebody else's"] * 40
        self.rules: dict[str, str] = {}
        self.requests: list[tuple[str, str]] = []
        self.authorization: list[str | None] = []
        self.failing: list[int] = []
        self.rules_need_a_subject = False
        self.refusing: tuple[int, str] | None = None
        self.is_read_only = False

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        if self.failing:
            return self.failing.pop(0), {}
        kind, subject, *rest = path.strip("/").split("/")
        if kind == "config":
            if self.rules_need_a_subject and subject not in self.subjects:
                return 404, {"error_code": 40401, "message": "Subject not found"}
            self.rules[subject] = body["compatibility"]
            return 200, body
        if rest == ["versions"]:
            return self.register(subject, body["schema"])
        if body["schema"] in self.subjects.get(subject, []):
            return 200, {"subject": subject, "id": self.schemas.index(body["schema"]) + 1}
        return 404, {"error_code": 40403, "message": "Schema not found"}

    def register(self, subject: str, schema: str) -> tuple[int, Any]:
        if self.refusing:
            return self.refusing[0], {"message": self.refusing[1]}
        if self.is_read_only:
            return 403, {"message": "User is denied operation Write on Subject"}
        if schema not in self.schemas:
            self.schemas.append(schema)
        self.subjects.setdefault(subject, []).append(schema)
        return 200, {"id": self.schemas.index(schema) + 1}


@pytest.fixture
def fake() -> Iterator[tuple[FakeRegistry, str]]:
    registry = FakeRegistry()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            registry.requests.append((self.command, unquote(self.path)))
            registry.authorization.append(self.headers["Authorization"])
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            status, answer = registry.answer(self.command, unquote(self.path), json.loads(body or b"{}"))
            raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_PUT = do_POST

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield registry, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def schemas(tmp_path: Path) -> Schemas:
    for version, schema in enumerate(PLACED, 1):
        project.put(tmp_path, schema, version=version)
    project.put(tmp_path, LEVEL)
    project.number(tmp_path)
    return Schemas.load(tmp_path)


def test_every_version_is_registered_once_oldest_first(fake: tuple[FakeRegistry, str], schemas: Schemas) -> None:
    registry, url = fake
    ids = SchemaRegistry(url, "demo.").ids(schemas)
    assert ids == {"order.placed.1.avsc": 41, "order.placed.2.avsc": 42, "stock.tables.level.1.avsc": 43}
    assert [len(versions) for versions in registry.subjects.values()] == [2, 1]
    assert registry.rules == dict.fromkeys(["demo.order-order.placed", "stock.tables.level"], "FULL_TRANSITIVE")
    registry.requests.clear()
    assert SchemaRegistry(url, "demo.").ids(schemas) == ids
    assert {path.count("/versions") for _, path in registry.requests} == {0}, "the second time it only looks"


def test_what_goes_over_the_wire_has_the_registrys_ids(fake: tuple[FakeRegistry, str], schemas: Schemas) -> None:
    _, url = fake
    events = project.events_module(schemas)
    codec = Codec.load(schemas.directory, events, SchemaRegistry(url, ""))
    value = codec.encode(events.OrderPlaced("c"), Meta("i", "s", "f", "c"))
    assert value[:5] == b"\0\0\0\0\x2a"
    assert codec.decode(value)[1] == events.OrderPlaced("c", saga="s")
    old = Codec.load(schemas.directory, events).encode(events.OrderPlaced("c"), Meta("i", "s", "f", "c"))
    assert old[:5] != value[:5]
    assert old[5:] == value[5:]


def test_a_registry_whose_rules_need_a_subject_gets_them_afterwards(
    fake: tuple[FakeRegistry, str], schemas: Schemas
) -> None:
    registry, url = fake
    registry.rules_need_a_subject = True
    SchemaRegistry(url, "").ids(schemas)
    assert registry.rules == dict.fromkeys(["order-order.placed", "stock.tables.level"], "FULL_TRANSITIVE")


def test_the_right_to_read_is_enough_when_everything_is_there(fake: tuple[FakeRegistry, str], schemas: Schemas) -> None:
    registry, url = fake
    SchemaRegistry(url, "").ids(schemas)
    registry.is_read_only = True
    SchemaRegistry(url, "").ids(schemas)
    with pytest.raises(BrokerError, match="denied operation Write") as caught:
        SchemaRegistry(url, "other.").ids(schemas)
    assert "may not" in caught.value.mend


@pytest.mark.parametrize("status", [409, 422])
def test_a_schema_that_the_registry_refuses_is_named(
    fake: tuple[FakeRegistry, str], schemas: Schemas, status: int
) -> None:
    registry, url = fake
    registry.refusing = status, "Schema being registered is incompatible"
    with pytest.raises(SchemaError, match=r"refuses order\.placed\.1\.avsc: Schema being registered") as caught:
        SchemaRegistry(url, "").ids(schemas)
    assert "subject order-order.placed" in caught.value.where


def test_a_registry_that_is_not_ready_is_asked_again(fake: tuple[FakeRegistry, str], schemas: Schemas) -> None:
    registry, url = fake
    registry.failing = [503, 500, 503]
    assert len(SchemaRegistry(url, "", pause=0.01).ids(schemas)) == 3


def test_a_registry_that_stays_away_is_named_without_its_password(schemas: Schemas) -> None:
    with pytest.raises(BrokerError, match="cannot be asked") as caught:
        SchemaRegistry("http://me:secret@127.0.0.1:9", "", pause=0.01).ids(schemas)
    assert caught.value.where == "http://127.0.0.1:9"
    assert "SCHEMA_REGISTRY_URL" in caught.value.mend
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(SchemaRegistry("http://me:secret@127.0.0.1:9", ""))


def test_the_password_goes_into_the_header(fake: tuple[FakeRegistry, str], schemas: Schemas) -> None:
    registry, url = fake
    SchemaRegistry(url.replace("//", "//me:p%40ss@"), "").ids(schemas)
    assert set(registry.authorization) == {"Basic " + base64.b64encode(b"me:p@ss").decode()}


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b'{"id": "7"}', b'{"id": 0}', b"{}"])
def test_an_answer_that_makes_no_sense_is_no_id(
    fake: tuple[FakeRegistry, str], schemas: Schemas, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, url = fake
    monkeypatch.setattr(registry, "answer", lambda *_: (200, answer))
    with pytest.raises(BrokerError, match="has no id"):
        SchemaRegistry(url, "").ids(schemas)


@pytest.mark.parametrize("url", ["", "localhost:8081", "ftp://host", "http://"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="no address of a schema registry"):
        SchemaRegistry(url, "")
