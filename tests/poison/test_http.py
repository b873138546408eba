"""Whatever is sent to the order service's HTTP port is answered: 2xx with what was asked for, or 4xx that says what is
wrong. Never 5xx, never silence, and no worker dies of it.

The requests go over bare sockets, since no client of good manners would send them.
"""

from __future__ import annotations

import gzip
import json
import socket
import urllib.parse
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from farandole.answers import MAX_BODY
from farandole.system import System
from tests.test_workers import an_order, status_of, wait_until

ANSWERED_WITHIN = 15.0
"""Seconds after which a request counts as hanging. A body that does not come is waited for ten."""

fuzzed = settings(
    max_examples=120, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return json.loads(self.body)


def send(url: str, raw: bytes, finish: bool = False) -> Answer:
    """Send these bytes, say that there are no more if `finish`, and read the whole answer."""
    parts = urllib.parse.urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=ANSWERED_WITHIN) as connection:
        try:
            connection.sendall(raw)
            if finish:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it was answered and closed before all was sent
        received = b""
        try:
            while chunk := connection.recv(65_536):
                received += chunk
                head, found, body = received.partition(b"\r\n\r\n")
                length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                if found and (raw.startswith(b"HEAD") or not length):
                    break
                if found and length and len(body) >= int(length[0].split(b":")[1]):
                    break
        except ConnectionResetError:
            pass
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): said.strip() for name, _, said in (line.partition(":") for line in lines[1:])}
    return Answer(int(lines[0].split()[1]), headers, body)


def request(method: bytes, target: bytes, body: bytes = b"", headers: list[tuple[bytes, bytes]] | None = None) -> bytes:
    lines = [method + b" " + target + b" HTTP/1.1", b"Host: here"]
    lines += [name + b": " + said for name, said in headers or []]
    if not any(name.lower() in (b"content-length", b"transfer-encoding") for name, _ in headers or []):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def check(answer: Answer, head: bool = False, parsed: bool = True) -> None:
    """parsed False: it may have been no HTTP at all, which the server's parser answers in its own words."""
    assert 200 <= answer.status < 500, answer
    if head or (answer.status in (400, 417) and not parsed):
        return
    assert answer.headers["content-type"].startswith("application/json"), answer
    if answer.status >= 400:
        assert all(isinstance(answer.said[part], str) and answer.said[part] for part in ("what", "where", "mend"))
        assert len(answer.body) < 60_000, "an error is no echo"


# ---- bodies

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([1 << 31, 1 << 63, -(1 << 63), (1 << 64) - 1, 1 << 70, 10**400]),
    st.floats(allow_nan=True),
    st.text(max_size=40),
    st.text(alphabet=st.characters(codec="utf-16", categories=["Cs", "Cc", "Zs"]), max_size=5),
)
nested = st.recursive(
    scalars, lambda each: st.lists(each, max_size=4) | st.dictionaries(st.text(max_size=8), each, max_size=4)
)
fields = st.sampled_from([*an_order("x"), "reserve_for", "asked_at", "saga", "nothing", "\ud800"])
line_fields = st.sampled_from(["line", "sku", "quantity", "price", "more", "\udfff"])


@st.composite
def orders(draw: st.DrawFn) -> bytes:
    """An order, with one thing or more changed in its fields, and then perhaps in its bytes."""
    order = an_order(draw(st.text(min_size=0, max_size=6)))
    for name, new in draw(st.lists(st.tuples(fields, nested), max_size=3)):
        order[name] = new
    if isinstance(order["lines"], list) and order["lines"] and isinstance(order["lines"][0], dict):
        for name, new in draw(st.lists(st.tuples(line_fields, nested), max_size=2)):
            order["lines"][0][name] = new
    body = json.dumps(order, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    if draw(st.booleans()):
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=6)) + body[at + draw(st.integers(0, 6)) :]
    return body


ODD_BODIES = [
    b"",
    b"null",
    b"[]",
    b"0",
    b"NaN",
    b'{"customer": NaN}',
    b'{"reserve_for": Infinity}',
    b'{"a": 1, "a": 2}',
    b'{"customer": "a", "customer": "b"}',
    b'{"\\ud800": 1}',
    b'{"customer": "\\udc00"}',
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b"9" * 5_000,
    b'{"reserve_for": ' + b"9" * 5_000 + b"}",
    b'{"reserve_for": 1e400}',
    b'{"asked_at": -1e-400}',
    b"{" + b", ".join(b'"field%d": 1' % n for n in range(10_000)) + b"}",
    b'"' + b"x" * (MAX_BODY - 2) + b'"',
]


