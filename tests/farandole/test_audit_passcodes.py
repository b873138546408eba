"""Passcodes that were sent: how the mail sink keeps them and tells them, and where the audit finds them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import msgspec
import pytest

from farandole.audit.findings import Findings
from farandole.audit.passcodes import Passcodes
from farandole.audit.records import LogRecord
from farandole.errors import AuditError
from farandole.sandbox.mail import Mail

LETTER = {"to": "anna@example.org", "challenge": "c-anna", "code": "271828"}


def sent(mail: Mail, key: str = "c-anna/passcode", **changes: Any) -> int:
    return mail.perform("passcode", key, msgspec.json.encode(LETTER | changes)).status


@contextmanager
def telling(lines: list[bytes]) -> Iterator[str]:
    """An address at which /state says these lines."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"\n".join(lines))

        def log_message(self, format: str, *args: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def found(passcodes: Passcodes, key: bytes, value: bytes, *headers: bytes) -> list[str]:
    findings = Findings()
    record = LogRecord("login", 0, 7, 0, key, value, [("h", header) for header in headers])
    passcodes.look(record, findings)
    return [finding.saga for finding in findings]


def test_the_sink_sends_a_passcode_once_and_shows_it() -> None:
    mail = Mail()
    assert [sent(mail), sent(mail)] == [200, 200]
    assert [(each.to, each.order, each.code) for each in mail.operations()] == [
        ("anna@example.org", "c-anna", "271828")
    ]
    assert sent(mail, code="314159") == 422, "another code under the same key"
    assert sent(mail, "c-bea/passcode", to="nowhere") == 422


def test_what_was_sent_is_learnt_from_the_sink_and_found_where_it_stands() -> None:
    mail = Mail()
    sent(mail)
    sent(mail, "c-bea/passcode", to="nowhere", challenge="c-bea", code="111111")
    lines = [b'{"last": 2, "violations": 0}', *map(msgspec.json.encode, mail.operations())]
    with telling(lines) as url:
        passcodes = Passcodes.of_mail(url)
    assert passcodes.count == 1, "what was refused went to nobody"
    assert found(passcodes, b"anna", b"\x0cc-anna\x0c271828") == ["c-anna"]
    assert found(passcodes, b"c-anna", b"x", b"271828") == ["c-anna"]


def test_a_code_is_found_whatever_comes_before_and_after_it() -> None:
    """The length byte of anna.schmidt@example.org is a digit, as those of all users with 24 to 28 characters."""
    for user in ("anna.schmidt@example.org", "anna.schmidt-@example.org", "annelise.schmidt@example.org"):
        length = bytes([2 * len(user)])
        assert length in b"0123456789"
        for value in (b"271828" + length + user.encode(), length + b"271828", b"1" + b"271828" + b"2"):
            assert found(Passcodes({"c-anna": "271828"}), b"c-anna", value) == ["c-anna"]


def test_digits_of_one_number_are_no_code_of_another() -> None:
    assert found(Passcodes({"c-anna": "271828"}), b"c-anna", b"27182", b"8", b"271 828") == []


@pytest.mark.parametrize(
    "value",
    [b"c-bea 271828", b"c-bea 1271828", b"1700002718280", b"c-anna 271827", b"c-anna", b"271828"],
)
def test_another_number_or_another_challenge_is_no_finding(value: bytes) -> None:
    assert found(Passcodes({"c-anna": "271828"}), b"key", value) == []


def test_a_tombstone_is_looked_at_and_is_none() -> None:
    passcodes, findings = Passcodes({"c-anna": "271828"}), Findings()
    passcodes.look(LogRecord("login", 0, 7, 0, None, None, []), findings)
    assert not len(findings)


@pytest.mark.parametrize("url", ["mail", "http://127.0.0.1:9", "file:///etc/passwd"])
def test_an_address_that_tells_nothing_is_an_error_and_no_clean_report(url: str) -> None:
    with pytest.raises(AuditError):
        Passcodes.of_mail(url)


def test_what_is_no_sink_is_an_error() -> None:
    with telling([b"{}", b"no JSON"]) as url, pytest.raises(AuditError):
        Passcodes.of_mail(url)
