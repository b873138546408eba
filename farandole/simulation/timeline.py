"""A run as a person reads it: who did what when, orders called A, B, C.

Invariant: what is told is what was committed, and what went wrong; both from the run itself.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any, NamedTuple

from farandole.errors import CodecError
from farandole.event import Event
from farandole.simulation.checks import head_of
from farandole.simulation.kafka_log import Stored
from farandole.simulation.plan import Plan
from farandole.simulation.run import BEGINNING
from farandole.simulation.tape import Recorded
from farandole.simulation.trial import Trial, trial
from farandole.simulation.workers import Workshop


class Entry(NamedTuple):
    """seconds: since the run began; order: A, B, … or nothing; loud: something goes wrong"""

    seconds: float
    who: str
    order: str
    what: str
    loud: bool

    def __str__(self) -> str:
        return f"{self.seconds:8.3f} s  {self.who:<16} {self.order or '·':<2} {self.what}"


def timeline(workshop: Workshop, plan: Plan, answers: list[int]) -> tuple[Trial, list[Entry]]:
    """Play it once more, and tell it."""
    names = names_of(plan)
    told: list[Entry] = []

    def story(at: int, who: str, what: str, saga: str) -> None:
        told.append(Entry((at - BEGINNING) / 1000, who, names.get(saga, saga), what, True))

    found = trial(workshop, plan, Recorded(answers), story)
    told += _committed(found, names)
    told.sort(key=lambda entry: entry.seconds)
    return found, told


def names_of(plan: Plan) -> dict[str, str]:
    """Saga → its letter, transfers after orders."""
    sagas = [*(order.saga for order in plan.orders), *(transfer.saga for transfer in plan.transfers)]
    return {saga: _letter(number) for number, saga in enumerate(sagas)}


def _letter(number: int) -> str:
    return string.ascii_uppercase[number] if number < 26 else f"#{number}"


def _committed(found: Trial, names: dict[str, str]) -> Iterator[Entry]:
    run = found.run
    topics = run.workshop.topics.topics
    for topic, partition in sorted(run.cluster.ends()):
        for record in run.cluster.read(topic, partition):
            seconds = (record.timestamp - BEGINNING) / 1000
            if topic.endswith(".dlq"):
                headers = dict(record.headers)
                reason = (headers["__dlq.reason"] or b"").decode()
                source = "/".join(
                    (headers[f"__dlq.errors.{part}"] or b"").decode() for part in ("topic", "partition", "offset")
                )
                yield Entry(
                    seconds, topic.split(".")[0], _saga(record, names), f"dead letter: {source} ({reason})", True
                )
            elif topics[topic].events:
                head = head_of(record.value)
                if head is not None and head.caused:
                    who = head.id.rsplit(b".", 2)[1].decode()
                    what = f"{_described(run.workshop, record)}  [{topic}/{partition}/{record.offset}]"
                    yield Entry(seconds, who, _saga(record, names), what, False)


def _saga(record: Stored, names: dict[str, str]) -> str:
    head = head_of(record.value)
    saga = head.saga.decode(errors="replace") if head else ""
    return names.get(saga, saga[:2] if saga.startswith("o-") else saga)


def _described(workshop: Workshop, record: Stored) -> str:
    """An event in few words: its name, and what tells it from others of its kind."""
    try:
        decoder = workshop.project.codec.decoder_for(record.value)
        event: Any = decoder.decode(record.value or b"")[3]
    except CodecError:
        return "what nobody can read"
    assert isinstance(event, Event)
    telling = [
        str(getattr(event, name))
        for name in (
            *("sku", "line", "quantity", "outcome", "what", "asked_by", "cause", "memo", "template"),
            *("account", "amount", "how", "step", "reason", "refunded"),
        )
        if hasattr(event, name)
    ]
    return f"{decoder.type.name} {' '.join(telling)}".rstrip()
