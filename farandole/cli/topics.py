"""`farandole topics`: the map of the system, compared and applied."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from farandole import config, generate
from farandole.cli.progress import WIDE
from farandole.errors import FarandoleError
from farandole.schemas import Schemas
from farandole.topiccheck import check, check_flows, service_maps
from farandole.topicplan import Configure, Plan
from farandole.topics import Problem, Topics, read

app = typer.Typer(no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
AllowDelete = Annotated[bool, typer.Option("--allow-delete", help="Delete topics of ours that are not declared.")]

AS_DECLARED = "the cluster is as topics.yaml says"

PENDING = 10
"""Exit code of `plan --exit-code` if there is something to apply."""


@app.callback()
def topics() -> None:
    """Compare topics.yaml and schemas/ with the code and the cluster, and apply them.

    Example: farandole topics validate && farandole topics plan && farandole topics apply
    """


@app.command()
def validate(as_json: AsJson = False) -> None:
    """Compare topics.yaml with itself, with schemas/, and with what the code hears and publishes. Needs no cluster.

    Exit code 0 if all agrees, 1 otherwise. Example: farandole topics validate --json
    """
    problems = find_problems()
    if as_json:
        print(json.dumps({"valid": not problems, "problems": [asdict(problem) for problem in problems]}))
    elif problems:
        for problem in problems:
            print(f"error: {problem.error()}\n", file=sys.stderr)
        print(f"{len(problems)} problem{'s' if len(problems) > 1 else ''}", file=sys.stderr)
    else:
        print("topics.yaml, schemas/ and the code agree")
    sys.exit(1 if problems else 0)


def find_problems() -> list[Problem]:
    """All that is wrong. What cannot even be read is one problem, and hides what would come after it."""
    try:
        return _find_problems(config.project_root())
    except FarandoleError as error:
        return [Problem(error.what, error.where, error.mend)]
    except (ImportError, SyntaxError) as error:
        where = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else str(error.path or error.name)
        mend = "farandole events generate, if events.py is not current; else mend the import"
        return [Problem(f"the code cannot be imported: {error.msg}", where, mend)]


def _find_problems(root: Path) -> list[Problem]:
    """The code is looked at only when the files agree with themselves: it takes a second to import."""
    declared, problems = read(root / "topics.yaml")
    if problems:
        return problems
    schemas = Schemas.load(root / "schemas")
    generate.check(root / "schemas", root / "events.py")
    from farandole.flow import load_flows

    flows = load_flows()
    return check(declared, schemas, service_maps(flows, schemas)) + check_flows(flows)


@app.command()
def plan(
    allow_delete: AllowDelete = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help=f"Exit {PENDING} if there is something to do.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what `apply` would do to the cluster, and do nothing.

    Exit code 1 if something cannot be done. Example: farandole topics plan --exit-code
    """
    made = _load().plan(config.kafka_client_config(), config.namespace(), allow_delete=allow_delete)
    if as_json:
        print(json.dumps(_as_json(made)))
    else:
        _show_plan(made, allow_delete)
    sys.exit(1 if made.refused else PENDING if made.actions and exit_code else 0)


@app.command()
def apply(allow_delete: AllowDelete = False, as_json: AsJson = False) -> None:
    """Make the cluster as topics.yaml says: create, configure, wait until every partition has a leader.

    Deletes nothing unless asked to. Example: farandole topics apply
    """
    declared = _load()
    made = declared.apply(
        config.kafka_client_config(),
        config.namespace(),
        None if as_json else lambda line: print(line, file=sys.stderr),
        allow_delete=allow_delete,
    )
    if as_json:
        print(json.dumps(_as_json(made)))
    else:
        print(f"{len(made.actions)} done" if made.actions else AS_DECLARED)


@app.command(name="list")
def list_(as_json: AsJson = False) -> None:
    """List the topics as declared: owner, key, partitions, retention, events.

    Example: farandole topics list --json
    """
    declared, namespace = _load(), config.namespace()
    if as_json:
        rows = [
            {
                "topic": namespace + topic.name,
                "owner": topic.owner,
                "key": topic.key,
                "partitions": topic.partitions,
                "replicas": topic.replicas,
                "retention": topic.retention,
                "events": list(topic.events),
                "configs": dict(topic.configs),
            }
            for topic in declared.topics.values()
        ]
        print(json.dumps({"topics": rows}))
        return
    table = Table(
        Column("topic", no_wrap=True), "owner", "key", "partitions", "kept", Column("events", overflow="fold")
    )
    for topic in declared.topics.values():
        events = ", ".join(event.removeprefix(topic.name + ".") for event in topic.events)
        cells = (namespace + topic.name, topic.owner, topic.key or "", str(topic.partitions), topic.retention, events)
        table.add_row(*cells)
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def _load() -> Topics:
    return Topics.load(config.project_root() / "topics.yaml")


def _show_plan(made: Plan, allow_delete: bool) -> None:
    for error in made.refused:
        print(f"refused: {error}", file=sys.stderr)
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    if made.orphans and not allow_delete:
        print(f"note: not declared, left alone: {', '.join(made.orphans)} (--allow-delete)", file=sys.stderr)
    for action in made.actions:
        print(action)
    print(f"{len(made.actions)} to do" if made.actions else AS_DECLARED)


def _as_json(made: Plan) -> dict[str, Any]:
    actions = []
    for action in made.actions:
        fields = asdict(action)
        if isinstance(action, Configure):
            fields["changes"] = {name: {"now": old, "then": new} for name, (old, new) in action.changes.items()}
        actions.append(fields)
    refused = [{"what": error.what, "where": error.where, "mend": error.mend} for error in made.refused]
    return {"actions": actions, "refused": refused, "orphans": list(made.orphans), "notes": list(made.notes)}
