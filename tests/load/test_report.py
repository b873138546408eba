"""The report: the verdict, and a page that needs nothing from elsewhere."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from rich.console import Console

from farandole.load.html import render, write
from farandole.load.objective import Objective
from farandole.load.options import Options
from farandole.load.outcome import Outcome, print_outcome
from farandole.load.plots import HEIGHT, LEFT, WIDTH, Line, Mark, Plot, percentile_plot
from tests.load import reports

VOID = {"meta", "br", "path", "line"}


class Page(HTMLParser):
    """Whether every element is closed, and which there are."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.texts: list[str] = []
        self.feed(text)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags[tag] += 1
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def usual() -> Outcome:
    return reports.outcome(objective=Objective.parse("p99<500ms"))


@pytest.fixture(scope="module")
def searched() -> Outcome:
    return reports.found_limit()


# ---- the verdict


def test_what_was_clean_and_held_is_well(usual: Outcome) -> None:
    assert (usual.ok, usual.valid, usual.problems) == (True, True, [])
    assert usual.figures["totals"]["placed"] == 40 * 35
    assert usual.figures["latency"]["orders"] == 40 * 30, "the warm-up does not count"
    assert usual.figures["latency"]["p50_ms"] == pytest.approx(80, rel=0.1)


def test_a_missed_objective_fails_the_run_and_is_named() -> None:
    outcome = reports.outcome(objective=Objective.parse("p99<90ms"))
    assert not outcome.ok
    assert "misses p99<90ms" in outcome.problems[0]
    assert "is missed by" in outcome.figures["latency"]["objective_said"]


def test_orders_that_did_not_end_or_were_not_placed_fail_the_run() -> None:
    options = Options(rate=40.0, minutes=0.5)
    pretended = reports.Pretended(options)
    (*_, played) = pretended.play(options.planned())
    pretended.recorder.placed(b"o-lost", pretended.clock.now, played)
    pretended.recorder.problems["the queue is full"] = 3
    problems = pretended.outcome().problems
    assert any("1 orders had not ended" in each for each in problems)
    assert any("3 orders were not placed: the queue is full" in each for each in problems)


def test_a_generator_that_was_the_bottleneck_makes_the_run_not_valid() -> None:
    options = Options(rate=40.0, minutes=0.5, objective=Objective.parse("p99<500ms"))
    pretended = reports.Pretended(options)
    (*_, played) = pretended.play(options.planned())
    played.held_back = 5
    outcome = pretended.outcome()
    assert not outcome.valid
    assert not outcome.ok, "an objective cannot have been held by a run that is not valid"
    assert "bottleneck" in render(outcome.to_dict())
    latency = outcome.figures["latency"]
    assert (latency["held"], latency["objective_said"]) == (None, "whether p99<500ms is held is not known")
    assert outcome.figures["stages"][-1]["latency"]["held"] is None


def test_a_search_is_as_valid_as_what_it_is_judged_by() -> None:
    outcome = reports.found_limit(generator=35.0)
    assert not all(probe["valid"] for probe in outcome.figures["limit"]["probes"])
    assert (outcome.valid, outcome.ok) == (True, True)


def test_the_json_is_json_and_says_where_it_was_made(usual: Outcome) -> None:
    found = json.loads(json.dumps(usual.to_dict()))
    assert found["machine"]["processor"]
    assert found["machine"]["cores"]
    assert found["versions"]["librdkafka"]
    assert found["versions"]["embedded kafka"]
    assert found["settings"]["mix"]["skus"] == 1_000
    assert {row["process"] for row in found["memory"]["processes"]} == set(reports.PROCESSES)


# ---- the page


@pytest.mark.parametrize("which", ["usual", "searched"])
def test_a_page_is_whole_and_needs_nothing_from_elsewhere(which: str, request: pytest.FixtureRequest) -> None:
    text = render(request.getfixturevalue(which).to_dict())
    page = Page(text)
    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not re.search(r"https?:|//|url\(|@import|\bsrc=|\bhref=|\bon\w+=", text)
    assert "prefers-color-scheme: dark" in text
    titles = " ".join(page.texts)
    for title in ("Latency", "Throughput", "Lag by service", "CPU by process", "Resident memory by process"):
        assert title in titles
    assert "None" not in titles
    assert "nan" not in titles


