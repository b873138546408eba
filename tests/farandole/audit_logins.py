"""A log of logins, as the real decisions leave it: one of each kind, and a code for the audit to look for."""

from __future__ import annotations

import functools

from events import BeginLogin, ChallengeExpired, UserRegistered, VerifyCode
from farandole.audit.passcodes import Passcodes
from farandole.partitioner import partition_of
from tests.farandole.audit_log import Log, Recording, recording
from tests.flows.outside import PASSCODES

FLOW = "login/1"


def named(user: str, number: int = 0) -> str:
    """A challenge's name in its user's partition."""
    names = (f"c-{user}-{n}" for n in range(10_000))
    return [name for name in names if partition_of(name, 6) == partition_of(user, 6)][number]


OF = {
    "granted": named("anna"),
    "locked": named("bea"),
    "superseded": named("cleo"),
    "live": named("cleo", 1),
    "expired": named("dora"),
    "stranger": named("nobody"),
}


def begin(world: Recording, challenge: str, user: str) -> None:
    seed = "abcdefgh" * 4
    digest = PASSCODES.digest(challenge, PASSCODES.code(challenge, seed))
    world.send(BeginLogin(user=user, seed=seed, digest=digest), challenge, FLOW)
    world.run()


def enter(world: Recording, challenge: str, attempt: int, off: int = 0) -> None:
    code = f"{(int(world.outside.codes.get(challenge, ('', '0'))[1]) + off) % 1_000_000:06}"
    world.send(VerifyCode(attempt=f"a-{attempt}", proof=PASSCODES.digest(challenge, code)), challenge, FLOW)
    world.run()


@functools.cache
def _told() -> tuple[Log, dict[str, str]]:
    with recording() as world:
        for user in ("anna", "bea", "cleo", "dora"):
            world.send(UserRegistered(user=user, address=f"{user}@example.org"), f"r-{user}", "register/1")
        world.run()
        begin(world, OF["granted"], "anna")
        enter(world, OF["granted"], 0, off=1)
        enter(world, OF["granted"], 1)
        begin(world, OF["locked"], "bea")
        for number in range(5):
            enter(world, OF["locked"], number, off=number + 1)
        begin(world, OF["superseded"], "cleo")
        begin(world, OF["live"], "cleo")
        begin(world, OF["expired"], "dora")
        world.fire(("login", OF["expired"], ChallengeExpired.__name__))
        world.run()
        begin(world, OF["stranger"], "nobody")
        enter(world, OF["stranger"], 0)
        codes = {challenge: code for challenge, (_, code) in world.outside.codes.items()}
        return world.finish(), codes


def logins() -> tuple[Log, Passcodes]:
    """A log of its own, and the passcodes that were sent."""
    log, codes = _told()
    return log.copy(), Passcodes(codes)


def code_of(kind: str) -> str:
    return _told()[1][OF[kind]]
