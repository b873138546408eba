"""HTTP for logins: begin one, and enter the passcode that was sent.

    POST /login {user}                      201 with the challenge; 429 too many for this user, with Retry-After; 422 a
                                            bad request; 503 the user directory is silent
    POST /login/verify {challenge, code}    200 granted, 403 wrong or locked, 410 expired, 422 a bad request

`outcome` says which of the four it was. A challenge that was granted before, ended by a newer one, or never was, is
expired. 503 also, of which `mend` says what to do: nobody owns the partition at this moment, too many challenges are
open, or what became of the request is not known in time.

Invariants:
- Nothing in an answer, nor the way to it, depends on whether there is such a user: each waits for the same commits.
- What was entered leaves this module as a keyed digest only.
- A request that is repeated is another attempt: an answer that was lost is not given again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from confluent_kafka import KafkaException
from faust.web import View

from agents import login as service
from events import BeginLogin, Challenge, VerifyCode
from farandole.door import Door, Unknown, replied
from farandole.passcodes import Passcodes, configured, random_text

FLOW = "login/1"
DECIDED_WITHIN = 10.0
"""Seconds that a request waits: more than the directory's deadline."""

CHALLENGE = re.compile(r"c-[a-p]{32}")
CODE = re.compile(r"[0-9]{6}")

Reply = tuple[int, dict[str, Any]]


class Login(msgspec.Struct, forbid_unknown_fields=True):
    user: str


class Verification(msgspec.Struct, forbid_unknown_fields=True):
    challenge: str
    code: str


def read(body: bytes, kind: type[Any]) -> Any:
    """What a request's body asks for, or a list of what is wrong with it. Never repeats a code."""
    try:
        asked = msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return [str(error)[:500]]
    if isinstance(asked, Login):
        problem = service.user_problem(asked.user)
        return [problem] if problem else asked
    problems = [] if CHALLENGE.fullmatch(asked.challenge) else ["challenge: as POST /login has told it"]
    problems += [] if CODE.fullmatch(asked.code) else ["code: six digits"]
    return problems or asked


class Logins:
    """The two answers, each (status, JSON)."""

    def __init__(self, door: Door, passcodes: Passcodes) -> None:
        self._door, self._passcodes = door, passcodes

    def _row(self, partition: int, challenge: str) -> Challenge | None:
        return service.challenges.committed(partition, challenge)

    # ---- begin

    async def begin(self, request: Any) -> Reply:
        asked = read(await request.read(), Login)
        if isinstance(asked, list):
            return 422, {"problems": asked}

        async def here(partition: int) -> Reply:
            # Whoever has had too many is told so without a record being written: flooding costs Kafka nothing.
            wait = service.retry_after(service.users.committed(partition, asked.user), time.time_ns() // 1_000_000)
            if wait:
                return _limited(wait)
            challenge, seed = await self._draw(partition), random_text()
            digest = self._passcodes.digest(challenge, self._passcodes.code(challenge, seed))
            command = BeginLogin(user=asked.user, seed=seed, digest=digest)
            return _begun(challenge, await self._decided(command, challenge, partition, _is_decided))

        return await self._door.at_owner(request, asked.user, here)

    async def _draw(self, partition: int) -> str:
        """A challenge's name that belongs in its user's partition; of those that do, each as likely as any other."""
        while True:
            challenge = f"c-{random_text()}"
            if await self._door.partition(challenge) == partition:
                return challenge

    # ---- verify

    async def verify(self, request: Any) -> Reply:
        asked = read(await request.read(), Verification)
        if isinstance(asked, list):
            return 422, {"problems": asked}
        attempt = f"a-{random_text()}"

        async def here(partition: int) -> Reply:
            row = self._row(partition, asked.challenge)
            if row is None:
                return _outcome(404, "expired")  # for the owner alone to say; told as 410
            command = VerifyCode(attempt=attempt, proof=self._passcodes.digest(asked.challenge, asked.code))
            if row.phase == "live":
                row = await self._decided(command, asked.challenge, partition, partial(_is_answered, attempt))
            return _answered(row, attempt)

        status, said = await self._door.at_owner(request, asked.challenge, here)
        return 410 if status == 404 else status, said

    async def _decided(
        self, command: Any, challenge: str, partition: int, settled: Callable[[Challenge | None], bool]
    ) -> Challenge:
        """Write it, wait, and say what the row is then. Unknown: it may have been written, and nobody here can say what
        becomes of it; so whoever has forwarded the request is not to forward it again, which would be another one.
        """
        try:
            done = await self._door.send_and_wait(
                command,
                challenge,
                FLOW,
                table="challenges",
                timeout=DECIDED_WITHIN,
                settled=lambda: settled(self._row(partition, challenge)),
            )
            row = self._row(partition, challenge) if done else None
        except (KafkaException, KeyError):  # KeyError: the partition has left
            row = None
        if row is None:
            raise Unknown
        return row


def _is_decided(row: Challenge | None) -> bool:
    return row is not None and row.phase != "asking"


def _begun(challenge: str, row: Challenge) -> Reply:
    """A challenge that a newer one has ended meanwhile was begun all the same."""
    if row.phase == "limited":
        return _limited(row.retry_after)
    if row.phase == "unanswered":
        return 503, {"problems": ["logins are not possible at this moment"], "retry_after": 1}
    return 201, {"challenge": challenge, "expires_in": service.LIVES}


def _limited(wait: int) -> Reply:
    return 429, {"problems": ["there were too many logins for this user"], "retry_after": wait}


def _is_answered(attempt: str, row: Challenge | None) -> bool:
    """This attempt was decided, or never counts, because the challenge has ended without it."""
    return row is None or row.phase != "live" or any(each.name == attempt for each in row.attempts)


def _answered(row: Challenge, attempt: str) -> Reply:
    for place, each in enumerate(row.attempts):
        if each.name == attempt:
            left = service.ATTEMPTS - place - 1
            return _outcome(STATUS[each.outcome], each.outcome, {"attempts_left": left} if left else {})
    outcome = "locked" if row.phase == "locked" else "expired"
    return _outcome(STATUS[outcome], outcome)


STATUS = {"granted": 200, "wrong": 403, "locked": 403, "expired": 410}
SAYS = {
    "wrong": "the code is wrong",
    "locked": "too many codes were wrong: begin a new login",
    "expired": "the challenge is not live: begin a new login",
}


def _outcome(status: int, outcome: str, more: Mapping[str, Any] | None = None) -> Reply:
    if outcome == "granted":
        return status, {"outcome": outcome}
    return status, {"outcome": outcome, **(more or {}), "problems": [SAYS[outcome]]}


def add_views(app: Any) -> None:
    """Register the views with the login service's App. ConfigError if there is no key for passcodes."""
    logins = Logins(Door(app, topic="login.commands", fleeting=True), configured())
    reply = partial(replied, "user")

    @app.page("/login")
    class Begin(View):
        async def post(self, request: Any) -> Any:
            return await reply(self, request, logins.begin(request))

    @app.page("/login/verify")
    class Verify(View):
        async def post(self, request: Any) -> Any:
            return await reply(self, request, logins.verify(request))
