"""`login/1`, one-time passcodes: the login service asks the directory, sends a passcode, and hears what was entered.

`register/1`: a user is added to the directory. The saga is the registration's id.
"""

from __future__ import annotations

from agents import directory
from agents import login as logins
from events import (
    BeginLogin,
    ChallengeExpired,
    DeliverAnswered,
    DirectoryLookedUp,
    LookupExpired,
    LookUpUser,
    UserRegistered,
    VerifyCode,
)
from farandole import Flow

login = Flow("login", version=1)

# Who that is, within a deadline.
login.on(BeginLogin, logins.begin)
login.on(LookUpUser, directory.look_up)
login.on(DirectoryLookedUp, logins.looked_up)
login.on(LookupExpired, logins.lookup_expired)

# The passcode, sent and entered.
login.on(DeliverAnswered, logins.deliver_answered)
login.on(VerifyCode, logins.verify)
login.on(ChallengeExpired, logins.challenge_expired)

register = Flow("register", version=1)

register.on(UserRegistered, directory.register)
