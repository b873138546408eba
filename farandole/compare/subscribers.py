"""What a hundred more services cost that want to know that an order was completed.

Extrapolated, not run (farandole.compare.audience runs some of them): how the customer's mail learns of it in a flow
shows how anybody would. Where its service hears order.completed, another subscriber is another reader of the topic in
which that lies, with all else that lies there, and nothing more is written. Where it is commanded, each is one more
command and one more answer, and both are known to whoever commands. The records and sizes are those of the run.

Invariant: for as many subscribers as were run this is what they have read and written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import mean
from typing import Any, Final

from events import OrderCompleted
from farandole.compare.facts import Facts
from farandole.event import Event
from farandole.flow import Flow

MORE: Final = 100
SUBSCRIBER: Final = "notification"
"""The service that does what a subscriber would."""


def commanded(flow: Flow, names: Mapping[type[Event], str]) -> tuple[str, ...]:
    """The command that a subscriber gets in this flow, and its answer; nothing if it hears the event itself."""
    heard = {names[event] for event, _ in flow.of_service(SUBSCRIBER)}
    if names[OrderCompleted] in heard:
        return ()
    commands = sorted(name for name in heard if name.startswith(f"{SUBSCRIBER}.commands."))
    others = [service for service in flow.services if service != SUBSCRIBER]
    answers = {names[event] for other in others for event, _ in flow.of_service(other)}
    return (*commands, *sorted(name for name in answers if name.rpartition(".")[0] == SUBSCRIBER))


def reads_anew(flow: Flow, names: Mapping[type[Event], str]) -> bool:
    """Whether whoever would command subscribers in this flow reads the event's topic for that alone."""
    messages = set(commanded(flow, names))
    heard = [{names[event] for event, _ in flow.of_service(each)} for each in flow.services if each != SUBSCRIBER]
    commanding = set[str]().union(*(each for each in heard if each & messages))
    return bool(messages) and _topic(names[OrderCompleted]) not in {_topic(name) for name in commanding}


def _topic(name: str) -> str:
    return name.rpartition(".")[0]


def reads(number: int, messages: int, records: float, anew: bool) -> float:
    """What so many subscribers read more of each order, and who commands them.

    messages: that each of them costs, 0 if it hears the event itself; records: of an order in the event's topic
    anew:     who commands them reads that topic for them alone, as the one does that was run
    """
    return number * messages + anew * records if messages else number * records


def subscribers(flow: Flow, names: Mapping[type[Event], str], facts: Facts, sagas: Iterable[str]) -> dict[str, Any]:
    """written: messages that MORE subscribers add to each order; read: records that they and who commands them read

    topic_records: of an order in the topic of the event
    """
    messages = commanded(flow, names)
    event = names[OrderCompleted]
    sizes: dict[str, list[int]] = {}
    in_topic: list[int] = []
    for saga in sagas:
        found = facts.of.get(saga, ())
        for fact in found:
            sizes.setdefault(fact.name, []).append(fact.size)
        in_topic.append(sum(fact.topic == _topic(event) for fact in found))
    if not in_topic:  # the orders were left out
        each = records = None
    else:
        each, records = [mean(sizes.get(name, [0])) for name in messages], mean(in_topic)
    return {
        "messages": list(messages),
        "written": MORE * len(messages),
        "written_bytes": None if each is None else round(MORE * sum(each)),
        "topic_records": None if records is None else round(records, 2),
        "read": None if records is None else round(reads(MORE, len(messages), records, reads_anew(flow, names))),
        "known_more": MORE * len(messages),
        "event_bytes": round(mean(sizes[event])) if event in sizes else None,
    }
