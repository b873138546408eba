"""The outside world in memory: the sandbox's own gateway, carrier and mail sink, and wires that lose and delay.

Invariants:
- The rules are farandole.sandbox's: a key names one operation for ever, what was taken back before it arrived is
  refused.
- A request that has left a worker may arrive whatever becomes of the worker. An answer reaches the worker that asked,
  if it still lives, once or twice.
- What was performed stays in the books, for the checks.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from events import FarandoleCall
from farandole.audit.gateway import Gateway as AuditedGateway
from farandole.passcodes import filler
from farandole.ports import Answer
from farandole.sandbox.carrier import Carrier
from farandole.sandbox.gateway import Gateway
from farandole.sandbox.mail import Mail
from farandole.sandbox.system import System
from farandole.simulation.logins import PASSCODES

ATTEMPT_MS: Final = 5_000
"""After this long without an answer a request is sent again; as farandole.outside has it."""

BACKOFF_MS: Final = (100, 400, 3_000)
DELAYS_MS: Final = (20, 300, 3_000, 12_000)

QUICK, SLOW, LOST, REFUSED, LATE, TWICE = range(6)
"""What becomes of a request: answered; answered late; performed and not answered; not performed (503); performed when
nobody waits any more; answered, and answered once more."""

FILL: Final = filler(PASSCODES)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

Outcome = tuple[str, str, str]
"""outcome, reference, reason"""


class Scheduler(Protocol):
    """What the outside needs of the run."""

    now: int
    calm: bool

    def later(self, at: int, what: Callable[[], object]) -> None: ...
    def choose(self, n: int, what: str) -> int: ...
    def sleep(self, seconds: float) -> None: ...
    def tell(self, who: str, what: str, saga: str = "") -> None: ...


class Books:
    """The three systems. insists: (order, operation) that the gateway refuses although it never should."""

    def __init__(self, clock: Callable[[], float], insists: set[tuple[str, str]]) -> None:
        self.systems: dict[str, System] = {each.name: each(clock=clock) for each in (Gateway, Carrier, Mail)}
        self.insists = insists
        self.refused: set[tuple[str, str]] = set()
        """What was insisted on, so that an operator knows."""
        self.asked: set[str] = set()
        """Every idempotency key that ever arrived."""

    def perform(self, key: str, call: FarandoleCall) -> Outcome:
        self.asked.add(key)
        if (call.saga, call.operation) in self.insists:
            self.refused.add((call.saga, call.operation))
            return "refused", "", "the computer says no"
        body = self._filled(call)
        if body is None:
            return "accepted", "", ""
        answer = self.systems[call.outside].perform(call.operation, key, body)
        said = _decode(answer.body)
        if answer.status < 300:
            return "accepted", said.get("reference", ""), said.get("outcome", "")
        return "refused", "", said.get("reason", "")

    def passcodes(self) -> dict[str, str]:
        """Challenge → the passcode that was sent for it."""
        return {each.order: each.code for each in self.systems["mail"].operations() if each.code}

    def _filled(self, call: FarandoleCall) -> bytes | None:
        """As farandole.outside sends it: a passcode is made when it is."""
        if call.operation != "passcode":
            return call.body
        filled = FILL(_decode(call.body))
        return None if filled is None else _encode(filled)

    def gateway(self) -> AuditedGateway:
        """The gateway's account, as the audit asks for it."""
        return _InMemory(self.systems["gateway"])


class _InMemory(AuditedGateway):
    def __init__(self, system: System) -> None:
        super().__init__("http://gateway.example")
        self._system = system
        self.ask()

    def _fetch(self, url: str) -> bytes:
        after, limit = (int(number) for number in re.findall(r"=(\d+)", url))
        head = _encode({"last": len(self._system), "violations": self._system.violations})
        return b"\n".join((head, *map(_encode, self._system.operations(after, limit))))


class Performer:
    """Performs the calls of one life of one worker; farandole.ports.Performer.

    deliver: takes each answer
    """

    def __init__(self, run: Scheduler, books: Books, who: str, deliver: Callable[[Answer], None]) -> None:
        self._run, self._books, self._who, self._deliver = run, books, who, deliver
        self._tasks: dict[tuple[int, str], FarandoleCall] = {}
        self.alive = True
        self.performed = 0

    # ---- what the engine asks

    def start(self, partition: int, key: str, call: FarandoleCall) -> None:
        if (partition, key) not in self._tasks:
            self._tasks[partition, key] = call
            end = self._run.now + round(call.deadline * 1000) if call.deadline else None
            self._run.later(self._run.now + 1, lambda: self._attempt(partition, key, call, end, 0))

    def stop(self, partition: int, key: str) -> None:
        self._tasks.pop((partition, key), None)

    def forget(self, partition: int) -> None:
        for where in [where for where in self._tasks if where[0] == partition]:
            del self._tasks[where]

    def under_way(self) -> int:
        return len(self._tasks)

    # ---- what becomes of it

    def _attempt(self, partition: int, key: str, call: FarandoleCall, end: int | None, tries: int) -> None:
        run = self._run
        if not self._waits(partition, key, call):
            return
        if end is not None and run.now >= end:
            self._answer(partition, key, call, ("unknown", "", "no answer in time"))
            return
        left = ATTEMPT_MS if end is None else min(ATTEMPT_MS, end - run.now)
        fate = QUICK if run.calm else run.choose(6, "outside")
        delay = DELAYS_MS[0] if fate in (QUICK, REFUSED, LOST) else DELAYS_MS[run.choose(len(DELAYS_MS), "delay")]
        again = run.now + left + BACKOFF_MS[min(tries, len(BACKOFF_MS) - 1)]
        if end is not None:
            again = min(again, end)

        def retry() -> None:
            self._attempt(partition, key, call, end, tries + 1)

        def perform(told: bool) -> Outcome:
            outcome = self._books.perform(key, call)
            self.performed += 1
            note = "" if told else ", and nobody hears the answer"
            run.tell(call.outside, f"{call.operation}: {outcome[0]} {outcome[2]}".rstrip() + note, call.saga)
            return outcome

        if fate == REFUSED:
            run.tell(call.outside, f"{call.operation}: not now", call.saga)
            run.later(min(again, run.now + BACKOFF_MS[min(tries, len(BACKOFF_MS) - 1)]), retry)
        elif fate == LATE:
            run.later(run.now + left + delay, lambda: perform(False))
            run.later(again, retry)
        elif fate == LOST or delay >= left:
            perform(False)
            run.later(again, retry)
        else:
            outcome = perform(True)
            run.later(run.now + delay, lambda: self._answer(partition, key, call, outcome))
            if fate == TWICE:
                run.later(run.now + 3 * delay, lambda: self._say(Answer(partition, key, *outcome)))

    def _waits(self, partition: int, key: str, call: FarandoleCall) -> bool:
        return self.alive and self._tasks.get((partition, key)) is call

    def _answer(self, partition: int, key: str, call: FarandoleCall, outcome: Outcome) -> None:
        if self._waits(partition, key, call):
            self._say(Answer(partition, key, *outcome))

    def _say(self, answer: Answer) -> None:
        if self.alive:
            self._deliver(answer)
