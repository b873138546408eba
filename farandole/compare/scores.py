"""Who is best at what: by the figures alone, and only where every round says the same.

Two flows are alike, apart, or not told apart. Apart: they differ by more than NOTABLE, and every round has the same one
ahead. Alike: neither the figures nor any round differ by more than NOTABLE. Not told apart is what is left: the rounds
do not agree, or are too few.

Invariant: rounds are compared by pairs, one flow's with the other's of the same round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from statistics import mean, median
from typing import Any, Final, NamedTuple

from farandole.compare.flows import WORDS
from farandole.compare.outages import NOBODY, OUTSIDE

NOTABLE: Final = 0.1
"""Figures that differ by less than this part are called alike."""

ENOUGH: Final = 3
"""Rounds without which nothing is said of what rounds measure."""


class Verdict(Enum):
    ALIKE = "alike"
    APART = "apart"
    UNTOLD = "not told apart"


NOBODYS: Final = (Verdict.ALIKE.value, Verdict.UNTOLD.value, "unknown")
"""What is said of a measure at which nobody is best."""


class Measure(NamedTuple):
    """values: word for the flow → figure; None: it was not measured. more: whether more is better

    rounds: word → its figure in each round; None: it is counted, or derived, and has none
    pooled: the figures are those of all rounds together, and not medians of them
    """

    what: str
    values: Mapping[str, float | None]
    more: bool = False
    rounds: Mapping[str, Sequence[float | None]] | None = None
    pooled: bool = False

    def ratios(self, one: str, other: str) -> list[float]:
        """Round by round; those in which there is nothing to divide by, or that are nothing, are left out."""
        if self.rounds is None:
            return []
        pairs = zip(self.rounds[one], self.rounds[other], strict=False)
        return [a / b for a, b in pairs if a and b]

    def ratio(self, one: str, other: str) -> float | None:
        """One to the other: the median of the rounds' ratios, or that of the figures themselves."""
        a, b = self.values[one], self.values[other]
        if self.rounds is None or self.pooled:
            return None if a is None or not b else a / b
        found = self.ratios(one, other)
        return median(found) if found else None


def measures(outcome: Mapping[str, Any]) -> Iterator[Measure]:
    coupling, costs, latency = outcome["coupling"], outcome["costs"], outcome["latency"]
    yield Measure("pairs of services that know each other", {word: coupling[word]["pairs"] for word in WORDS})
    yield Measure("how much one service has to know", {word: coupling[word]["most"] for word in WORDS})
    for what, name, more in (
        ("throughput", "orders_per_second", True),
        ("messages", "messages", False),
        ("bytes of rows", "row_bytes", False),
        ("CPU of the services", "cpu_ms", False),
        ("CPU of the broker", "broker_cpu_ms", False),
    ):
        of = {word: costs[word][name] for word in WORDS}
        rounds = {word: each["rounds"] for word, each in of.items()}
        yield Measure(what, {word: each["median"] for word, each in of.items()}, more, rounds)
    for name in ("p50", "p99"):
        yield _pooled(f"latency {name}", latency, name)
    for cause, what in (("payment.declined", "a declined card"), ("shipping.failed", "a refused shipment")):
        yield taking_back(outcome["rollback"], cause, what)
    parts = common_parts(outcome)
    if parts:
        done = {word: mean(outcome["outages"][part][word]["steps"] or 0.0 for part in parts) for word in WORDS}
        yield Measure("work done while a part that all have is down", done, more=True)
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


def has(outcome: Mapping[str, Any], word: str, part: str) -> bool:
    """Whether a flow has this part. One that it does not have is not down for it, however much moves meanwhile."""
    return part in (NOBODY, *OUTSIDE) or part in outcome["coupling"][word]["by_service"]


def common_parts(outcome: Mapping[str, Any]) -> list[str]:
    """Those that were down, and that every flow has."""
    parts = [part for part in outcome["outages"] if part != NOBODY]
    return [part for part in parts if all(has(outcome, word, part) for word in WORDS)]


def taking_back(rollback: Mapping[str, Any], cause: str, what: str) -> Measure:
    of = {word: rollback[cause][word]["compensated_ms"] for word in WORDS}
    return _pooled(f"taking back {what}, p50", of, "p50")


def _pooled(what: str, of: Mapping[str, Any], name: str) -> Measure:
    rounds = {word: each["stretches"][name] for word, each in of.items()}
    return Measure(what, {word: of[word][name] for word in WORDS}, rounds=rounds, pooled=True)


def verdict(measure: Measure, one: str, other: str) -> Verdict:
    """Of two flows that were measured."""
    a, b = measure.values[one], measure.values[other]
    assert a is not None
    assert b is not None
    if measure.rounds is None:
        return Verdict.ALIKE if abs(a - b) <= NOTABLE * min(abs(a), abs(b)) else Verdict.APART
    ratio, ratios = measure.ratio(one, other), measure.ratios(one, other)
    if ratio is None or len(ratios) < ENOUGH:
        return Verdict.UNTOLD
    if all(_near(each) for each in (ratio, *ratios)):
        return Verdict.ALIKE
    if not _near(ratio) and (all(each > 1 for each in (ratio, *ratios)) or all(each < 1 for each in (ratio, *ratios))):
        return Verdict.APART
    return Verdict.UNTOLD


def _near(ratio: float) -> bool:
    return max(ratio, 1 / ratio) <= 1 + NOTABLE


def ahead(measure: Measure, one: str, other: str) -> bool:
    """Whether one is better than the other, and told apart from it."""
    if verdict(measure, one, other) is not Verdict.APART:
        return False
    if measure.rounds is None:
        more = measure.values[one] > measure.values[other]  # type: ignore[operator]  # both were measured
    else:
        more = (measure.ratio(one, other) or 0.0) > 1
    return more == measure.more


def best(measure: Measure) -> tuple[str, ...]:
    """The flows that are ahead of another one, and behind none; nobody if none is told apart from another."""
    if any(value is None for value in measure.values.values()):
        return ()
    others = {word: [other for other in WORDS if other != word] for word in WORDS}
    return tuple(
        word
        for word in WORDS
        if any(ahead(measure, word, other) for other in others[word])
        and not any(ahead(measure, other, word) for other in others[word])
    )


def nobody(measure: Measure) -> Verdict | None:
    """Why nobody is best: all are alike, or not told apart; None: one was not measured."""
    if any(value is None for value in measure.values.values()):
        return None
    verdicts = {verdict(measure, one, other) for one in WORDS for other in WORDS if one != other}
    return Verdict.ALIKE if verdicts == {Verdict.ALIKE} else Verdict.UNTOLD


def winners(outcome: Mapping[str, Any]) -> dict[str, list[str]]:
    """Word for the flow → at what it is best, alone or with another one; and `alike`, `not told apart`, `unknown`."""
    found: dict[str, list[str]] = {word: [] for word in (*WORDS, *NOBODYS)}
    for measure in measures(outcome):
        why = nobody(measure)
        for word in best(measure) or (why.value if why else "unknown",):
            found[word].append(measure.what)
    return found
