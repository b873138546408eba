"""Who answers for a saga, when this worker believes that it owns the partition and does not any more."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from events import BeginLogin, VerifyCode
from farandole.door import FULL_FOR, HOP, Door, Full, Misdirected, NoOwner, Unknown, replied
from tests.flows.world import codec

HERE, THERE = "http://127.0.0.1:1", "http://127.0.0.1:2"


class Asked(Door):
    """A door whose worker believes that it owns partition 0."""

    def __init__(self, owner: str) -> None:
        engine = SimpleNamespace(engine=SimpleNamespace(owned=frozenset({0})))
        super().__init__(SimpleNamespace(engine=engine, address=lambda: HERE, doors=[]), "topic")  # type: ignore[arg-type]
        self.owner, self.asked = owner, 0

    async def partition(self, saga: str) -> int:
        return 0

    async def _owner(self, partition: int, fresh: bool) -> str | None:
        self.asked += fresh
        return self.owner

    async def _forward(self, url: str, request: Any) -> tuple[int, Any]:
        return 200, {"from": url}


def at(door: Door, status: int, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    async def here(partition: int) -> tuple[int, Any]:
        return status, {"from": HERE}

    return asyncio.run(door.at_owner(SimpleNamespace(headers=headers or {}), "o-1", here))


def test_that_something_is_not_there_is_said_by_its_owner_alone() -> None:
    """A worker that slept, or is cut off, does not know what another one has accepted in its place."""
    assert at(Asked(THERE), 404) == (200, {"from": THERE})
    assert at(Asked(HERE), 404) == (404, {"from": HERE})
    with pytest.raises(Misdirected):
        at(Asked(THERE), 404, {HOP: "1"})


def test_what_is_there_is_told_without_asking() -> None:
    door = Asked(THERE)
    assert at(door, 200) == (200, {"from": HERE})
    assert not door.asked


class Written(Asked):
    """A door that counts what it writes, and whose engine decides when the test says so."""

    def __init__(self) -> None:
        super().__init__(HERE)
        self.written: list[Any] = []
        self.decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.app.engine.watch = self._watch

    @contextmanager
    def _watch(self, table: str, key: str) -> Iterator[asyncio.Future[None]]:
        yield asyncio.ensure_future(asyncio.wait_for(asyncio.shield(self.decided), None))

    async def send(self, command: Any, saga: str, flow: str) -> None:
        self.written.append(command)
        await asyncio.sleep(0.01)

    def ask(self, command: str) -> asyncio.Task[bool]:
        waiting = self.send_and_wait(command, "o-1", "order/1", "orders", 5.0, self.decided.done)  # type: ignore[arg-type]
        return asyncio.create_task(waiting)


def test_who_asks_again_while_it_takes_long_makes_no_more_work() -> None:
    async def play() -> None:
        door = Written()
        asked = [door.ask("the same") for _ in range(3)]
        await asyncio.sleep(0.05)
        asked += [door.ask("the same"), door.ask("another")]
        await asyncio.sleep(0.05)
        assert door.written == ["the same", "another"]
        door.decided.set_result(None)
        assert all(await asyncio.gather(*asked))
        door.decided = asyncio.get_running_loop().create_future()
        again = door.ask("the same")
        await asyncio.sleep(0.05)
        assert door.written == ["the same", "another", "the same"]
        door.decided.set_result(None)
        assert await again

    asyncio.run(play())


class Changing(Asked):
    """A door whose engine tells of commits one by one, as the test says."""

    def __init__(self) -> None:
        super().__init__(HERE)
        self.row, self.watched = 0, [asyncio.get_running_loop().create_future()]
        self.app.engine.watch = self._watch

    @contextmanager
    def _watch(self, table: str, key: str) -> Iterator[asyncio.Future[None]]:
        yield self.watched[-1]

    async def send(self, command: Any, saga: str, flow: str) -> None:
        return None

    def commit(self) -> None:
        before, self.row = self.watched[-1], self.row + 1
        self.watched.append(asyncio.get_running_loop().create_future())
        before.set_result(None)


def test_who_waits_for_a_row_waits_until_it_is_settled_and_not_for_its_first_change() -> None:
    async def play() -> None:
        door = Changing()
        waiting = asyncio.create_task(
            door.send_and_wait("begin", "c-1", "login/1", "challenges", 5.0, lambda: door.row == 3)  # type: ignore[arg-type]
        )
        for _ in range(2):
            await asyncio.sleep(0.01)
            door.commit()
        await asyncio.sleep(0.01)
        assert not waiting.done()
        door.commit()
        assert await waiting

    asyncio.run(play())


def test_who_waits_for_what_never_settles_is_told_so_in_time() -> None:
    async def play() -> None:
        door = Changing()
        waiting = asyncio.create_task(
            door.send_and_wait("begin", "c-1", "login/1", "challenges", 0.05, lambda: False)  # type: ignore[arg-type]
        )
        await asyncio.sleep(0.01)
        door.commit()
        assert not await waiting

    asyncio.run(play())


def test_a_command_lies_under_the_key_of_its_topic() -> None:
    """A challenge begins in its user's partition, whatever its own name."""
    said: list[Any] = []

    class Producing(Asked):
        def _commands(self) -> Any:
            def produce(topic: str, value: bytes, key: str, on_delivery: Any) -> None:
                said.append((topic, key))
                on_delivery(None, None)

            return SimpleNamespace(produce=produce, poll=lambda seconds: 0)

    async def play() -> None:
        door = Producing(HERE)
        door.app.engine.processor = SimpleNamespace(
            codec=codec(), key_of={"login.commands": "user", "login.verifications": "saga"}, namespace="x-"
        )
        await door.send(BeginLogin(user="anna", seed="s", digest="d"), "c-1", "login/1")
        await door.send(VerifyCode(attempt="a", proof="p"), "c-1", "login/1")

    asyncio.run(play())
    assert said == [("x-login.commands", "anna"), ("x-login.verifications", "c-1")]


