"""Outside calls over HTTP: what counts as an answer, what is asked again, and what a deadline says."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from events import FarandoleCall
from farandole import outside
from farandole.errors import ConfigError
from farandole.outside import HttpPerformer, outside_urls
from farandole.ports import Answer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "FIRST_BACKOFF", 0.01)
    monkeypatch.setattr(outside, "LARGEST_BACKOFF", 0.05)
    monkeypatch.setattr(outside, "ATTEMPT_TIMEOUT", 0.5)


def a_call(deadline: float = 0.0) -> FarandoleCall:
    return FarandoleCall(
        saga="o-1", outside="gateway", operation="authorise", body=b"{}", answer="x", meta=b"", deadline=deadline
    )


def perform(
    handler: Handler,
    act: Callable[[HttpPerformer], Any] | None = None,
    deadline: float = 0.0,
    fill: outside.Fill | None = None,
) -> list[Answer]:
    """Answers that come within two seconds of a call, from a server that handles it like this."""
    answers: list[Answer] = []

    async def run() -> None:
        application = web.Application()
        application.router.add_route("*", "/{operation}", handler)
        runner = web.AppRunner(application)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        fills = {"gateway": fill} if fill else None
        performer = HttpPerformer({"gateway": f"http://127.0.0.1:{port}"}, answers.append, fills)
        performer.start(0, "key-1", a_call(deadline))
        if act is not None:
            act(performer)
        for _ in range(40):
            await asyncio.sleep(0.05)
            if answers:
                break
        await performer.close()
        await runner.cleanup()

    asyncio.run(run())
    return answers


def replies(*responses: tuple[int, Any]) -> tuple[Handler, list[str]]:
    """A handler that gives these one after another, the last one for ever; and the idempotency keys that it saw."""
    keys: list[str] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        keys.append(request.headers["Idempotency-Key"])
        status, body = responses[min(len(keys), len(responses)) - 1]
        if isinstance(body, bytes):
            return web.Response(status=status, body=body)
        return web.json_response(body, status=status)

    return handle, keys


def test_what_is_filled_in_is_sent_and_nothing_that_is_said_to_it_is_kept(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The other side repeats the secret wherever it can, and fails before it succeeds."""
    monkeypatch.setattr(outside, "FILLED_AFTER", 0.0)
    caplog.set_level("DEBUG")
    for status, outcome in ((200, "accepted"), (422, "refused")):
        bodies: list[Any] = []

        async def echo(request: web.Request, status: int = status, bodies: list[Any] = bodies) -> web.StreamResponse:
            bodies.append(await request.json())
            said = bodies[-1]["code"]
            if len(bodies) < 3:
                return web.json_response({"reason": said}, status=503)
            return web.json_response({"reference": said, "reason": said, "outcome": said}, status=status)

        [answer] = perform(echo, fill=lambda body: {**body, "code": "271828"})
        assert bodies == [{"code": "271828"}] * 3, "the same each time"
        assert answer.outcome == outcome
        assert "271828" not in repr(answer)
    assert "271828" not in caplog.text


def test_what_fills_in_is_made_when_a_worker_starts_and_says_what_it_misses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGIN_PASSCODE_KEY", "the key of login workers in tests")
    [fill] = outside.load_fills({"mail": "farandole.passcodes:letters"}).values()
    assert fill({"to": "", "challenge": "c-1", "seed": "s"}) is None
    monkeypatch.setenv("LOGIN_PASSCODE_KEY", "")
    with pytest.raises(ConfigError, match="LOGIN_PASSCODE_KEY"):
        outside.load_fills({"mail": "farandole.passcodes:letters"})


def test_what_comes_to_nothing_is_accepted_and_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "FILLED_AFTER", 0.0)
    handler, keys = replies((200, {}))
    assert perform(handler, fill=lambda body: None) == [Answer(0, "key-1", "accepted", "", "")]
    assert keys == []


