"""Visitors who log in over HTTP, each in one of several ways, and what each of them was told.

Invariant: a visitor knows what anybody outside would: the answers over HTTP, and the passcode that came by mail. What a
visitor is told is compared with what may be told; the answer to a request that had to be repeated may have been lost,
and so may the login that it granted.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import aiohttp

from farandole.demo.place import GIVE_UP_AFTER

ANSWER_WITHIN: Final = 20.0
LOOK_EVERY: Final = 0.03
"""Seconds between looks into the inbox."""

MAIL_WITHIN: Final = 30.0
REPEAT_AFTER: Final = 0.5


class Ways(StrEnum):
    """How somebody logs in."""

    PLAIN = "enters the code"
    SLIPS = "slips, then enters the code"
    GUESSES = "guesses until locked"
    RACES = "enters the code twice at once"
    REPLAYS = "enters the code again"
    AGAIN = "begins again, tries the older code"
    STRANGER = "is unknown, guesses"
    FLOODS = "begins ten times"


SHARES: Final = {
    Ways.PLAIN: 60,
    Ways.SLIPS: 10,
    Ways.GUESSES: 5,
    Ways.RACES: 8,
    Ways.REPLAYS: 5,
    Ways.AGAIN: 5,
    Ways.STRANGER: 5,
    Ways.FLOODS: 2,
}
"""Of a hundred visitors."""

NOT_GRANTED: Final = frozenset({"wrong", "locked", "expired"})


@dataclass(frozen=True)
class Visitor:
    user: str
    way: Ways

    @property
    def address(self) -> str:
        return f"{self.user}@example.org"


def visitors(count: int, seed: int, plain: bool = False, prefix: str = "") -> list[Visitor]:
    """One of each way, as far as there is room, then as SHARES have it. plain: all of them simply log in; prefix: of
    their names, where others have been before.
    """
    draw = random.Random(f"visitors {seed}")
    drawn = draw.choices(list(SHARES), list(SHARES.values()), k=count)
    ways = [Ways.PLAIN] * count if plain else [*Ways, *drawn][:count]
    draw.shuffle(ways)
    return [Visitor(f"{prefix}visitor-{seed}-{n}", way) for n, way in enumerate(ways)]


@dataclass(frozen=True)
class Visited:
    """A visitor who was let in at once; due: when he was to come; ended: when he was in; both by the monotonic clock"""

    user: str
    due: float
    ended: float


@dataclass
class Told:
    """What became of all visitors. Seconds by kind of request, from the intended moment for the first one.

    came: visitors whose time has come; left: those of them who have done what they wanted
    """

    came: int = 0
    left: int = 0
    begun: int = 0
    granted: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    by_way: dict[str, Counter[str]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"begin": [], "verify": []})
    took: Counter[str] = field(default_factory=Counter)
    """User → seconds of all requests together."""
    repeated: int = 0
    visited: list[Visited] = field(default_factory=list)
    surprises: list[str] = field(default_factory=list)


class Inbox:
    """What the mail sink has sent: asked page by page. One that does not answer is asked again.

    url:    where it tells what it has sent; after a restart it may be another one
    within: seconds for a passcode to come
    """

    def __init__(self, session: aiohttp.ClientSession, url: Callable[[], str], within: float) -> None:
        self._session, self._url, self._within = session, url, within
        self._read = 0
        self._codes: dict[str, str] = {}
        self._looking = asyncio.Lock()

    async def code(self, challenge: str) -> str:
        """The passcode for this challenge, when it has come. TimeoutError if it does not."""
        async with asyncio.timeout(self._within):
            while challenge not in self._codes:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    await self._look()
                if challenge not in self._codes:
                    await asyncio.sleep(LOOK_EVERY)
        return self._codes[challenge]

    async def _look(self) -> None:
        async with self._looking, self._session.get(f"{self._url()}/state?after={self._read}&limit=1000") as answer:
            lines = (await answer.read()).splitlines()[1:]
            for line in lines:
                sent = json.loads(line)
                if "code" in sent:
                    self._codes[sent["order"]] = sent["code"]
            self._read += len(lines)


class Front:
    """The login service over HTTP, its workers in turn."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], told: Told) -> None:
        self._session, self._told = session, told
        self._urls = itertools.cycle(urls)

    async def ask(self, path: str, body: dict[str, str]) -> tuple[int, dict[str, Any], bool]:
        """Status, JSON, and whether it was asked more than once."""
        end, repeated = time.monotonic() + GIVE_UP_AFTER, False
        while True:
            try:
                async with self._session.post(f"{next(self._urls)}{path}", json=body) as answer:
                    said = await answer.json()
                    if answer.status != 503 or time.monotonic() > end:
                        return answer.status, said, repeated
            except (aiohttp.ClientError, TimeoutError, ValueError):
                if time.monotonic() > end:
                    raise
            repeated = True
            self._told.repeated += 1
            await asyncio.sleep(REPEAT_AFTER)