class Web:
    """What a view is, as far as an answer needs it."""

    def json(self, said: Any, status: int, headers: dict[str, str]) -> tuple[int, Any, dict[str, str]]:
        return status, said, headers


def test_a_fleeting_command_is_not_written_where_it_would_have_to_wait() -> None:
    """Who is told to come again later must not be served later all the same, and once more when he has come again."""

    async def play() -> None:
        door = Written()
        door._fleeting = True
        room = False
        door.app.engine.engine.waits_for_room = lambda topic, partition: (topic, partition) == (TOPIC, 0) and not room
        door.app.engine.processor = SimpleNamespace(namespace="n.", codec=codec())
        command = BeginLogin(user="anna", seed="s", digest="d")
        door.decided.set_result(None)
        with pytest.raises(Full):
            await door.send_and_wait(command, "c-1", "login/1", "challenges", 5.0, lambda: False)
        assert door.written == []
        room = True
        assert not await door.send_and_wait(command, "c-1", "login/1", "challenges", 0.1, lambda: False)
        assert door.written == [command]

    asyncio.run(play())


TOPIC = "n.login.commands"


@pytest.mark.parametrize(("error", "seconds", "mend"), [(Full, FULL_FOR, "wait for"), (Unknown, 1, "begin anew")])
@pytest.mark.parametrize("forwarded", [False, True])
def test_what_is_not_done_or_not_known_is_an_answer_also_for_who_has_forwarded_it(
    error: type[Exception], seconds: int, mend: str, forwarded: bool
) -> None:
    async def fails() -> Any:
        raise error

    request = SimpleNamespace(method="POST", path="/login", headers={HOP: "1"} if forwarded else {})
    status, said, headers = asyncio.run(replied("user", Web(), request, fails()))
    assert (status, headers) == (503, {"Retry-After": str(seconds)})
    assert mend in said["mend"]


class Unreachable(Asked):
    """Its owner is another worker, of which nothing comes back."""

    def __init__(self, fleeting: bool, error: type[Exception]) -> None:
        super().__init__(THERE)
        self.app.engine.engine.owned = frozenset()
        self._fleeting, self._error, self.forwarded = fleeting, error, 0

    async def _forward(self, url: str, request: Any) -> tuple[int, Any]:
        self.forwarded += 1
        if self._error is aiohttp.ClientConnectorError:
            raise aiohttp.ClientConnectorError(SimpleNamespace(ssl=None, host="h", port=1), OSError())  # type: ignore[arg-type]
        raise self._error


@pytest.mark.parametrize(
    ("fleeting", "error", "times"),
    [
        (False, TimeoutError, 2),
        (False, aiohttp.ServerDisconnectedError, 2),
        (True, TimeoutError, 1),
        (True, aiohttp.ServerDisconnectedError, 1),
        (True, aiohttp.ClientConnectorError, 2),
        (True, NoOwner, 2),
    ],
)
def test_what_may_have_been_done_is_asked_for_again_only_if_that_is_the_same(
    fleeting: bool, error: type[Exception], times: int
) -> None:
    door = Unreachable(fleeting, error)
    with pytest.raises(Unknown if times == 1 else NoOwner):
        at(door, 200)
    assert door.forwarded == times
