"""`farandole load`: orders in an open loop, and `farandole load compare`: two reports side by side."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farandole.cli.files import probe, probe_directory, written
from farandole.cli.progress import show_outcome, shown, terminated
from farandole.errors import ConfigError, FarandoleError

if TYPE_CHECKING:
    from farandole.load.options import Options

app = typer.Typer(invoke_without_command=True, add_completion=False, no_args_is_help=False)

INTERRUPTED = 130


@app.callback()
def load(
    context: typer.Context,
    rate: Annotated[
        float | None, typer.Option(help="Orders per second (100); of a search the first rate (50).", min=0)
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Minutes at that rate (1).", min=0)] = None,
    steps: Annotated[str, typer.Option(help="Rates with commas between, one after the other.")] = "",
    step_seconds: Annotated[
        float | None, typer.Option(help="Seconds of each step (30), or of each rate of a search (20).", min=0)
    ] = None,
    profile: Annotated[
        Path | None, typer.Option(help="A file of stages, or the name of one in profiles/: ramp, spike, soak.")
    ] = None,
    burst: Annotated[int, typer.Option(help="So many orders at once; how long until they are gone?", min=0)] = 0,
    find_limit: Annotated[
        bool, typer.Option("--find-limit", help="Search the highest rate that holds the objective.")
    ] = False,
    soak_minutes: Annotated[
        float,
        typer.Option(
            help="After --find-limit: so many minutes at 80 % of what was found; from 5 on memory is judged.", min=0
        ),
    ] = 0.0,
    highest: Annotated[float, typer.Option(help="Of a search: no rate above it is tried.", min=1)] = 20_000.0,
    precision: Annotated[
        float, typer.Option(help="Of a search: held and missed are so close at the end.", min=0.005, max=0.5)
    ] = 0.05,
    warm_up: Annotated[
        float | None,
        typer.Option(help="Seconds that do not count, before the load (10) or each rate of a search (5).", min=0),
    ] = None,
    objective: Annotated[
        str, typer.Option(help="What is to be held, such as p99<1000ms, which a search takes if none is given.")
    ] = "",
    mix: Annotated[
        str, typer.Option(help="Shares of orders that are not plain, such as declined=0.03,sold_out=0.02.")
    ] = "",
    lines: Annotated[str, typer.Option(help="Lines of an order, such as 1-3.")] = "",
    quantity: Annotated[str, typer.Option(help="Pieces of a line, such as 1-5.")] = "",
    skus: Annotated[int | None, typer.Option(help="How many there are (1000).")] = None,
    zipf: Annotated[float | None, typer.Option(help="Exponent of the skus' popularity; 0: all alike.")] = None,
    seed: Annotated[int, typer.Option(help="Which orders.", min=0)] = 0,
    via: Annotated[str, typer.Option(help="How orders are placed: kafka or http.")] = "kafka",
    against: Annotated[
        bool, typer.Option("--against", help="Start nothing: load the system that the environment names.")
    ] = False,
    order_url: Annotated[str, typer.Option(help="With --against --via http: the order service; ORDER_URL.")] = "",
    workers: Annotated[
        list[str] | None, typer.Option(help="SERVICE=N: so many workers of it instead of one. Repeatable.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds for the last orders to end.", min=1, max=86_400)] = 120.0,
    out: Annotated[Path | None, typer.Option(help="Folder for the reports; .farandole/reports otherwise.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Place orders in an open loop and measure: latency from the intended start, throughput, lag, CPU, memory.

    Starts a whole system as the demo does, or uses one that runs (--against). Afterwards the audit reads the topics; a
    report is written as one HTML file and as JSON. Exit code 0 if the audit is clean, the objective, if there is one,
    was held, and memory stayed within 1.1 × in a soak of five minutes or more; 1 if not; 130 after Ctrl-C, with what
    was measured by then.

    Example: farandole load --steps 100,200,400 --step-seconds 30 --objective 'p99<500ms'
    """
    if context.invoked_subcommand is not None:
        return
    options = _options(
        profile,
        mix,
        lines,
        quantity,
        skus,
        zipf,
        objective,
        rate=rate,
        minutes=minutes,
        steps=_steps(steps),
        step_seconds=step_seconds,
        burst=burst,
        find_limit=find_limit,
        soak_minutes=soak_minutes,
        highest=highest,
        precision=precision,
        warm_up=warm_up,
        seed=seed,
        via=via,
        against=against,
        order_url=order_url,
        workers=_workers(workers),
        timeout=timeout,
    )
    if dry_run:
        _show_plan(options, as_json)
        return
    try:
        code = _play(options, out, as_json)
    except FarandoleError as error:
        if as_json and not isinstance(error, ConfigError):
            print(json.dumps({"ok": False, "problems": [str(error)], "audit": None}), flush=True)
        raise
    raise typer.Exit(code)


