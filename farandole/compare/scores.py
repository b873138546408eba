"""Who is best at what: by the figures alone, and only where they differ by more than rounds do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import mean
from typing import Any, Final, NamedTuple

from farandole.compare.flows import WORDS
from farandole.compare.outages import NOBODY

NOTABLE: Final = 0.1
"""Figures that differ by less than this part are called alike: rounds differ by about as much."""


class Measure(NamedTuple):
    """values: word for the flow → figure; None: it was not measured. more: whether more is better

    ranges: word → least and most of its rounds, where there were rounds
    """

    what: str
    values: Mapping[str, float | None]
    more: bool = False
    ranges: Mapping[str, tuple[float, float]] | None = None


def measures(outcome: Mapping[str, Any]) -> Iterator[Measure]:
    coupling, costs, latency = outcome["coupling"], outcome["costs"], outcome["latency"]
    yield Measure("pairs of services that know each other", {word: coupling[word]["pairs"] for word in WORDS})
    yield Measure("how much one service has to know", {word: coupling[word]["most"] for word in WORDS})
    for what, name, more in (
        ("throughput", "orders_per_second", True),
        ("messages", "messages", False),
        ("bytes of rows", "row_bytes", False),
        ("CPU of the services", "cpu_ms", False),
    ):
        of = {word: costs[word][name] for word in WORDS}
        ranges = {word: (each["least"], each["most"]) for word, each in of.items()}
        yield Measure(what, {word: each["median"] for word, each in of.items()}, more, ranges)
    for name in ("p50", "p99"):
        yield Measure(f"latency {name}", {word: latency[word][name] for word in WORDS})
    for cause, what in (("payment.declined", "a declined card"), ("shipping.failed", "a refused shipment")):
        of = outcome["rollback"][cause]
        yield Measure(f"taking back {what}, p50", {word: of[word]["compensated_ms"]["p50"] for word in WORDS})
    parts = [each for name, each in outcome["outages"].items() if name != NOBODY]
    if parts:
        done = {word: mean(part[word]["steps"] or 0.0 for part in parts) for word in WORDS}
        yield Measure("work done while a part is down", done, more=True)
    step = outcome["step"]
    yield Measure(
        "lines that a new step changes", {word: step[word]["changed_lines"] if word in step else None for word in WORDS}
    )
    yield Measure(
        "services whose decisions a new step changes",
        {word: len(step[word]["services_changed"]) if word in step else None for word in WORDS},
    )
    yield Measure(
        "messages that more subscribers cost", {word: outcome["subscribers"][word]["written"] for word in WORDS}
    )


def alike(measure: Measure, one: str, other: str) -> bool:
    """Whether two flows differ by no more than rounds do. Both were measured."""
    a, b = measure.values[one], measure.values[other]
    assert a is not None
    assert b is not None
    if abs(a - b) <= NOTABLE * min(abs(a), abs(b)):
        return True
    if measure.ranges is None:
        return False
    (least, most), (low, high) = measure.ranges[one], measure.ranges[other]
    return least <= high and low <= most


def best(measure: Measure) -> tuple[str, ...]:
    """The flows that are notably better than another one, and not notably worse than any; nobody if all are alike."""
    known = {word: value for word, value in measure.values.items() if value is not None}
    if len(known) < len(WORDS):
        return ()
    top = (max if measure.more else min)(known, key=lambda word: known[word])
    near = tuple(word for word in known if alike(measure, top, word))
    return near if len(near) < len(known) else ()


def winners(outcome: Mapping[str, Any]) -> dict[str, list[str]]:
    """Word for the flow → at what it is best, alone or with another one; and `alike`, `unknown`."""
    found: dict[str, list[str]] = {word: [] for word in (*WORDS, "alike", "unknown")}
    for measure in measures(outcome):
        unknown = any(value is None for value in measure.values.values())
        for word in best(measure) or (("unknown",) if unknown else ("alike",)):
            found[word].append(measure.what)
    return found
