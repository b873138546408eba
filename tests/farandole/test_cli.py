"""The command line as people and scripts meet it: help everywhere, and mistakes that say what, where and how to
mend.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from farandole.cli.main import COMMANDS, cli

ROOT = Path(__file__).parents[2]
VERBS = ("redrive", "edit", "discard")


def farandole(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "farandole.cli.main", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", **environment},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = farandole(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("demo", "or all of these. Or transfer alone, or login alone"),
        ("demo", "visitors (40, also the most)"),
        ("demo", "move money or log in"),
        ("chaos", "or all of these, those of orders and the other two"),
        ("audit", "Orders, transfers and logins are judged alike"),
        ("audit", "that an order or a transfer may take"),
        ("simulate", "Some seeds have transfers and logins beside them"),
    ],
)
def test_help_says_which_flows_a_command_is_about(command: str, says: str) -> None:
    words = " ".join(farandole(command, "--help").stdout.replace("│", " ").split())
    assert says in words


def test_a_flow_without_orders_is_simulated_beside_them_and_not_by_its_name() -> None:
    done = farandole("simulate", "--flow", "login")
    assert done.returncode == 2
    assert "no orders are placed in a flow login" in done.stderr
    assert "one of order/1, " in done.stderr
    assert "one in seven logins, whatever --flow says" in done.stderr


CHANGES_NOTHING = ("deploy plan", "deploy status", "load compare", "dead-letters list", "dead-letters show")
CHANGES = ("deploy apply", "deploy rollback", "deploy stop", "load", *(f"dead-letters {verb}" for verb in VERBS))


@pytest.mark.parametrize("words", [*CHANGES_NOTHING, *CHANGES])
def test_every_verb_has_an_example_of_itself_json_and_a_dry_run_if_it_changes_anything(words: str) -> None:
    name, *verb = words.split()
    command: Any = cli.get_command(click.Context(cli), name)
    assert set(getattr(command, "commands", ())) <= {words.split()[-1] for words in (*CHANGES_NOTHING, *CHANGES)}
    strange = {"--install-completion", "--show-completion"}
    assert not strange & {option for each in command.params for option in each.opts}, "it is no program of this name"
    for each in verb:
        command = command.commands[each]
    assert f"Example: farandole {words} " in " ".join(str(command.help).split()) + " "
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    assert ("--dry-run" in options) == (words in CHANGES)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_bad_flag_is_told_and_not_traced(command: str) -> None:
    done = farandole(command, "--no-such-flag")
    assert done.returncode == 2
    assert "--no-such-flag" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_service_names_the_known_ones() -> None:
    done = farandole("worker", "invetory")
    assert done.returncode == 2
    assert "invetory" in done.stderr
    assert "inventory" in done.stderr
    assert "mend:" in done.stderr


@pytest.mark.parametrize("command", [["worker", "inventory"], ["topics", "plan"], ["audit"]])
def test_a_missing_broker_is_told_with_its_address_and_what_to_do(command: list[str]) -> None:
    done = farandole(*command, KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert done.returncode in (3, 4)
    assert "127.0.0.1:1" in done.stderr
    assert "mend:" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("command", "shows"), [("agents", "@inventory"), ("tables", "levels")])
def test_faust_lists_what_is_there(command: str, shows: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "faust", "-A", "agents.inventory", command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert shows in done.stdout
