"""Logins over HTTP in the world in memory: what an attacker can tell, and what races can bring about.

The views are the real ones; their door hands commands to the world, and looks at its tables.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaException

from agents import login
from events import (
    BeginLogin,
    LoginExpired,
    LoginGranted,
    LoginLocked,
    LoginRefused,
    LoginSuperseded,
    LoginUnanswered,
    LoginWrong,
    LookupExpired,
    UserRegistered,
    VerifyCode,
)
from farandole.door import Unknown, replied
from farandole.passcodes import random_text
from tests.flows.outside import PASSCODES
from tests.flows.world import World, codec, topic_of, world
from web.login import FLOW, Logins, read
from web.login import Login as LoginRequest

MINUTE = 60_000
ENDS = (LoginGranted, LoginLocked, LoginExpired, LoginUnanswered, LoginRefused)


class Door:
    """The door's promises, kept by the world: one partition, one worker.

    meanwhile: what else happens before a command is decided
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.meanwhile: Callable[[], None] = lambda: None
        self.sent: list[Any] = []

    async def partition(self, saga: str) -> int:
        return 0

    async def at_owner(self, request: Any, saga: str, here: Any) -> Any:
        return await here(0)

    async def send_and_wait(
        self, command: Any, saga: str, flow: str, table: str, timeout: float, settled: Callable[[], bool]
    ) -> bool:
        self.sent.append(command)
        self.world.send(command, saga, flow)
        self.meanwhile()
        while not settled():
            if not self.world._oldest_message():
                return False
        return True


class Site:
    """The login service's HTTP."""

    def __init__(self, world: World) -> None:
        self.world, self.door = world, Door(world)
        self.logins = Logins(self.door, PASSCODES)  # type: ignore[arg-type]

    def begin(self, user: str) -> tuple[int, Any]:
        return asyncio.run(self.logins.begin(request({"user": user})))

    def verify(self, challenge: str, code: str) -> tuple[int, Any]:
        return asyncio.run(self.logins.verify(request({"challenge": challenge, "code": code})))

    def challenge(self, user: str) -> str:
        """Begun, and its passcode delivered."""
        status, said = self.begin(user)
        assert status == 201, said
        self.world.run()
        return str(said["challenge"])

    def code(self, challenge: str) -> str:
        return self.world.outside.codes[challenge][1]


def request(body: Any) -> Any:
    async def read() -> bytes:
        return body if isinstance(body, bytes) else json.dumps(body).encode()

    return SimpleNamespace(read=read, headers={})


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with world(careful=True) as it:
        # The world's time is the number of its messages, in milliseconds; HTTP's clock has to agree.
        monkeypatch.setattr("web.login.time", SimpleNamespace(time_ns=lambda: it.number * 1_000_000))
        for user in ("anna", "bea"):
            it.send(UserRegistered(user=user, address=f"{user}@example.org"), f"r-{user}", "register/1")
        it.run()
        yield Site(it)


# ---- what is not known in time


@pytest.mark.parametrize("fails", [None, KeyError, KafkaException])
def test_what_was_written_and_is_not_decided_is_an_answer_and_not_asked_for_again(
    site: Site, monkeypatch: pytest.MonkeyPatch, fails: type[Exception] | None
) -> None:
    """NoOwner would have the worker in front forward it once more: another attempt, another challenge."""
    challenge = site.challenge("anna")

    async def no_answer(*_: Any, **__: Any) -> bool:
        if fails:
            raise fails
        return False

    monkeypatch.setattr(site.door, "send_and_wait", no_answer)
    with pytest.raises(Unknown):
        site.begin("bea")
    with pytest.raises(Unknown):
        site.verify(challenge, site.code(challenge))


# ---- the way in


def test_whoever_enters_what_was_sent_is_let_in(site: Site) -> None:
    challenge = site.challenge("anna")
    assert site.world.outside.codes[challenge][0] == "anna@example.org"
    assert site.verify(challenge, site.code(challenge)) == (200, {"outcome": "granted"})


