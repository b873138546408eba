"""An orchestrated order's audit trail: what was asked for, because of what, what was answered, and when.

Invariant: it is the orchestrator's own row as it was committed last, and nothing is concluded from it.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from events import Orchestration, OrchestrationStep, Order
from farandole.audit.reading import Progress, Reader
from farandole.audit.records import LogRecord
from farandole.cli.progress import WIDE
from farandole.codec import Codec
from farandole.errors import ConfigError
from farandole.partitioner import partition_of

TRAILS: Final = "orchestrator-orchestrations-changelog"
ORDERS: Final = "order-orders-changelog"


class Trail(NamedTuple):
    """order: None if only the orchestrator knows it, as long as both have not come as far"""

    name: str
    run: Orchestration
    order: Order | None


def read(reader: Reader, codec: Codec, name: str, progress: Progress) -> Trail:
    """The trail of the order with this id. ConfigError if there is none. reader: of TRAILS and ORDERS."""
    places = [(topic, partition_of(name, reader.partitions[topic])) for topic in (TRAILS, ORDERS)]
    newest: dict[str, bytes | None] = {}

    def take(record: LogRecord) -> None:
        if record.key == name.encode():
            newest[record.topic] = record.value

    ends = reader.ends()
    first = {place: reader.starts[place] for place in places}
    reader.read(first, {place: ends[place] for place in places}, take, progress, "reading the trail")
    run, order = _row(codec, newest.get(TRAILS)), _row(codec, newest.get(ORDERS))
    if isinstance(run, Orchestration):
        return Trail(name, run, order if isinstance(order, Order) else None)
    shown = name[:64]
    if isinstance(order, Order) and order.phase != "refused":
        raise ConfigError(
            f"order {shown} has no trail: nobody orchestrates it",
            where=f"flow {order.flow}" if order.flow else "",
            mend=f"farandole replay inspect --saga {shown} prints its events",
        )
    raise ConfigError(
        f"there is no trail of an order {shown}",
        mend="check the id; a trail goes a week after its order has ended, and `farandole replay inspect --saga` reads "
        "what is left in the topics",
    )


def _row(codec: Codec, value: bytes | None) -> Any:
    return None if value is None else codec.decoder_for(value).decode(value)


def as_dict(trail: Trail) -> dict[str, Any]:
    run, order = trail.run, trail.order
    return {
        "order": trail.name,
        "flow": order.flow if order else "",
        "status": order.phase if order else "",
        "phase": run.phase,
        "cause": run.cause,
        "reason": run.reason,
        "steps": [
            {
                "command": step.command,
                "because": step.because,
                "sent": _moment(step.sent),
                "answer": step.answer,
                "said": step.said,
                "answered": _moment(step.answered) if step.answer else "",
                "took": round((step.answered - step.sent) / 1000, 3) if step.answer else None,
            }
            for step in run.steps
        ],
    }


def print_trail(trail: Trail) -> None:
    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False, markup=False)
    run, order = trail.run, trail.order
    said = f"{order.phase}, in {order.flow or 'order/1'}" if order else "just placed"
    console.print(Text(f"order {trail.name}: {said}"))
    if run.cause:
        console.print(Text(f"stopped by {run.cause}: {run.reason}"))
    table = Table(box=None, pad_edge=False)
    for title in ("sent", "because of", "command", "answer", "", "after"):
        table.add_column(title, justify="right" if title == "after" else "left", overflow="fold")
    for step in run.steps:
        table.add_row(*(Text(cell) for cell in _cells(step)))
    console.print(table)
    waits = [step.command for step in run.steps if not step.answer]
    if waits:
        console.print(Text(f"waits for the answer to {', '.join(waits)}"))


def _cells(step: OrchestrationStep) -> tuple[str, ...]:
    after = f"{(step.answered - step.sent) / 1000:.3f} s" if step.answer else ""
    return _moment(step.sent), step.because, step.command, step.answer or "-", step.said, after


def _moment(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
