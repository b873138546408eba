"""`farandole deploy plan|apply|status|rollback|stop`."""

from __future__ import annotations

import json
import signal
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farandole import config
from farandole.cli.progress import WIDE, shown, terminated
from farandole.demo.mischief import parse_workers
from farandole.errors import ConfigError

if TYPE_CHECKING:
    from farandole.deploy.planning import Plan
    from farandole.deploy.run import Options, Report

app = typer.Typer(no_args_is_help=True, add_completion=False)

Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="local: processes of this machine; compose: docker-compose.yml. As before, or local, if not given.",
    ),
]
Scale = Annotated[
    list[str] | None, typer.Option("--scale", help="SERVICE=N: so many workers of it, from now on. Repeatable.")
]
Http = Annotated[
    list[str] | None,
    typer.Option(
        "--http", help="SERVICE=PORT: where its first worker answers HTTP, the next one port further (local)."
    ),
]
Ended = Annotated[
    list[str] | None,
    typer.Option("--ended", help="FLOW/VERSION of which no saga is in flight, so that it may change. Repeatable."),
]
Ready = Annotated[float, typer.Option(help="Seconds for a worker to be ready.", min=1, max=3_600)]
CatchUp = Annotated[float, typer.Option(help="Seconds for a service to catch up with its topics.", min=1, max=86_400)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan, and do nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]

NOT_RUNNING = 3


@app.callback()
def deploy() -> None:
    """Take the repository's state to a target, one service after the other, and back.

    Example: farandole deploy plan && farandole deploy apply && farandole deploy status
    """


@app.command()
def plan(target: Target = None, scale: Scale = None, ended: Ended = None, as_json: AsJson = False) -> None:
    """Show what `apply` would do, and why in this order; refuse what would break sagas in flight. Changes nothing.

    Exit code 1 if it is refused. Example: farandole deploy plan --scale payment=2
    """
    from farandole.deploy.run import make_plan
    from farandole.deploy.state import Deployment

    with shown() as progress:
        progress("reading the project", 0, 0)
        made = make_plan(Deployment(), config.project_root(), _options(target, scale, None, ended))
    _show(made, as_json)
    raise typer.Exit(1 if made.refused else 0)


