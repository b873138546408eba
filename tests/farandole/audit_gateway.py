"""Payment gateways for the audit's tests: they answer from a list."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import events as e
from farandole.audit.gateway import Gateway
from tests.farandole.audit_log import Log


class KnownGateway(Gateway):
    """A gateway that answers from a list. later: what it has done by the time it is asked a second time."""

    def __init__(self, *operations: Mapping[str, Any], later: tuple[Mapping[str, Any], ...] = ()) -> None:
        super().__init__("http://gateway.example")
        self.done, self._later = list(operations), list(later)
        self.ask()
        self.done += self._later

    def _fetch(self, url: str) -> bytes:
        after = int(re.findall(r"after=(\d+)", url)[0])
        lines = [{"n": n, "key": "k", "status": 200, **each} for n, each in enumerate(self.done, 1)]
        head = {"system": "gateway", "last": len(lines), "violations": sum("violation" in each for each in lines)}
        return "\n".join(json.dumps(each) for each in (head, *lines[after:])).encode()


def honest(log: Log) -> list[dict[str, Any]]:
    """What a gateway has done that agrees with the topics."""
    done = []
    for where in log.all(e.AuthoriseAnswered):
        event = log.event(where)
        if event.outcome == "accepted":
            placed = log.event(log.one(e.OrderPlaced, event.saga))
            facts = {"order": event.saga, "amount": placed.amount, "currency": placed.currency}
            done.append({"operation": "authorise", **facts})
            if log.all(e.CaptureAnswered, saga=event.saga):
                done.append({"operation": "capture", **facts})
            if log.all(e.VoidAnswered, saga=event.saga):
                done.append({"operation": "void", "order": event.saga})
    return done
