"""The verdict on a load: all its figures together, and what was wrong."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from farandole import config
from farandole.load import figures
from farandole.load.histogram import summed
from farandole.load.memory import memory as memory_of
from farandole.load.outcome import Outcome
from farandole.load.recorder import Played
from farandole.machine import commit, machine, versions

if TYPE_CHECKING:
    from farandole.load.run import Load


def summary(load: Load, audit: dict[str, Any] | None) -> Outcome:
    """Everything that is known at the end."""
    options, recorder, sampler = load.options, load.recorder, load.sampler
    objective = options.wanted
    judged = _judged(load)
    latency = figures.with_open(judged, recorder)
    stages = [figures.stage_of(each, recorder, sampler, objective) for each in recorder.played]
    rows = [row for row, each in zip(stages, recorder.played, strict=True) if any(each is one for one in judged)]
    window = sampler.between(judged[0].began, max(each.over for each in judged)) if judged else []
    generator = _generator(rows, judged)
    for row in stages:
        _doubt(row["latency"], row["generator"]["bottleneck"])
    keep_seconds = load.settings.get("keep_seconds")
    memory = memory_of(judged, recorder.played, window, None if keep_seconds is None else float(keep_seconds))
    problems = [*load.problems, *_problems(load, rows, latency), *memory.problems]
    # By what is judged alone: a search may well end where the generator does, and its limit is not sure then.
    valid = not generator["bottleneck"]
    if objective is not None and generator["bottleneck"] and rows:
        problems.append(f"whether {objective} is held is not known: the generator was the bottleneck")
    found = {
        "run": {
            "name": load.stage.run,
            "namespace": load.stage.namespace,
            "began": time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(recorder.began_at)),
            "commit": commit(config.project_root()),
            "seconds": round(time.monotonic() - recorder.began, 1),
        },
        "machine": machine(),
        "versions": versions(),
        "settings": {
            **options.to_dict(),
            "kafka": "KAFKA_BOOTSTRAP_SERVERS" if config.setting("KAFKA_BOOTSTRAP_SERVERS") else "embedded",
            "partitions": sorted({topic.partitions for topic in load.stage.topics.topics.values()}),
            **load.settings,
        },
        "totals": _totals(load),
        "latency": {
            **_doubt(figures.latency_of(latency, objective), generator["bottleneck"]),
            "curve": figures.curve_of(latency),
            "objective_said": _objective_said(load, rows),
        },
        "stages": stages,
        "limit": load.found.to_dict() if load.found is not None else None,
        "burst": _burst(load),
        "generator": generator,
        "memory": memory.to_dict(),
        "cpu": {
            "processes": figures.cpu_of(window, dict.fromkeys(name for each in window for name in each.cpu)),
            "others": figures.others_of(window),
        },
        "series": figures.series_of(recorder),
        "samples": figures.samples_of(sampler.samples),
        "lag_gaps": sampler.gaps,
        "audit": audit,
    }
    return Outcome(found, problems, valid, load.interrupted)


def _judged(load: Load) -> list[Played]:
    """The stages by which the run is judged: all that are measured; of a search its soak, or else what confirmed the
    rate that was found: that others were missed is what it is for.
    """
    measured = [each for each in load.recorder.played if each.stage.measured]
    if not load.options.find_limit:
        return measured
    if load.options.soak_minutes:
        return [each for each in load.soak if each.stage.measured]
    return measured[-1:] if load.found is not None and load.found.rate is not None else []


def _totals(load: Load) -> dict[str, Any]:
    recorder = load.recorder
    return {
        "intended": sum(each.stage.orders for each in recorder.played),
        "placed": sum(each.placed - each.failed for each in recorder.played),
        "failed": sum(each.failed for each in recorder.played),
        "outcomes": dict(sum((each.outcomes for each in recorder.played), Counter())),
        "parked": len(recorder.parked),
        "open": recorder.open,
    }


def _generator(rows: list[dict[str, Any]], judged: list[Played]) -> dict[str, Any]:
    """Over all stages by which the run is judged: the worst of each."""
    late = summed(each.late for each in judged)
    p50, p99 = late.percentiles((50.0, 99.0))
    each = [row["generator"] for row in rows]
    return {
        "late_p50_ms": figures.ms(p50),
        "late_p99_ms": figures.ms(p99),
        "late_max_ms": figures.ms(late.largest),
        "python_share": max((one["python_share"] for one in each), default=0.0),
        "cpu_share": max((one["cpu_share"] for one in each), default=0.0),
        "bottleneck": [f"{row['name']}: {why}" for row in rows for why in row["generator"]["bottleneck"]],
    }


def _problems(load: Load, rows: list[dict[str, Any]], latency: Any) -> list[str]:
    recorder, found = load.recorder, []
    found += [f"{count} orders were not placed: {why}" for why, count in recorder.problems.items()]
    if recorder.open and not load.interrupted:
        found.append(f"{recorder.open} orders had not ended {load.options.timeout:.0f} s after the last was placed")
    if load.found is not None and load.found.rate is None:
        found.append(f"no limit was found: {load.found.said}")
    found += [
        f"{row['name']} misses {row['latency']['objective']}: "
        f"{row['latency']['above']:,} of {row['latency']['orders']:,} orders took longer"
        for row in rows
        if row["latency"].get("held") is False
    ]
    if load.options.wanted is not None:
        found += [f"{row['name']}: {what} grew all the time" for row in rows for what in row["grows"]]
    return found


def _objective_said(load: Load, rows: list[dict[str, Any]]) -> str:
    objective = load.options.wanted
    if objective is None or not rows:
        return ""
    missed = [row["name"] for row in rows if row["latency"]["held"] is False]
    if missed:
        return f"{objective} is missed by {', '.join(missed)}"
    unknown = any(row["latency"]["held"] is None for row in rows)
    return f"whether {objective} is held is not known" if unknown else f"{objective} is held"


def _doubt(latency: dict[str, Any], bottleneck: list[str]) -> dict[str, Any]:
    """held: None where the generator was the bottleneck: it is not known what the system would have done."""
    if bottleneck and "held" in latency:
        latency["held"] = None
    return latency


def _burst(load: Load) -> dict[str, Any] | None:
    orders = load.options.burst
    if not orders:
        return None
    seconds = load.drained
    return {
        "orders": orders,
        "drained_in": None if seconds is None else round(seconds, 3),
        "rate": None if not seconds else round(orders / seconds, 1),
    }
