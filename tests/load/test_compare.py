"""Two reports side by side."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from farandole.cli.load import app
from farandole.errors import ConfigError
from farandole.load.compare import Comparison, compare, print_comparison, read, render
from farandole.load.options import Options
from farandole.load.stages import steady
from tests.load import reports
from tests.load.test_report import Page


@pytest.fixture(scope="module")
def a() -> dict[str, Any]:
    return reports.outcome(name="load-a").to_dict()


@pytest.fixture(scope="module")
def b() -> dict[str, Any]:
    return reports.outcome(seconds=0.16, name="load-b").to_dict()


def ratios(compared: Comparison) -> dict[str, float | None]:
    return {each["figure"]: each["ratio"] for each in compared.to_dict()["figures"]}


def test_a_ratio_is_b_by_a(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert ratios(compare(a, b))["p50, ms"] == pytest.approx(2.0, rel=0.05)
    assert ratios(compare(b, a))["p50, ms"] == pytest.approx(0.5, rel=0.05)
    assert ratios(compare(a, a))["40/s: p99, ms"] == 1.0


def test_the_same_machine_and_settings_are_not_said_to_differ(a: dict[str, Any], b: dict[str, Any]) -> None:
    compared = compare(a, b)
    assert compared.differences == []
    assert compared.warnings == []


def test_another_machine_or_setting_is_said_and_warned_of(a: dict[str, Any]) -> None:
    other = copy.deepcopy(a)
    other["machine"]["cores"] = 64
    other["settings"]["via"] = "http"
    other["run"]["commit"] = "0000"
    other["valid"] = False
    compared = compare(a, other)
    said = {what: (one, two) for what, one, two in compared.differences}
    assert said["machine: cores"][1] == "64"
    assert said["settings: via"] == ("kafka", "http")
    assert "commit: commit" in said
    assert any("not the same machine, settings, commit" in each for each in compared.warnings)
    assert any("not valid" in each for each in compared.warnings)


def options_of(**chosen: Any) -> dict[str, Any]:
    return json.loads(json.dumps(Options(**chosen).to_dict()))  # type: ignore[no-any-return]


def profile_of(rate: float, measured: bool = True) -> dict[str, Any]:
    return options_of(profile="mine", stages=(steady("up", rate, 10, measured=measured),), warm_up=0.0)


SEARCH = options_of(find_limit=True)


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        (profile_of(10), profile_of(20), "planned"),
        (profile_of(10), profile_of(10, measured=False), "planned"),
        (options_of(steps=(10.0,)), options_of(steps=(10.0,), warm_up=3.0), "planned"),
        (SEARCH, options_of(find_limit=True, rate=80.0), "rate"),
        (SEARCH, options_of(find_limit=True, step_seconds=5.0), "step seconds"),
        (SEARCH, options_of(find_limit=True, precision=0.2), "precision"),
        (SEARCH, options_of(find_limit=True, highest=300.0), "highest"),
    ],
)
def test_other_loads_are_not_called_the_same(
    a: dict[str, Any], one: dict[str, Any], other: dict[str, Any], what: str
) -> None:
    assert f"settings: {what}" in [
        each[0] for each in compare(a | {"settings": one}, a | {"settings": other}).differences
    ]
    assert compare(a | {"settings": one}, a | {"settings": dict(one)}).differences == []


def test_what_only_one_of_them_has_is_missing_and_not_nothing(a: dict[str, Any]) -> None:
    stepped = reports.outcome(rate=None, minutes=None, steps=(40.0, 80.0), step_seconds=10).to_dict()
    found = {each["figure"]: each for each in compare(a, stepped).to_dict()["figures"]}
    assert found["80/s: p99, ms"]["a"] is None
    assert found["80/s: p99, ms"]["ratio"] is None
    assert found["40/s: p99, ms"]["ratio"] is not None


def test_the_page_is_whole_and_has_both(a: dict[str, Any], b: dict[str, Any]) -> None:
    text = render(compare(a, b))
    page = Page(text)
    assert page.tags["svg"] >= 14
    assert "load-a" in " ".join(page.texts)
    assert "load-b" in " ".join(page.texts)
    assert not page.tags.keys() & {"script", "link", "img"}


def test_it_is_printed(a: dict[str, Any], b: dict[str, Any], tmp_path: Path) -> None:
    compared = compare(a, b)
    compared.write(tmp_path / "c.html")
    console = Console(file=io.StringIO(), width=160)
    print_comparison(compared, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert "2.0" in said
    assert "c.html" in said


def test_a_search_is_compared_by_its_limit() -> None:
    found = reports.found_limit().to_dict()
    compared = compare(found, found)
    assert ratios(compared)["limit, orders/s"] == 1.0
    render(compared)


@pytest.mark.parametrize("text", ["[]", "{}", "no json", '{"format": 99, "stages": []}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="no report of a load"):
        read(str(path))


def test_a_report_is_found_by_its_file_and_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, a: dict[str, Any]
) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path))
    (tmp_path / "reports").mkdir()
    path = tmp_path / "reports" / "load-a.json"
    path.write_text(json.dumps(a))
    assert read("load-a") == read(str(path))
    with pytest.raises(ConfigError, match="no such report"):
        read("load-z")


@pytest.mark.parametrize("place", [".", "report.json/page.html"])
def test_a_page_that_cannot_be_written_is_refused_before_the_reports_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, a: dict[str, Any], place: str
) -> None:
    (tmp_path / "report.json").write_text(json.dumps(a))
    monkeypatch.setattr("farandole.load.compare.read", lambda name: pytest.fail("it reads"))
    failure = CliRunner().invoke(app, ["compare", "a", "b", "--out", str(tmp_path / place)]).exception
    assert isinstance(failure, ConfigError), failure
    assert failure.what.startswith("the file cannot be written: ")
    assert failure.where == f"--out {tmp_path / place}"
    assert [each.name for each in tmp_path.iterdir()] == ["report.json"]


def test_a_report_is_not_overwritten_by_its_comparison(tmp_path: Path, a: dict[str, Any]) -> None:
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    for path in (one, other):
        path.write_text(json.dumps(a))
    (tmp_path / "other.html").write_text("its page")
    (tmp_path / "here").mkdir()
    for out in (one, other, tmp_path / "here" / ".." / "other.json", tmp_path / "other.html"):
        failure = CliRunner().invoke(app, ["compare", str(one), str(other), "--out", str(out)]).exception
        assert isinstance(failure, ConfigError), failure
        assert failure.where == f"--out {out}"
    assert one.read_text() == other.read_text() == json.dumps(a)
    assert (tmp_path / "other.html").read_text() == "its page"


@pytest.mark.parametrize("out", [(), ("--out", "{}/new/page.html")])
def test_a_page_is_written_where_it_is_wanted_or_beside_the_reports_or_it_is_said_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, a: dict[str, Any], out: tuple[str, ...]
) -> None:
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path / "home"))
    report = tmp_path / "report.json"
    report.write_text(json.dumps(a))
    command = ["compare", str(report), str(report), *(each.format(tmp_path) for each in out)]
    assert CliRunner().invoke(app, command).exit_code == 0
    page = tmp_path / ("new/page.html" if out else "home/reports/load-a-load-a.html")
    assert page.read_text().startswith("<!DOCTYPE html>")
    page.unlink()
    page.mkdir()
    failure = CliRunner().invoke(app, command).exception
    assert isinstance(failure, ConfigError), failure
    assert failure.what == "the file cannot be written: Is a directory"
