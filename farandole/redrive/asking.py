"""Asking services to redrive or discard letters, and waiting for what becomes of it.

Invariants:
- The letters of a saga are asked for in their order. When one fails again, its saga waits at it: no further one is
  asked for, and those that were are ignored by the service.
- Nothing is remembered but what is in the topics. A command that is killed and repeated finds what it has asked for
  already, waits for that, and asks for the rest.
- At the most WINDOW operations wait for their outcome, and with a rate about those of a second.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from confluent_kafka import KafkaError, Producer

from events import FarandoleOperation, FarandoleOutcome
from farandole.audit.reading import Progress
from farandole.audit.records import Where
from farandole.config import ClientConfig
from farandole.errors import BrokerError
from farandole.operations import DISCARD, DONE, FAILED_AGAIN, IGNORED, REDRIVE
from farandole.redrive.naming import Before
from farandole.redrive.queue import Desk, Key, Letter, Sequence, alone

WINDOW: Final = 2_000
"""Operations that wait for their outcome at the most: what a service takes in one batch."""

AT_ONCE: Final = 500
"""Operations written between two looks at the outcomes."""

LOOK_EVERY: Final = 0.1
"""Seconds between two looks."""

PATIENCE: Final = 60.0
"""Seconds without any outcome after which the waiting is given up: above a worker's restart."""

WRITTEN_WITHIN: Final = 30.0
"""Seconds for the cluster to take operations."""

MAX_WHY: Final = 300
"""Characters of who and why: a letter of the largest size has to fit beside them."""

WITHOUT_BYTES: Final = "its bytes are not in the queue: it can be discarded, not redriven"

_VERBS: Final = {REDRIVE: "redriving", DISCARD: "discarding"}


@dataclass(frozen=True)
class Task:
    """What is asked of each letter.

    most:   letters of a saga at the most; None: all, and what comes behind them meanwhile
    rate:   operations a second; None: as fast as they are carried out
    edited: the letter's bytes from now on, if that is what is asked
    """

    action: str
    who: str
    why: str = ""
    most: int | None = None
    rate: float | None = None
    edited: bytes | None = None
    patience: float = PATIENCE

    def is_beyond(self, letter: Letter) -> bool:
        """It cannot be decided: the queue could not take its bytes."""
        return letter.truncated and self.action == REDRIVE and self.edited is None

    def beyond(self, chosen: Iterable[Sequence]) -> list[Letter]:
        """Of each of these the first at which it will stop."""
        found = (next(filter(self.is_beyond, each.letters[: self.most]), None) for each in chosen)
        return [letter for letter in found if letter is not None]


@dataclass
class Course:
    """How it goes with one saga, or with one letter that parks none.

    asked: operations of ours and of a command before this one, by offset → the letter; error: why it stopped
    """

    sequence: Sequence
    asked: dict[int, Letter] = field(default_factory=dict)
    next: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    error: str = ""
    over: bool = False

    @property
    def key(self) -> Key:
        return self.sequence.key

    def to_dict(self) -> dict[str, Any]:
        return {
            "saga": self.sequence.saga,
            "service": self.sequence.service,
            "letter": str(self.sequence.letters[0].source),
            "outcome": self.outcome,
            "letters": dict(sorted(self.counts.items())),
            "error": self.error,
        }

    @property
    def outcome(self) -> str:
        if self.error:
            return FAILED_AGAIN if self.counts[FAILED_AGAIN] else IGNORED
        return "goes on" if self.sequence.saga and self.gone else "done"

    gone: bool = False
    """The saga is not parked any more."""


@dataclass
class Result:
    """What became of a task. seconds: it took; before: letters that were named, and dealt with before it began"""

    action: str
    courses: list[Course]
    seconds: float
    before: list[Before] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        return sum((course.counts for course in self.courses), Counter[str]())

    @property
    def failed(self) -> list[Course]:
        return [course for course in self.courses if course.error]

    @property
    def gone(self) -> int:
        """Sagas that are not parked any more."""
        return sum(course.gone for course in self.courses if course.sequence.saga)

    @property
    def ok(self) -> bool:
        return not self.failed and all(each.as_asked for each in self.before)

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "action": self.action,
            "letters": dict(sorted(self.counts.items())),
            "sagas": sum(bool(course.sequence.saga) for course in self.courses),
            "unparked": self.gone,
            "seconds": round(self.seconds, 3),
            "failed": [course.to_dict() for course in self.failed],
            "sequences": [course.to_dict() for course in self.courses],
            "before": [each.to_dict() for each in self.before],
        }


