"""The visitors of the demo: who they are, and that they notice when they are told what they should not be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import aiohttp
import pytest

from farandole.demo.login import Options
from farandole.demo.mischief import Kill
from farandole.demo.visitors import Inbox, Told, Visitor, Visits, Ways, other, visitors
from farandole.errors import ConfigError

CODE = "123456"


def test_a_seed_gives_the_same_visitors_and_one_of_each_way() -> None:
    assert visitors(100, 7) == visitors(100, 7) != visitors(100, 8)
    assert {guest.way for guest in visitors(100, 7)} == set(Ways)
    assert {guest.way for guest in visitors(100, 7, plain=True)} == {Ways.PLAIN}
    assert len(visitors(3, 7)) == 3


@pytest.mark.parametrize(
    "options",
    [Options(logins=0), Options(kills=(Kill("payment", 1),)), Options(logins=10, kills=(Kill("login", 11),))],
)
def test_options_that_make_no_sense_are_refused(options: Options) -> None:
    with pytest.raises(ConfigError):
        options.check()


class Service:
    """A login service in memory, with one fault at the most."""

    def __init__(self, fault: str = "") -> None:
        self.fault, self.begun, self.tries, self.over = fault, 0, 0, ""

    async def ask(self, path: str, body: dict[str, str]) -> tuple[int, dict[str, Any], bool]:
        if path == "/login":
            self.begun += 1
            if self.begun > 5 and self.fault != "no limit":
                return 429, {"what": "too many"}, False
            return 201, {"challenge": f"c-{self.begun}"}, False
        newest = body["challenge"] == f"c-{self.begun}"
        if (self.over or not newest) and self.fault not in ("replay", "older lives"):
            return 410, {"outcome": self.over or "expired"}, False
        if body["code"] == CODE or self.fault == "anything goes":
            self.over = "expired"
            return 200, {"outcome": "granted"}, False
        self.tries += 1
        if self.tries == 5 and self.fault != "no lock":
            self.over = "locked"
            return 403, {"outcome": "locked"}, False
        return 403, {"outcome": "wrong"}, False

    async def code(self, challenge: str) -> str:
        return CODE


def visit(way: Ways, fault: str = "") -> Told:
    visits, service = Visits(["http://127.0.0.1:1"], lambda: "http://127.0.0.1:1", 1.0), Service(fault)
    visits._front, visits._inbox = service, service  # type: ignore[assignment]
    asyncio.run(visits._visit(Visitor("anna", way), 0.0))
    return visits.told


@pytest.mark.parametrize("way", Ways)
def test_whoever_is_told_what_is_right_is_not_surprised(way: Ways) -> None:
    told = visit(way)
    assert told.surprises == []
    assert told.by_way[way].total() == 1


@pytest.mark.parametrize(
    ("way", "fault"),
    [
        (Ways.SLIPS, "anything goes"),
        (Ways.GUESSES, "no lock"),
        (Ways.STRANGER, "no lock"),
        (Ways.RACES, "replay"),
        (Ways.REPLAYS, "replay"),
        (Ways.AGAIN, "older lives"),
        (Ways.FLOODS, "no limit"),
    ],
)
def test_whoever_is_told_what_is_wrong_says_so(way: Ways, fault: str) -> None:
    assert visit(way, fault).surprises


def test_another_code_is_another_code() -> None:
    assert other("999999", 1) == "000000"


class Sink:
    """A mail sink that was killed and is back at another address, where it tells what it told before."""

    def __init__(self) -> None:
        self.url, self.sent = "http://one", [{"order": "c-0", "code": "000000"}]

    def get(self, url: str) -> Any:
        return self._answer(url)

    @asynccontextmanager
    async def _answer(self, url: str) -> AsyncIterator[Any]:
        if not url.startswith(self.url):
            self.sent.append({"order": "c-1", "code": CODE})
            raise aiohttp.ClientError("refused")
        after = int(url.partition("after=")[2].partition("&")[0])
        lines = b"\n".join([b"{}", *(json.dumps(each).encode() for each in self.sent[after:])])
        yield SimpleNamespace(read=AsyncMock(return_value=lines))


def test_a_mail_sink_that_was_killed_is_asked_again_where_it_is_then() -> None:
    async def codes() -> list[str]:
        sink: Any = Sink()
        addresses = ["http://one", "http://one", "", "http://two"]
        inbox = Inbox(sink, lambda: addresses.pop(0) if len(addresses) > 1 else addresses[0], within=5.0)
        first = await inbox.code("c-0")
        sink.url = "http://two"
        return [first, await inbox.code("c-1")]

    assert asyncio.run(codes()) == ["000000", CODE]


def test_where_partitions_move_an_attempt_may_count_twice_and_is_never_granted_instead() -> None:
    def entered(outcome: str, expected: set[str]) -> list[str]:
        visits = Visits(["http://x"], str, 1.0, handed_over=True)
        visits._front = SimpleNamespace(ask=AsyncMock(return_value=(200, {"outcome": outcome}, False)))  # type: ignore[assignment]
        asyncio.run(visits._enter(Visitor("anna", Ways.PLAIN), "c-1", CODE, expected))
        return visits.told.surprises

    assert entered("expired", {"granted"}) == []
    assert entered("granted", {"wrong"})


@pytest.mark.parametrize("repeated", [True, False])
def test_who_had_to_ask_again_may_come_to_the_limit_later(repeated: bool) -> None:
    answers = [(201, {"challenge": "c-1"}, repeated), (429, {}, False)]
    visits: Any = Visits(["http://x"], str, 1.0)
    visits._front = SimpleNamespace(ask=AsyncMock(side_effect=answers))
    visits._inbox = SimpleNamespace(code=AsyncMock(return_value=CODE))
    asyncio.run(visits._visit(Visitor("anna", Ways.AGAIN), 0.0))
    assert bool(visits.told.surprises) == (not repeated)