@pytest.mark.parametrize("worker", [0, 1])
@fuzzed
@given(body=orders() | st.binary(max_size=300) | nested.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_an_order_or_refused(system: System, worker: int, body: bytes) -> None:
    answer = send(system.url("order", worker), request(b"POST", b"/orders", body))
    check(answer)
    assert answer.status in (200, 201, 202, 400, 409, 422), answer
    if answer.status < 300:
        asked = json.loads(body)
        assert answer.said["order"].startswith("o-")
        assert asked["lines"]
        assert all(line["quantity"] > 0 and line["price"] >= 0 for line in asked["lines"])


@pytest.mark.parametrize("body", ODD_BODIES, ids=lambda body: repr(body[:24]))
def test_an_odd_body_is_refused(system: System, body: bytes) -> None:
    answer = send(system.url("order"), request(b"POST", b"/orders", body))
    check(answer)
    assert answer.status == 422


def test_a_field_named_twice_counts_once(system: System) -> None:
    body = json.dumps(an_order("twice")).encode().replace(b'"customer"', b'"currency": "x", "customer"', 1)
    assert send(system.url("order"), request(b"POST", b"/orders", body)).status in (201, 422)


@pytest.mark.parametrize("worker", [0, 1])
def test_what_is_asked_properly_is_answered_properly(system: System, worker: int) -> None:
    url = system.url("order", worker)
    body = json.dumps(an_order(f"proper-{worker}")).encode()
    placed = send(url, request(b"POST", b"/orders", body))
    order = placed.said["order"].encode()
    assert placed.status == 201
    assert send(url, request(b"POST", b"/orders", body)).status == 200
    conflict = send(url, request(b"POST", b"/orders", body.replace(b"Main", b"Other")))
    asked = send(url, request(b"POST", b"/orders/" + order + b"/cancel"))
    assert (conflict.status, asked.status in (202, 409)) == (409, True)
    wait_until(lambda: status_of(system, order.decode(), worker) in ("cancelled", "completed"))
    again = send(url, request(b"POST", b"/orders/" + order + b"/cancel"))
    assert (again.status, again.said["order"]) == (409, order.decode())
    for answer in (placed, conflict, asked, again):
        check(answer)


# ---- sizes and encodings


def test_a_body_that_is_too_large_is_refused_before_it_is_read(system: System) -> None:
    for size in (MAX_BODY + 1, 50_000_000):
        answer = send(system.url("order"), request(b"POST", b"/orders", b" " * size))
        check(answer)
        assert answer.status == 413


def test_a_body_that_grows_when_unpacked_is_refused(system: System) -> None:
    packed = gzip.compress(b" " * 500_000_000, 1)
    headers = [(b"Content-Encoding", b"gzip"), (b"Transfer-Encoding", b"chunked")]
    chunked = b"%x\r\n" % len(packed) + packed + b"\r\n0\r\n\r\n"
    answer = send(system.url("order"), request(b"POST", b"/orders", chunked, headers))
    check(answer)
    assert answer.status == 413


def test_a_body_that_does_not_come_is_not_waited_for_long(system: System) -> None:
    raw = request(b"POST", b"/orders", b"{", [(b"Content-Length", b"100")])
    answer = send(system.url("order"), raw)
    check(answer)
    assert answer.status == 408


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ([(b"Content-Encoding", b"gzip")], b"no gzip at all"),
        ([(b"Content-Encoding", b"deflate")], b"\xff\xff"),
        ([(b"Content-Encoding", b"br")], b"xx"),
        ([(b"Content-Encoding", b"unheard-of")], b"{}"),
        ([(b"Transfer-Encoding", b"chunked")], b"zz\r\nxx\r\n"),
        ([(b"Transfer-Encoding", b"chunked")], b"ffffffffffffffffffff\r\n"),
        ([(b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"3")], b"0\r\n\r\n"),
        ([(b"Content-Length", b"-1")], b""),
        ([(b"Content-Length", b"1"), (b"Content-Length", b"2")], b"xx"),
        ([(b"Content-Length", b"9" * 40)], b""),
        ([(b"Content-Type", b"text/xml")], b"<a/>"),
        ([(b"Content-Type", b"application/json; charset=utf-7")], b"{}"),
        ([(b"Content-Type", b"multipart/form-data; boundary=\xff")], b"--\xff"),
        ([(b"Expect", b"200-maybe")], b"{}"),
        ([(b"X-Farandole-Forwarded", b"1")], b"{}"),
        ([(b"Upgrade", b"websocket"), (b"Connection", b"Upgrade")], b"{}"),
        ([(b"X", b"v" * 100_000)], b"{}"),
        ([(b"X%d" % n, b"v") for n in range(5_000)], b"{}"),
        ([(b"X\0", b"v")], b"{}"),
        ([(b"X", b"\0\r")], b"{}"),
    ],
    ids=lambda each: repr(each)[:40],
)
def test_odd_headers_are_refused(system: System, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    answer = send(system.url("order"), request(b"POST", b"/orders", body, headers))
    check(answer, parsed=False)
    assert answer.status >= 400


names = st.text(alphabet="abcdefgXYZ-", min_size=1, max_size=12).map(str.encode) | st.binary(min_size=1, max_size=5)
known = st.sampled_from([b"Content-Type", b"Accept", b"Cookie", b"Range", b"If-Match", b"Origin", b"Connection",
                         b"X-Farandole-Forwarded", b"Authorization", b"Accept-Encoding", b"Expect", b"TE"])  # fmt: skip


@fuzzed
@given(headers=st.lists(st.tuples(names | known, st.binary(max_size=30)), max_size=6))
def test_any_headers_are_answered(system: System, headers: list[tuple[bytes, bytes]]) -> None:
    answer = send(system.url("order"), request(b"GET", b"/orders/o-nobody", b"", headers))
    check(answer, parsed=False)


# ---- paths and methods

ODD_SEGMENTS = [b"..", b".", b"%2e%2e", b"%2F", b"%00", b"%ff", b"%", b"%u0041", b"x" * 5_000, b"\xc3\xa9", b"\xff",
                b"#", b"?a=%ff", b";", b"*", b""]  # fmt: skip
segments = st.sampled_from([*ODD_SEGMENTS, b"orders", b"health", b"cancel", b"o-nobody", b"table", b"router", b"graph"])
targets = st.one_of(
    st.lists(segments, max_size=5).map(lambda parts: b"/" + b"/".join(parts)),
    st.binary(max_size=30).map(lambda tail: b"/orders/" + tail),
    st.text(max_size=20).map(lambda text: b"/orders/" + urllib.parse.quote(text, safe="").encode()),
    st.text(max_size=20).map(lambda text: b"/orders/" + urllib.parse.quote(text, safe="").encode() + b"/cancel"),
    st.sampled_from([b"*", b"http://elsewhere/orders/o-1", b"//", b"http://", b"here:80", b""]),
)
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "SEARCH", "get"]
methods = st.sampled_from([*map(str.encode, METHODS), b"X" * 100, b"\xff"])


