"""`farandole flows`: what flows there are, how many sagas are left of each, and how each of them looks."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farandole.cli.progress import shown
from farandole.errors import BrokerError, ConfigError

if TYPE_CHECKING:
    from farandole.flow import Flow
    from farandole.inflight.counting import Count, Standing

app = typer.Typer(no_args_is_help=True)

STALE = 1
"""Exit code of `draw --check` if a picture is not what the code says."""

COUNTS = ("left", "waiting", "parked")

NAMED = 1_000
"""Sagas of each flow that --json names."""

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.callback()
def flows() -> None:
    """What flows there are, how many sagas are left of each version, and how each of them looks.

    Example: farandole flows list
    """


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Every flow of flows/, with its version, and how many of its sagas are in flight on the cluster.

    A version may be deleted when nothing is left of it and nothing is parked. Flows that sagas in flight belong to and
    that this checkout does not have are listed, too. Without a cluster the column says so.

    Example: farandole flows list --json | jq '.flows[] | {flow, left, parked}'
    """
    from farandole.flow import load_flows
    from farandole.inflight.asking import ask

    known = load_flows()
    found, why = None, None
    with shown(eta=True) as progress:
        try:
            found = ask(progress)
        except BrokerError as error:
            why = error
    if as_json:
        print(json.dumps(_said(known, found, why)))
    else:
        _print(known, found, why)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A flow, with its version if not the newest: order, or order/1.")],
    svg: Annotated[Path | None, typer.Option("--svg", help="Write the picture to this file, as SVG.")] = None,
    as_json: AsJson = False,
) -> None:
    """Draw a flow from its code: who hears what, what is taken back, where it begins and how it comes out.

    Example: farandole flows show order/1 --svg order.svg
    """
    from farandole import config
    from farandole.flow import chosen, load_flows
    from farandole.picture import pages
    from farandole.picture.graph import graph_of, names_of
    from farandole.picture.terminal import drawn

    flows, root = load_flows(), config.project_root()
    flow = flows[chosen(name, flows)]
    if svg is not None:
        try:
            svg.write_text(pages.picture(root, flow, flows), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"it cannot be written: {error.strerror}", where=str(svg), mend="another file") from error
        if not as_json:
            return
    graph = graph_of(flow, names_of(root / "schemas"), flows.values())
    print(json.dumps(graph.to_dict()) if as_json else drawn(graph), end="\n" if as_json else "")


@app.command()
def draw(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit code 1 if something is not current.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Draw all flows into docs/pictures, and show them in docs/flows.md, between two markers.

    Example: farandole flows draw --check
    """
    from farandole import config
    from farandole.flow import load_flows
    from farandole.picture import pages

    root = config.project_root()
    changed = [str(each) for each in (pages.stale if check else pages.draw)(root, load_flows())]
    if as_json:
        print(json.dumps({"not_current" if check else "written": changed}))
    else:
        for each in changed:
            print(f"{each}: not current" if check else each)
    if check and changed:
        raise typer.Exit(STALE)


def services_of(flow: Flow) -> list[str]:
    """In the order in which the flow names them."""
    return list(dict.fromkeys(service for service, _ in flow.bindings))


def _said(known: dict[str, Flow], found: Count | None, why: BrokerError | None) -> dict[str, Any]:
    from farandole.picture.pages import by_version

    keys = sorted(known.keys() | (found.flows.keys() if found else set()), key=by_version)
    said: dict[str, Any] = {"flows": []}
    for key in keys:
        flow, standing = known.get(key), found.flows[key] if found else None
        name, _, version = key.rpartition("/")
        said["flows"].append(
            {
                "flow": key,
                "name": name,
                "version": int(version) if version.isdigit() else None,
                "known": flow is not None,
                "services": services_of(flow) if flow else None,
                "bindings": len(flow.bindings) if flow else None,
                **_counted(standing),
            }
        )
    if found:
        past = {**_counted(found.gone), "keys": sorted(found.gone.left.keys() | found.gone.parked.keys())[:NAMED]}
        return said | {"past_retention": past, "records": found.records, "rows": found.rows, "notes": found.notes}
    assert why is not None
    return said | {"past_retention": None, "notes": [why.what]}


def _counted(standing: Standing | None) -> dict[str, Any]:
    if standing is None:
        return {"left": None, "waiting": None, "parked": None, "sagas": None}
    sagas = dict(sorted((standing.left | standing.parked).items())[:NAMED])
    counts = {"left": len(standing.left), "waiting": len(standing.waiting), "parked": len(standing.parked)}
    return {**counts, "sagas": sagas}


def _print(known: dict[str, Flow], found: Count | None, why: BrokerError | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=True, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("flow", "services"):
        table.add_column(name)
    for name in ("bindings", *COUNTS):
        table.add_column(name, justify="right", no_wrap=True)
    said = _said(known, found, why)
    for each in said["flows"]:
        services = ", ".join(each["services"]) if each["known"] else "unknown: not in this checkout"
        counts = [f"{each[name]:,}" for name in COUNTS] if found else ["no cluster", "–", "–"]
        table.add_row(each["flow"], services, str(each["bindings"] or "–"), *counts)
    gone = found.gone if found else None
    if gone and gone.open:
        what = "past retention: rows have not ended, no record names their flow"
        table.add_row("?", what, "–", *(f"{_counted(gone)[name]:,}" for name in COUNTS))
    console.print(table)
    sys.stdout.flush()
    for note in found.notes if found else []:
        print(f"note: {note}", file=sys.stderr)
    if why is not None:
        print(f"note: sagas are not counted: {why}", file=sys.stderr)
