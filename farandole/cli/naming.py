"""What `farandole dead-letters` says of letters that are named: the command that names them, and what was done before.

Invariant: the command that is printed can be pasted, and means what the one that was given means now.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from typing import Any, Final

import typer

from farandole.redrive.naming import Before
from farandole.redrive.queue import Letter

CHOOSING: Final = ("service", "saga", "reason", "letter")
NAMED: Final = 20
"""Letters that a command names at the most."""


def command_for(context: typer.Context, letters: list[Letter]) -> str:
    """The command that runs, with these letters in place of how they were chosen; one for each service."""
    rest: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name not in CHOOSING and value not in (None, False, parameter.get_default(context)):
            rest += _said(parameter.opts[0], value)
    commands = []
    for service in dict.fromkeys(letter.service for letter in letters):
        of = [letter for letter in letters if letter.service == service]
        names = [word for letter in of[:NAMED] for word in ("--letter", str(letter.source))]
        command = shlex.join(
            ["farandole", "dead-letters", context.info_name or "", "--service", service, *names, *rest]
        )
        commands.append(command + (f"   and {len(of) - NAMED:,} more" if len(of) > NAMED else ""))
    return "\n         ".join(commands)


def _said(flag: str, value: Any) -> list[str]:
    if value is True:
        return [flag]
    values = value if isinstance(value, list | tuple) else [value]
    return [word for each in values for word in (flag, str(each))]


def note_dealt_with(before: Iterable[Before], asked: str) -> None:
    """asked: redriven, discarded or edited"""
    for each in before:
        was = each.state + (", edited," if each.edited else "") + (f" by {each.who}" if each.who else "")
        if not each.as_asked:
            was += ", and not as is asked now" if each.edited and asked == "edited" else f", and not {asked}"
        kind = "note" if each.as_asked else "failed"
        print(f"{kind}: {each.letter.service} {each.letter.source}: done before, it was {was}", file=sys.stderr)
