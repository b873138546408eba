"""`farandole kafka start|stop|status|clean`: a real Apache Kafka on this machine, for one project.

Tables and sentences go to standard output, progress to standard error; with --json exactly one object is printed.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from farandole.cli.progress import shown
from farandole.config import kafka_home
from farandole.kafka import EmbeddedKafka

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="""Start, stop and look at a real Apache Kafka that needs neither Java nor Docker.

    Example: farandole kafka start --brokers 3

    Its data and logs are in .farandole/kafka of the project (FARANDOLE_HOME), the download in the user's cache
    (FARANDOLE_CACHE). FARANDOLE_KAFKA_JVM replaces the options of its Java machine, for example -Xmx2g.""",
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]

NOT_RUNNING = 3


@app.command()
def start(
    brokers: Annotated[int | None, typer.Option(help="1 or 3; as before, or 1, if not given.")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65_535,
            help="Port of the first broker; 0 for a free one. If not given: 9092, or a free one if that is taken.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start it and wait until it answers. Data is kept from one start to the next.

    Example: farandole kafka start --port 19092
    """
    with shown() as progress:
        kafka = EmbeddedKafka(kafka_home(), brokers, port, progress=progress)
        already = kafka.running
        kafka.start()
    if as_json:
        _print({**_status(kafka), "already_running": already, "notes": kafka.notes})
        return
    for note in kafka.notes:
        print(note)
    print(f"Kafka {'was already running' if already else 'runs'} at {kafka.bootstrap_servers}")


@app.command()
def stop(as_json: Json = False) -> None:
    """Stop it. Its data stays.

    Example: farandole kafka stop
    """
    with shown() as progress:
        kafka = EmbeddedKafka(kafka_home(), progress=progress)
        ran = any(broker.pid for broker in kafka.brokers)
        if ran:
            kafka.stop()
    if as_json:
        _print({**_status(kafka), "was_running": ran})
    else:
        print("Kafka is stopped" if ran else "Kafka was not running")


@app.command()
def status(as_json: Json = False) -> None:
    """Say whether it runs, where, and where its logs are. Exit code 0 if it runs, 3 if not.

    Example: farandole kafka status --json
    """
    kafka = EmbeddedKafka(kafka_home())
    found = _status(kafka)
    if as_json:
        _print(found)
    else:
        _table(found)
    if not found["running"]:
        raise typer.Exit(NOT_RUNNING)


@app.command()
def clean(
    force: Annotated[bool, typer.Option("--force", help="Stop it first if it runs.")] = False, as_json: Json = False
) -> None:
    """Remove its data and logs. The download stays in the cache.

    Example: farandole kafka clean --force
    """
    with shown() as progress:
        kafka = EmbeddedKafka(kafka_home(), progress=progress)
        kafka.clean(force=force)
    if as_json:
        _print(_status(kafka))
    else:
        print(f"{kafka.home} is empty")


def _status(kafka: EmbeddedKafka) -> dict[str, Any]:
    brokers = kafka.brokers
    return {
        "running": kafka.running,
        "bootstrap_servers": kafka.bootstrap_servers if brokers else None,
        "home": str(kafka.home),
        "brokers": [
            {"node": broker.me.node, "port": broker.me.port, "pid": broker.pid, "log": str(broker.log)}
            for broker in brokers
        ],
    }


def _table(found: dict[str, Any]) -> None:
    if not found["brokers"]:
        print("Kafka was never started here; `farandole kafka start` does it")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("broker", "address", "state", box=None, pad_edge=False)
    for broker in found["brokers"]:
        state = f"running, pid {broker['pid']}" if broker["pid"] else "stopped"
        table.add_row(str(broker["node"]), f"127.0.0.1:{broker['port']}", state)
    Console().print(table)
    print(f"logs: {found['home']}/logs")


def _print(found: dict[str, Any]) -> None:
    print(json.dumps(found))