@app.command()
def compare(
    a: Annotated[str, typer.Argument(help="A report: its .json file, or the name of its run.")],
    b: Annotated[str, typer.Argument(help="Another one.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The HTML file; .farandole/reports/A-B.html otherwise.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Two reports side by side, with ratios; says where machine or settings differ.

    Exit code 0, whatever differs; 2: no such report, or the page cannot be written.

    Example: farandole load compare load-20260101-120000 load-20260102-120000 --out compared.html
    """
    from farandole.load import compare as comparing
    from farandole.load.run import reports_home

    probe(out, "--out", parents=True)
    if out is not None and out.is_file():
        reports = [comparing.path_of(each) for each in (a, b)]
        if any(out.samefile(each) for each in (*reports, *(r.with_suffix(".html") for r in reports)) if each.is_file()):
            raise ConfigError("this is a report that is compared", where=f"--out {out}", mend="name another file")
    compared = comparing.compare(comparing.read(a), comparing.read(b))
    with written(out or reports_home(), "--out"):
        compared.write(out)
    show_outcome(compared, as_json, comparing.print_comparison)


def _steps(text: str) -> tuple[float, ...]:
    from farandole.load.options import parse_steps

    return parse_steps(text)


def _workers(said: list[str] | None) -> tuple[tuple[str, int], ...]:
    from farandole.demo.mischief import parse_workers

    return tuple(parse_workers(text) for text in said or ())


def _options(
    profile: Path | None,
    mix: str,
    lines: str,
    quantity: str,
    skus: int | None,
    zipf: float | None,
    objective: str,
    **chosen: Any,
) -> Options:
    """The command line's wishes, and below them the profile's."""
    from farandole import config
    from farandole.load import profile as profiles
    from farandole.load.objective import Objective
    from farandole.load.options import Options, existing
    from farandole.load.orders import MOST_LINES, MOST_PIECES, Between, Mix, kinds_of, parse_mix
    from farandole.topics import Topics

    if chosen["via"] not in ("kafka", "http"):
        raise ConfigError(f"no such way: {chosen['via']}", where="--via", mend="kafka or http")
    file = profiles.Profile(stages=[])
    if profile is not None:
        path = existing(profile)
        file, stages = profiles.load(path)
        chosen |= {"profile": file.name, "stages": tuple(stages)}
        if not mix and file.mix:
            chosen["kinds"] = kinds_of(file.mix, f"{path}, mix")
    usual = Mix()
    orders = Mix(
        kinds=chosen.pop("kinds", None) or parse_mix(mix),
        lines=Between.parse(lines or file.lines or str(usual.lines), MOST_LINES, "--lines"),
        quantity=Between.parse(quantity or file.quantity or str(usual.quantity), MOST_PIECES, "--quantity"),
        skus=next((each for each in (skus, file.skus) if each is not None), usual.skus),
        zipf=next((each for each in (zipf, file.zipf) if each is not None), usual.zipf),
    )
    wanted = objective or file.objective
    options = Options(**chosen, mix=orders, objective=Objective.parse(wanted) if wanted else None)
    options.check(Topics.load(config.project_root() / "topics.yaml").services)
    return options


def _show_plan(options: Options, as_json: bool) -> None:
    from farandole.load.options import plan_of

    plan = plan_of(options)
    if as_json:
        print(json.dumps(plan), flush=True)
        return
    print(f"{plan['load']}, via {plan['via']}, {plan['against']}")
    for stage in plan["stages"]:
        counted = "" if stage["measured"] else "   not counted"
        rates = f"{stage['from']:g}" if stage["from"] == stage["to"] else f"{stage['from']:g} to {stage['to']:g}"
        length = f"{stage['seconds']:>8g} s  {rates:>12} orders/s"
        print(f"  {stage['name']:<16} {length}  {stage['orders']:>9,} orders{counted}")
    if plan["orders"] is not None:
        print(f"  {plan['orders']:,} orders in {plan['seconds']:g} s, then draining and the audit")
    if plan["note"]:
        print(f"  {plan['note']}")
    print(f"stock delivered: {plan['stock']['pieces_of_each']:,} pieces of each of {plan['stock']['skus']:,} skus")
    print(f"objective: {plan['objective'] or 'none'}; orders: {json.dumps(plan['mix'])}")


def _play(options: Options, out: Path | None, as_json: bool) -> int:
    from farandole.load.html import write
    from farandole.load.outcome import print_outcome
    from farandole.load.run import prepared, reports_home

    folder = out or reports_home()
    probe_directory(folder, "--out" if out else "FARANDOLE_HOME")
    signal.signal(signal.SIGTERM, terminated)
    with shown() as progress, prepared(options, progress) as playing:
        outcome = playing.play()
        progress("stopping", 0, 0)
    write(outcome, folder)
    show_outcome(outcome, as_json, print_outcome)
    return INTERRUPTED if outcome.interrupted else int(not outcome.ok)
