"""A comparison's result: one object for scripts, tables for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from farandole.compare.asking import QUESTIONS
from farandole.compare.flows import BASE, FLOWS, WORDS
from farandole.compare.machine import warnings
from farandole.compare.outages import NOBODY
from farandole.compare.rollback import CAUSES
from farandole.compare.scores import Measure, has, measures
from farandole.compare.subscribers import MORE
from farandole.machine import CHANGED

if TYPE_CHECKING:
    from rich.console import Console

NONE: Final = "–"
"""Stands for what was not measured."""

NO_PART: Final = "no such part"
"""Of a service that a flow does not have."""


@dataclass
class Outcome:
    """Each figure by the word for the flow; skipped: what there was no time for; failed: commands that were asked"""

    run: dict[str, Any]
    settings: dict[str, Any]
    machine: dict[str, Any]
    load: dict[str, Any]
    coupling: dict[str, Any]
    costs: dict[str, Any]
    latency: dict[str, Any]
    rollback: dict[str, Any]
    outages: dict[str, Any]
    visibility: dict[str, Any]
    debugging: dict[str, Any]
    step: dict[str, Any]
    subscribers: dict[str, Any]
    audience: dict[str, Any]
    audit: dict[str, Any]
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        found = [] if self.audit["ok"] else [f"the audit: {each}" for each in self.audit.get("findings", ["failed"])]
        for word, each in self.step.items():
            trial = each["trial"]
            if trial is not None and not trial["ok"]:
                found.append(f"the fraud check, {word}: {trial.get('problem') or trial}")
        return [*found, *self.failed]

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def warnings(self) -> list[str]:
        unknown = f"made from {self.run['commit']}: nobody else can look up what was run"
        return [*warnings(self.load), *([unknown] if str(self.run["commit"]).endswith(CHANGED) else [])]

    def to_dict(self) -> dict[str, Any]:
        said = {"ok": self.ok, "problems": self.problems, "warnings": self.warnings}
        return {**said, "flows": dict(FLOWS), **vars(self)}


class Table(NamedTuple):
    """rows: (what, a cell for each column after the first)"""

    title: str
    head: Sequence[str]
    rows: list[tuple[str, ...]]


def tables(outcome: Mapping[str, Any]) -> Iterator[Table]:
    """From what to_dict gives, so that a page can be made anew from a file."""
    yield _coupling(outcome["coupling"])
    yield _coupling_by_service(outcome["coupling"])
    yield _costs(outcome["costs"], outcome["latency"], list(measures(outcome)))
    yield _rollback(outcome["rollback"])
    if outcome["outages"]:
        yield _outages(outcome)
    yield _visibility(outcome["visibility"])
    if outcome["step"]:
        yield _step(outcome["step"])
    if outcome["audience"]:
        yield _audience(outcome["audience"])
    yield _subscribers(outcome["subscribers"])
    if outcome["debugging"]:
        yield _debugging(outcome["debugging"])


def number(value: Any, digits: int = 0) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def percent(value: Any) -> str:
    return NONE if value is None else f"{100 * value:.0f} %"


def _coupling(found: Mapping[str, Any]) -> Table:
    def row(what: str, name: str) -> tuple[str, ...]:
        return (what, *(number(found[word][name]) for word in WORDS))

    return Table(
        "Coupling",
        ("what services must know of each other", *WORDS),
        [
            row("services that take part", "services"),
            row("messages of others, over all services", "messages"),
            row("topics of others, over all services", "topics"),
            row("pairs of services of which one knows the other", "pairs"),
            ("messages of others that one service knows, at most", *(_most(found[word]) for word in WORDS)),
            (
                "services that know no other",
                *(number(sum(not each["services"] for each in found[word]["by_service"].values())) for word in WORDS),
            ),
        ],
    )


def _coupling_by_service(found: Mapping[str, Any]) -> Table:
    services = sorted({service for word in WORDS for service in found[word]["by_service"]})
    return Table(
        "Coupling, service by service",
        ("messages of others, in topics, of services", *WORDS),
        [(service, *(_known(found[word]["by_service"].get(service)) for word in WORDS)) for service in services],
    )


def _known(found: Mapping[str, Any] | None) -> str:
    """What one service knows of others; that it does not take part."""
    if found is None:
        return NO_PART
    messages = len(found["hears"]) + len(found["commands"])
    if not messages:
        return "knows no other"
    return f"{messages} in {len(found['topics'])}, of {len(found['services'])}: {', '.join(found['services'])}"


def _most(found: Mapping[str, Any]) -> str:
    return f"{found['most']} ({found['most_by']})"


RATIOS: Final = ("throughput", "CPU of the services", "CPU of the broker")
"""Of which the ratio is shown as it is in each round."""


def _costs(found: Mapping[str, Any], latency: Mapping[str, Any], measured: Sequence[Measure]) -> Table:
    def row(what: str, name: str, digits: int = 0) -> tuple[str, ...]:
        return (what, *(_middle(found[word][name], digits) for word in WORDS))

    return Table(
        "Costs",
        ("for each order", *WORDS),
        [
            row("orders per second, from a backlog", "orders_per_second"),
            ("latency p50 at a steady pace, ms", *(number(latency[word]["p50"]) for word in WORDS)),
            ("latency p99 at a steady pace, ms", *(number(latency[word]["p99"]) for word in WORDS)),
            row("messages", "messages", 1),
            row("bytes of messages", "message_bytes"),
            row("rows of tables written", "rows", 1),
            row("bytes of rows", "row_bytes"),
            row("CPU of all services, ms", "cpu_ms", 2),
            row("CPU of the broker, ms", "broker_cpu_ms", 2),
            *(
                (f"{each.what} to {BASE}, in each round", *(by_round(each, word) for word in WORDS))
                for each in measured
                if each.what in RATIOS
            ),
        ],
    )


def by_round(measure: Measure, word: str) -> str:
    """How many times the base's it is: the median of the rounds' ratios, and the least and the most of them."""
    ratios = measure.ratios(word, BASE)
    if not ratios:
        return NONE
    return _middle({"median": measure.ratio(word, BASE), "least": min(ratios), "most": max(ratios)}, 2)


def _middle(found: Mapping[str, Any], digits: int) -> str:
    median, least, most = (number(found[name], digits) for name in ("median", "least", "most"))
    return median if least == most else f"{median} ({least} to {most})"


def _rollback(found: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, ...]] = []
    for cause, said in CAUSES.items():
        of = found[cause]

        def row(what: str, *path: str, digits: int = 0, of: Any = of, said: str = said) -> tuple[str, ...]:
            return (f"{said}: {what}", *(number(_at(of[word], path), digits) for word in WORDS))

        rows += [
            row("services involved", "services"),
            row("messages until the order is cancelled", "messages"),
            row("last compensation after, p50, ms", "compensated_ms", "p50"),
            row("last compensation after, p99, ms", "compensated_ms", "p99"),
            row("order cancelled after, p50, ms", "cancelled_ms", "p50"),
            row("orders measured", "orders"),
        ]
    return Table("Failure handling", ("what it takes to take an order back", *WORDS), rows)


def _at(found: Any, path: Sequence[str]) -> Any:
    for name in path:
        found = found[name]
    return found


def _outages(outcome: Mapping[str, Any]) -> Table:
    def cells(part: str, word: str) -> tuple[str, str]:
        found = outcome["outages"][part][word]
        if not has(outcome, word, part):
            return NO_PART, NONE
        return percent(found["steps"]), found["farthest"] or NONE

    return Table(
        "While a part is down",
        (
            "steps of new orders done meanwhile",
            *(f"{word}{what}" for word in WORDS for what in ("", ", up to")),
        ),
        [
            (part if part == NOBODY else f"{part} is down", *(cell for word in WORDS for cell in cells(part, word)))
            for part in outcome["outages"]
        ],
    )


def _visibility(found: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, ...]] = []
    for command in found[BASE]:
        of = {word: found[word][command] for word in WORDS}
        rows += [
            (f"{command}: orders asked about", *(number(of[word]["orders"]) for word in WORDS)),
            (f"{command}: whole timelines", *(percent(of[word]["whole"]) for word in WORDS)),
            (f"{command}: messages shown", *(percent(of[word]["messages"]) for word in WORDS)),
            (f"{command}: seconds, median", *(number(of[word]["seconds"]["median"], 1) for word in WORDS)),
            (f"{command}: seconds, at most", *(number(of[word]["seconds"]["most"], 1) for word in WORDS)),
        ]
    return Table("Visibility", ("what one command shows of an order", *WORDS), rows)


def _step(found: Mapping[str, Any]) -> Table:
    def row(what: str, name: str) -> tuple[str, ...]:
        return (what, *(number(found[word][name]) if word in found else NONE for word in WORDS))

    def services(word: str) -> str:
        return ", ".join(found[word]["services_changed"]) or "none" if word in found else NONE

    return Table(
        "Adding a step",
        ("a fraud check between payment and shipping", *WORDS),
        [
            row("files touched", "files"),
            row("lines added or removed", "lines"),
            row("of these in files that existed: files", "changed_files"),
            row("of these in files that existed: lines", "changed_lines"),
            ("services whose decisions change", *(services(word) for word in WORDS)),
            ("the patched project runs", *(_trial(found.get(word)) for word in WORDS)),
            ("`farandole deploy`, with orders in flight", *(_deploy(found.get(word)) for word in WORDS)),
        ],
    )


def _audience(found: Mapping[str, Any]) -> Table:
    def row(what: str, name: str, digits: int = 1) -> tuple[str, ...]:
        return (what, *(number(of[name], digits) for of in found["modes"].values()))

    return Table(
        "Subscribers",
        (f"for each order, {found['number']} more services being", *found["modes"]),
        [
            row("messages written for them", "written"),
            row("bytes written for them", "written_bytes", 0),
            row("records read by them", "read"),
            row("bytes read by them", "read_bytes", 0),
            row("CPU of the broker, ms", "broker_cpu_ms", 2),
            row("CPU of them and of who commands them, ms", "audience_cpu_ms", 2),
            row("CPU of all services of the flow, ms", "cpu_ms", 2),
            row("orders per second, from a backlog", "orders_per_second", 0),
        ],
    )


def _subscribers(found: Mapping[str, Any]) -> Table:
    def row(what: str, name: str, digits: int = 0) -> tuple[str, ...]:
        return (what, *(number(found[word][name], digits) for word in WORDS))

    return Table(
        "Subscribers, extrapolated",
        (f"{MORE} more services that want to know of completed orders, not run", *WORDS),
        [
            row("messages written more for each order", "written"),
            row("bytes written more for each order", "written_bytes"),
            row("messages that the others must know more", "known_more"),
            row("records of each order in the topic of the event", "topic_records", 1),
            row("records read more for each order", "read"),
        ],
    )


def _trial(found: Mapping[str, Any] | None) -> str:
    if found is None or found["trial"] is None:
        return NONE
    trial = found["trial"]
    if not trial["ok"]:
        return "no"
    return f"yes: {trial['refused']} of {trial['fraudulent']} refused"


def _deploy(found: Mapping[str, Any] | None) -> str:
    if found is None or found["deploy"] is None:
        return NONE
    count = len(found["deploy"])
    return f"refuses: {count} {'change' if count == 1 else 'changes'}" if count else "takes it"


def _debugging(found: Mapping[str, Any]) -> Table:
    commands = list(dict.fromkeys(command for of in found.values() for command in of))
    rows = []
    for command in commands:
        of = {word: found.get(word, {}).get(command) for word in WORDS}
        rows += [
            (f"{command}: {said}", *(_yes(of[word], question) for word in WORDS))
            for question, said in QUESTIONS.items()
        ]
        rows.append((f"{command}: answered of {len(QUESTIONS)}", *(_answered(of[word]) for word in WORDS)))
    return Table("Debugging", ("what is said of an order that is stuck", *WORDS), rows)


def _yes(found: Mapping[str, bool] | None, question: str) -> str:
    return NONE if found is None else "yes" if found[question] else "no"


def _answered(found: Mapping[str, bool] | None) -> str:
    return NONE if found is None else str(sum(found.values()))


def print_outcome(outcome: Outcome, console: Console) -> None:
    from rich.table import Table as RichTable
    from rich.text import Text

    for each in tables(outcome.to_dict()):
        table = RichTable(box=None, pad_edge=False, title=each.title, title_justify="left", header_style="bold")
        for place, name in enumerate(each.head):
            table.add_column(Text(name), justify="right" if place else "left", overflow="fold")
        for row in each.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.print(table)
        console.print()
    for skipped in outcome.skipped:
        console.print(Text(f"left out, for want of time: {skipped}"))
    seconds = outcome.run["seconds"]
    said = "the audit is clean" if outcome.audit["ok"] else "the audit found something"
    console.print(Text(f"{outcome.audit['accepted']:,} orders in {seconds:.0f} s; {said}"))
    for warning in outcome.warnings:
        console.print(Text(f"warning: {warning}"))
    for problem in outcome.problems:
        console.print(Text(f"problem: {problem}"))
