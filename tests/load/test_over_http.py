"""Orders over HTTP, against a server that answers as it is told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from farandole.demo.plan import Kinds
from farandole.load.orders import Mix, Orders
from farandole.load.over_http import HttpSender
from farandole.load.recorder import Played, Recorder
from farandole.load.stages import steady


class Server:
    """statuses: of the answers to POST /orders, the last one again and again; asked: (path, body) of all requests"""

    def __init__(self, statuses: list[int]) -> None:
        self.statuses, self.asked = statuses, list[tuple[str, Any]]()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked.append((self.path, body))
                status = 202
                if self.path == "/orders":
                    status = server.statuses.pop(0) if len(server.statuses) > 1 else server.statuses[0]
                self.send_response(status)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server([201])
    yield found
    found.close()


def played(server: Server, orders: int, mix: Mix | None = None) -> tuple[Recorder, Played]:
    recorder = Recorder()
    sender = HttpSender(Orders(mix or Mix(), "r"), recorder, urls=[server.url], others_cpu=lambda: 0.0)
    sender.start()
    stage = recorder.begin(steady("s", 100, orders / 100), time.monotonic())
    sender.play(stage)
    deadline = time.monotonic() + 30
    while stage.answers.count + stage.failed < orders or not stage.over:
        assert time.monotonic() < deadline
        sender.check()
        time.sleep(0.005)
    if mix:
        while sum(path.endswith("/cancel") for path, _ in server.asked) < orders:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    sender.stop()
    return recorder, stage


def test_every_order_is_asked_for_once_and_waits_for_its_end(server: Server) -> None:
    recorder, stage = played(server, 20)
    keys = [body["idempotency_key"] for _, body in server.asked]
    assert len(keys) == len(set(keys)) == 20
    assert stage.statuses == {"201": 20}
    assert recorder.open == 20, "an answer is not the order's end"


def test_after_503_the_same_request_is_made_again_while_the_clock_runs(server: Server) -> None:
    server.statuses = [503, 503, 201]
    recorder, stage = played(server, 1)
    assert len({body["idempotency_key"] for _, body in server.asked}) == 1
    assert stage.statuses == {"503": 2, "201": 1}
    assert stage.answers.largest > 0.1
    assert recorder.open == 1


def test_an_order_that_is_not_accepted_is_counted_and_named(server: Server) -> None:
    server.statuses = [422]
    recorder, stage = played(server, 3)
    assert stage.failed == 3
    assert recorder.problems == {"not accepted over HTTP": 3}
    assert recorder.open == 0


def test_who_cancels_asks_for_it(server: Server) -> None:
    recorder, _ = played(server, 3, Mix(kinds={Kinds.CANCELLED_AT_ONCE: 1.0}))
    cancelled = {path.split("/")[2] for path, _ in server.asked if path.endswith("/cancel")}
    assert cancelled == {saga.decode() for saga in recorder.in_flight}
