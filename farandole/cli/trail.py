"""`farandole trail`: what an orchestrator did for one order."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from farandole.cli.progress import shown


def command(
    order: Annotated[str, typer.Argument(help="The order's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Print an orchestrated order's audit trail: each command with its cause, its answer, and when.

    Read from the orchestrator's changelog, as committed. Times are Kafka's record times.

    Example: farandole trail o-5f1c0e8a7b2d4c3e9f60a1b2
    """
    import events
    from farandole import config, trail
    from farandole.audit.reading import Reader
    from farandole.codec import Codec
    from farandole.registry import configured

    codec = Codec.load(config.project_root() / "schemas", events, configured())
    client = config.kafka_client_config()
    config.check_broker(client)
    reader = Reader(client, config.namespace(), (trail.TRAILS, trail.ORDERS))
    try:
        with shown() as progress:
            found = trail.read(reader, codec, order, progress)
    finally:
        reader.close()
    if as_json:
        print(json.dumps(trail.as_dict(found)), flush=True)
    else:
        trail.print_trail(found)
