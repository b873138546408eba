"""A saga's events below their causes; beside them what they brought about that is no event: calls that wait or were
withdrawn, timers that are set or were cancelled, dead letters.

Invariant: every event of the saga is in the tree once; what has no cause that is still there stands at the top.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from farandole.event import Event
from farandole.flow import Flow
from farandole.redrive.queue import Book, Letter
from farandole.replay.plain import moment, plain
from farandole.story.reading import Happened, Kept, Records

EVENT, CALL, TIMER, LETTER = "event", "call", "timer", "letter"

ANSWERED, WAITS, WITHDRAWN, FIRED, SET, CANCELLED = "answered", "waits", "withdrawn", "fired", "set", "cancelled"


@dataclass
class Step:
    """One thing that happened, or is waited for.

    at:      milliseconds since 1970
    kind:    event, call, timer, letter; an answer is a call that was answered, with its event
    who:     the decision that it comes from, or its service; empty: a client
    what:    the event, the call or the timer, or why it is a dead letter
    state:   of a call, a timer or a letter
    since:   of an answer, when it was asked for; of a timer, when it was set
    where:   the record, empty if it is none
    lost:    the id of a cause that is not there any more
    """

    at: int
    kind: str
    who: str
    what: str
    state: str = ""
    where: str = ""
    since: int | None = None
    due: int = 0
    lost: str = ""
    id: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    below: list[Step] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        said = {name: each for name, each in vars(self).items() if each not in ("", None, 0, {}) and name != "below"}
        for name in ("at", "since", "due"):
            if said.get(name):
                said[name] = moment(said[name])
        return {**said, "at": moment(self.at), "below": [each.to_dict() for each in self.below]}


def tree_of(records: Records, flows: Mapping[str, Flow]) -> list[Step]:
    """The top of it, in the order of time."""
    return _Growing(records, flows).run()


class _Growing:
    def __init__(self, records: Records, flows: Mapping[str, Flow]) -> None:
        self._records, self._flows = records, flows
        self._events = {each.meta.id: each for each in records.happened}
        self._steps = {id: self._step(each) for id, each in self._events.items()}
        self._top: list[Step] = []

    def run(self) -> list[Step]:
        for id, happened in self._events.items():
            self._hang(self._steps[id], happened.meta.cause)
        for kept in self._records.calls.values():
            self._call(kept)
        for kept in self._records.timers.values():
            self._timer(kept)
        self._letters()
        for step in (*self._steps.values(), Step(0, EVENT, "", "", below=self._top)):
            step.below.sort(key=lambda each: (each.at, each.where, each.what))
        return self._top

    def _hang(self, step: Step, cause: str) -> None:
        above = self._steps.get(cause)
        if above is None or above is step:
            step.lost = cause
            self._top.append(step)
        else:
            above.below.append(step)

    def _step(self, happened: Happened) -> Step:
        fields = plain(happened.event)
        fields.pop("saga", None)
        return Step(
            at=happened.record.time,
            kind=EVENT,
            who=self._who(happened.service, happened.meta.flow, happened.meta.cause),
            what=happened.type,
            where=str(happened.record.where),
            id=happened.meta.id,
            fields=fields,
        )

    def _who(self, service: str, flow: str, cause: str) -> str:
        """The decision that heard the cause, as the flow binds it; the service, where nobody knows that."""
        heard = self._events.get(cause)
        known = self._flows.get(flow)
        if not service or heard is None or known is None:
            return service
        kind: type[Event] = type(heard.event)
        decision = known.bindings.get((service, kind))
        return decision.name if decision else service

    # ---- what is no event

    def _call(self, kept: Kept) -> None:
        answer = self._steps.get(kept.meta.id)
        if answer is not None:
            answer.kind, answer.state, answer.since = CALL, ANSWERED, kept.since
            answer.fields = {"call": kept.what, **answer.fields}
            return
        state = WAITS if kept.until is None else WITHDRAWN
        who = self._who(kept.service, kept.meta.flow, kept.meta.cause)
        self._hang(Step(kept.since, CALL, who, kept.what, state), kept.meta.cause)

    def _timer(self, kept: Kept) -> None:
        fired = self._steps.get(kept.meta.id)
        if fired is not None:
            fired.kind, fired.state, fired.since, fired.due = TIMER, FIRED, kept.since, kept.due
            return
        state = SET if kept.until is None else CANCELLED
        who = self._who(kept.service, kept.meta.flow, kept.meta.cause)
        self._hang(Step(kept.since, TIMER, who, kept.what, state, due=kept.due), kept.meta.cause)

    def _letters(self) -> None:
        book, by_place = self._records.book, {step.where: step for step in self._steps.values()}
        for letters in book.letters.values():
            for letter in letters:
                step = by_place.get(str(letter.source))
                if step is None and letter.saga != self._records.saga:
                    continue
                told = _told(book, letter)
                if step is None:
                    self._top.append(told)
                else:
                    step.below.append(told)


def _told(book: Book, letter: Letter) -> Step:
    done = book.done.get((letter.service, letter.source))
    fields: dict[str, Any] = {"reason": letter.reason, "letter": str(letter.where), "source": str(letter.source)}
    if done:
        fields |= {"by": done.outcome.who, "why": done.outcome.why}
    why = letter.error or letter.reason
    return Step(letter.time, LETTER, letter.service, why, book.state(letter), str(letter.where), fields=fields)
