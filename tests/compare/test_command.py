"""`farandole compare` from outside: its plan, its flags, and a quick run on a real Kafka."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from farandole.cli import compare, main
from farandole.compare.flows import FLOWS
from farandole.compare.step import COPIED
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
        run("--dry-run", "--out", str(tmp_path / "nowhere" / "page.md"))
    with pytest.raises(ConfigError, match="cannot be written"):
        run("--dry-run", "--out", str(tmp_path))


def a_project(root: Path, *without: str) -> Path:
    """Names alone: of what a comparison copies, but for some. A docs folder is there, too."""
    for name in (*COPIED, "docs"):
        if name not in without:
            (root / name).mkdir(parents=True)
    return root


def test_a_project_that_is_not_whole_is_said_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the project's own image is not: it holds what services need."""
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FARANDOLE_PROJECT", str(a_project(tmp_path, "docker-compose.yml", "pyproject.toml")))
    with pytest.raises(ConfigError, match=r"is missing: docker-compose\.yml, pyproject\.toml") as caught:
        run("--dry-run", "--quick")
    assert caught.value.where == str(tmp_path)
    assert "FARANDOLE_PROJECT" in caught.value.mend


def test_without_a_folder_for_the_page_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    project = a_project(tmp_path / "project", "docs")
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FARANDOLE_PROJECT", str(project))
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        run("--dry-run")
    assert caught.value.where == f"--out {project}/docs/choreography-or-orchestration.md"
    run("--dry-run", "--quick")
    run("--dry-run", "--out", str(tmp_path / "page.md"))
    assert not (tmp_path / "page.md").exists()


def test_without_a_place_for_its_state_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path / "home"))
    with pytest.raises(ConfigError, match="cannot be written") as caught:
        run("--dry-run", "--quick")
    assert caught.value.where.startswith("FARANDOLE_HOME ")
