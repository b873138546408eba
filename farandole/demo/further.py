"""How to go on looking when the demo is over: commands that work as they are printed."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from farandole.demo.run import Demo


def next_steps(demo: Demo, kept: bool) -> list[str]:
    """Commands that show more, for whoever has just read the table."""
    on, farandole = demo.stage, _command()
    setting = f"FARANDOLE_NAMESPACE={on.namespace} " if on.namespace else ""
    steps = []
    if on.stops_kafka and not kept:
        steps.append(f"{farandole} kafka start          Kafka was stopped with the demo; all that was written is kept")
    steps += [f"{setting}{farandole} audit --settled", f"{setting}{farandole} topics list"]
    if kept or not on.own:
        order = next(iter(demo.plan.placements)).order
        steps.append(f"curl {on.order_urls[0]}/orders/{order}")
        if gateway := on.outside_url("gateway"):
            steps.append(f"curl {gateway}/state")
    if on.directory is not None:
        steps.append(f"less {_near(on.directory)}/order-0.log     and the other processes' logs beside it")
    return steps


def _command() -> str:
    """How the command line is called from here."""
    if shutil.which("farandole"):
        return "farandole"
    called = Path(sys.argv[0])
    return _near(called) if called.name == "farandole" else "python -m farandole.cli.main"


def _near(path: Path) -> str:
    return os.path.relpath(path) if path.absolute().is_relative_to(Path.cwd()) else str(path)
