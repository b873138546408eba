"""`farandole chaos`: what `make chaos` runs."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from farandole.cli.progress import show_outcome, shown, terminated, until_interrupted
from farandole.errors import ConfigError, FarandoleError


def command(
    orders: Annotated[
        int, typer.Option(help="Orders to place, at the least; transfers and logins count among them.")
    ] = 2_000,
    flow: Annotated[
        list[str] | None,
        typer.Option(
            help="Flows, with commas: order (unless said otherwise), order-pay-first, …, transfer, login; or all of "
            "these, those of orders and the other two. Each has the same share of the load."
        ),
    ] = None,
    faults: Annotated[
        int | None, typer.Option(help="Faults to inject; otherwise one every five seconds while orders are placed.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Minutes to place orders for, at the least.", min=0, max=10_000)] = 0.0,
    seed: Annotated[int, typer.Option(help="Which faults, in which order, and what they hit.")] = 0,
    rate: Annotated[float, typer.Option(help="Orders placed per second.", min=1, max=10_000)] = 20.0,
    workers: Annotated[int, typer.Option(help="Workers of each service; of 1, nobody takes over.")] = 2,
    partitions: Annotated[int, typer.Option(help="Partitions of each topic.")] = 3,
    at_once: Annotated[int, typer.Option(help="Faults at the same time, at the most.", min=1, max=20)] = 3,
    only: Annotated[str, typer.Option(help="Kinds of fault, with commas between; otherwise all.")] = "",
    plugins: Annotated[
        list[Path] | None, typer.Option(help="A folder with more kinds of fault, a file each. Repeatable.")
    ] = None,
    list_kinds: Annotated[bool, typer.Option("--list", help="List the kinds of fault, and do nothing.")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it all running, to look at, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Break a whole system under load, on purpose, and audit what is left.

    Three brokers, two workers of each service of the flows, orders in an open loop, and faults from a seed: killed
    workers and brokers, zombies, cut networks, outages, poison. Exit code 0 only if the audit and the check of every
    saga's order hold, and the system recovered from every fault in time.

    Example: farandole chaos --orders 20000 --faults 200
             farandole chaos --flow order-orchestrated,transfer
             farandole chaos --flow all --workers 1
    """
    from farandole.chaos.flows import Flows
    from farandole.chaos.options import Options, kinds

    options = Options(
        orders=orders,
        faults=faults,
        minutes=minutes,
        seed=seed,
        rate=rate,
        workers=workers,
        at_once=at_once,
        partitions=partitions,
        only=tuple(name.strip() for name in only.split(",") if name.strip()),
        plugins=tuple(plugins or ()),
        flows=Flows.named(flow or ()),
    )
    if list_kinds:
        _list(kinds(options), as_json)
        return
    try:
        ok = _play(options, keep, as_json)
    except FarandoleError as error:
        if as_json and not isinstance(error, ConfigError):
            print(json.dumps({"ok": False, "problems": [str(error)], "audit": None}), flush=True)
        raise
    raise typer.Exit(0 if ok else 1)


def _list(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps({name: _said(kind) for name, kind in sorted(found.items())}))
        return
    for name, kind in sorted(found.items()):
        print(f"{name:24} {_said(kind)}")


def _said(kind: Any) -> str:
    """What a kind of fault says of itself: its class, or its file."""
    said = kind.__doc__ if "__doc__" in vars(kind) and kind.__doc__ else sys.modules[kind.__module__].__doc__
    return " ".join((said or "").split("\n\n")[0].split())


def _play(options: Any, keep: bool, as_json: bool) -> bool:
    from farandole.chaos.report import print_outcome
    from farandole.chaos.run import prepared

    signal.signal(signal.SIGTERM, terminated)
    with shown() as progress, prepared(options, progress) as chaos:
        outcome = chaos.play()
        if keep:
            progress("it all runs until Ctrl-C", 0, 0)
            show_outcome(outcome, as_json, print_outcome)
            until_interrupted()
    if not keep:
        show_outcome(outcome, as_json, print_outcome)
    return bool(outcome.ok)
