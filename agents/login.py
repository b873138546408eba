"""The login service: challenges users to enter a passcode that is sent to them, and says whether they did.

All that concerns one user lies in the user's partition, the user's challenges included: a challenge's name, which is
its saga, is drawn so that it belongs there (`web/login.py`). So one decision ends the older challenge when a newer one
begins, and attempts are counted where they meet.

Invariants:
- A user has one live challenge at the most, which lives five minutes and takes five attempts.
- Every challenge ends once, and one that has ended is never granted.
- Whether there is such a user decides nothing but whether a code can be right, and whether one is sent: whoever is
  unknown goes the same way, event by event and call by call.
- No passcode is known here: half of what makes one, and a keyed digest to compare with (`farandole/passcodes.py`).
"""

from __future__ import annotations

from typing import Any, Final

from msgspec.structs import replace

from events import (
    Attempt,
    BeginLogin,
    Challenge,
    ChallengeExpired,
    ChallengePhase,
    DeliverAnswered,
    DirectoryLookedUp,
    LoginChallenged,
    LoginExpired,
    LoginGranted,
    LoginLocked,
    LoginRefused,
    LoginSuperseded,
    LoginUnanswered,
    LoginUser,
    LoginWrong,
    LookupExpired,
    LookUpUser,
    VerifyCode,
)
from farandole import App, Call, CancelTimer, Timer, Withdraw
from farandole.values import MAX_USER, is_printable

app = App("login", views="web.login", intake="login.commands", discreet=True)
challenges = app.Table(
    "challenges",
    value=Challenge,
    ended=lambda challenge: challenge.phase not in ("asking", "live"),
    keep=lambda _: REMEMBERED,
    help="Every challenge, by its name, in its user's partition.",
)
users = app.Table(
    "users",
    value=LoginUser,
    ended=lambda user: True,
    keep=lambda _: DAY,
    help="The newest challenge of whoever has begun one, and how many there were.",
)
mail = app.outside("mail", "MAIL_URL", fill="farandole.passcodes:letters")

LIVES: Final = 300
"""Seconds that a challenge lives, from the directory's answer."""

ATTEMPTS: Final = 5
"""Codes that may be entered for one challenge."""

MOST_IN_A_WHILE: Final = 5
WHILE: Final = 900
MOST_A_DAY: Final = 20
DAY: Final = 86_400
CHALLENGES: Final = ((MOST_IN_A_WHILE, WHILE), (MOST_A_DAY, DAY))
"""So many challenges of one user in so many seconds, whoever begins them. With the attempts that bounds guessing at 100
codes of a million a day, and what somebody who floods a user may have sent.
"""

REMEMBERED: Final = 3600
"""Seconds for which a challenge that has ended stays, for whoever looks into the table: to verify it, and to verify one
that is not there, is the same.
"""

ASK_AGAIN: Final = WHILE
"""Seconds after which whoever has met a limit is to ask again: always as many. How long it really takes would tell any
stranger when the user began the others.
"""

LOOKUP_WITHIN: Final = 2.0
"""Seconds for the directory to answer."""

DELIVER_WITHIN: Final = 60.0
"""Seconds for a passcode to be sent."""

Effects = tuple[
    LookUpUser | LoginSuperseded | Timer[LookupExpired] | Withdraw,
    ...,
]


def user_problem(user: str) -> str:
    """What is wrong with a user's name, for people; empty if nothing is."""
    if is_printable(user, MAX_USER):
        return ""
    return f"user: 1 to {MAX_USER} printable characters, no space at either end"


def retry_after(user: LoginUser | None, at: int) -> int:
    """Seconds after which to ask again; 0: the user may begin another challenge now. at: milliseconds since 1970"""
    begun = user.begun if user is not None else ()
    is_limited = any(len(begun) >= most and begun[-most] > at - seconds * 1000 for most, seconds in CHALLENGES)
    return ASK_AGAIN if is_limited else 0


# ---- a challenge begins


def begin(command: BeginLogin, at: int) -> Effects | LoginRefused | None:
    """Ask who that is; unless there were too many challenges for one user. The user's older challenge ends."""
    if command.saga in challenges:
        return None
    assert not user_problem(command.user), user_problem(command.user)
    user = users.get(command.user)
    wait = retry_after(user, at)
    if wait:
        challenges[command.saga] = Challenge(phase="limited", user=command.user, retry_after=wait)
        return LoginRefused(user=command.user, retry_after=wait)
    begun = tuple(each for each in (user.begun if user else ()) if each > at - DAY * 1000)
    users[command.user] = LoginUser(live=command.saga, begun=(*begun, at))
    challenges[command.saga] = Challenge(phase="asking", user=command.user, seed=command.seed, digest=command.digest)
    question = LookUpUser(user=command.user), Timer(LookupExpired(), after=LOOKUP_WITHIN)
    return *_supersede(user), *question


