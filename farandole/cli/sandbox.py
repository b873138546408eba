"""`farandole sandbox`: the outside world on this machine."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from farandole.errors import ConfigError, FarandoleError
from farandole.sandbox import ENVIRONMENT, SYSTEMS, Sandbox
from farandole.sandbox.address import Port
from farandole.sandbox.faults import plan_of
from farandole.sandbox.system import LIMIT

app = typer.Typer(
    help="Run the payment gateway, the carrier and the mail sink that stand in for the real ones.\n\n"
    "Example: farandole sandbox all",
    no_args_is_help=True,
    add_completion=False,
)

NAMES = {"gateway": "payment gateway", "carrier": "carrier", "mail": "mail sink"}

MAX_RESTARTS = 100
"""Systems that `all` starts again after they were killed, before it gives up."""

LOOK_EVERY = 0.2
"""Seconds between looks at whether a system was killed."""

PortOption = Annotated[
    int | None,
    typer.Option(
        help="Port; 0: a free one. When not given, the usual one, or a free one if that is taken.", min=0, max=65_533
    ),
]
HostOption = Annotated[str, typer.Option(help="Address to listen on.")]
DataOption = Annotated[
    Path | None, typer.Option(help="Directory that remembers every operation across restarts and kill -9.")
]
LimitOption = Annotated[int, typer.Option(help="Operations that are kept; new ones are then answered 507.", min=1)]
SeedOption = Annotated[int, typer.Option(help="Which requests meet which fault.")]
LatencyOption = Annotated[
    str | None,
    typer.Option(help="Seconds that requests take: 0.05, uniform:0.01,0.2 or lognormal:0.05,0.5 (median, sigma)."),
]
ErrorsOption = Annotated[float, typer.Option(help="Share of requests answered 503.", min=0, max=1)]
LostOption = Annotated[float, typer.Option(help="Share of requests performed and not answered.", min=0, max=1)]
LostAfterOption = Annotated[
    float | None, typer.Option(help="Seconds after which those are answered after all.", min=0, max=60)
]
OutageOption = Annotated[float | None, typer.Option(help="Seconds out of order from the start (503).", min=0.001)]
JsonOption = Annotated[bool, typer.Option("--json", help="One line of JSON with addresses and process ids.")]
EofOption = Annotated[bool, typer.Option("--until-eof", hidden=True)]


def _plan(
    seed: int, latency: str | None, error_rate: float, lost_rate: float, lost_after: float | None, outage: float | None
) -> dict[str, object]:
    """The flags as the JSON that PUT /faults takes."""
    plan: dict[str, object] = {"seed": seed}
    if latency is not None:
        plan["latency"] = _latency(latency)
    if error_rate:
        plan["errors"] = {"rate": error_rate}
    if lost_rate:
        plan["lost"] = {"rate": lost_rate, "answer_after": lost_after}
    if outage is not None:
        plan["outage"] = {"lasts": outage}
    return plan


def _latency(text: str) -> dict[str, object]:
    kind, _, numbers = text.rpartition(":")
    try:
        values = [float(number) for number in numbers.split(",")]
    except ValueError:
        values = []
    if kind in ("", "fixed") and len(values) == 1:
        return {"fixed": values[0]}
    if kind in ("uniform", "lognormal") and len(values) == 2:
        return {kind: values}
    raise ConfigError(
        f"not a latency: {text}", where="--latency", mend="pass 0.05, uniform:0.01,0.2 or lognormal:0.05,0.5 (seconds)"
    )


def _free_unless_given(system: str, host: str, port: int | None) -> int:
    """The port to use. Only one that was asked for by number is worth an error when it is taken."""
    if port is not None:
        return port
    usual = SYSTEMS[system]
    try:
        Port.reserve(host, usual).release()
    except ConfigError:
        print(f"port {usual} is taken, the {system} takes a free one", file=sys.stderr)
        return 0
    return usual


def _command(system: str) -> Callable[..., None]:
    def command(
        port: PortOption = None,
        host: HostOption = "127.0.0.1",
        data: DataOption = None,
        limit: LimitOption = LIMIT,
        seed: SeedOption = 0,
        latency: LatencyOption = None,
        error_rate: ErrorsOption = 0.0,
        lost_rate: LostOption = 0.0,
        lost_after: LostAfterOption = None,
        outage: OutageOption = None,
        as_json: JsonOption = False,
        until_eof: EofOption = False,
    ) -> None:
        from farandole.sandbox import server

        server.serve(
            server.Settings(
                system,
                host=host,
                port=_free_unless_given(system, host, port),
                data=data,
                limit=limit,
                faults=plan_of(_plan(seed, latency, error_rate, lost_rate, lost_after, outage)),
                until_eof=until_eof,
                as_json=as_json,
            )
        )

    command.__doc__ = f"""Run the {NAMES[system]} until Ctrl-C or SIGTERM.

    Example: farandole sandbox {system} --data .farandole/sandbox --latency lognormal:0.05,0.5 --seed 7
    """
    return command


for name in SYSTEMS:
    app.command(name)(_command(name))


@app.command("all")
def all_systems(
    port: Annotated[
        int | None,
        typer.Option(help="Port of the gateway; the others take the next two. 0: free ones.", min=0, max=65_533),
    ] = None,
    host: HostOption = "127.0.0.1",
    data: DataOption = None,
    limit: LimitOption = LIMIT,
    seed: SeedOption = 0,
    latency: LatencyOption = None,
    error_rate: ErrorsOption = 0.0,
    lost_rate: LostOption = 0.0,
    lost_after: LostAfterOption = None,
    outage: OutageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run all three until Ctrl-C or SIGTERM. With --data, one that was killed is started again.

    Example: farandole sandbox all --data .farandole/sandbox
    """
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Each process reads the flags for itself; a mistake in them is better told once, before any has started.
    plan_of(_plan(seed, latency, error_rate, lost_rate, lost_after, outage))
    flags = {
        "--limit": limit,
        "--seed": seed,
        "--latency": latency,
        "--error-rate": error_rate,
        "--lost-rate": lost_rate,
        "--lost-after": lost_after,
        "--outage": outage,
    }
    options = [text for flag, value in flags.items() if value is not None for text in (flag, str(value))]
    with Sandbox.start(data, host=host, ports=_ports(host, port), options=options) as sandbox:
        _announce(sandbox, as_json)
        _keep_alive(sandbox, stop)


