"""`farandole compare`: choreography, orchestration and a hybrid in figures."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farandole.cli.progress import show_outcome, shown, terminated
from farandole.errors import FarandoleError

if TYPE_CHECKING:
    from farandole.compare.clock import Clock
    from farandole.compare.options import Options
    from farandole.compare.outcome import Outcome


def command(
    out: Annotated[
        Path | None, typer.Option(help="The page; docs/choreography-or-orchestration.md, or none if --quick.")
    ] = None,
    orders: Annotated[
        int | None, typer.Option(help="Orders of each flow in a turn, of which a round has two (250).", min=10)
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds that are counted (5).", min=1)] = None,
    minutes: Annotated[
        float | None, typer.Option(help="All ends within them; what does not fit is left out, and named (10).", min=1.0)
    ] = None,
    seed: Annotated[int, typer.Option(help="Which orders.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="As little as possible of everything: for tests.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the same orders choreographed, orchestrated and hybrid, and compare: on one broker, in one run.

    Measures coupling, costs, failure handling, what moves while a part is down, visibility, adding a step, debugging;
    prints tables and writes a page with a plot. What does not fit into its minutes is left out, and the page names it:
    that is no failure. Exit code 0; 1 if a patch does not work or a command that was asked about an order failed, which
    the page names, too; without a page 1 if the audit found something, 1 or 4 if the time is over before the audit is,
    130 after Ctrl-C.

    Example: farandole compare --out docs/choreography-or-orchestration.md
    """
    from farandole import config
    from farandole.compare import needs
    from farandole.compare.clock import Clock
    from farandole.compare.options import QUICK, Options

    chosen: dict[str, Any] = dict(QUICK) if quick else {}
    asked = {"orders": orders, "rounds": rounds, "minutes": minutes}
    options = Options(**chosen | {name: value for name, value in asked.items() if value is not None}, seed=seed)
    page = _page(out, quick)
    clock = Clock(options.minutes * 60)
    needs.check(config.project_root(), page)
    if dry_run:
        _show_plan(options, page, as_json)
        return
    try:
        outcome = _play(options, clock)
    except FarandoleError as error:
        if as_json:
            print(json.dumps({"ok": False, "problems": [str(error)], "audit": None}), flush=True)
        raise
    if page is not None and outcome.audit["ok"]:  # figures of a run that lost something are none
        from farandole.compare.page import write

        write(outcome.to_dict(), page)
    _show(outcome, as_json)
    raise typer.Exit(0 if outcome.ok else 1)


def _page(out: Path | None, quick: bool) -> Path | None:
    """Where the page goes."""
    from farandole import config

    if out is None:
        return None if quick else config.project_root() / "docs" / "choreography-or-orchestration.md"
    return out


def _show_plan(options: Options, page: Path | None, as_json: bool) -> None:
    from farandole.compare.flows import FLOWS, services
    from farandole.compare.options import plan

    steps = plan(options, len(services()))
    total = sum(seconds for _, seconds in steps)
    if as_json:
        said = [{"what": what, "seconds": round(seconds)} for what, seconds in steps]
        where = None if page is None else str(page)
        print(json.dumps({"flows": FLOWS, "steps": said, "seconds": round(total), "page": where}), flush=True)
        return
    print(f"{', '.join(f'{word} ({key})' for word, key in FLOWS.items())}, on one broker, in turns:")
    for what, seconds in steps:
        print(f"  about {seconds:>4.0f} s  {what}")
    print(
        f"  about {total:>4.0f} s  in all; all ends within {options.minutes:g} minutes, what does not fit is left out"
    )
    print(f"page: {page or 'none'}")


def _play(options: Options, clock: Clock) -> Outcome:
    from farandole.compare.play import prepared

    signal.signal(signal.SIGTERM, terminated)
    with shown() as progress, prepared(options, progress, clock) as comparison:
        return comparison.play()


def _show(outcome: Outcome, as_json: bool) -> None:
    from farandole.compare.outcome import print_outcome

    show_outcome(outcome, as_json, print_outcome)