def _supersede(user: LoginUser | None) -> tuple[LoginSuperseded | Withdraw, ...]:
    """End the challenge that the user has had until now. Its timers fire for nobody."""
    older = challenges.get(user.live) if user is not None else None
    if user is None or older is None or older.phase not in ("asking", "live"):
        return ()
    challenges[user.live] = _ended(older, "superseded")
    return LoginSuperseded(user=older.user, challenge=user.live), Withdraw(_delivery_key(user.live))


def _ended(challenge: Challenge, phase: ChallengePhase) -> Challenge:
    """Of what has ended nothing is kept that could be compared with a code."""
    return replace(challenge, phase=phase, seed="", digest="")


Live = tuple[LoginChallenged | CancelTimer | Timer[ChallengeExpired] | Call[DeliverAnswered], ...]


def looked_up(answer: DirectoryLookedUp, at: int) -> Live | None:
    """The challenge is live, and its passcode is sent. For a user whom nobody knows all is the same, but that there is
    no address: then the call comes to nothing when it is performed.
    """
    challenge = challenges.get(answer.saga)
    if challenge is None or challenge.phase != "asking":
        return None
    challenges[answer.saga] = replace(challenge, phase="live", known=answer.known, expires_at=at + LIVES * 1000)
    delivery = Call(
        outside=mail,
        operation="passcode",
        key=_delivery_key(answer.saga),
        body={"to": answer.address if answer.known else "", "challenge": answer.saga, "seed": challenge.seed},
        answer=DeliverAnswered,
        deadline=DELIVER_WITHIN,
    )
    expiry = Timer(ChallengeExpired(), after=LIVES)
    return LoginChallenged(user=challenge.user), CancelTimer(LookupExpired), expiry, delivery


def _delivery_key(challenge: str) -> str:
    return f"{challenge}/passcode"


def lookup_expired(timer: LookupExpired) -> LoginUnanswered | None:
    """The directory is silent: whoever asked is told to come again, known or not. As no code can be right, and none is
    sent, it counts towards no limit: an outage of seconds is not to lock anybody out for a quarter of an hour.
    """
    challenge = challenges.get(timer.saga)
    if challenge is None or challenge.phase != "asking":
        return None
    user = users.get(challenge.user)
    if user is not None and user.live == timer.saga:  # the newest one is its own
        users[challenge.user] = replace(user, begun=user.begun[:-1])
    challenges[timer.saga] = _ended(challenge, "unanswered")
    return LoginUnanswered(user=challenge.user)


def deliver_answered(answer: DeliverAnswered) -> None:
    """Noted, for whoever looks into the table. Nothing waits for it."""
    challenge = challenges.get(answer.saga)
    if challenge is not None:
        challenges[answer.saga] = replace(challenge, delivery=answer.outcome)


# ---- it is answered, or not

Answered = tuple[LoginGranted | LoginLocked | LoginExpired | CancelTimer, ...]


def verify(command: VerifyCode, at: int) -> Answered | LoginWrong | None:
    """One attempt. What comes when the challenge has ended changes nothing and is not counted."""
    challenge = challenges.get(command.saga)
    if challenge is None or challenge.phase != "live":
        return None
    if any(attempt.name == command.attempt for attempt in challenge.attempts):
        return None
    if at >= challenge.expires_at:
        challenges[command.saga] = _ended(challenge, "expired")
        return CancelTimer(ChallengeExpired), LoginExpired(user=challenge.user)
    left = ATTEMPTS - len(challenge.attempts) - 1
    if challenge.known and command.proof == challenge.digest:
        challenges[command.saga] = _ended(_tried(challenge, Attempt(command.attempt, "granted")), "granted")
        return CancelTimer(ChallengeExpired), LoginGranted(user=challenge.user)
    if left == 0:
        challenges[command.saga] = _ended(_tried(challenge, Attempt(command.attempt, "locked")), "locked")
        return CancelTimer(ChallengeExpired), LoginLocked(user=challenge.user)
    challenges[command.saga] = _tried(challenge, Attempt(command.attempt, "wrong"))
    return LoginWrong(user=challenge.user, attempts_left=left)


def _tried(challenge: Challenge, attempt: Attempt) -> Challenge:
    return replace(challenge, attempts=(*challenge.attempts, attempt))


def challenge_expired(timer: ChallengeExpired) -> LoginExpired | None:
    challenge = challenges.get(timer.saga)
    if challenge is None or challenge.phase != "live":
        return None
    challenges[timer.saga] = _ended(challenge, "expired")
    return LoginExpired(user=challenge.user)


@app.agent(app.inbox)
async def login(batches: Any) -> None:
    """Challenges users to enter a passcode, and says whether they did."""
    async for batch in batches:
        batch.decide()
