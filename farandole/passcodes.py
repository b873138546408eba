"""Passcodes that nothing holds: made where they are sent, and told by a digest where they are entered.

A passcode is made of two halves by HMAC-SHA256: the challenge's seed, 128 bits of the system's randomness that are
drawn at the HTTP edge and travel in the command, and the key, which is in the environment of login workers and nowhere
else. Who reads every topic has the seed and not the key; who has the key alone has no seed. So the code need not be
written anywhere: it is made at the moment of the call that sends it, again if the call is repeated, and its digest for
the command is made, salted with the challenge, by the same key. A plain hash of six digits, however slow, is undone by
trying a million of them; a keyed one is not, without the key.

Invariants:
- What `seed`, `digest` and the call's row hold, without the key, says nothing about the code.
- The same challenge and seed give the same code, in every worker that has the key, so a repeated call is the same call.
- No text that this module makes has a decimal digit in it, but for the code itself: so an auditor can look for codes in
  topics and find none by chance (`farandole/audit/flows/login.py`).
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final

from farandole import config
from farandole.errors import ConfigError

KEY: Final = "LOGIN_PASSCODE_KEY"

SERVICE: Final = "login"
"""Whose workers have the key."""

LEAST_KEY: Final = 32
"""Characters of a key: as many as 128 bits have in hexadecimal. `openssl rand -hex 32` gives 64."""

LEAST_DIFFERENT: Final = 8
"""Different characters: of 32 that are drawn from sixteen, fewer come up less than once in ten million times."""

DIGITS: Final = 6
BYTES: Final = 16
"""Of a seed, and of a challenge's name: nobody guesses either."""

Letter = dict[str, str]


class Passcodes:
    """Makes codes and digests with one key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def code(self, challenge: str, seed: str) -> str:
        """The passcode, six digits. 256 bits modulo a million: every code is as likely as any other."""
        number = int.from_bytes(self._mac("passcode", challenge, seed), "big") % 10**DIGITS
        return f"{number:0{DIGITS}}"

    def digest(self, challenge: str, code: str) -> str:
        """What a challenge keeps of its code, and an attempt says of the one that was entered."""
        return letters_of(self._mac("digest", challenge, code))

    def __repr__(self) -> str:
        return "Passcodes(key=***)"

    def _mac(self, purpose: str, *parts: str) -> bytes:
        said = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in (purpose, *parts))
        return hmac.digest(self._key, said, "sha256")


def letters_of(number: bytes) -> str:
    """Each half of a byte as one of the letters a to p."""
    return "".join(chr(97 + half) for byte in number for half in (byte >> 4, byte & 15))


def random_text() -> str:
    """32 letters that nobody guesses."""
    return letters_of(secrets.token_bytes(BYTES))


def configured() -> Passcodes:
    """With the key of the environment. ConfigError if there is none, or one that could be tried out."""
    key = config.setting(KEY)
    check(key)
    return Passcodes(key)


def check(key: str) -> None:
    """ConfigError if it is none, or one that could be tried out."""
    different = len(set(key))
    if len(key) < LEAST_KEY or different < LEAST_DIFFERENT:
        has = f"{KEY} has {len(key)} characters, {different} different ones"
        raise ConfigError(
            has if key else f"{KEY} is not set",
            where="environment",
            mend=f"set it to what `openssl rand -hex 32` says, the same for all login workers; {LEAST_KEY} characters",
        )


def environment_of(service: str, environment: Mapping[str, str]) -> dict[str, str]:
    """That of a service's worker: without the key, unless it is one of login."""
    return {name: value for name, value in environment.items() if name != KEY or service == SERVICE}


def letters() -> Callable[[Mapping[str, Any]], Letter | None]:
    """For `app.outside(…, fill=…)`: with the key of the environment."""
    return filler(configured())


def filler(passcodes: Passcodes) -> Callable[[Mapping[str, Any]], Letter | None]:
    """Fills in the body of the call that sends a passcode. None: there is nobody to send one to."""

    def fill(body: Mapping[str, Any]) -> Letter | None:
        if not body["to"]:
            return None
        code = passcodes.code(body["challenge"], body["seed"])
        return {"to": body["to"], "challenge": body["challenge"], "code": code}

    return fill