class Visits:
    """Carries out visits at a rate, in an open loop: each is due when it is due.

    mail:          where the mail sink tells what it has sent
    answer_within: seconds for one HTTP answer, after which the request is repeated
    mail_within:   seconds for a passcode to come
    handed_over:   whether partitions move all the time: then a worker on the way repeats what it got no answer to, and
                   any attempt may count twice
    """

    def __init__(
        self,
        urls: Sequence[str],
        mail: Callable[[], str],
        rate: float,
        *,
        answer_within: float = ANSWER_WITHIN,
        mail_within: float = MAIL_WITHIN,
        handed_over: bool = False,
    ) -> None:
        self._urls, self._mail, self._rate = urls, mail, rate
        self._answer_within, self._mail_within, self._handed_over = answer_within, mail_within, handed_over
        self.told = Told()
        self._asked_again: set[str] = set()
        """Users whose answers were lost: all that they began counts, and so they may come to the limit."""
        self._counted_twice: set[str] = set()
        """Challenges at which a code was, or may have been, entered again, because an answer was lost."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """While this is entered, visitors may come."""
        timeout = aiohttp.ClientTimeout(total=self._answer_within)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            self._front = Front(session, self._urls, self.told)
            self._inbox = Inbox(session, self._mail, self._mail_within)
            yield

    async def play(self, guests: Sequence[Visitor]) -> Told:
        async with self.open():
            await self.let_in(guests, time.monotonic())
        return self.told

    async def let_in(self, guests: Sequence[Visitor], began: float) -> None:
        """Every visitor when he is due; returns when all of them have left. began: when the first one is due"""
        async with asyncio.TaskGroup() as group:
            for number, guest in enumerate(guests):
                due = began + number / self._rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self.told.came += 1
                group.create_task(self._visit(guest, due))

    async def _visit(self, guest: Visitor, due: float) -> None:
        try:
            outcome = await getattr(self, f"_{guest.way.name.lower()}")(guest, due)
        except (aiohttp.ClientError, TimeoutError, KeyError) as error:
            outcome = "no answer"
            self._surprise(guest, f"{type(error).__name__}: {error}")
        self.told.left += 1
        self.told.by_way.setdefault(guest.way, Counter())[outcome] += 1
        if guest.way is Ways.PLAIN and outcome == "granted":
            self.told.visited.append(Visited(guest.user, due, time.monotonic()))

    # ---- what they do

    async def _plain(self, guest: Visitor, due: float) -> str:
        challenge = await self._begin(guest, due)
        if not challenge:
            return "limited"
        return await self._enter(guest, challenge, await self._inbox.code(challenge), {"granted"})

    async def _slips(self, guest: Visitor, due: float) -> str:
        challenge = await self._begin(guest, due)
        if not challenge:
            return "limited"
        code = await self._inbox.code(challenge)
        await self._enter(guest, challenge, other(code, 1), {"wrong"})
        return await self._enter(guest, challenge, code, {"granted"})

    async def _guesses(self, guest: Visitor, due: float) -> str:
        challenge = await self._begin(guest, due)
        if not challenge:
            return "limited"
        code = await self._inbox.code(challenge)
        for number in range(1, 6):
            await self._enter(guest, challenge, other(code, number), {"wrong"} if number < 5 else {"locked"})
        return await self._enter(guest, challenge, code, {"locked"})

    async def _races(self, guest: Visitor, due: float) -> str:
        challenge = await self._begin(guest, due)
        if not challenge:
            return "limited"
        code = await self._inbox.code(challenge)
        both = await asyncio.gather(*(self._enter(guest, challenge, code, {"granted", "expired"}) for _ in range(2)))
        if both.count("granted") > 1:
            self._surprise(guest, "two verifies were both granted")
        return " and ".join(sorted(both))

    async def _replays(self, guest: Visitor, due: float) -> str:
        challenge = await self._begin(guest, due)
        if not challenge:
            return "limited"
        code = await self._inbox.code(challenge)
        await self._enter(guest, challenge, code, {"granted"})
        return await self._enter(guest, challenge, code, {"expired"})

    async def _again(self, guest: Visitor, due: float) -> str:
        older = await self._begin(guest, due)
        code = await self._inbox.code(older) if older else ""
        newer = await self._begin(guest, time.monotonic())
        if not older or not newer:
            return "limited"
        await self._enter(guest, older, code, {"expired"})
        return await self._enter(guest, newer, await self._inbox.code(newer), {"granted"})

    async def _stranger(self, guest: Visitor, due: float) -> str:
        challenge = await self._begin(guest, due)
        if not challenge:
            return "limited"
        said = ""
        for number in range(5):
            expected = {"wrong"} if number < 4 else {"locked"}
            said = await self._enter(guest, challenge, f"{number * 111_111:06}", expected)
        return said

    async def _floods(self, guest: Visitor, due: float) -> str:
        begun = 0
        for _ in range(10):
            begun += bool(await self._begin(guest, time.monotonic()))
        if begun > 5:
            self._surprise(guest, f"{begun} challenges in a quarter of an hour")
        return f"{begun} of 10"

    # ---- asking

    async def _begin(self, guest: Visitor, due: float) -> str:
        """The challenge; empty if there were too many."""
        status, said, repeated = await self._front.ask("/login", {"user": guest.user})
        self._note("begin", guest, time.monotonic() - due)
        if repeated:
            self._asked_again.add(guest.user)
        self.told.outcomes["begun" if status == 201 else str(status)] += 1
        if status == 201:
            self.told.begun += 1
            return str(said["challenge"])
        if status != 429 or (guest.way is not Ways.FLOODS and guest.user not in self._asked_again):
            self._surprise(guest, f"POST /login was answered with {status}: {said.get('what', '')}")
        return ""

    async def _enter(self, guest: Visitor, challenge: str, code: str, expected: set[str]) -> str:
        due = time.monotonic()
        _, said, repeated = await self._front.ask("/login/verify", {"challenge": challenge, "code": code})
        self._note("verify", guest, time.monotonic() - due)
        outcome = str(said.get("outcome", "no outcome"))
        self.told.outcomes[outcome] += 1
        self.told.granted += outcome == "granted"
        if repeated or self._handed_over:
            self._counted_twice.add(challenge)
        # A request that is repeated may count twice, and then the later ones are answered sooner with "locked".
        if outcome not in expected and not (challenge in self._counted_twice and outcome in NOT_GRANTED):
            self._surprise(guest, f"{outcome} and not {' or '.join(sorted(expected))}: {said.get('what', '')}")
        return outcome

    def _note(self, kind: str, guest: Visitor, seconds: float) -> None:
        self.told.seconds[kind].append(seconds)
        self.told.took[guest.user] += seconds  # type: ignore[assignment]  # seconds are counted, in fractions

    def _surprise(self, guest: Visitor, what: str) -> None:
        self.told.surprises.append(f"{guest.user}, who {guest.way}: {what}")


def other(code: str, by: int) -> str:
    """Another code."""
    return f"{(int(code) + by) % 1_000_000:06}"