def test_whether_there_is_something_to_send_is_asked_after_a_pause_that_is_taken_either_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By a clock of its own: what is done, and when."""

    def trace(filled: Any) -> list[Any]:
        done: list[Any] = []

        async def sleep(seconds: float) -> None:
            done.append(seconds)

        async def send(*_: Any) -> tuple[str, str, str]:
            done.append("sent")
            return "accepted", "", ""

        def fill(_: Any) -> Any:
            done.append("looked")
            return filled

        async def run() -> None:
            performer = HttpPerformer({"gateway": "http://127.0.0.1:9"}, done.append, {"gateway": fill})
            with monkeypatch.context() as patched:
                patched.setattr(asyncio, "sleep", sleep)
                patched.setattr(performer, "_attempt", send)
                await performer._perform(0, "key-1", a_call())

        asyncio.run(run())
        return done

    accepted = Answer(0, "key-1", "accepted", "", "")
    for _ in range(100):
        known, unknown = trace({"code": "271828"}), trace(None)
        assert (known[1:], unknown[1:]) == (["looked", "sent", accepted], ["looked", accepted])
        assert all(0.05 <= pause <= 0.25 for pause in (known[0], unknown[0]))
    assert len({trace(None)[0] for _ in range(9)} | {trace({})[0] for _ in range(9)}) == 18, "at random, either way"


def test_an_answer_is_accepted_with_its_reference() -> None:
    handler, _ = replies((200, {"reference": "auth-1"}))
    assert perform(handler) == [Answer(0, "key-1", "accepted", "auth-1", "")]


@pytest.mark.parametrize("body", [{"reason": "card declined"}, b"Not Found", b"[" * 100_000, b""])
def test_a_4xx_is_a_refusal_whatever_its_body(body: Any) -> None:
    handler, _ = replies((404, body))
    [answer] = perform(handler)
    assert answer.outcome == "refused"
    assert answer.reason in ("card declined", "HTTP 404")


@pytest.mark.parametrize("status", [500, 503, 408, 425, 429, 301, 302, 307])
def test_what_is_no_answer_is_asked_again_with_the_same_key(status: int) -> None:
    handler, keys = replies((status, b""), (status, b""), (200, {"reference": "r"}))
    assert [answer.outcome for answer in perform(handler)] == ["accepted"]
    assert keys == ["key-1"] * 3


def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    async def in_pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in (b'{"refer', b'ence": "auth-7"}'):
            await response.write(piece)
            await asyncio.sleep(0.05)
        return response

    assert perform(in_pieces) == [Answer(0, "key-1", "accepted", "auth-7", "")]


def test_a_redirect_is_never_followed_to_a_page_that_says_ok() -> None:
    async def handle(request: web.Request) -> web.StreamResponse:
        if request.path == "/login":
            return web.Response(text="please log in")
        return web.Response(status=302, headers={"Location": "/login"})

    assert [answer.outcome for answer in perform(handle, deadline=0.3)] == ["unknown"]


def test_a_deadline_that_passes_says_unknown_and_no_deadline_never_does() -> None:
    handler, _ = replies((503, b""))
    assert [answer.outcome for answer in perform(handler, deadline=0.2)] == ["unknown"]
    assert perform(handler) == []


def test_text_that_cannot_be_written_is_made_writable() -> None:
    handler, _ = replies((402, b'{"reason": "\\ud800"}'))
    [answer] = perform(handler)
    assert answer.outcome == "refused"
    answer.reason.encode()


def test_a_call_that_is_forgotten_and_started_again_at_once_is_performed() -> None:
    handler, _ = replies((200, {"reference": "r"}))

    def forget_and_start(performer: HttpPerformer) -> None:
        performer.forget(0)
        performer.start(0, "key-1", a_call())

    assert [answer.outcome for answer in perform(handler, forget_and_start)] == ["accepted"]


def test_a_call_that_is_stopped_gets_no_answer() -> None:
    handler, _ = replies((200, {"reference": "r"}))
    assert perform(handler, lambda performer: performer.stop(0, "key-1")) == []


def test_a_signal_arrives_however_many_calls_are_started_while_the_loop_is_busy() -> None:
    """asyncio's pipe holds some hundred wake-ups; a signal that finds it full is lost."""
    handler, _ = replies(*[(200, {"reference": "r"})] * 3_000)
    heard: list[str] = []

    def start_many_and_signal(performer: HttpPerformer) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.append, "told")

        def start_many() -> None:
            for number in range(2_000):
                performer.start(0, f"k{number}", a_call())

        starter = threading.Thread(target=start_many)
        starter.start()
        starter.join()
        os.kill(os.getpid(), signal.SIGUSR1)

    perform(handler, start_many_and_signal)
    assert heard == ["told"]


def test_an_address_that_is_missing_names_its_variable() -> None:
    with pytest.raises(ConfigError, match="PAYMENT_GATEWAY_URL"):
        outside_urls({"gateway": "PAYMENT_GATEWAY_URL"}, {}, "payment")
