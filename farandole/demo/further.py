"""How to go on looking when the demo is over: commands that work as they are printed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final

from farandole.demo.flows import services_of
from farandole.demo.plan import Kinds, Plan
from farandole.demo.run import Demo

ORCHESTRATOR: Final = "orchestrator"
"""The service that has a part in orchestrated flows alone."""


def next_steps(demo: Demo, kept: bool) -> list[str]:
    """Commands that show more, for whoever has just read the table."""
    on, farandole = demo.stage, _command()
    setting = f"FARANDOLE_NAMESPACE={on.namespace} " if on.namespace else ""
    steps = []
    if on.stops_kafka and not kept:
        steps.append(f"{farandole} kafka start          Kafka was stopped with the demo; all that was written is kept")
    steps += [f"{setting}{farandole} audit --settled", f"{setting}{farandole} topics list"]
    steps += [f"{setting}{farandole} {verb} {order}" for verb, order in _told_by(demo.plan).items()]
    if kept or not on.own:
        order = next(iter(demo.plan.placements)).order
        steps.append(f"curl {on.order_urls[0]}/orders/{order}")
        if gateway := on.outside_url("gateway"):
            steps.append(f"curl {gateway}/state")
    if on.directory is not None:
        steps.append(f"less {_near(on.directory)}/order-0.log     and the other processes' logs beside it")
    return steps


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
