"""`farandole story`: one saga from its beginning to where it stands."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from farandole.cli.progress import shown


def command(
    saga: Annotated[
        str, typer.Argument(help="Its id, as it was answered: of an order, a transfer or a login's challenge.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tell one saga's story: who did what, when and why, and where it is stuck.

    Every event stands below its cause, with the decision that it comes from; beside them outside calls, timers and dead
    letters. It joins no group, commits nothing, and reads only the partitions where the saga's keys can lie.

    Example: farandole story o-5cff6675ee5165c2ec504b71
    """
    from farandole.story.asking import ask
    from farandole.story.telling import lines

    with shown(eta=True) as progress:
        story = ask(saga, progress)
    if as_json:
        print(json.dumps(story.to_dict()))
    else:
        print("\n".join(lines(story)))
