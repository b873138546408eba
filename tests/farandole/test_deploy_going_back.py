"""Where a rollback goes that is not told where: back through what ran, and never to what it left."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from farandole.deploy.report import print_status
from farandole.deploy.state import Deployment


def went(*versions: str, to: Deployment) -> Deployment:
    """Deployments one after the other; `<` is a rollback that is not told where, `<v1` one to v1."""
    for version in versions:
        if version.startswith("<"):
            version = version[1:] or to.state.before
            to.goes_back(version)
        to.arrived(version)
    return to


@pytest.mark.parametrize(
    ("versions", "now", "before"),
    [
        ("v1 v2 <", "v1", ""),
        ("v1 v2 v3 <", "v2", "v1"),
        ("v1 v2 v3 < <", "v1", ""),
        ("v1 v2 v3 <v1", "v1", ""),
        ("v1 v2 < v3", "v3", "v1"),
        ("v1 v2 < v2", "v2", "v1"),
        ("v1 v2 < <v2", "v2", "v1"),
        ("v1 v2 v3 < < <v3", "v3", "v1"),
        ("v1 v2 v1", "v1", "v2"),
        ("v1 v2 v1 <", "v2", ""),
        ("v1 v2 v2", "v2", "v1"),
    ],
)
def test_a_rollback_goes_to_what_ran_before_and_never_to_what_was_rolled_back_from(
    tmp_path: Path, versions: str, now: str, before: str
) -> None:
    state = went(*versions.split(), to=Deployment(tmp_path)).state
    assert (state.current, state.before) == (now, before)
    assert not {state.current, *state.former} & set(state.left)
    assert {state.current, *state.former, *state.left} == set(versions.replace("<", "").split())


def test_a_rollback_that_was_interrupted_goes_on_and_is_not_turned_round(tmp_path: Path) -> None:
    deployment = went("v1", "v2", "v3", to=Deployment(tmp_path))
    deployment.state.rolling = "v4"
    assert deployment.state.before == "v3", "an interrupted deployment is taken back to where it came from"
    deployment.state.rolling = "v1"
    deployment.goes_back("v1")
    assert deployment.state.before == "v1", "an interrupted rollback goes on"
    deployment.state.rolling = "v4"
    assert deployment.state.before == "v2", "what a rollback was leaving is not where the next one goes"
    deployment.arrived("v4")
    assert (deployment.state.before, deployment.state.left) == ("v2", ["v3"])


def test_a_rollback_that_was_taken_back_counts_as_none(tmp_path: Path) -> None:
    deployment = went("v1", "v2", to=Deployment(tmp_path))
    deployment.goes_back("v1")
    deployment.taken_back()
    assert went("v3", to=deployment).state.before == "v2"


@pytest.mark.parametrize(
    ("left", "rolling", "verb"), [([], "v2", "apply"), (["v1"], "v2", "apply"), (["v1"], "v0", "rollback")]
)
def test_the_status_names_the_command_that_goes_on(left: list[str], rolling: str, verb: str) -> None:
    worker = {"name": "a-0", "service": "a", "version": "v1", "pid": 1, "uptime": 1.0, "restarts": 0, "ready": True}
    worker |= {"address": "", "state": ""}
    found = {"workers": [worker], "lag": {}, "lag_unknown": "", "version": "v1", "rolling": rolling, "former": ["v0"]}
    console = Console(file=io.StringIO(), width=160)
    print_status(found | {"rolled_back_from": left}, console)
    assert f"farandole deploy {verb} goes on from here" in console.file.getvalue()  # type: ignore[attr-defined]
