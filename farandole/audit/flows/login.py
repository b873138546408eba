"""`login`: every challenge ends once, one of a user lives at a time, there are not too many of one user, and nobody is
let in who should not be.

Invariant: a user's challenges lie in one partition of topic `login`, so what is read of them is read in the order in
which it happened, and is judged as it comes; only how a challenge ended, or that it did not, is judged at the end.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, Final

import events
from farandole.audit.flows import Books, FlowAudit, Moment, Saga
from farandole.audit.records import LogRecord

ENDS: Final[dict[type[Any], str]] = {
    events.LoginGranted: "granted",
    events.LoginLocked: "locked",
    events.LoginExpired: "expired",
    events.LoginRefused: "refused",
    events.LoginUnanswered: "unanswered",
}
ATTEMPTS: Final = 5
LIVES_MS: Final = 300_000
LATE_MS: Final = 60_000
"""Milliseconds beyond its five minutes after which a challenge should have ended."""

LIMITS: Final = ((5, 900_000), (20, 86_400_000))
"""So many challenges of one user in so many milliseconds."""

MOST: Final = max(most for most, _ in LIMITS)

HEARD_OF: Final = 100_000
"""Challenges that were said to be superseded before anything else of them was read; more are not compared."""


class Challenge(Saga, gc=False):
    """asked: the command was read; live: it said so; known: the directory did; ends: how it ended, as often as it did;
    wrong: codes that were counted; live_at: by the record that said so; before: for each limit, the user's challenge
    that is so many before this one
    """

    asked: bool = False
    live: bool = False
    known: bool | None = None
    ends: tuple[str, ...] = ()
    wrong: int = 0
    live_at: int = 0
    before: tuple[Challenge | None, ...] = ()


class Audit(FlowAudit):
    flow: ClassVar = "login"
    clients: ClassVar = frozenset({events.BeginLogin, events.VerifyCode})

    def __init__(self, books: Books) -> None:
        super().__init__(books)
        self._live: dict[str, str] = {}
        """User → the challenge that lives."""
        self._newest: dict[str, deque[Challenge]] = {}
        """User → the newest challenges that lived, oldest first."""
        self._challenges: dict[str, Challenge] = {}
        self._superseded: dict[str, int] = {}
        """Challenges that were said to be superseded → how often, until something else of them is read."""

    def begin(self, flow: str, home: int, since: int) -> Challenge:
        return Challenge(flow, home, since)

    def take(self, saga: Challenge, event: Any, record: LogRecord) -> None:
        self._challenges[event.saga] = saga
        for _ in range(self._superseded.pop(event.saga, 0)):
            saga.ends += ("superseded",)
        kind = type(event)
        if kind is events.BeginLogin:
            saga.asked = True
        elif kind is events.DirectoryLookedUp:
            saga.known = event.known
        elif kind is events.LoginChallenged:
            self._began(saga, event, record)
        elif kind is events.LoginSuperseded:
            self._was_superseded(event, record)
        elif kind is events.LoginWrong:
            saga.wrong += 1
            if event.attempts_left != ATTEMPTS - saga.wrong or saga.ends:
                what = f"{event.attempts_left} attempts are left after {saga.wrong} wrong codes"
                ended = f", and it had ended: {saga.ends[0]}" if saga.ends else ""
                self._say("attempts-miscounted", what + ended, event, record)
        elif kind in ENDS:
            self._ended(saga, ENDS[kind], event, record)

    def _began(self, saga: Challenge, event: Any, record: LogRecord) -> None:
        other = self._live.get(event.user)
        if other is not None:
            self._say("two-challenges", f"{event.user} has {other}, which lives as well", event, record)
        if saga.live or saga.ends:
            self._say("challenge-ended-twice", "it is said to be live again", event, record)
        if not saga.live:
            self._count(saga, event.user, record.time)
        saga.live = True
        if not saga.ends:
            self._live[event.user] = event.saga

    def _count(self, saga: Challenge, user: str, at: int) -> None:
        newest = self._newest.setdefault(user, deque(maxlen=MOST))
        saga.live_at = at
        saga.before = tuple(newest[-most] if len(newest) >= most else None for most, _ in LIMITS)
        newest.append(saga)

    def _was_superseded(self, event: events.LoginSuperseded, record: LogRecord) -> None:
        older = self._challenges.get(event.challenge)
        if older is not None:
            self._ended(older, "superseded", event, record, event.challenge)
        elif len(self._superseded) < HEARD_OF:
            self._superseded[event.challenge] = self._superseded.get(event.challenge, 0) + 1
        if self._live.get(event.user) == event.challenge:
            del self._live[event.user]

    def _ended(self, saga: Challenge, how: str, event: Any, record: LogRecord, name: str = "") -> None:
        name = name or event.saga
        if saga.ends:
            what = f"{how}, although it had ended: {', '.join(saga.ends)}"
            self.books.findings.add("challenge-ended-twice", what, where=record.where, saga=name)
        saga.ends += (how,)
        if how == "locked" and saga.wrong != ATTEMPTS - 1:
            self._say("attempts-miscounted", f"locked after {saga.wrong + 1} wrong codes", event, record)
        if self._live.get(event.user) == name:
            del self._live[event.user]

    def _say(self, check: str, what: str, event: Any, record: LogRecord) -> None:
        self.books.findings.add(check, what, where=record.where, saga=event.saga)

    # ---- at the end

    def judge(self, name: str, saga: Challenge, moment: Moment) -> None:
        figures = moment.figures.setdefault("login", {})
        how = saga.ends[0] if saga.ends else "live" if saga.live else "open"
        if saga.asked:
            figures[how] = figures.get(how, 0) + 1
        elif not saga.ends and not saga.live:
            return  # somebody verified what was never begun
        if "granted" in saga.ends and not (saga.live and saga.known) and not moment.horizon:
            what = "no live challenge of a user whom the directory knows" + ("" if saga.live else ", it never began")
            moment.findings.add("granted-to-nobody", what, saga=name, momentary=True)
        late = moment.now - saga.since > (LIVES_MS if saga.live else 0) + LATE_MS
        if not saga.ends and (late or (moment.settled and not saga.live)) and not moment.is_held(name):
            what = f"{'live' if saga.live else 'begun'} since {saga.since}, and not ended"
            moment.findings.add("challenge-not-ended", what, saga=name, momentary=True)
        self._judge_limits(name, saga, moment)

    def _judge_limits(self, name: str, saga: Challenge, moment: Moment) -> None:
        """What the service compares are the times at which it took the two commands. They are not known, as a command
        may have waited, or been redriven; but the older one lies not before its first record, nor the newer one behind
        the record that says that it lives. So what is too close by these is too close, but for the clocks.
        """
        for (most, within), older in zip(LIMITS, saga.before, strict=False):
            if older is None or not older.asked or older.since < moment.horizon:
                continue
            if saga.live_at - older.since < within - LATE_MS:
                what = f"{most + 1} of its user within {(saga.live_at - older.since) // 1000} s, {most} are allowed"
                moment.findings.add("too-many-challenges", f"{what} in {within // 1000} s", saga=name, momentary=True)