@pytest.mark.parametrize("worker", [0, 1])
@fuzzed
@given(method=methods, target=targets)
@example(method=b"HEAD", target=b"/orders/o-1")
@example(method=b"GET", target=b"/orders/..")
@example(method=b"GET", target=b"/orders/%2e%2e%2fhealth")
@example(method=b"GET", target=b"/orders/%ed%a0%80")
@example(method=b"GET", target=b"/table/orders/o-1/")
@example(method=b"GET", target=b"/router/orders/")
def test_any_method_and_path_are_answered(system: System, worker: int, method: bytes, target: bytes) -> None:
    answer = send(system.url("order", worker), request(method, target))
    check(answer, head=method == b"HEAD", parsed=False)


@pytest.mark.parametrize("path", [b"/orders", b"/orders/o-1", b"/orders/o-1/cancel", b"/health"])
def test_a_wrong_method_is_told_which_are_right(system: System, path: bytes) -> None:
    answer = send(system.url("order"), request(b"DELETE", path))
    check(answer)
    assert answer.status == 405
    assert answer.headers["allow"]


@fuzzed
@given(raw=st.binary(max_size=200))
def test_bytes_that_are_no_request_are_answered_or_dropped(system: System, raw: bytes) -> None:
    try:
        answer = send(system.url("order"), raw + b"\r\n\r\n", finish=True)
    except (IndexError, ValueError):
        return  # closed without a word
    check(answer, parsed=False)


def test_every_service_answers_for_its_health_and_for_nothing_else(system: System) -> None:
    for service in system.services:
        check(send(system.url(service), request(b"GET", b"/health")))
        if service != "order":
            answer = send(system.url(service), request(b"POST", b"/orders", b"{}"))
            check(answer)
            assert answer.status == 404


def test_after_all_that_the_workers_live_and_no_view_failed(system: System) -> None:
    assert not system.dead()
    for worker in system.workers["order"]:
        log = worker.log.read_text()
        assert "Error handling request" not in log
        assert "tok_visible" not in log
