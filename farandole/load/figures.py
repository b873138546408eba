"""From what was recorded to the figures of a report, as one JSON object.

Invariants: an order that had not ended when the figures were made counts with the time that it had waited by then, so
what never ends makes a percentile worse and not better; the figures of a stage are those of its own orders, whenever
they ended; a run in which the generator was the bottleneck says so.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from farandole.load.histogram import Histogram, summed
from farandole.load.objective import Objective, share_between
from farandole.load.recorder import Played, Recorder
from farandole.load.sampler import Sample, Sampler, growing

PERCENTS: Final = (50.0, 90.0, 99.0, 99.9)

LATE_SECONDS: Final = 0.1
"""p99 of the generator's own lateness above which it counts as the bottleneck."""

PYTHON_SHARE: Final = 0.85
"""Of one core, that the generator's Python threads share: above it, too."""

PLACED_SHARE: Final = 0.99
"""Of the orders that were due: below it, too."""

HEARD: Final = 4.0
"""Records of one order that a service hears, about: so many of them are one order's worth of lag."""

GENERATOR: Final = "generator"

CURVE: Final = (0.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.95, 99.99)


def ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def with_open(played: Iterable[Played], recorder: Recorder, now: float | None = None) -> Histogram:
    """The latencies of these stages, and of their orders that have not ended the time so far."""
    stages = list(played)
    total = summed(each.latency for each in stages)
    wanted = {id(each) for each in stages}
    now = time.monotonic() if now is None else now
    for due, stage in list(recorder.in_flight.values()):
        if id(stage) in wanted:
            total.add(now - due)
    return total


def latency_of(histogram: Histogram, objective: Objective | None = None) -> dict[str, Any]:
    found = histogram.percentiles(PERCENTS)
    figures: dict[str, Any] = {
        "orders": histogram.count,
        "mean_ms": ms(histogram.mean),
        **{f"p{percent:g}_ms": ms(value) for percent, value in zip(PERCENTS, found, strict=True)},
        "max_ms": ms(histogram.largest if histogram.count else None),
    }
    if objective is not None:
        above = histogram.above(objective.seconds)
        low, high = share_between(above, histogram.count)
        figures |= {
            "objective": str(objective),
            "objective_ms": ms(histogram.percentile(objective.percent)),
            "held": objective.held_by(histogram),
            "above": above,
            "share_above": round(above / histogram.count, 6) if histogram.count else None,
            "share_above_between": [round(low, 6), round(high, 6)],
        }
    return figures


def curve_of(histogram: Histogram) -> list[list[float]]:
    """[percent, milliseconds] for the curve of all percentiles above which there is still an order."""
    percents = [percent for percent in CURVE if histogram.count * (100 - percent) >= 100]
    found = histogram.percentiles(percents)
    return [[at, round(value * 1000, 1)] for at, value in zip(percents, found, strict=True) if value is not None]


def stage_of(played: Played, recorder: Recorder, sampler: Sampler, objective: Objective | None) -> dict[str, Any]:
    """One stage's row."""
    seconds = played.seconds
    latency = with_open([played], recorder)
    took = max(1e-9, max(played.last_end, played.over) - played.began)
    return {
        **played.stage.to_dict(),
        "began": round(played.began - recorder.began, 3),
        "seconds": round(seconds, 3),
        "cut": played.cut,
        "placed": played.placed,
        "failed": played.failed,
        "ended": played.ended,
        "outcomes": dict(played.outcomes),
        "placed_per_second": round(played.placed / seconds, 1) if seconds > 0.01 else None,
        "ended_per_second": round(played.ended / took, 1),
        "latency": latency_of(latency, objective),
        "grows": grows(played, sampler),
        "answers": {**latency_of(played.answers), "statuses": dict(played.statuses)} if played.statuses else None,
        "generator": generator_of(played),
    }


def missed_by(row: Mapping[str, Any], objective: Objective) -> list[str]:
    """Why a stage, by its row, is no proof that a rate is held; empty: it is one."""
    why = []
    if row["latency"]["objective_ms"] is None:
        why.append("no order ended")
    elif not row["latency"]["held"]:
        why.append(f"{row['latency']['objective_ms']:,} ms at p{objective.percent:g}")
    # They have no latency: without this, a system that refuses most of its orders is the quicker for it.
    why += [f"{row['failed']} orders were not placed"] if row["failed"] else []
    why += [f"{what} grew" for what in row["grows"]]
    return why + (["given up early"] if row["cut"] else [])


