"""`farandole events`: the schemas as Python."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from farandole import generate as generator
from farandole.config import project_root

app = typer.Typer(no_args_is_help=True)


@app.callback()
def events() -> None:
    """Generate events.py and the schema ids from schemas/.

    Example: farandole events generate
    """


@app.command()
def generate(
    check: Annotated[bool, typer.Option("--check", help="Change nothing; fail if something would change.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
) -> None:
    """Write events.py from schemas/, and give new schema files an id in schemas/ids.json.

    Checks every schema, and that every version can be read as every other one.

    Example: farandole events generate --check
    """
    root = project_root()
    directory, target = root / "schemas", root / "events.py"
    if check:
        generator.check(directory, target)
        changes = []
    else:
        changes = generator.write(directory, target)
    if as_json:
        print(json.dumps({"current": True, "changes": changes}))
    else:
        print("\n".join(changes) or "events.py and schemas/ids.json are current")