def test_the_answer_does_not_wait_for_the_delivery(site: Site) -> None:
    status, said = site.begin("anna")
    assert status == 201
    assert said["challenge"] not in site.world.outside.codes


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"[]", b"\xff", b"{", {}, {"user": 1}, {"user": ""}, {"user": "x" * 129}, {"user": "a", "admin": True}),
        *(b'{"user": "\\ud800"}', b"[" * 100_000, b'{"user": ' + b"9" * 6_000 + b"}"),
    ],
)
def test_bad_requests_are_told_so_and_write_nothing(site: Site, body: Any) -> None:
    status, said = asyncio.run(site.logins.begin(request(body)))
    assert (status, bool(said["problems"])) == (422, True)
    assert site.door.sent == []


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", "１２３４５６", " 123456", 123456, None])
def test_what_is_no_code_is_no_attempt_and_is_not_repeated(site: Site, code: Any) -> None:
    challenge = site.challenge("anna")
    before = len(site.door.sent)
    status, said = asyncio.run(site.logins.verify(request({"challenge": challenge, "code": code})))
    assert status == 422
    assert not code or str(code) not in str(said)
    assert len(site.door.sent) == before


# ---- enumerating users


def test_an_unknown_user_cannot_be_told_from_a_known_one_by_any_answer(site: Site) -> None:
    """A whole session of each, answer for answer."""

    def session(user: str) -> list[Any]:
        said: list[Any] = []
        status, body = site.begin(user)
        said.append((status, sorted(body), body["expires_in"]))
        site.world.run()
        challenge = body["challenge"]
        bad = "000000" if site.world.outside.codes.get(challenge, ("", ""))[1] != "000000" else "111111"
        said += [site.verify(challenge, bad) for _ in range(6)]
        said += [site.begin(user)[0] for _ in range(4)]
        limited = site.begin(user)
        said.append((limited[0], sorted(limited[1])))
        return said

    assert session("anna") == session("nobody")


def test_known_or_not_takes_the_same_hops_rows_and_calls(site: Site) -> None:
    """Structure first: where there is nothing more to do, nothing can take longer."""

    def trace(user: str) -> Any:
        it = site.world
        delivered, published, calls = len(it.delivered), len(it.published), len(it.calls)
        site.begin(user)
        heard = [(topic_of()[type(each.event).__name__], each.name) for each in it.delivered[delivered:]]
        said = [type(event).__name__ for _, event in it.published[published:]]
        rows = {table: len(row) for table, row in it.rows("login").items()}
        found = heard, said, len(it.calls) - calls, [sorted(call.call.body) for call in list(it.calls.values())[calls:]]
        it.run()
        return found, rows

    (known, first), (unknown, second) = trace("anna"), trace("nobody")
    assert known == unknown
    assert [topic for topic, _ in known[0]] == ["login.commands", "directory.commands", "directory"]
    assert {table: count + 1 for table, count in first.items()} == second


