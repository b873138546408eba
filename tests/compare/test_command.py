"""`farandole compare` from outside: its plan, its flags, and a quick run on a real Kafka."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farandole.cli import compare, main
from farandole.compare.flows import FLOWS
from farandole.errors import ConfigError


def run(*arguments: str) -> str:
    import typer

    app = typer.Typer()
    app.command()(compare.command)
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return str(done.stdout)


def test_it_is_a_command() -> None:
    assert "compare" in main.COMMANDS


def test_a_dry_run_says_what_would_be_done() -> None:
    said = json.loads(run("--dry-run", "--json", "--minutes", "5"))
    assert said["flows"] == FLOWS
    assert said["seconds"] < 600
    assert said["page"].endswith("docs/choreography-or-orchestration.md")
    assert "page: none" in run("--dry-run", "--quick")


def test_a_page_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        run("--out", str(tmp_path / "nowhere" / "page.md"))
    with pytest.raises(ConfigError, match="cannot be written"):
        run("--dry-run", "--out", str(tmp_path))