class Asking:
    """One command under way."""

    def __init__(self, config: ClientConfig, namespace: str, desk: Desk, task: Task, progress: Progress) -> None:
        self._namespace, self._desk, self._book, self._task, self._progress = namespace, desk, desk.book, task, progress
        self._encode = desk.book.codec.type_of(FarandoleOperation).encode_row
        self._producer = Producer(
            {**config, "enable.idempotence": True, "linger.ms": 5, "message.max.bytes": 2_097_152, "retries": 10}
        )
        self._failed: KafkaError | None = None
        self._written: defaultdict[tuple[str, Where], set[int]] = defaultdict(set)
        """Letter → offsets of this command's operations about it."""
        self._in_flight = self._settled = 0
        self._tokens, self._filled = 1.0, 0.0
        """Operations that the rate allows at the moment of `_filled`."""

    def carry_out(self, chosen: Iterable[Sequence]) -> Result:
        """Ask about these sequences, and wait until each is done, or has failed again. BrokerError if nothing comes."""
        courses = [self._begin(sequence) for sequence in chosen]
        began = heard = self._filled = time.monotonic()
        while under_way := [course for course in courses if not course.over]:
            settled = self._settled
            self._write(under_way, self._allowed(time.monotonic()))
            self._desk.read(lambda what, done, total: None, "")
            for course in under_way:
                self._look_at(course)
            self._tell(courses)
            paced = not self._in_flight and any(_has_more(course, self._task.most) for course in under_way)
            if self._settled > settled or paced:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._task.patience:
                raise self._no_outcome(under_way)
            if self._settled == settled:
                time.sleep(LOOK_EVERY)
        return Result(self._task.action, courses, time.monotonic() - began)

    def _begin(self, sequence: Sequence) -> Course:
        course = Course(sequence)
        for letter in sequence.letters[: self._task.most]:
            offsets = self._book.asked.get((letter.service, letter.source))
            if not offsets:
                break
            course.asked.update(dict.fromkeys(offsets, letter))
            course.next += 1
        self._in_flight += len(course.asked)
        return course

    # ---- writing

    def _allowed(self, now: float) -> int:
        """How many operations may be written now. What a rate did not use is not made up for, but for a second's."""
        room = min(AT_ONCE, WINDOW - self._in_flight)
        if self._task.rate is not None:
            second = max(1.0, self._task.rate)
            self._tokens = min(second, self._tokens + (now - self._filled) * self._task.rate)
            self._filled = now
            room = min(room, int(self._tokens), int(second) - self._in_flight)
        return max(0, room)

    def _write(self, courses: list[Course], allowed: int) -> None:
        for course in courses:
            while allowed and _has_more(course, self._task.most):
                if self._task.is_beyond(course.sequence.letters[course.next]):
                    course.error = WITHOUT_BYTES
                    break
                self._ask(course, course.sequence.letters[course.next])
                course.next += 1
                allowed -= 1
        self._producer.flush(WRITTEN_WITHIN)
        if self._failed is not None or len(self._producer):
            why = self._failed.str() if self._failed else "it takes too long"
            raise BrokerError(
                f"an operation could not be written: {why}",
                where=f"{courses[0].sequence.service}.operations",
                mend="nothing is lost; repeat the command",
            )

    def _ask(self, course: Course, letter: Letter) -> None:
        sequence, task = course.sequence, self._task
        operation = FarandoleOperation(
            action=task.action,
            saga=letter.saga,
            first=sequence.first,
            number=sequence.number + course.next,
            topic=letter.source.topic,
            offset=letter.source.offset,
            time=letter.time,
            key=letter.key,
            value=None if task.action == DISCARD else letter.value if task.edited is None else task.edited,
            edited=task.edited is not None and task.edited != letter.value,
            who=task.who[:MAX_WHY],
            why=task.why[:MAX_WHY],
        )

        def written(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                self._failed = error
            else:
                course.asked[message.offset()] = letter
                self._written[letter.service, letter.source].add(message.offset())

        self._tokens -= 1
        self._in_flight += 1
        self._producer.produce(
            f"{self._namespace}{letter.service}.operations",
            self._encode(operation),
            letter.saga.encode(),
            letter.source.partition,
            on_delivery=written,
        )

    # ---- what became of it

    def _look_at(self, course: Course) -> None:
        service, partition, _ = course.key
        for offset in sorted(course.asked):
            outcome = self._book.outcomes.get((service, partition, offset))
            if outcome is not None:
                self._settle(course, course.asked.pop(offset), outcome)
        if not course.asked:
            self._go_on(course)

    def _settle(self, course: Course, letter: Letter, outcome: FarandoleOutcome) -> None:
        self._in_flight -= 1
        self._settled += 1
        course.counts[outcome.outcome] += 1
        if outcome.outcome == FAILED_AGAIN:
            course.error = course.error or outcome.error
            return
        if outcome.outcome in DONE and outcome.left == 0:
            course.gone = True
        course.error = course.error or self._otherwise(letter, outcome.error)

    def _otherwise(self, letter: Letter, unknown: str) -> str:
        """Empty if what was asked is what was done, by whomever; an edit only if it was this one.

        unknown: what is said if nobody knows what was done
        """
        done = self._book.done.get((letter.service, letter.source))
        if done is None:
            return unknown
        stands = done.outcome
        edits = self._task.edited is not None
        ours = stands.operation in self._written.get((letter.service, letter.source), ())
        if stands.action == self._task.action and (ours or not (edits or stands.edited)):
            return ""
        what = "edited" if stands.edited else stands.outcome
        return f"it was {what} by somebody else before: {stands.who}"

    def _go_on(self, course: Course) -> None:
        """Nothing is under way: it is over, or there is more to ask for."""
        sequence, most = course.sequence, self._task.most
        now = self._book.sequence(course.key) if sequence.saga else None
        if now is None or now.first != sequence.first:
            course.gone = bool(sequence.saga)
            for letter in sequence.letters[course.next : most] if course.gone else ():  # others were quicker
                course.error = course.error or self._otherwise(letter, "")
            course.over = course.next >= len(sequence.letters) or course.gone or bool(course.error)
            return
        if course.error or (most is not None and course.next >= most):
            course.over = True
            return
        behind = now.number + len(now.letters) - (sequence.number + len(sequence.letters))
        if behind > 0:  # what came meanwhile
            sequence.letters.extend(now.letters[-behind:])

    def _tell(self, courses: list[Course]) -> None:
        counts = sum((course.counts for course in courses), Counter[str]())
        done, total = counts.total(), sum(len(c.sequence.letters[: self._task.most]) for c in courses)
        over = sum(course.over for course in courses)
        what = f"{_VERBS[self._task.action]}: {done:,} of {total:,} letters, {over:,} of {len(courses):,} sagas"
        self._progress(what + (f", {counts[FAILED_AGAIN]:,} failed again" if counts[FAILED_AGAIN] else ""), done, total)

    def _no_outcome(self, courses: list[Course]) -> BrokerError:
        services = sorted({course.sequence.service for course in courses if course.asked})
        return BrokerError(
            f"nothing became of {self._in_flight} operations for {self._task.patience:.0f} s",
            where=", ".join(f"{service}.operations" for service in services),
            mend=f"does a worker of {' and '.join(services)} run? What is asked for stays so: repeat the command",
        )


def _has_more(course: Course, most: int | None) -> bool:
    return not course.error and course.next < len(course.sequence.letters[:most])


def of_letter(desk: Desk, letter: Letter) -> Sequence:
    """The sequence that an outstanding letter stands in."""
    if not letter.saga:
        return alone(letter)
    found = desk.book.sequence((letter.service, letter.source.partition, letter.saga))
    assert found is not None, letter
    return found
