"""Which dead letters are meant: by service, saga, reason, time and place."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from farandole.errors import ConfigError
from farandole.redrive.queue import Book, Letter, Sequence

_UNITS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True)
class Choice:
    """All that is said has to fit; what is not said fits everything.

    letters: sources, `topic/partition/offset`; since, until: record time of the message, milliseconds since 1970
    """

    services: Collection[str] = ()
    sagas: Collection[str] = ()
    reasons: Collection[str] = ()
    letters: Collection[str] = ()
    since: int | None = None
    until: int | None = None

    @property
    def is_everything(self) -> bool:
        return self == Choice()

    def fits(self, letter: Letter, reason: str = "") -> bool:
        """reason: in place of the letter's own."""
        return (
            (not self.services or letter.service in self.services)
            and (not self.sagas or letter.saga in self.sagas)
            and (not self.reasons or (reason or letter.reason) in self.reasons)
            and (not self.letters or str(letter.source) in self.letters)
            and (self.since is None or letter.time >= self.since)
            and (self.until is None or letter.time < self.until)
        )

    def sequences(self, book: Book) -> list[Sequence]:
        """What is outstanding and meant. A saga is meant as a whole, by the letter that is due."""
        return [each for each in book.sequences() if self.fits(each.letters[0], each.reason)]


def check_services(named: Iterable[str], known: Collection[str]) -> tuple[str, ...]:
    """The services that are named, all if none is. ConfigError if there is no such service."""
    chosen = tuple(dict.fromkeys(named))
    for service in chosen:
        if service not in known:
            raise ConfigError(f"no such service: {service}", mend=f"one of {', '.join(known)}")
    return chosen or tuple(known)


def moment(text: str | None, now: int) -> int | None:
    """`2h` ago, or `2026-03-01T12:00` (local time, or with an offset), as milliseconds since 1970. ConfigError."""
    if text is None:
        return None
    if ago := re.fullmatch(r"(\d{1,9})([smhd])", text):
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        return round(datetime.fromisoformat(text).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise ConfigError(f"{text!r} is no time", mend="such as 30m (ago), 2h, 7d, or 2026-03-01T12:00+01:00") from None