def grows(played: Played, sampler: Sampler) -> list[str]:
    """What grew as long as the stage lasted: `orders in flight`, or a service whose lag did."""
    samples = sampler.between(played.began, played.over or time.monotonic())
    rate = max(played.stage.rate, played.stage.until)
    if played.stage.burst or played.stage.rate != played.stage.until:
        return []
    found = ["orders in flight"] if growing([(each.at, each.in_flight) for each in samples], rate) else []
    services = sorted({service for each in samples for service in each.lag})
    for service in services:
        points = [(each.at, float(each.lag[service])) for each in samples if service in each.lag]
        if growing(points, rate * HEARD):
            found.append(f"{service}'s lag")
    return found


def generator_of(played: Played) -> dict[str, Any]:
    """How well the generator kept up, and why it did not if it did not."""
    seconds = played.seconds
    p50, p99 = played.late.percentiles((50.0, 99.0))
    python = played.cpu[0] / seconds if seconds > 0.5 else 0.0
    process = played.cpu[1] / seconds if seconds > 0.5 else 0.0
    why = []
    if not played.stage.burst:
        if p99 is not None and p99 > LATE_SECONDS:
            why.append(f"orders were placed late: p99 {p99 * 1000:.0f} ms")
        if not played.cut and played.placed < played.stage.orders * PLACED_SHARE:
            why.append(f"{played.placed} of {played.stage.orders} orders were placed")
        if python > PYTHON_SHARE:
            why.append(f"its Python threads took {python:.0%} of a core, and share one")
    if played.held_back:
        why.append(f"{played.held_back} orders waited because as many were in flight as may be")
    return {
        "late_p50_ms": ms(p50),
        "late_p99_ms": ms(p99),
        "late_max_ms": ms(played.late.largest),
        "python_share": round(python, 3),
        "cpu_share": round(process, 3),
        "bottleneck": why,
    }


# ---- over time


def series_of(recorder: Recorder) -> dict[str, Any]:
    """Columns of one value for each interval; latencies by when orders were due, in milliseconds."""
    width, rows = recorder.rows()
    percents = (50.0, 90.0, 99.0)
    latencies = [row.latency.percentiles(percents) for row in rows]
    return {
        "width": width,
        "at": [round(number * width, 3) for number in range(len(rows))],
        "intended": [round(row.intended / width, 2) for row in rows],
        "placed": [round(row.placed / width, 2) for row in rows],
        "ended": [round(row.ended / width, 2) for row in rows],
        **{f"p{percent:g}": [ms(each[place]) for each in latencies] for place, percent in enumerate(percents)},
        "max": [ms(row.latency.largest if row.latency.count else None) for row in rows],
    }


def samples_of(samples: Sequence[Sample]) -> dict[str, Any]:
    """Columns of one value for each sample; CPU in cores since the sample before, memory in MiB; None: nobody knew."""
    services = sorted({service for each in samples for service in each.lag})
    processes = list(dict.fromkeys(name for each in samples for name in each.cpu))
    pairs = list(zip([None, *samples], samples, strict=False))
    return {
        "at": [round(each.at, 2) for each in samples],
        "in_flight": [each.in_flight for each in samples],
        "lag": {service: [each.lag.get(service) for each in samples] for service in services},
        "cpu": {name: [_cores(before, now, name) for before, now in pairs] for name in processes},
        "rss": {name: [mib(each.rss.get(name)) for each in samples] for name in processes},
        "others_cpu": [_others(before, now) for before, now in pairs],
    }


def _cores(before: Sample | None, now: Sample, name: str) -> float | None:
    if before is None or name not in before.cpu or name not in now.cpu or now.at <= before.at:
        return None
    spent = now.cpu[name] - before.cpu[name]
    return round(spent / (now.at - before.at), 3) if spent >= 0 else None  # below 0: it was started anew


def _others(before: Sample | None, now: Sample) -> float | None:
    """Cores that everything else on this machine, and other machines on the same host, took."""
    if before is None or now.at <= before.at:
        return None
    ours = sum(now.cpu[name] - before.cpu[name] for name in now.cpu if name in before.cpu)
    spent = now.busy + now.stolen - before.busy - before.stolen - ours
    return round(max(0.0, spent) / (now.at - before.at), 3)


def mib(size: int | None) -> float | None:
    return None if size is None else round(size / 2**20, 1)


def cpu_of(samples: Sequence[Sample], names: Iterable[str]) -> dict[str, float]:
    """Cores that each process took on average over a stretch."""
    found = {}
    for name in names:
        there = [each for each in samples if name in each.cpu]
        if len(there) > 1 and there[-1].at > there[0].at:
            spent = there[-1].cpu[name] - there[0].cpu[name]
            found[name] = round(spent / (there[-1].at - there[0].at), 3)
    return found


def others_of(samples: Sequence[Sample]) -> float | None:
    """Cores that others took on average over a stretch."""
    return _others(samples[0], samples[-1]) if len(samples) > 1 else None
