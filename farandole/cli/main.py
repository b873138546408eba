"""Entry point: gathers the commands, prints errors the way people can act on them.

A command is a module of this package that has `app` (a typer application with verbs) or `command` (a single command),
under the module's own name, a dash for an underscore. Modules are imported only when their command is called, so
`farandole kafka status` does not pay for Faust.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

try:
    import click
    import typer
    import typer.exceptions

    from farandole.errors import FarandoleError
except KeyboardInterrupt:  # these imports take a tenth of a second, in which somebody may change their mind
    print("interrupted", file=sys.stderr)
    sys.exit(130)

COMMANDS = {
    "demo": "Place orders against a whole system on this machine, move money or log in; break some; audit the end.",
    "chaos": "Break a whole system under load, on purpose, and audit what is left.",
    "load": "Place orders in an open loop, measure, report, find the limit.",
    "compare": "Run the same orders choreographed, orchestrated and hybrid, and compare them in figures.",
    "kafka": "Start, stop and look at a real Apache Kafka that needs neither Java nor Docker.",
    "worker": "Run the agents of one or more services.",
    "audit": "Read the topics as an outsider would and say whether every promise held.",
    "trail": "Print an orchestrated order's audit trail: each command with its cause, its answer, and when.",
    "dead-letters": "Look at what services could not handle; have it decided again, edit it, or discard it.",
    "replay": "Read recorded history again: print it, rebuild tables from it, or see what other rules would have done.",
    "topics": "Compare topics.yaml and schemas/ with the code and the cluster, and apply them.",
    "simulate": "Run engine, agents and flows in a world where everything goes wrong on purpose.",
    "flows": "List the flows, how many sagas are left of each version, and draw them.",
    "story": "Tell one saga's story: who did what, when and why, and where it is stuck.",
    "deploy": "Take the agents to a target one service after the other, and back.",
    "events": "Generate events.py and the schema ids from schemas/.",
    "sandbox": "Run the payment gateway, the carrier and the mail sink that stand in for the real ones.",
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"farandole.cli.{cmd_name.replace('-', '_')}")
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(add_completion=False)
            app.command()(module.command)
        command = typer.main.get_command(app)
        command.name = cmd_name
        command.help = command.help or COMMANDS[cmd_name]
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


cli = _Commands(
    help="Choreographed sagas on Kafka for Python teams.\n\nExample: farandole demo --orders 100",
    name="farandole",
)


def main() -> None:
    try:
        cli.main(prog_name="farandole", standalone_mode=False)
    except (click.exceptions.Exit, typer.Exit) as stop:
        sys.exit(stop.exit_code)
    except (click.ClickException, typer.exceptions.TyperException) as error:
        wrong: Any = error  # typer brings a click of its own, whose errors have no base in common with click's
        wrong.show()
        sys.exit(wrong.exit_code)
    except (click.Abort, typer.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except FarandoleError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
