"""The directory service: which users there are, and where each of them is reached.

Invariant: every question is answered once, by the same event for a user who is known and for one who is not.
"""

from __future__ import annotations

from typing import Any, Final

from events import DirectoryLookedUp, DirectoryUser, LookUpUser, UserRegistered
from farandole import App
from farandole.values import MAX_USER

app = App("directory")
users = app.Table("users", value=DirectoryUser, help="Every user, by name.")

MAX_ADDRESS: Final = 254


def register(event: UserRegistered, at: int) -> None:
    """There is such a user from now on. The newest address counts, also if an older one is a dead letter that somebody
    redrives later.
    """
    assert 0 < len(event.user) <= MAX_USER, f"a user's name has 1 to {MAX_USER} characters"
    assert "@" in event.address, "an address is one for mail"
    assert len(event.address) <= MAX_ADDRESS, f"an address has {MAX_ADDRESS} characters at the most"
    known = users.get(event.user)
    if known is None or known.at <= at:
        users[event.user] = DirectoryUser(address=event.address, at=at)


def look_up(question: LookUpUser) -> DirectoryLookedUp:
    """Whether there is such a user."""
    known = users.get(question.user)
    return DirectoryLookedUp(
        user=question.user, known=known is not None, address="" if known is None else known.address
    )


@app.agent(app.inbox)
async def directory(batches: Any) -> None:
    """Knows which users there are."""
    async for batch in batches:
        batch.decide()
