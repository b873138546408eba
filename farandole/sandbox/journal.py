"""What an outside system has done, in order: in memory, and if there is a directory, in an append-only file.

Invariants:
- An operation is in the file before its answer leaves, in one `write`. So kill -9 forgets nothing that was answered.
  (The page cache outlives the process, not the machine: there is no fsync.)
- A line is never changed. The last one may be torn by a kill; it was never answered, and is cut off at the next start.
- Nothing here is secret, but for passcodes, for which the mail sink stands in as the inbox: a body is kept as a
  fingerprint, and what is worth showing of it in named fields.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from farandole.errors import ConfigError


class Operation(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, kw_only=True):
    """One operation that the system has decided on, and what it answered.

    n:         1 for the first operation of this system, then without gaps
    at:        when it was performed, ms since 1970
    operation: "authorise", "book", …
    key:       its idempotency key
    status:    HTTP status of its answer; 200 is accepted, everything else refused
    reference: the system's own name for it, derived from system, operation and key
    outcome:   of what takes a step back: "undone" or "nothing-to-undo"
    reason:    why it was refused
    about:     idempotency key of the step it acts on (a capture's authorisation)
    order:     as the caller said it, or the order of the step it acts on; empty if that step was never seen. Of a
               passcode: its challenge
    amount:    minor units of `currency`
    to, template: a mail's address, and its template or subject
    code:      the passcode that a mail brings
    violation: what the caller did that may never happen; empty when all is well
    """

    n: int = 0
    at: int = 0
    operation: str = ""
    key: str = ""
    status: int
    reference: str = ""
    outcome: str = ""
    reason: str = ""
    about: str = ""
    order: str = ""
    amount: int | None = None
    currency: str = ""
    to: str = ""
    template: str = ""
    code: str = ""
    violation: str = ""

    @property
    def accepted(self) -> bool:
        return self.status == 200


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An operation with the fingerprint of the request that asked for it: a line of the file."""

    fingerprint: str
    done: Operation


class _Head(msgspec.Struct, frozen=True):
    """First line of the file. `version` changes when older lines could no longer be read."""

    journal: str
    version: int


_encode = msgspec.json.Encoder().encode
_decode_entry = msgspec.json.Decoder(Entry).decode
_decode_head = msgspec.json.Decoder(_Head).decode


class Journal:
    """The file of one system. One process at a time: the file is locked until that process ends."""

    def __init__(self, directory: Path, system: str) -> None:
        self.path = directory / f"{system}.jsonl"
        self._head = _Head(system, 1)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b", buffering=0)
        except OSError as error:
            raise ConfigError(
                f"the journal cannot be opened: {error.strerror}", where=str(self.path), mend="pass another --data"
            ) from error
        self._lock()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(
                "the journal is in use by another process",
                where=str(self.path),
                mend="stop that sandbox, or pass another --data",
            ) from error

    def replay(self) -> Iterator[Entry]:
        """Every line of earlier runs, oldest first. ConfigError names the line that cannot be read."""
        self._file.seek(0)
        good = number = 0
        with os.fdopen(os.dup(self._file.fileno()), "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if not line.endswith(b"\n"):
                    break
                if number == 1:
                    self._check_head(line)
                else:
                    yield self._entry(number, line)
                good += len(line)
        self._file.truncate(good)
        if good == 0:
            self._write(_encode(self._head) + b"\n")

    def _check_head(self, line: bytes) -> None:
        try:
            head = _decode_head(line)
        except msgspec.DecodeError:
            head = None
        if head != self._head:
            raise ConfigError(
                f"this is not a journal of the {self._head.journal}, version {self._head.version}",
                where=f"{self.path}:1",
                mend="move the file away, or pass another --data",
            )

    def _entry(self, number: int, line: bytes) -> Entry:
        try:
            entry = _decode_entry(line)
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"not a line of a journal: {error}",
                where=f"{self.path}:{number}",
                mend="move the file away (its operations are then forgotten), or restore it",
            ) from error
        if entry.done.n != number - 1:
            raise ConfigError(
                f"operation {number - 1} is missing; here is {entry.done.n}",
                where=f"{self.path}:{number}",
                mend="move the file away (its operations are then forgotten), or restore it",
            )
        return entry

    def append(self, entry: Entry) -> None:
        """OSError if it cannot be written; the file is then as before."""
        self._write(_encode(entry) + b"\n")

    def _write(self, line: bytes) -> None:
        before = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            self._file.truncate(before)
            raise

    def close(self) -> None:
        self._file.close()