@pytest.mark.parametrize("late", [False, True])
def test_a_limit_tells_that_somebody_else_began_and_neither_when_nor_whether_the_name_is_known(
    site: Site, late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """late: whether the decision has to refuse, as all requests have looked at the row before the first is decided."""

    def stranger(user: str, minutes: int) -> list[Any]:
        site.begin(user)  # its owner, or whoever
        site.world.run()
        site.world.number += minutes * MINUTE
        said = [site.begin(user) for _ in range(4)]
        with monkeypatch.context() as blind:
            if late:
                blind.setattr(login.users, "committed", lambda partition, user: None)
            said.append(site.begin(user))
        site.world.run()
        return [(status, sorted(body), body.get("retry_after")) for status, body in said]

    told = [stranger("anna", 1), stranger("bea", 14), stranger("nobody", 1), stranger("no one", 14)]
    assert told == [told[0]] * 4
    assert [status for status, *_ in told[0]] == [201] * 4 + [429]


def test_a_silent_directory_gives_everybody_the_same_answer(site: Site) -> None:
    def silent(user: str) -> tuple[int, Any]:
        site.world.gates = {"LookUpUser@directory"}
        site.door.meanwhile = lambda: _time_passes(site.world)
        return site.begin(user)

    known, unknown = silent("anna"), silent("nobody")
    assert known == unknown
    assert known[0] == 503
    site.world.gates.clear()
    site.world.run()
    assert site.world.outside.codes == {}, "an answer that comes too late sends nothing"
    assert site.verify(_newest(site), "123456")[0] == 410


def _time_passes(it: World) -> None:
    """Until the directory's deadline."""
    while it._oldest_message():
        pass
    for timer in [timer for timer in it.timers if timer[2] == LookupExpired.__name__]:
        it.fire(timer)


def _newest(site: Site) -> str:
    return str(list(login.challenges)[-1])


# ---- guessing, replaying, racing


def test_guessing_ends_after_five(site: Site) -> None:
    challenge = site.challenge("anna")
    right = site.code(challenge)
    guesses = [f"{(int(right) + n) % 1_000_000:06}" for n in range(1, 6)]
    said = [site.verify(challenge, guess) for guess in guesses]
    assert [(status, body["outcome"]) for status, body in said] == [(403, "wrong")] * 4 + [(403, "locked")]
    assert [body.get("attempts_left") for _, body in said] == [4, 3, 2, 1, None]
    assert site.verify(challenge, right)[1]["outcome"] == "locked"


def test_a_granted_code_cannot_be_replayed(site: Site) -> None:
    challenge = site.challenge("anna")
    assert site.verify(challenge, site.code(challenge))[0] == 200
    assert site.verify(challenge, site.code(challenge))[0] == 410


def test_of_ten_right_codes_at_once_one_is_granted(site: Site) -> None:
    """All have looked before the first is decided."""
    challenge = site.challenge("anna")
    said = race(site, challenge, [site.code(challenge)] * 10)
    assert Counter(status for status, _ in said) == {200: 1, 410: 9}
    assert len(site.world.events(challenge, LoginGranted)) == 1


def test_of_ten_wrong_codes_at_once_five_are_counted(site: Site) -> None:
    challenge = site.challenge("anna")
    bad = f"{(int(site.code(challenge)) + 1) % 1_000_000:06}"
    said = race(site, challenge, [bad] * 10)
    assert Counter(body["outcome"] for _, body in said) == {"wrong": 4, "locked": 6}
    assert sorted(body["attempts_left"] for _, body in said if "attempts_left" in body) == [1, 2, 3, 4]
    assert site.verify(challenge, site.code(challenge))[1]["outcome"] == "locked"


def test_a_right_code_among_wrong_ones_counts_where_it_lies(site: Site) -> None:
    challenge = site.challenge("anna")
    right = site.code(challenge)
    bad = f"{(int(right) + 1) % 1_000_000:06}"
    said = race(site, challenge, [bad, bad, right, bad, right])
    assert [body["outcome"] for _, body in said] == ["wrong", "wrong", "granted", "expired", "expired"]


def race(site: Site, challenge: str, codes: list[str]) -> list[tuple[int, Any]]:
    """Every request has sent its command before the first is decided; answers in their order."""
    commands = []

    class Racing(Door):
        async def send_and_wait(
            self, command: Any, saga: str, flow: str, table: str, timeout: float, settled: Callable[[], bool]
        ) -> bool:
            self.world.send(command, saga, FLOW)
            commands.append(command)
            while len(commands) < len(codes):
                await asyncio.sleep(0)
            while not settled():
                if not self.world._oldest_message():
                    return False
            return True

    racing = Logins(Racing(site.world), PASSCODES)  # type: ignore[arg-type]

    async def all_at_once() -> list[tuple[int, Any]]:
        requests = [request({"challenge": challenge, "code": code}) for code in codes]
        return await asyncio.gather(*map(racing.verify, requests))

    return asyncio.run(all_at_once())


def test_a_challenge_that_never_was_is_expired(site: Site) -> None:
    assert site.verify(f"c-{random_text()}", "123456")[1]["outcome"] == "expired"


# ---- flooding one user


def test_a_flood_is_stopped_at_the_door_without_a_record(site: Site) -> None:
    for _ in range(5):
        site.challenge("anna")
    before = len(site.door.sent), len(site.world.published)
    said = [site.begin("anna") for _ in range(50)]
    assert {status for status, _ in said} == {429}
    assert {body["retry_after"] for _, body in said} == {900}
    assert (len(site.door.sent), len(site.world.published)) == before
    assert site.begin("bea")[0] == 201


def test_a_flood_that_comes_all_at_once_is_stopped_by_the_decision(site: Site) -> None:
    """All have looked at the row before the first is written."""
    sent = 0

    def meanwhile() -> None:
        nonlocal sent
        while sent < 20:
            sent += 1
            site.world.send(BeginLogin(user="anna", seed="s", digest="d"), f"c-{sent}", FLOW)

    site.door.meanwhile = meanwhile
    site.begin("anna")
    site.world.run()
    assert len([event for _, event in site.world.published if isinstance(event, LoginRefused)]) == 16
    assert len([row for row in login.challenges.values() if row.phase in ("asking", "live")]) == 1


# ---- whatever the order


def test_whatever_the_order_of_things_each_challenge_ends_once_and_one_lives_at_the_most() -> None:
    for seed in range(400):
        with world() as it:
            try:
                play(it, Random(seed))
            except Exception as error:
                error.add_note(f"seed {seed}")
                raise


def play(it: World, random: Random) -> None:
    users = ["anna", "bea", "nobody"]
    for user in users[:2]:
        it.send(UserRegistered(user=user, address=f"{user}@example.org"), f"r-{user}", "register/1")
    it.run()
    challenges = {f"c-{n}": random.choice(users) for n in range(random.randint(2, 7))}
    begun, attempts = list(challenges), Counter[str]()
    weights: dict[tuple[str, str], float] = {}
    for _ in range(400):
        dice = random.random()
        if dice < 0.05 and begun:
            challenge = begun.pop()
            seed = random_text()
            digest = PASSCODES.digest(challenge, PASSCODES.code(challenge, seed))
            it.send(BeginLogin(user=challenges[challenge], seed=seed, digest=digest), challenge, FLOW)
        elif dice < 0.15:
            challenge = random.choice(list(challenges))
            _, code = it.outside.codes.get(challenge, ("", "123456"))
            if random.random() < 0.7:
                code = f"{(int(code) + 1) % 1_000_000:06}"
            attempts[challenge] += 1
            attempt = f"a-{attempts[challenge]}"
            it.send(VerifyCode(attempt=attempt, proof=PASSCODES.digest(challenge, code)), challenge, FLOW)
        elif dice < 0.17 and it.timers:
            it.fire(random.choice(list(it.timers)))
        elif dice < 0.2:
            it.again(random)
        elif dice < 0.21:
            it.number += random.choice([1, 200_000, 900_000])
        else:
            it.step(random, weights)
        lives = Counter(row.user for row in login.challenges.values() if row.phase in ("asking", "live"))
        assert max(lives.values(), default=0) <= 1, "two live challenges of one user"
    while it.step(random, weights) or it.timers:
        if not it.step(random, weights) and it.timers:
            it.fire(random.choice(list(it.timers)))
    check(it, challenges)


def check(it: World, challenges: dict[str, str]) -> None:
    superseded = Counter(e.challenge for _, e in it.published if isinstance(e, LoginSuperseded))
    for challenge, user in challenges.items():
        row = it.row("login", "challenges", challenge)
        if row is None:
            continue
        ends = len(it.events(challenge, *ENDS)) + superseded[challenge]
        assert ends == 1, f"{challenge} has ended {ends} times"
        wrong, granted = it.events(challenge, LoginWrong), it.events(challenge, LoginGranted)
        assert len(wrong) <= 4
        assert [each.attempts_left for each in wrong] == [4, 3, 2, 1][: len(wrong)]
        assert not granted or user != "nobody"
        assert not granted or row.phase == "granted"
        assert not it.events(challenge, LoginLocked) or len(wrong) == 4
    assert not it.timers
    for _, event in it.published:
        if type(event).__name__.startswith("Login"):
            said = codec().type_of(type(event)).encode(event, b"")
            assert not any(code.encode() in said for _, code in it.outside.codes.values())


def test_whoever_has_to_wait_is_told_how_long_in_a_header(site: Site) -> None:
    """Also when another worker has answered: of its answer the JSON alone comes here."""
    for _ in range(5):
        site.challenge("anna")
    web = SimpleNamespace(json=lambda said, status, headers: (status, headers, said))
    asked = request({"user": "anna"})
    asked.method, asked.path = "POST", "/login"
    status, headers, said = asyncio.run(replied("user", web, asked, site.logins.begin(asked)))
    assert (status, headers) == (429, {"Retry-After": str(said["retry_after"])})
    assert all(said[name] for name in ("what", "where", "mend"))


def test_a_name_is_read_as_it_is_written() -> None:
    assert read('{"user": "Zoë 李"}'.encode(), LoginRequest) == LoginRequest("Zoë 李")
