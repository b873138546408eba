"""Logins in a run: who begins one when, and what is entered when, right or wrong, in time or not.

Invariant: drawn apart from all else, so a plan without logins is what it always was. Codes are made from the plan, not
read from the mail sink: a visitor may be quicker than the mail, as an attacker would like to be.
"""

from __future__ import annotations

from random import Random
from typing import Final

import msgspec

from farandole.partitioner import partition_of
from farandole.passcodes import Passcodes, letters_of

SERVICES: Final = ("login", "directory")
FLOW, REGISTER = "login/1", "register/1"
PASSCODES: Final = Passcodes("the key of simulated login workers")
SHARE: Final = 0.15
"""Of all plans that have logins."""

USERS: Final = ("anna", "bea", "nobody")
REGISTERED: Final = ("anna", "bea")
"""Whom the directory knows."""


class LoginPlan(msgspec.Struct, frozen=True):
    """One challenge. Times are milliseconds since the run began.

    name:    of the challenge, in its user's partition
    copies:  when the same command is sent again
    entered: when a code is, and how far it is from the right one; 0: it is the right one
    """

    name: str
    at: int
    user: str
    copies: tuple[int, ...] = ()
    entered: tuple[tuple[int, int], ...] = ()

    @property
    def seed(self) -> str:
        return letters_of(f"seed of {self.name}"[-16:].encode())

    def digest(self, off: int = 0) -> str:
        code = f"{(int(PASSCODES.code(self.name, self.seed)) + off) % 1_000_000:06}"
        return PASSCODES.digest(self.name, code)


def registration(user: str) -> str:
    """The saga in which a user is registered."""
    return f"register-{user}"


def has_logins(seed: int) -> bool:
    return Random(f"logins {seed}").random() < SHARE


def draw(seed: int, partitions: int) -> tuple[LoginPlan, ...]:
    """A few challenges of few users, so that they meet."""
    random = Random(f"challenges {seed}")
    made = []
    for number in range(random.choice((1, 2, 3, 5, 8))):
        user = random.choice(USERS[: random.choice((1, 3))])
        names = (f"c-{seed}-{number}-{n}" for n in range(1_000))
        name = next(name for name in names if partition_of(name, partitions) == partition_of(user, partitions))
        at = random.randrange(2_000)
        entered = tuple(
            (at + random.choice((50, 500, 3_000, 310_000)) + random.randrange(300), random.choice((0, 0, 1, 2)))
            for _ in range(random.choice((0, 1, 1, 2, 6, 8)))
        )
        copies = (at + random.randrange(1_000),) if random.random() < 0.2 else ()
        made.append(LoginPlan(name, at, user, copies, entered))
    return tuple(made)