@app.command()
def apply(
    target: Target = None,
    scale: Scale = None,
    http: Http = None,
    ended: Ended = None,
    ready_within: Ready = 90.0,
    caught_up_within: CatchUp = 60.0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Make the target run what the project's directory holds: topics, schemas, then one service after the other.

    A service that does not become ready, or does not catch up, takes all that were rolled back with it. Interrupted, it
    goes on where it was when it is run again. Exit code 0: all services run the new version. 1: refused, or taken back.

    Example: farandole deploy apply --scale payment=2 --http order=6066
    """
    from farandole.deploy.run import make_plan
    from farandole.deploy.state import Deployment

    options = _options(target, scale, http, ended, ready_within, caught_up_within)
    _carry_out(
        lambda deployment: make_plan(deployment, config.project_root(), options),
        Deployment(),
        options,
        dry_run,
        as_json,
    )


@app.command()
def rollback(
    to: Annotated[
        str, typer.Option(help="A version that is kept; otherwise the last one before that was not rolled back from.")
    ] = "",
    target: Target = None,
    ended: Ended = None,
    ready_within: Ready = 90.0,
    caught_up_within: CatchUp = 60.0,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Go back to the version before, in the opposite order. Topics and schemas stay as they are.

    Twice goes back by two versions, and never to one that was rolled back from. Interrupted, it goes on where it was
    when it is run again. Exit code 0: all services run the version before. 1: refused, or taken back. 2: there is none.

    Example: farandole deploy rollback --dry-run && farandole deploy rollback
    """
    from farandole.deploy.run import make_rollback
    from farandole.deploy.state import Deployment

    options = _options(target, None, None, ended, ready_within, caught_up_within)
    _carry_out(lambda deployment: make_rollback(deployment, options, to), Deployment(), options, dry_run, as_json)


@app.command()
def status(target: Target = None, as_json: AsJson = False) -> None:
    """Show each worker: version, process, uptime, restarts, whether it is ready; and how far each service is behind.

    Exit code 0 if all workers are ready and of one version, 3 otherwise. Example: farandole deploy status --json
    """
    from farandole.deploy.report import print_status, status_of

    found = status_of(_options(target, None, None, None))
    if as_json:
        print(json.dumps(found))
    else:
        print_status(found, _console())
    raise typer.Exit(0 if found["well"] else NOT_RUNNING)


@app.command()
def stop(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say who would be ended, and end nobody.")] = False,
    as_json: AsJson = False,
) -> None:
    """End all workers of the target `local`, and what looks after them. `apply` begins them again.

    Example: farandole deploy stop --dry-run && farandole deploy stop
    """
    from farandole.deploy.local import LocalTarget
    from farandole.deploy.state import Deployment

    deployment = Deployment()
    if deployment.state.target == "compose":
        raise ConfigError("what is deployed from here runs in containers", mend="docker compose stop")
    if dry_run:
        workers = sorted(each.name for each in LocalTarget(deployment, config.project_root(), 0.0).instances())
        said = f"would be ended: {', '.join(workers)}" if workers else "nothing is running"
        print(json.dumps({"workers": workers}) if as_json else said)
        return
    with deployment.changing(), shown() as progress:
        ran = LocalTarget(deployment, config.project_root(), 0.0).stop(progress)
    print(json.dumps({"was_running": ran}) if as_json else "all workers are stopped" if ran else "nothing was running")


def _carry_out(make: Any, deployment: Any, options: Options, dry_run: bool, as_json: bool) -> None:
    from farandole.deploy.run import carry_out

    signal.signal(signal.SIGTERM, terminated)
    if dry_run:
        made = make(deployment)
        _show(made, as_json)
        raise typer.Exit(1 if made.refused else 0)
    with deployment.changing(), shown() as progress:
        progress("reading the project", 0, 0)
        made = make(deployment)
        if made.refused:
            _show(made, as_json)
            raise typer.Exit(1)
        if not as_json:
            _show(made, False)
        report = carry_out(made, deployment, config.project_root(), options, progress)
    _show_report(report, as_json)
    raise typer.Exit(0 if report.ok else 1)


def _options(
    target: str | None,
    scale: list[str] | None,
    http: list[str] | None,
    ended: list[str] | None,
    ready_within: float = 90.0,
    caught_up_within: float = 60.0,
) -> Options:
    from farandole.deploy.run import TARGETS
    from farandole.deploy.run import Options as Chosen
    from farandole.deploy.state import Deployment

    target = target or Deployment().state.target or "local"
    if target not in TARGETS:
        raise ConfigError(f"no such target: {target}", where="--target", mend=" or ".join(TARGETS))
    return Chosen(
        target=target,
        workers=dict(_pair(text, "--scale") for text in scale or ()),
        ports=dict(_pair(text, "--http") for text in http or ()),
        ended=tuple(ended or ()),
        ready_within=ready_within,
        caught_up_within=caught_up_within,
    )


def _pair(text: str, option: str) -> tuple[str, int]:
    try:
        return parse_workers(text)
    except ConfigError:
        raise ConfigError(f"not SERVICE=NUMBER: {text}", where=option, mend=f"such as {option} order=2") from None


def _show(made: Plan, as_json: bool) -> None:
    from farandole.deploy.report import print_plan

    if as_json:
        print(json.dumps(made.to_dict()), flush=True)
        return
    for problem in made.refused:
        print(f"refused: {problem.error()}\n", file=sys.stderr)
    print_plan(made, _console())


def _show_report(report: Report, as_json: bool) -> None:
    from farandole.deploy.report import print_report

    if as_json:
        print(json.dumps(report.to_dict()), flush=True)
    else:
        print_report(report, _console())


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
