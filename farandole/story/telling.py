"""A saga's story in lines for people: time, who, what; indented below its cause.

Invariant: what comes from topics is printed as text, never as control characters; what a schema calls sensitive is not
printed at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from farandole.flow import Flow
from farandole.picture.graph import COMMAND, Names, graph_of
from farandole.replay.plain import MASK, moment
from farandole.story.reading import Records
from farandole.story.tree import ANSWERED, CALL, CANCELLED, EVENT, FIRED, LETTER, SET, TIMER, WAITS, Step

FIELD: Final = 48
"""Characters of one value."""
FIELDS: Final = 110
"""And of all of an event."""

NEWLINE: Final = "\n"

SIGNS: Final = {CALL: "⇄ ", TIMER: "◷ ", LETTER: "✗ "}


@dataclass
class Story:
    """
    top:      the tree
    waiting:  why it has not ended, in words; empty: it has
    parked:   services that have stopped handling it
    commands: that clients and operators may send while it is on its way
    gone:     partitions whose beginning is past retention
    """

    saga: str
    flow: str
    top: list[Step]
    waiting: list[str]
    parked: list[str]
    commands: list[str]
    gone: list[str]
    unreadable: int

    @property
    def ended(self) -> bool:
        return not self.waiting

    def steps(self) -> Iterator[tuple[int, Step]]:
        """Depth, step; causes before effects."""
        waiting = [(0, step) for step in reversed(self.top)]
        while waiting:
            depth, step = waiting.pop()
            yield depth, step
            waiting += [(depth + 1, each) for each in reversed(step.below)]

    def to_dict(self) -> dict[str, Any]:
        said = {name: each for name, each in vars(self).items() if name != "top"}
        return {**said, "ended": self.ended, "advice": advice(self), "story": [each.to_dict() for each in self.top]}


def story_of(
    records: Records,
    top: list[Step],
    why: Sequence[str],
    parked: Sequence[str],
    flows: Mapping[str, Flow],
    names: Names,
) -> Story:
    flow = next((each.meta.flow for each in records.happened), "")
    known = flows.get(flow)
    commands: list[str] = []
    if known is not None:
        arrows = graph_of(known, names, flows.values()).arrows.values()
        commands = [each.name for each in arrows if each.kind == COMMAND and not each.begins]
    gone = [f"{topic}/{partition}" for topic, partition in records.gone]
    return Story(records.saga, flow, top, list(why), list(parked), commands, gone, records.unreadable)


def lines(story: Story) -> list[str]:
    """All of it."""
    steps = list(story.steps())
    times = [step.at for _, step in steps]
    began = min(times)
    state = "it has ended" if story.ended else "parked" if story.parked else "it has not ended"
    seconds, count = (max(times) - began) / 1000, sum(step.kind != LETTER for _, step in steps)
    out = [
        f"{_text(story.saga)}  {_text(story.flow)}  {state}",
        f"from {moment(began)}, {seconds:,.3f} s until the last record; {count} steps",
        "",
    ]
    out += _drawn(story.top, began)
    if story.gone:
        out += ["", f"past retention: the beginning of {', '.join(story.gone)}"]
    if story.unreadable:
        out += ["", f"{story.unreadable} records of it cannot be read: farandole replay inspect --saga {story.saga}"]
    if not story.ended:
        out += ["", "why it has not ended", *(f"  {each}" for each in story.waiting)]
        out += ["", "what one can do", *(f"  {each}" for each in advice(story))]
    return out


def _drawn(top: list[Step], began: int) -> list[str]:
    out: list[str] = []
    stack = [(step, "", "") for step in reversed(top)]
    while stack:
        step, lead, here = stack.pop()
        out.append(f"{(step.at - began) / 1000:>+11.3f}  {lead}{here}{_said(step)}".rstrip())
        below = lead + {"": "", "├─ ": "│  ", "└─ ": "   "}[here]
        for place, each in reversed(list(enumerate(step.below))):
            stack.append((each, below, "└─ " if place == len(step.below) - 1 else "├─ "))
    return out


def _said(step: Step) -> str:
    who, sign = step.who or "a client", SIGNS.get(step.kind, "")
    fields = _fields(step.fields)
    if step.kind == LETTER:
        return f"{sign}{who}: {_text(step.what.partition(NEWLINE)[0])}  [{step.state}] {fields}"
    if step.kind == EVENT:
        lost = f"  (its cause {_text(step.lost)} is not there)" if step.lost else ""
        return f"{who} → {step.what}  {fields}{lost}"
    if step.state == ANSWERED:
        took = f" after {(step.at - (step.since or step.at)) / 1000:,.3f} s"
        return f"{sign}{who} → {step.what}{took}  {fields}"
    if step.kind == CALL:
        return f"{sign}{who} asks {step.what}: {'no answer yet' if step.state == WAITS else 'withdrawn'}"
    if step.state == FIRED:
        return f"{sign}{who} → {step.what}, as set for {moment(step.due)}  {fields}"
    state = {SET: "set for", CANCELLED: "cancelled; it was set for"}[step.state]
    return f"{sign}{who}: {step.what} {state} {moment(step.due)}"


def _fields(fields: Mapping[str, Any]) -> str:
    told, length = [], 0
    for name, value in fields.items():
        if value is None or value in ("", MASK):
            continue
        short = f"{len(value)} of them" if isinstance(value, (list, dict)) else _text(str(value))
        piece = f"{name}={short[:FIELD]}{'…' if len(short) > FIELD else ''}"
        length += len(piece) + 1
        if length > FIELDS:
            told.append("…")
            break
        told.append(piece)
    return " ".join(told)


def _text(text: str) -> str:
    """Nothing of it steers a terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]


def advice(story: Story) -> list[str]:
    """What one can do about what it waits for."""
    said: list[str] = []
    whys = story.waiting
    if story.parked:
        said.append(f"farandole dead-letters show --saga {story.saga}    why, and its bytes")
        said.append(f"farandole dead-letters redrive --saga {story.saga}    once it is mended; or edit, or discard")
    unread = sorted({why.split(" has not read ")[0] for why in whys if " has not read " in why})
    said += [
        f"is {service} running, and not behind? farandole deploy status, or: farandole worker {service}"
        for service in unread
    ]
    calls = sorted({why.split(" waits for ")[1] for why in whys if " waits for " in why})
    said += [f"{call} is asked again and again until it answers: is it well?" for call in calls]
    if any(" has set the timer " in why for why in whys):
        said.append("a timer fires when its topics have been read beyond its time, if nothing cancels it")
    if story.commands and not story.parked:
        said.append(f"clients and operators may send {', '.join(story.commands)}")
    return said
