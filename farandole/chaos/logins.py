"""Logins: visitors who enter their passcode, guess, race, replay and flood."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from confluent_kafka import Message

from farandole.chaos.load import ANSWER_WITHIN, Means, Source, Taken, Wave
from farandole.demo import report
from farandole.demo.following import Follower
from farandole.demo.login import enrol
from farandole.demo.visitors import Visits, visitors
from farandole.errors import FarandoleError
from farandole.partitioner import partition_of

USERS: Final = "directory-users-changelog"
ENROLLED_WITHIN: Final = 120.0
"""Seconds for the directory to have heard of a wave's visitors: longer than it is ever away."""

MAIL_WITHIN: Final = 120.0
"""Seconds for a passcode to come: the deadline of its delivery, and as long again for whoever is to send it."""

LOOK_EVERY: Final = 0.1


class Logins(Source):
    what = "logins"
    least = 10

    def __init__(self, means: Means, flows: tuple[str, ...], rate: float) -> None:
        super().__init__(means, flows, rate)
        self._visits = Visits(
            means.urls["login"],
            means.mail,
            rate,
            answer_within=ANSWER_WITHIN,
            mail_within=MAIL_WITHIN,
            handed_over=True,
        )
        self._known: set[str] = set()
        """Users whom the directory has heard of."""
        self._directory = Follower(
            means.client_config, means.namespace, "chaos-directory", "the directory's users", self._enrolled
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        topic = self.means.namespace + USERS
        self._directory.start({(topic, partition): 0 for partition in range(self.means.partitions)})
        try:
            async with self._visits.open():
                yield
        finally:
            await asyncio.to_thread(self._directory.stop)

    def wave(self, number: int) -> Wave:
        guests = visitors(self.size, self.wave_seed(number))

        async def prepare() -> None:
            await self._until_known(await enrol(self.means.sender, guests))

        async def place(began: float) -> None:
            await self._visits.let_in(guests, began)

        return Wave(len(guests), prepare, lambda: None, place)

    async def _until_known(self, users: Collection[str]) -> None:
        """What is registered and what is asked lie in two topics, and so without an order."""
        deadline = time.monotonic() + ENROLLED_WITHIN
        while not self._known.issuperset(users):
            self._directory.check()
            if time.monotonic() > deadline:
                raise FarandoleError(f"the directory has not heard of its users in {ENROLLED_WITHIN:.0f} s")
            await asyncio.sleep(LOOK_EVERY)

    def _enrolled(self, message: Message) -> None:
        key = message.key()
        self._known.add(key.decode() if isinstance(key, bytes) else str(key))

    # ---- what became of them

    def intended(self) -> int:
        return self._visits.told.came

    def ended(self) -> int:
        return self._visits.told.left

    def counts(self) -> dict[str, dict[str, int]]:
        told, [flow] = self._visits.told, self.flows
        parked = self.means.seen.parked_sagas
        doomed = sum(of == flow and saga in parked for saga, of in self.means.sagas.items())
        return {flow: {"placed": told.came, **dict(sorted(told.outcomes.items())), "parked": doomed}}

    def taken(self, monotonic_to_ms: float) -> Iterator[Taken]:
        for each in self._visits.told.visited:
            home = frozenset({partition_of(each.user, self.means.partitions)})
            through = {"login": home, "directory": home}
            yield Taken(int(each.due * 1000 + monotonic_to_ms), each.ended - each.due, through)

    def problems(self, audit: Mapping[str, Any] | None) -> list[str]:
        told = self._visits.told
        problems = report.some(told.surprises)
        granted = (audit or {}).get("flows", {}).get("login", {}).get("granted", 0)
        if audit is not None and granted < told.granted:
            problems.append(f"{told.granted} visitors were told that they are in, {granted} are")
        return problems
