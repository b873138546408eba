"""What several services say of the same values: how much money there may be, what a currency and an account are called,
and how the id of a client's saga is made.

Invariant: nothing here depends on anything but its arguments, so decisions may use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

MAX_AMOUNT: Final = 1 << 53
"""Minor units. Up to here every number is exact in every language that reads the topics, those that only know doubles
included."""

MAX_USER: Final = 128
"""Characters of a user's name."""

_CURRENCY = re.compile(r"[A-Z]{3}")
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_UNPRINTABLE = "\x1f"


def is_currency(text: str) -> bool:
    """Whether it looks like an ISO 4217 code: three capital letters."""
    return _CURRENCY.fullmatch(text) is not None


def is_account(name: str) -> bool:
    """Whether a bank account may be called so: fit for a URL, a key and a line of the ledger."""
    return _ACCOUNT.fullmatch(name) is not None


def is_printable(text: str, longest: int) -> bool:
    """1 to `longest` printable characters, no space at either end."""
    return 0 < len(text) <= longest and text.isprintable() and text.strip() == text


def saga_id(letter: str, customer: str, idempotency_key: str) -> str:
    """The id of what a customer asks for: the same for the same customer and key, and fit for a URL."""
    named = f"{len(customer)}:{customer}{idempotency_key}"
    return f"{letter}-" + blake2b(named.encode(errors="surrogatepass"), digest_size=12).hexdigest()


def fingerprint_of(asked: Iterable[str]) -> str:
    """Digest of all that a valid request asks for: equal for the same one sent twice, different for another."""
    return blake2b(_UNPRINTABLE.join(asked).encode(errors="surrogatepass"), digest_size=16).hexdigest()
