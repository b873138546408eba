"""`farandole worker inventory payment`: the agents of one or more services in one process."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import Annotated, Any

import typer

from farandole.errors import ConfigError


def known_services() -> list[str]:
    """Services that the project has: the modules of agents/."""
    return sorted(info.name for info in pkgutil.iter_modules(importlib.import_module("agents").__path__))


def command(
    services: Annotated[list[str], typer.Argument(help="Names of modules in agents/, e.g. `inventory payment`.")],
    web_port: Annotated[
        int | None,
        typer.Option(
            help="Port of the first service's HTTP; the next services take the next ports. "
            "If not given: free ones, which it says."
        ),
    ] = None,
    web_host: Annotated[str, typer.Option(help="Host name under which other workers reach this one.")] = "127.0.0.1",
    without_web: Annotated[bool, typer.Option("--without-web", help="No HTTP: no views, no /health.")] = False,
    loglevel: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the agents of one or more services until SIGTERM or Ctrl-C.

    Several workers of one service share its partitions. Stopping one hands its partitions over.

    Example: farandole worker inventory payment --web-port 6066
    """
    import faust

    from farandole import config

    unknown = sorted(set(services) - set(known_services()))
    if unknown:
        raise ConfigError(
            f"no such service: {', '.join(unknown)}",
            where="farandole worker",
            mend=f"one or more of: {', '.join(known_services())}",
        )
    if loglevel.lower() not in ("debug", "info", "warning", "error"):
        raise ConfigError(f"no such log level: {loglevel}", where="--loglevel", mend="debug, info, warning or error")
    config.check_broker(config.kafka_client_config())
    apps: list[Any] = [importlib.import_module(f"agents.{service}").app for service in dict.fromkeys(services)]
    for number, app in enumerate(apps):
        app.finalize()
        app.serve_http(None if without_web else (web_port + number if web_port else 0), web_host)
        if app.address():
            print(f"{app.service_name} answers HTTP at {app.address()}", file=sys.stderr)
    faust.Worker(apps[0], *apps[1:], loglevel=loglevel, quiet=True).execute_from_commandline()