def _ports(host: str, first: int | None) -> dict[str, int]:
    if first is None:
        return {system: _free_unless_given(system, host, None) for system in SYSTEMS}
    return {system: first and first + n for n, system in enumerate(SYSTEMS)}


def _announce(sandbox: Sandbox, as_json: bool) -> None:
    if as_json:
        said = {"urls": sandbox.urls, "admin": sandbox.admin_urls, "pids": sandbox.pids, "env": sandbox.environment}
        print(json.dumps(said), flush=True)
        return
    for system, url in sandbox.urls.items():
        print(
            f"export {ENVIRONMENT[system]}={url}   # /state, /faults also on {sandbox.admin_urls[system]}", flush=True
        )


def _keep_alive(sandbox: Sandbox, stop: threading.Event) -> None:
    restarts = 0
    while not stop.wait(LOOK_EVERY):
        for system in sandbox.dead():
            restarts += 1
            if sandbox.directory is None or restarts > MAX_RESTARTS:
                raise FarandoleError(
                    f"the {system} was killed, and what it knew is gone"
                    if sandbox.directory is None
                    else f"systems were killed {restarts} times",
                    mend="start the sandbox again; with --data a killed system comes back by itself",
                )
            print(f"the {system} was killed, it is started again", file=sys.stderr)
            sandbox.restart(system)