@pytest.mark.parametrize("which", ["usual", "searched"])
def test_every_plot_is_well_formed_and_draws_within_its_frame(which: str, request: pytest.FixtureRequest) -> None:
    text = render(request.getfixturevalue(which).to_dict())
    found = re.findall(r'<svg class="plot".*?</svg>', text, re.DOTALL)
    assert len(found) == 7
    for each in found:
        root = ElementTree.fromstring(each)
        for path in root.iter("path"):
            for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get("d", "")):
                assert 0 <= float(x) <= WIDTH
                assert 0 <= float(y) <= HEIGHT
        labels = [(float(t.get("x", 0)), float(t.get("y", 0))) for t in root.iter("text") if t.get("class") == "stage"]
        assert len(labels) == len(set(labels))


def test_what_names_say_is_escaped(usual: Outcome) -> None:
    found = json.loads(json.dumps(usual.to_dict()))
    found["run"]["name"] = found["stages"][0]["name"] = found["settings"]["load"] = "<script>alert(1)</script>"
    found["samples"]["lag"]["<b>"] = found["samples"]["lag"]["order"]
    assert "script" not in Page(render(found)).tags


def test_a_run_without_samples_or_audit_has_a_page() -> None:
    options = Options(rate=40.0, minutes=0.5)
    pretended = reports.Pretended(options)
    pretended.load.interrupted = True
    outcome = pretended.outcome(audit=None)
    assert not outcome.ok
    assert "Interrupted" in " ".join(Page(render(outcome.to_dict())).texts)


def test_a_report_is_a_page_and_a_json_file_and_says_where(tmp_path: Path, usual: Outcome) -> None:
    write(usual, tmp_path / "new")
    html, data = (Path(each) for each in usual.reports)
    assert html.read_text().startswith("<!DOCTYPE html>")
    assert json.loads(data.read_text())["run"]["name"] == "load-a"


def test_people_are_told_the_same(searched: Outcome, usual: Outcome) -> None:
    def told(outcome: Outcome) -> str:
        console = Console(file=io.StringIO(), width=200)
        print_outcome(outcome, console)
        return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]

    assert "orders/s are held" in told(searched)
    assert "95 % interval" in told(searched)
    assert "p99<500ms is held" in told(usual)
    assert "resident memory" in told(usual)


# ---- plots


def svg(*lines: Line, **plot: object) -> ElementTree.Element:
    text = Plot("t", "ms", lines, **plot).svg()  # type: ignore[arg-type]
    return ElementTree.fromstring(re.findall(r'<svg class="plot".*?</svg>', text)[0])


def test_what_is_not_known_is_a_gap() -> None:
    (path,) = svg(Line("a", "c1", [(0, 1.0), (1, None), (2, 3.0)])).iter("path")
    assert path.get("d", "").count("M") == 2
    assert "L" not in path.get("d", "")


def test_labels_of_stages_that_begin_close_together_do_not_overlap() -> None:
    marks = [Mark(at, f"stage {at}") for at in range(50)]
    root = svg(Line("a", "c1", [(0, 1.0), (50, 2.0)]), marks=marks)
    places = [float(each.get("x", 0)) for each in root.iter("text") if each.get("class") == "stage"]
    assert 2 < len(places) < 50
    assert all(b - a >= 50 for a, b in pairwise(places))


def test_nothing_to_show_is_no_plot() -> None:
    assert Plot("t", "ms", [Line("a", "c1", [(0, None)])]).svg() == ""
    assert percentile_plot([("a", "c1", [])]) == ""


@pytest.mark.parametrize("values", [[0.0, 0.0], [1e-3, 1e6], [5.0, 5.0], [0.0, 123_456.0]])
@pytest.mark.parametrize("log", [False, True])
def test_axes_have_a_few_ticks_whatever_the_values_are(values: list[float], log: bool) -> None:
    root = svg(Line("a", "c1", list(enumerate(values))), log=log)
    ticks = [each for each in root.iter("text") if float(each.get("x", 0)) < LEFT]
    assert 2 <= len(ticks) <= 12
    assert len({each.text for each in ticks}) == len(ticks)
