"""docs/choreography-or-orchestration.md, made whole from a comparison's outcome: no figure in it is typed by hand.

Invariant: a sentence that draws a conclusion is chosen by the figures. Where they do not say it, it says so.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from farandole.compare.asking import QUESTIONS
from farandole.compare.flows import BASE, FLOWS, WORDS
from farandole.compare.outages import NOBODY
from farandole.compare.outcome import Table, number, percent, tables
from farandole.compare.scores import (
    NOTABLE,
    Measure,
    Verdict,
    best,
    common_parts,
    has,
    measures,
    nobody,
    taking_back,
    verdict,
    winners,
)
from farandole.load.page import STYLE
from farandole.load.plots import percentile_file

COLOURS: Final = {"choreographed": "c1", "orchestrated": "c6", "hybrid": "c2"}

ABOUT: Final = {
    "Coupling": """
        Counted from the flows' bindings (`flows/*.py`) and from what decisions may publish. A service knows a message
        of another one if it hears its event or sends it a command.""",
    "Coupling, service by service": """
        Of each service: how many messages of others it knows, in how many topics those lie, and whose they are.""",
    "Costs": """
        Throughput, messages, rows and CPU: in each round every flow has its turn, and then a second one the other way
        round; in a turn a backlog of its orders is released at once. Another flow is first in each round; a cold round
        before them is not counted. Shown are medians over the rounds, with the least and the most; ratios are of two
        flows in the same round, so that a slow moment is in both. Latency: the flows mixed at a steady pace, from the
        moment in which an order was meant to be placed to the moment in which a reader of committed records saw its
        end; plain orders only; the pace is cut into stretches, which are compared as rounds are.""",
    "Failure handling": """
        By the broker's time, from the record that says what failed. Telling the customer is left out: it is the same
        everywhere.""",
    "While a part is down": """
        One part at a time is taken away while new orders of all flows come at a steady pace: a service is killed
        (kill -9), a system of the outside world (payment gateway, carrier, mail) refuses connections. An order has
        seven steps: placed, reserved, authorised, dispatched, captured, committed, completed. Shown is the share of
        them that was done before the part was back, and the last one that more than half of the orders had. Nothing is
        lost in any flow: all orders ended when the part was back. A part that a flow does not have is not down for it,
        and counts in no average.""",
    "Visibility": """
        Each command is a process of its own, asked about some orders of each flow that were completed, one order at a
        time; its answer is compared with all messages of the order in the topics. The seconds are from the start of the
        process to its end. A command that fails gives no answer: it is named at the top, and the comparison has
        failed.""",
    "Adding a step": """
        From the patches in `farandole/compare/patches`, applied to a copy of the project in the run. What `farandole
        events generate` writes is not counted; tests are not part of the patches. The patched project was run with
        orders of which some are fraudulent, and audited. It was run by itself, without orders from before: a patch
        changes the flow in place, and what is counted is that change. Where orders are in flight it is not the whole:
        what `farandole deploy` says of it is asked in the run, and stands below the table. What it refuses goes into
        the next version of the flow beside the old one ([versions](operating-flows.md#versions)), which is written in
        addition.""",
    "Subscribers": """
        Run: stand-ins, plain clients that keep nothing and use no transactions, which is the least that it can cost.
        Either each of them reads the topic in which the event lies; or somebody hears it for them, sends a command to
        each, and gets an answer from each, all as large as the event. The orders are of the choreographed flow each
        time; a single round, there and back, so small differences of CPU and of throughput say nothing.""",
    "Subscribers, extrapolated": """
        Not run with so many: counted from the bindings and from this run's records, as if each more cost what each of
        those does that were run. Who hears an event reads the topic in which it lies, with all else that lies there,
        and nothing is written. Who is commanded costs a command and an answer, which are written, and read, and known
        to the orchestrator; that one reads the event's topic in any case, while the one that was run does it for the
        subscribers alone, which is what it has read more. Counted for completed orders.""",
    "Debugging": """
        Shipping is killed, an order waits for it, and each command is asked about that order. An answer counts if a
        field of its JSON says it; what one could conclude does not.""",
}

INTRODUCTION: Final = """
    The same orders in {flows}: the same services, the same decisions, one broker, one run. This page was written by
    `farandole compare`, which measures all of it anew; no figure in it is typed by hand."""

LIMITS: Final = (
    """Absolute figures belong to this machine and its hour; ratios within one run are the result. All services, the
    broker and the outside world share its cores, so what is spent in one place is missing in another.""",
    """One broker, one worker of each service, no network: replication and distance would add to every hop, and flows
    with more hops would pay it more often.""",
    """Rounds: {rounds}, in which each flow has two turns of {orders} orders; latency: {paced_seconds:g} s
    at {rate:g} orders/s. A p99 of some hundred orders is the time of a handful.""",
    """Outages last {outage_seconds:g} s each, once per part; orders of their last {grace:g} s are not counted.""",
    """The broker was not taken away: the comparison places its orders and sees their ends through it, and here it is
    one process, where an installation has several. So nothing is said of what moves without it.""",
    """Debugging is asked about one order of each flow, in one kind of outage.""",
    """Subscribers were run with a few stand-ins. What the broker does with many more of them, this page cannot
    say.""",
    """The comparison is of these flows as they are written here. Another orchestrator may command in parallel.""",
)

COUPLING: Final = """**Who knows whom.** Choreographed, {services} services know {messages} messages of each other, the
    busiest ({most_by}) {most} of them. Orchestrated it is {others}, and {gathered} of that knowledge is in one place
    ({gatherer}). {where}"""

ROLLBACK: Final = """**When something fails.** From a refused shipment to the last compensation, at the median: {times};
    {who}."""

IN_TURN: Final = """Where services hear of the failure themselves they take back at the same time; an orchestrator
    commands one compensation after the other, the last step first."""

AUDIENCE: Final = """**More subscribers.** For each order, with nobody more, with {number} that hear its end, with as
    many that are commanded: messages written for them {written}; CPU of the broker {broker} ms; their own CPU, and that
    of who commands them, {theirs} ms. That is one round, and no more than a hint."""

WIDTH: Final = 140


def wrapped(words: str, lead: str = "") -> str:
    return textwrap.fill(" ".join(words.split()), WIDTH, initial_indent=lead, subsequent_indent=" " * len(lead))


def write(outcome: Mapping[str, Any], page: Path) -> None:
    """The page, and the plot beside it under the same name."""
    plot = page.with_suffix(".svg")
    drawing = plot_of(outcome)
    if drawing:
        plot.write_text(drawing)
    page.write_text(text(outcome, plot.name if drawing else ""))


def plot_of(outcome: Mapping[str, Any]) -> str:
    curves = [(word, COLOURS[word], outcome["latency"][word]["curve"]) for word in WORDS]
    return percentile_file("Latency by percentile, ms", curves, STYLE)


def text(outcome: Mapping[str, Any], plot: str = "") -> str:
    return "\n".join([*_top(outcome), *_sections(outcome, plot), *_limits(outcome)]) + "\n"


def _top(outcome: Mapping[str, Any]) -> Iterator[str]:
    run, audit = outcome["run"], outcome["audit"]
    flows = ", ".join(f"`{key}` ({word})" for word, key in FLOWS.items())
    yield "# Choreography or orchestration?"
    yield ""
    yield wrapped(INTRODUCTION.format(flows=flows))
    yield ""
    clean = "the audit afterwards is clean" if audit["ok"] else "the audit afterwards found something"
    yield f"{audit['accepted']:,} orders in {run['seconds'] / 60:.1f} minutes, {run['records']:,} records; {clean}."
    yield ""
    for problem in outcome["problems"]:
        yield wrapped(f"**Problem:** {problem}.")
        yield ""
    for warning in outcome["warnings"]:
        yield wrapped(f"**Warning:** {warning}.")
        yield ""
    yield "## When which"
    yield ""
    yield from (wrapped(sentence, "- ") for sentence in conclusions(outcome))
    yield ""


def _sections(outcome: Mapping[str, Any], plot: str) -> Iterator[str]:
    for table in tables(outcome):
        yield f"## {table.title}"
        yield ""
        yield wrapped(ABOUT[table.title])
        yield ""
        yield from markdown(table)
        yield ""
        if table.title == "Adding a step":
            yield from _deploy(outcome["step"])
        if table.title == "Costs" and plot:
            yield f"![Latency by percentile]({plot})"
            yield ""


def _deploy(found: Mapping[str, Any]) -> Iterator[str]:
    """What farandole deploy says of each patch, in its own words."""
    asked = [word for word in WORDS if word in found and found[word]["deploy"] is not None]
    for word in asked:
        said = "; ".join(found[word]["deploy"]) or "nothing against it"
        yield wrapped(f"`farandole deploy` of {word}: {said}.", "- ")
    if asked:
        yield ""


def markdown(table: Table) -> Iterator[str]:
    yield f"| {' | '.join(table.head)} |"
    yield f"|---|{'---:|' * (len(table.head) - 1)}"
    for row in table.rows:
        yield f"| {' | '.join(row)} |"


# ---- what the figures say

MEANT: Final = {
    Verdict.ALIKE: f"within {percent(NOTABLE)}, and in every round where there were rounds",
    Verdict.UNTOLD: "the rounds do not agree, or are too few",
}


def conclusions(outcome: Mapping[str, Any]) -> Iterator[str]:
    found = winners(outcome)
    for word in WORDS:
        yield f"**{word.capitalize()} is best**, alone or with another, at: {'; '.join(found[word]) or 'nothing'}."
    for each, meant in MEANT.items():
        if found[each.value]:
            yield f"**{each.value.capitalize()}** ({meant}): {'; '.join(found[each.value])}."
    yield _on_coupling(outcome["coupling"])
    yield from _on_costs(outcome)
    yield from _on_rollback(outcome["rollback"])
    yield from _on_outages(outcome)
    yield from _on_visibility(outcome["visibility"])
    yield from _on_step(outcome["step"])
    yield from _on_audience(outcome["audience"])
    yield from _on_debugging(outcome["debugging"])


def _on_coupling(found: Mapping[str, Any]) -> str:
    base, other = found[BASE], found["orchestrated"]
    gathered = percent(other["most_share"])
    shares = Measure("", {word: found[word]["most_share"] for word in WORDS})
    if verdict(shares, BASE, "orchestrated") is Verdict.ALIKE:
        where = "It is spread alike in both."
    elif other["most_share"] > base["most_share"]:
        where = (
            f"What is spread where services hear each other ({percent(base['most_share'])} at most) is gathered there."
        )
    else:
        where = f"It is gathered more where services hear each other ({percent(base['most_share'])})."
    said = {name: base[name] for name in ("services", "messages", "most_by", "most")}
    return COUPLING.format(**said, others=other["messages"], gathered=gathered, gatherer=other["most_by"], where=where)


COMPARED: Final = {
    "throughput": "orders per second {} times as many",
    "messages": "messages {} times as many",
    "CPU of the services": "CPU of the services {} times as much",
    "latency p50": "latency p50 {} times as long",
    "latency p99": "latency p99 {} times as long",
}


def _on_costs(outcome: Mapping[str, Any]) -> Iterator[str]:
    found = [measure for measure in measures(outcome) if measure.what in COMPARED]
    for word in WORDS:
        if word != BASE:
            said = "; ".join(_compared(measure, word) for measure in found)
            yield f"**What it costs, {word}.** Compared with {BASE}: {said}."


def _compared(measure: Measure, word: str) -> str:
    """`messages 1.60 times as many`, with what single rounds say; or that they are alike, or not told apart."""
    value, base = measure.values[word], measure.values[BASE]
    if value is None or base is None:
        return f"{measure.what} not measured"
    ratios = measure.ratios(word, BASE)
    least, most = (number(each(ratios, default=None), 2) for each in (min, max))
    part = "stretch" if measure.pooled else "round"
    rounds = f" ({least} to {most} by {part})" if least != most else ""
    match verdict(measure, word, BASE):
        case Verdict.ALIKE:
            return f"{measure.what} alike"
        case Verdict.UNTOLD:
            return f"{measure.what} not told apart{rounds}"
        case Verdict.APART:
            return COMPARED[measure.what].format(number(measure.ratio(word, BASE), 2)) + (
                "" if measure.pooled else rounds
            )


def _on_rollback(found: Mapping[str, Any]) -> Iterator[str]:
    measure = taking_back(found, "shipping.failed", "a refused shipment")
    if any(value is None for value in measure.values.values()):
        return
    quickest = best(measure)
    if not quickest:
        why = nobody(measure)
        who = f"they are {why.value}" if why else ""
    elif len(quickest) == 1:
        who = f"{quickest[0]} is the quickest"
    else:
        who = f"{' and '.join(quickest)} are the quickest, {verdict(measure, *quickest).value}"
    times = ", ".join(f"{word} {number(measure.values[word])} ms" for word in WORDS)
    yield ROLLBACK.format(times=times, who=who) + (f" {IN_TURN}" if quickest == (BASE,) else "")


def _on_audience(found: Mapping[str, Any]) -> Iterator[str]:
    if not found:
        return
    modes = list(found["modes"].values())
    written = ", ".join(number(of["written"]) for of in modes)
    broker, theirs = (", ".join(number(of[name], 2) for of in modes) for name in ("broker_cpu_ms", "audience_cpu_ms"))
    yield AUDIENCE.format(number=found["number"], written=written, broker=broker, theirs=theirs)


def _on_outages(outcome: Mapping[str, Any]) -> Iterator[str]:
    found, common = outcome["outages"], common_parts(outcome)
    for part in found:
        if part != NOBODY and part not in common:
            said = ", ".join(
                f"{word} {percent(found[part][word]['steps']) if has(outcome, word, part) else 'has no such part'}"
                for word in WORDS
            )
            yield f"**The {part} is a part that can be down.** Steps of new orders done without it: {said}."
    if common:
        for_word = {word: sum(found[part][word]["steps"] or 0 for part in common) / len(common) for word in WORDS}
        said = ", ".join(f"{word} {percent(for_word[word])}" for word in WORDS)
        yield f"**A part that all have.** Steps done while one of these {len(common)} is down, on average: {said}."


def _on_visibility(found: Mapping[str, Any]) -> Iterator[str]:
    for command in found[BASE]:
        of = {word: found[word][command] for word in WORDS}
        begin = f"**Visibility, `farandole {command}`.** Asked about {_orders(of)}"
        if all(each["whole"] == 1 for each in of.values()):
            took = ", ".join(
                f"{word} {number(each['seconds']['median'], 1)} and {number(each['seconds']['most'], 1)}"
                for word, each in of.items()
            )
            yield f"{begin}, it shows every message of each; seconds at the median and at most: {took}."
        elif any(each["messages"] for each in of.values()):
            said = ", ".join(f"{word} {percent(each['messages'])}" for word, each in of.items())
            yield f"{begin}, it shows of their messages: {said}."


def _orders(of: Mapping[str, Any]) -> str:
    """How many orders a command was asked about."""
    counts = {each["orders"] for each in of.values()}
    if len(counts) == 1:
        count = counts.pop()
        return f"{number(count)} {'order' if count == 1 else 'orders'} of each flow"
    return f"orders ({', '.join(word + ' ' + number(each['orders']) for word, each in of.items())})"


def _on_step(found: Mapping[str, Any]) -> Iterator[str]:
    if set(found) == set(WORDS):
        said = ", ".join(
            f"{word} {found[word]['changed_lines']} lines in {found[word]['changed_files']} files" for word in WORDS
        )
        refused = [word for word in WORDS if found[word]["deploy"]]
        beside = (
            f" Beside orders in flight `farandole deploy` refuses it as it is: {', '.join(refused)}." if refused else ""
        )
        yield f"**Adding a step.** A fraud check changes, of what existed: {said}.{beside}"


def _on_debugging(found: Mapping[str, Any]) -> Iterator[str]:
    for command in dict.fromkeys(command for of in found.values() for command in of):
        of = {word: sum(found[word][command].values()) for word in WORDS if command in found.get(word, {})}
        said = ", ".join(f"{word} {count}" for word, count in of.items())
        yield f"**Debugging, `farandole {command}`.** Of {len(QUESTIONS)} questions about a stuck order: {said}."


def _limits(outcome: Mapping[str, Any]) -> Iterator[str]:
    settings, machine = outcome["settings"], outcome["machine"]
    yield "## What this does not say"
    yield ""
    yield from (wrapped(words.format(**settings), "- ") for words in LIMITS)
    for skipped in outcome["skipped"]:
        yield f"- Left out in this run, for want of time: {skipped}."
    yield ""
    yield "## The machine"
    yield ""
    yield from (f"- {name}: {value}" for name, value in machine.items())
    yield from (wrapped(words, "- ") for words in _load(outcome["load"]))
    yield f"- commit {outcome['run']['commit']}"


def _load(found: Mapping[str, Any]) -> Iterator[str]:
    before, after = (" ".join(f"{each:.2f}" for each in found[when]) for when in ("before", "after"))
    yield f"load average of {found['cores']} cores before anything was started: {before}; at the end: {after}"
    for what, each in found["others"].items():
        yield f"cores that others took during {what}: {each['mean']:.2f} on average, {each['most']:.2f} at most"
