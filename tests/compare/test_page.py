"""Tables and the page: every figure comes from the outcome, and so does every conclusion."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console

from farandole.compare.flows import WORDS
from farandole.compare.outcome import print_outcome, tables
from farandole.compare.page import ABOUT, COUPLING, INTRODUCTION, LIMITS, ROLLBACK, plot_of, text, wrapped, write
from farandole.compare.scores import Measure, alike, best, winners
from farandole.config import project_root
from tests.compare.outcomes import an_outcome


def test_every_dimension_has_its_table() -> None:
    found = [table.title for table in tables(an_outcome().to_dict())]
    assert found == [
        "Coupling", "Costs", "Failure handling", "While a part is down", "Visibility", "Adding a step", "Subscribers",
        "Debugging",
    ]  # fmt: skip
    for table in tables(an_outcome().to_dict()):
        assert all(len(row) == len(table.head) for row in table.rows), table.title


def test_what_was_not_measured_is_a_dash() -> None:
    outcome = an_outcome(outages={}, step={}, debugging={}, skipped=["the outage of payment"])
    assert [table.title for table in tables(outcome.to_dict())] == [
        "Coupling", "Costs", "Failure handling", "Visibility", "Subscribers",
    ]  # fmt: skip
    assert "Left out in this run, for want of time: the outage of payment." in text(outcome.to_dict())
    outcome.latency["hybrid"]["p99"] = None
    costs = next(table for table in tables(outcome.to_dict()) if table.title == "Costs")
    assert next(row for row in costs.rows if "p99" in row[0])[-1] == "–"


def test_conclusions_follow_the_figures() -> None:
    page = text(an_outcome().to_dict())
    assert "messages 2.00 times as many" in page
    assert "choreographed 30 ms, orchestrated 60 ms, hybrid 45 ms; choreographed is the quickest" in " ".join(
        page.split()
    )
    other = an_outcome()
    other.costs["orchestrated"] = other.costs["choreographed"]
    other.rollback["shipping.failed"]["orchestrated"]["compensated_ms"]["p50"] = 3
    page = " ".join(text(other.to_dict()).split())
    assert "messages alike" in page
    assert "orchestrated is the quickest" in page


def test_the_page_stands_beside_its_plot(tmp_path: Path) -> None:
    write(an_outcome().to_dict(), tmp_path / "page.md")
    assert "![Latency by percentile](page.svg)" in (tmp_path / "page.md").read_text()
    drawing = ElementTree.fromstring((tmp_path / "page.svg").read_text())
    names = {element.text for element in drawing.iter("{http://www.w3.org/2000/svg}text")}
    assert set(WORDS) <= names


def test_without_latencies_there_is_no_plot(tmp_path: Path) -> None:
    outcome = an_outcome()
    for each in outcome.latency.values():
        each["curve"] = []
    assert plot_of(outcome.to_dict()) == ""
    write(outcome.to_dict(), tmp_path / "page.md")
    assert "![" not in (tmp_path / "page.md").read_text()


def test_no_figure_is_typed_by_hand() -> None:
    """The words around the figures hold none."""
    for words in (*ABOUT.values(), *LIMITS, INTRODUCTION, COUPLING, ROLLBACK):
        assert not re.search(r"(?<!p)\d", words.replace("kill -9", "").replace("p50", "").replace("p99", "")), words


def test_the_outcome_is_not_ok_if_the_audit_or_a_patch_is_not() -> None:
    assert an_outcome().ok
    audit = {"ok": False, "accepted": 1, "findings": [{"check": "no-ending"}]}
    assert not an_outcome(audit=audit).ok
    step = an_outcome().step
    step["hybrid"]["trial"] = {"ok": False, "problem": "it does not fit"}
    assert an_outcome(step=step).problems == ["the fraud check, hybrid: it does not fit"]


def test_tables_are_printed_for_people() -> None:
    out = StringIO()
    print_outcome(an_outcome(), Console(file=out, width=160))
    said = out.getvalue()
    assert "Coupling" in said
    assert "1,234 orders in 120 s; the audit is clean" in said


def test_the_best_are_named_by_the_figures() -> None:
    assert best(Measure("x", dict(zip(WORDS, (100, 200, 105), strict=True)))) == ("choreographed", "hybrid")
    assert best(Measure("x", dict(zip(WORDS, (100, 200, 105), strict=True)), more=True)) == ("orchestrated",)
    assert best(Measure("x", dict(zip(WORDS, (100, 109, 105), strict=True)))) == ()
    assert best(Measure("x", dict(zip(WORDS, (100, None, 105), strict=True)))) == ()
    assert best(Measure("x", dict(zip(WORDS, (0, 200, 0), strict=True)))) == ("choreographed", "hybrid")


def test_each_measure_is_somebodys_or_nobodys() -> None:
    found = winners(an_outcome().to_dict())
    assert "throughput" in found["orchestrated"]
    assert "messages" in found["choreographed"]
    assert "work done while a part is down" in found["choreographed"]
    assert "pairs of services that know each other" in found["alike"]
    assert winners(an_outcome(step={}).to_dict())["unknown"] == [
        "lines that a new step changes", "services whose decisions a new step changes",
    ]  # fmt: skip


def test_rounds_that_overlap_are_alike() -> None:
    ranges = dict(zip(WORDS, ((80, 130), (120, 220), (300, 310)), strict=True))
    measure = Measure("x", dict(zip(WORDS, (100, 200, 305), strict=True)), ranges=ranges)
    assert alike(measure, "choreographed", "orchestrated")
    assert not alike(measure._replace(ranges=None), "choreographed", "orchestrated")
    assert best(measure) == ("choreographed", "orchestrated")


def test_the_page_in_docs_was_written_by_the_words_of_today() -> None:
    page = (project_root() / "docs" / "choreography-or-orchestration.md").read_text()
    for title, words in ABOUT.items():
        assert f"## {title}\n\n{wrapped(words)}\n" in page, "farandole compare writes it anew"
    for sentence in ("is best**", "**Who knows whom.**", "**When something fails.**"):
        assert sentence in page
    assert (project_root() / "docs" / "choreography-or-orchestration.svg").exists()
