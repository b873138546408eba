"""How to go on looking when the demo is over: commands that work as they are printed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from farandole.demo.flows import services_of
from farandole.demo.plan import Kinds, Plan
from farandole.demo.stage import Stage

if TYPE_CHECKING:
    from farandole.demo.run import Demo

ORCHESTRATOR: Final = "orchestrator"
"""The service that has a part in orchestrated flows alone."""


def next_steps(demo: Demo, kept: bool) -> list[str]:
    """Commands that show more, for whoever has just read the table."""
    on = demo.stage
    steps = [*first_steps(on, kept), command(on, "topics list")]
    steps += [command(on, f"{verb} {order}") for verb, order in _told_by(demo.plan).items()]
    if kept or not on.own:
        order = next(iter(demo.plan.placements)).order
        steps.append(f"curl {on.order_urls[0]}/orders/{order}")
        if gateway := on.outside_url("gateway"):
            steps.append(f"curl {gateway}/state")
    return [*steps, *logs(on, "order")]


def first_steps(on: Stage, kept: bool) -> list[str]:
    """Those of every flow's demo: what has to run, and the audit."""
    steps = []
    if on.stops_kafka and not kept:
        steps.append(f"{_command()} kafka start     # Kafka was stopped with the demo; all that was written is kept")
    return [*steps, command(on, "audit --settled")]


def command(on: Stage, arguments: str) -> str:
    """One of farandole, against what the demo has written."""
    setting = f"FARANDOLE_NAMESPACE={on.namespace} " if on.namespace else ""
    return f"{setting}{_command()} {arguments}"


def logs(on: Stage, service: str) -> list[str]:
    if on.directory is None:
        return []
    return [f"less {_near(on.directory)}/{service}-0.log     # and the other processes' logs beside it"]


def _told_by(plan: Plan) -> dict[str, str]:
    """Command that tells one order step by step → an order. A trail is there where an orchestrator knows the way; the
    bad ones are refused before he has heard of them.
    """
    found: dict[str, str] = {}
    for placement in plan.placements:
        if placement.kind is not Kinds.BAD:
            is_orchestrated = ORCHESTRATOR in services_of((placement.flow,))
            found.setdefault("trail" if is_orchestrated else "story", placement.order)
    return found


def _command() -> str:
    """How the command line is called from here."""
    if shutil.which("farandole"):
        return "farandole"
    called = Path(sys.argv[0])
    return _near(called) if called.name == "farandole" else "python -m farandole.cli.main"


def _near(path: Path) -> str:
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path)
