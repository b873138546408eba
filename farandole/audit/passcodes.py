"""Passcodes that were sent, looked for in everything that is written.

Whoever sends them tells which they were: the sandbox's mail sink, `GET /state` (docs/sandbox.md). No text that the
login service writes has a decimal digit in it (`farandole/passcodes.py`), so six digits that are a challenge's code, in
a record that names the challenge, are no coincidence; but for the few numbers that a user's name or a record's times
may hold.
"""

from __future__ import annotations

import re
import urllib.parse
import urllib.request
from typing import Final

import msgspec

from farandole.audit.findings import Findings
from farandole.audit.records import LogRecord
from farandole.errors import AuditError

ANSWER_SECONDS: Final = 30.0
DIGITS: Final = 6
RUN: Final = re.compile(rb"[0-9]{6,}")
"""A code may stand anywhere in it. Avro writes a string's length before the string, and that of 24 to 28 bytes reads as
a digit: it makes a longer number of a code that comes before.
"""


class _Operation(msgspec.Struct, gc=False):
    order: str = ""
    code: str = ""


class Passcodes:
    """codes: challenge → its code"""

    def __init__(self, codes: dict[str, str]) -> None:
        self._challenges: dict[bytes, list[bytes]] = {}
        for challenge, code in codes.items():
            self._challenges.setdefault(code.encode(), []).append(challenge.encode())
        self.count = len(codes)

    @classmethod
    def of_mail(cls, url: str) -> Passcodes:
        """All that were sent until now. AuditError if the mail sink does not tell."""
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise AuditError(f"{url!r} is no address", where="--mail", mend="http://host:port of the mail sink")
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/state", timeout=ANSWER_SECONDS) as answer:
                lines = answer.read().splitlines()[1:]
            sent = [msgspec.json.decode(line, type=_Operation) for line in lines]
        except (OSError, ValueError, msgspec.DecodeError) as error:
            mend = "check --mail; without it no passcode is looked for"
            raise AuditError(f"the mail sink does not tell what it sent: {error}", where=url, mend=mend) from error
        return cls({each.order: each.code for each in sent if each.code})

    def look(self, record: LogRecord, findings: Findings) -> None:
        parts = [record.key or b"", record.value or b"", *(value or b"" for _, value in record.headers or ())]
        for part in parts:
            for found in _codes_in(part):
                for challenge in self._challenges.get(found, ()):
                    if any(challenge in each for each in parts):
                        what = "a record that names the challenge has its passcode in it"
                        findings.add("passcode-written", what, where=record.where, saga=challenge.decode())


def _codes_in(part: bytes) -> set[bytes]:
    """Whatever could be one."""
    runs = RUN.findall(part)
    return {run[start : start + DIGITS] for run in runs for start in range(len(run) - DIGITS + 1)}
