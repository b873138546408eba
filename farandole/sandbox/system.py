"""What every outside system has in common: an idempotency key names one operation, for ever.

Invariants:
- Same key, same operation, same body: performed once, the same answer each time. Another operation or body: 422.
- What takes a step back may come before the step. It is remembered, and the step, when it comes, is refused: a late,
  lost request cannot take effect after its compensation.
- What a caller may never do (a void after a capture) is answered 409, counted, and kept as a violation.
- Nothing is forgotten to make room: a system that has `limit` operations answers new keys 507, performs nothing, and
  waits to be given more room. An auditor finds everything, and a key never means two operations.
- Secrets live as long as their request: never in an operation, an answer or a log. But for a passcode in the mail sink,
  which is the inbox: its operation has it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, ClassVar, NamedTuple

import msgspec

from farandole.sandbox.journal import Entry, Journal, Operation

LIMIT = 500_000
"""Operations that a system keeps unless told otherwise: about 800 bytes each, so 400 MB when full."""

Text = Annotated[str, msgspec.Meta(max_length=1_000)]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Amount = Annotated[int, msgspec.Meta(ge=0, le=2**53)]

TOMBSTONED = 410
VIOLATION = 409
CONFLICT = "idempotency conflict"


class Answer(NamedTuple):
    """HTTP status, JSON body, and whether this is the answer to a repeated request."""

    status: int
    body: bytes
    repeated: bool = False


def accepted(**facts: Any) -> Operation:
    return Operation(status=200, **facts)


def refused(status: int, reason: str, **facts: Any) -> Operation:
    return Operation(status=status, reason=reason, **facts)


def violated(what: str, **facts: Any) -> Operation:
    """Refused, and a bug of the caller's."""
    return Operation(status=VIOLATION, reason=what, violation=what, **facts)


_encode = msgspec.json.Encoder(order="deterministic").encode


def reason(text: str) -> bytes:
    return _encode({"reason": text})


class System:
    """Base of the gateway, the carrier and the mail sink.

    A subclass has one method per operation, `(key, body) -> Operation`, which only decides, and `_take_effect`, which
    changes what later decisions rest on. So a journal is replayed without deciding anything again.

    Args:
        journal: where operations are kept across restarts; None: in memory only
        limit:   operations kept at most
        clock:   seconds since 1970
    """

    name: ClassVar[str]
    bodies: ClassVar[Mapping[str, type[msgspec.Struct]]]

    def __init__(
        self, journal: Journal | None = None, *, limit: int = LIMIT, clock: Callable[[], float] = time.time
    ) -> None:
        self.limit, self._journal, self._clock = limit, journal, clock
        self._log: list[Operation] = []
        self._entries: dict[str, Entry] = {}
        self._conflicts: set[str] = set()
        self._undone: set[str] = set()
        self.violations = 0
        self._rules: dict[str, Callable[[str, Any], Operation]] = {name: getattr(self, name) for name in self.bodies}
        for entry in journal.replay() if journal else ():
            self._enter(entry)

    # ---- what the server asks

    def perform(self, operation: str, key: str, raw: bytes) -> Answer:
        """Decide on a request, keep the decision, answer. The answer's text shows nothing of the body."""
        if operation not in self.bodies:
            return Answer(404, reason(f"the {self.name} has no such operation; it has {', '.join(self.bodies)}"))
        if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
            return Answer(400, reason("the header Idempotency-Key must be 1 to 255 printable ASCII characters"))
        try:
            said = msgspec.json.decode(raw)
            asked = msgspec.convert(said, self.bodies[operation])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # msgspec's messages name types and paths, never values.
            text = str(error) if isinstance(error, msgspec.DecodeError) else "the body is not JSON that can be read"
            return Answer(400, reason(text))
        mark = _fingerprint(operation, key, said)
        known = self._entries.get(key)
        if known is not None and known.fingerprint == mark:
            return _answer(known.done, repeated=True)
        return self._keep(mark, operation, key, self._decide(operation, key, asked, known))

    def operations(self, after: int = 0, limit: int | None = None) -> Iterator[Operation]:
        """In the order in which they were performed, without the first `after`; not those that come meanwhile."""
        end = len(self._log) if limit is None else min(len(self._log), after + limit)
        return (self._log[n] for n in range(after, end))

    def __len__(self) -> int:
        return len(self._log)

    def close(self) -> None:
        if self._journal:
            self._journal.close()

    # ---- what the rules use

    def _step(self, key: str) -> Operation | None:
        """The operation with this key, if it was ever seen."""
        entry = self._entries.get(key)
        return entry.done if entry else None

    def _stands(self, key: str) -> bool:
        """Whether a step was accepted and has not been taken back."""
        step = self._step(key)
        return step is not None and step.accepted and key not in self._undone

    def _undo(self, name: str, about: str) -> Operation:
        """Take the step `about` back, now or before it comes."""
        step = self._step(about)
        if step is not None and step.operation != name:
            return violated(f"what it would undo is not one to {name}", about=about, order=step.order)
        outcome = "undone" if self._stands(about) else "nothing-to-undo"
        if step is None:
            return accepted(about=about, outcome=outcome)
        return accepted(about=about, outcome=outcome, order=step.order, amount=step.amount, currency=step.currency)

    def _take_effect(self, done: Operation) -> None:
        """Change what later decisions rest on. Called for each accepted operation, live and in replay."""
        if done.outcome:
            self._undone.add(done.about)

    # ---- keeping

    def _decide(self, operation: str, key: str, asked: msgspec.Struct, known: Entry | None) -> Operation:
        if known is None:
            return self._rules[operation](key, asked)
        return refused(
            422,
            "this idempotency key was used for another request",
            order=known.done.order,
            violation=CONFLICT,
        )

    def _keep(self, mark: str, operation: str, key: str, decided: Operation) -> Answer:
        if mark in self._conflicts:
            return _answer(decided, repeated=True)
        if len(self._log) >= self.limit:
            return Answer(507, reason(f"the {self.name} is full; start it with a larger --limit or another --data"))
        done = msgspec.structs.replace(
            decided,
            n=len(self._log) + 1,
            at=int(self._clock() * 1000),
            operation=operation,
            key=key,
            reference=_reference(self.name, operation, key) if decided.accepted else "",
        )
        entry = Entry(mark, done)
        try:
            if self._journal:
                self._journal.append(entry)
        except OSError as error:
            return Answer(507, reason(f"the {self.name} cannot write its journal: {error.strerror}"))
        self._enter(entry)
        return _answer(done)

    def _enter(self, entry: Entry) -> None:
        done = entry.done
        self._log.append(done)
        self.violations += bool(done.violation)
        if done.violation == CONFLICT:
            self._conflicts.add(entry.fingerprint)
            return
        self._entries[done.key] = entry
        if done.accepted:
            self._take_effect(done)


def _answer(done: Operation, *, repeated: bool = False) -> Answer:
    if not done.accepted:
        return Answer(done.status, reason(done.reason), repeated)
    said = {"reference": done.reference}
    if done.outcome:
        said["outcome"] = done.outcome
    return Answer(200, _encode(said), repeated)


def _fingerprint(operation: str, key: str, said: Any) -> str:
    """The same for the same request, whatever the order of its fields. The key in it keeps equal bodies apart."""
    return hashlib.blake2b(f"{operation}\0{key}\0".encode() + _encode(said), digest_size=16).hexdigest()


def _reference(system: str, operation: str, key: str) -> str:
    return f"{operation}-{hashlib.blake2b(f'{system}/{operation}/{key}'.encode(), digest_size=8).hexdigest()}"
