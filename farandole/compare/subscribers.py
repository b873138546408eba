"""What a hundred more services cost that want to know that an order was completed.

Extrapolated, not run (farandole.compare.audience runs some of them): how the customer's mail learns of it in a flow
shows how anybody would. Where its service hears order.completed, another subscriber is another reader of the same
record, and nothing more is written. Where it is commanded, each is one more command and one more answer, and both are
known to whoever commands. The sizes are those of the records of the run.
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


def subscribers(flow: Flow, names: Mapping[type[Event], str], facts: Facts, sagas: Iterable[str]) -> dict[str, Any]:
    """written: messages that MORE subscribers add to each order; read: what they read of the event itself"""
    messages = commanded(flow, names)
    sizes: dict[str, list[int]] = {}
    for saga in sagas:
        for fact in facts.of.get(saga, ()):
            sizes.setdefault(fact.name, []).append(fact.size)
    each = [mean(sizes[name]) if name in sizes else 0.0 for name in messages]
    event = names[OrderCompleted]
    return {
        "messages": list(messages),
        "written": MORE * len(messages),
        "written_bytes": round(MORE * sum(each)),
        "read": MORE * max(1, len(messages)),
        "known_more": MORE * len(messages),
        "event_bytes": round(mean(sizes[event])) if event in sizes else None,
    }
