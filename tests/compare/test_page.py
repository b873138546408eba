"""Tables and the page: every figure comes from the outcome, and so does every conclusion."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

from rich.console import Console

from farandole.compare import figures
from farandole.compare.flows import WORDS
from farandole.compare.outcome import print_outcome, tables
from farandole.compare.page import (
    ABOUT,
    AUDIENCE,
    COUPLING,
    IN_TURN,
    INTRODUCTION,
    LIMITS,
    ROLLBACK,
    markdown,
    plot_of,
    text,
    wrapped,
    write,
)
from farandole.compare.scores import Measure, Verdict, best, common_parts, nobody, verdict, winners
from farandole.config import project_root
from farandole.machine import CHANGED
from tests.compare.outcomes import an_outcome, of_rounds


def test_every_dimension_has_its_table() -> None:
    found = [table.title for table in tables(an_outcome().to_dict())]
    assert found == [
        "Coupling", "Coupling, service by service", "Costs", "Failure handling", "While a part is down", "Visibility",
        "Adding a step", "Subscribers", "Subscribers, extrapolated", "Debugging",
    ]  # fmt: skip
    for table in tables(an_outcome().to_dict()):
        assert all(len(row) == len(table.head) for row in table.rows), table.title


def test_what_was_not_measured_is_a_dash() -> None:
    outcome = an_outcome(outages={}, step={}, debugging={}, audience={}, skipped=["the outage of payment"])
    assert [table.title for table in tables(outcome.to_dict())] == [
        "Coupling", "Coupling, service by service", "Costs", "Failure handling", "Visibility",
        "Subscribers, extrapolated",
    ]  # fmt: skip
    assert "Left out in this run, for want of time: the outage of payment." in text(outcome.to_dict())
    outcome.latency["hybrid"]["p99"] = None
    costs = next(table for table in tables(outcome.to_dict()) if table.title == "Costs")
    assert next(row for row in costs.rows if "p99" in row[0])[-1] == "–"


def test_conclusions_follow_the_figures() -> None:
    page = " ".join(text(an_outcome().to_dict()).split())
    assert "messages 2.00 times as many" in page
    assert "choreographed 30 ms, orchestrated 60 ms, hybrid 45 ms; choreographed is the quickest" in " ".join(
        page.split()
    )
    other = an_outcome()
    other.costs["orchestrated"] = other.costs["choreographed"]
    other.rollback["shipping.failed"]["orchestrated"]["compensated_ms"] |= {"p50": 3, "stretches": {"p50": [3] * 5}}
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
    for words in (*ABOUT.values(), *LIMITS, INTRODUCTION, COUPLING, ROLLBACK, IN_TURN, AUDIENCE):
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
    assert "work done while a part that all have is down" in found["choreographed"]
    assert "pairs of services that know each other" in found["alike"]
    assert winners(an_outcome(step={}).to_dict())["unknown"] == [
        "lines that a new step changes", "services whose decisions a new step changes",
    ]  # fmt: skip


def test_nobody_is_better_for_not_having_the_part_that_is_down() -> None:
    """Without an orchestrator nothing is missing when it is down, and that once made the average of one flow."""
    outcome = an_outcome()
    down = {word: dict(outcome.outages["payment"][word], steps=0.4) for word in WORDS}
    without = {word: dict(down[word], steps=1.0 if word == "choreographed" else 0.1) for word in WORDS}
    outcome.outages = {"nobody": down, "payment": down, "orchestrator": without}
    assert "work done while a part that all have is down" in winners(outcome.to_dict())["alike"]
    page = " ".join(text(outcome.to_dict()).split())
    assert "is down, on average: choreographed 40 %, orchestrated 40 %, hybrid 40 %." in page
    assert "| orchestrator is down | no such part | – | 10 % | placed | 10 % | placed |" in page
    assert (
        "Steps of new orders done without it: choreographed has no such part, orchestrated 10 %, hybrid 10 %." in page
    )


def test_how_many_orders_were_asked_about_stands_in_table_and_text() -> None:
    outcome = an_outcome()
    page = " ".join(text(outcome.to_dict()).split())
    assert "| trail: orders asked about | 3 | 3 | 3 |" in page
    assert "| trail: seconds, median | 1.2 | 1.2 | 1.2 | | trail: seconds, at most | 4.5 | 4.5 | 4.5 |" in page
    assert "Asked about 3 orders of each flow, it shows of their messages: choreographed 50 %" in page
    for each in outcome.visibility.values():
        each["trail"]["whole"] = 1.0
    outcome.visibility["hybrid"]["trail"]["orders"] = 2
    page = " ".join(text(outcome.to_dict()).split())
    assert "Asked about orders (choreographed 3, orchestrated 3, hybrid 2), it shows every message of each;" in page
    assert "at the median and at most: choreographed 1.2 and 4.5, orchestrated" in page


def test_an_outside_system_is_a_part_that_every_flow_has() -> None:
    outcome = an_outcome()
    outcome.outages |= {"carrier": {word: dict(outcome.outages["payment"][word], steps=0.4) for word in WORDS}}
    assert common_parts(outcome.to_dict()) == ["payment", "carrier"]
    assert "| carrier is down | 40 % | placed | 40 % | placed | 40 % | placed |" in text(outcome.to_dict())


def test_what_deploy_says_of_a_step_stands_below_its_table() -> None:
    page = text(an_outcome().to_dict())
    assert "| `farandole deploy`, with orders in flight | refuses: 1 change | refuses: 1 change | takes it |" in page
    section = " ".join(page[page.index("## Adding a step") : page.index("## Subscribers")].split())
    assert "`farandole deploy` of orchestrated: flow orchestrated/1 was changed without a new version." in section
    assert "`farandole deploy` of hybrid: nothing against it." in section
    top = " ".join(page[: page.index("## Coupling")].split())
    assert "Beside orders in flight `farandole deploy` refuses it as it is: choreographed, orchestrated." in top
    step = an_outcome().step
    step["hybrid"]["deploy"] = None
    assert "`farandole deploy` of hybrid" not in text(an_outcome(step=step).to_dict())


def test_what_each_service_knows_stands_in_a_row_of_its_own() -> None:
    rows = {row[0]: row[1:] for row in next(t for t in tables(an_outcome().to_dict()) if "service by" in t.title).rows}
    assert rows == {
        "order": ("3 in 2, of 1: payment",) * 3,
        "orchestrator": ("no such part", "1 in 1, of 1: order", "1 in 1, of 1: order"),
        "payment": ("knows no other",) * 3,
    }


def measured(*rounds: tuple[float, ...], more: bool = False) -> Measure:
    of = {word: figures.middle(each) for word, each in zip(WORDS, rounds, strict=True)}
    return Measure(
        "x", {word: of[word]["median"] for word in WORDS}, more, {word: of[word]["rounds"] for word in WORDS}
    )


def test_what_every_round_says_is_told_apart_though_rounds_overlap() -> None:
    """A slow moment that all flows had makes their ranges overlap, and says nothing against their difference."""
    measure = measured((1.0, 1.0, 3.0), (1.3, 1.3, 3.9), (1.3, 1.3, 3.9))
    assert verdict(measure, "choreographed", "orchestrated") is Verdict.APART
    assert verdict(measure, "orchestrated", "hybrid") is Verdict.ALIKE
    assert best(measure) == ("choreographed",)


def test_rounds_that_contradict_each_other_are_neither_alike_nor_apart() -> None:
    measure = measured((400, 400, 400), (300, 300, 500), (400, 410, 390), more=True)
    assert verdict(measure, "choreographed", "orchestrated") is Verdict.UNTOLD
    assert verdict(measure, "choreographed", "hybrid") is Verdict.ALIKE
    assert (best(measure), nobody(measure)) == ((), Verdict.UNTOLD)
    # the median is near, one round is not
    assert verdict(measured((1, 1, 1), (1.05, 1.05, 1.3), (1, 1, 1)), "choreographed", "orchestrated") is Verdict.UNTOLD


def test_of_too_few_rounds_nothing_is_said() -> None:
    measure = measured((1, 1), (2, 2), (1, 1))
    assert verdict(measure, "choreographed", "orchestrated") is Verdict.UNTOLD
    assert nobody(measured((1, 0, 1), (2, 2, 2), (0, 0, 0))) is Verdict.UNTOLD


def test_who_is_told_apart_from_nobody_is_not_best() -> None:
    """Its rounds are too scattered to say anything of it."""
    measure = measured((1, 1, 1), (2, 2, 2), (0.8, 1.5, 3))
    assert best(measure) == ("choreographed",)


def test_alike_is_said_of_what_the_table_shows_alike_and_of_nothing_else() -> None:
    """The finding that made the words: CPU 0.90, 1.17 and 1.04 ms in overlapping rounds were called alike."""
    outcome = an_outcome()
    for word, cpu, speed in zip(
        WORDS,
        ((0.87, 0.90, 1.14), (1.11, 1.17, 1.25), (1.03, 1.04, 1.10)),
        ((103, 413, 453), (107, 382, 593), (153, 314, 336)),
        strict=True,
    ):
        outcome.costs[word]["cpu_ms"] = of_rounds(*cpu)
        outcome.costs[word]["orders_per_second"] = of_rounds(*speed)
    page = " ".join(text(outcome.to_dict()).split())
    alike = re.search(r"- \*\*Alike\*\* [^:]*: ([^.]*)\.", page)
    assert alike is not None
    assert "CPU of the services" not in alike[1]
    assert "throughput" not in alike[1]
    untold = re.search(r"- \*\*Not told apart\*\* \(the rounds do not agree, or are too few\): ([^.]*)\.", page)
    assert untold is not None
    assert "throughput" in untold[1]
    assert "throughput not told apart (0.92 to 1.31 by round)" in page
    assert "CPU of the services 1.28 times as much (1.10 to 1.30 by round)" in page
    assert (
        "| CPU of the services to choreographed, in each round | 1.00 | 1.28 (1.10 to 1.30) | 1.16 (0.96 to 1.18) |"
        in page
    )


def test_the_quickest_is_not_named_where_the_rounds_do_not_name_it() -> None:
    outcome = an_outcome()
    back = outcome.rollback["shipping.failed"]
    for word, p50, parts in zip(WORDS, (100, 90, 95), ([100] * 5, [90, 90, 90, 90, 130], [95] * 5), strict=True):
        back[word]["compensated_ms"] |= {"p50": p50, "stretches": {"p50": parts}}
    page = " ".join(text(outcome.to_dict()).split())
    assert "choreographed 100 ms, orchestrated 90 ms, hybrid 95 ms; they are not told apart." in page
    assert "quickest" not in page
    assert "one compensation after the other" not in page
    back["hybrid"]["compensated_ms"] |= {"p50": 30, "stretches": {"p50": [30] * 5}}
    back["orchestrated"]["compensated_ms"] |= {"p50": 30, "stretches": {"p50": [30] * 5}}
    page = " ".join(text(outcome.to_dict()).split())
    assert "orchestrated and hybrid are the quickest, alike." in page


def test_what_subscribers_cost_is_told_as_it_was_run() -> None:
    page = " ".join(text(an_outcome().to_dict()).split())
    assert "with nobody more, with 10 that hear its end, with as many that are commanded: messages written" in page
    assert "written for them 0, 0, 20;" in page
    assert (
        "CPU of the broker 2.00, 3.00, 4.00 ms; their own CPU, and that of who commands them, 0.00, 0.50, 1.00 ms"
        in page
    )
    assert "| for each order, 10 more services being | nobody | heard | commanded |" in page
    assert "100 more services that want to know of completed orders, not run" in page


def test_a_pooled_figure_is_told_with_stretches_only_where_they_do_not_agree() -> None:
    outcome = an_outcome()
    outcome.latency["orchestrated"]["stretches"] = {"p50": [120, 150, 130, 190, 200], "p99": [180, 250, 300, 300, 300]}
    page = " ".join(text(outcome.to_dict()).split())
    assert "latency p50 2.00 times as long; latency p99 not told apart (0.90 to 1.50 by stretch)" in page


def test_where_knowledge_lies_is_said_by_its_shares() -> None:
    outcome = an_outcome()
    assert "It is spread alike in both." in text(outcome.to_dict())
    outcome.coupling["orchestrated"]["most_share"] = 1.0
    page = " ".join(text(outcome.to_dict()).split())
    assert "What is spread where services hear each other (40 % at most) is gathered there." in page
    outcome.coupling["orchestrated"]["most_share"] = 0.2
    assert "gathered more where services hear each other" in " ".join(text(outcome.to_dict()).split())


def test_who_else_was_at_work_stands_at_the_top() -> None:
    outcome = an_outcome()
    page = " ".join(text(outcome.to_dict()).split())
    assert "Warning" not in page
    assert "load average of 2 cores before anything was started: 0.10 0.20 0.30; at the end: 1.50 1.20 0.80" in page
    assert "cores that others took during the rounds: 0.10 on average, 0.20 at most" in page
    outcome.load["others"]["the rounds"]["mean"] = 0.21
    page = " ".join(text(outcome.to_dict()).split())
    assert page.index("**Warning:** others on this machine took 0.21 of its 2 cores") < page.index("## When which")


def test_a_commit_that_nobody_has_is_said_to_be_one() -> None:
    outcome = an_outcome()
    outcome.run["commit"] = f"abc{CHANGED}"
    assert "**Warning:** made from abc, with uncommitted changes: nobody else can look up" in text(outcome.to_dict())


def test_the_page_in_docs_was_written_by_the_words_of_today() -> None:
    """Its form, not its figures: every heading, every table's columns and rows, and every sentence without a figure."""
    page = (project_root() / "docs" / "choreography-or-orchestration.md").read_text()
    anew = "farandole compare writes it anew"
    for title, words in ABOUT.items():
        assert f"## {title}\n\n{wrapped(words)}\n" in page, anew
    for sentence in (
        "is best**",
        "**Who knows whom.**",
        "**When something fails.**",
        "**More subscribers.**",
        "load average of",
    ):
        assert sentence in page
    said = {_form(line) for line in page.splitlines()}
    for table in tables(an_outcome().to_dict()):
        if table.title in ("Coupling, service by service", "While a part is down", "Visibility", "Debugging"):
            continue  # their rows are services and commands
        assert _form(next(iter(markdown(table)))) in said, anew
        assert {_form(row[0]) for row in table.rows} <= {_form(each.split(" | ")[0][2:]) for each in page.splitlines()}
    for words in LIMITS:
        limit = _form(re.sub(r"\{.*?\}", "0", " ".join(words.split())))
        assert limit in _form(" ".join(page.split())), anew
    assert re.search(r"^- commit [0-9a-f]{12}$", page, re.MULTILINE), "it is made from a commit, and from all of it"
    assert (project_root() / "docs" / "choreography-or-orchestration.svg").exists()


def _form(line: str) -> str:
    return re.sub(r"\d[\d,.]*\d|\d", "#", line)
