"""From samples to figures, and from figures to tables.

A figure is the median over the rounds; beside it stand the least and the most, because machines are noisy. A ratio is
Farandole's median by the raw loop's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.learning import Templates
from bench.orders import SKUS
from bench.records import hops
from bench.rounds import LEAD_SECONDS, Plan, Sample
from bench.stage import Stage
from farandole.engine import BATCH
from farandole.machine import machine, versions

SIDES = ("farandole", "raw")
NAMES = {"farandole": "Farandole", "raw": "raw loop"}
AIM = 2.0
WIDE = 130
"""Columns where there is no terminal to ask."""

Samples = dict[str, list[Sample]]


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest value that so large a share of all is not above."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * round(share * 1000) // 1000) - 1)]


def in_a_line(sample: Sample) -> str:
    p50, p99 = (percentile(sample.latencies, share) for share in (0.50, 0.99))
    return (
        f"  {sample.orders / sample.seconds:,.0f} orders/s, {_cpu_per_order(sample):.0f} µs CPU per order; "
        f"p50 {p50:.0f} ms, p99 {p99:.0f} ms"
    )


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": round(median(values), 3), "least": round(min(values), 3), "most": round(max(values), 3)}


# ---- figures


def figures(
    samples: Samples, templates: Templates, causes: dict[str, set[str]], plan: Plan, stage: Stage
) -> dict[str, Any]:
    """All that is printed, as one JSON object."""
    throughput = {side: _throughput(samples[side], templates) for side in SIDES}
    latency = {side: _latency(samples[side], plan, causes) for side in SIDES}
    return {
        "cpu_ratio": _ratio(throughput, "cpu_us_per_order"),
        "p99_ratio": _ratio(latency, "p99_ms"),
        "throughput": {"orders": plan.orders, "ratios": _by_round(samples, _cpu_per_order), **throughput},
        "latency": {
            "orders_per_second": plan.rate,
            "seconds": plan.paced_seconds,
            "ratios": _by_round(samples, lambda sample: percentile(sample.latencies, 0.99)),
            **latency,
        },
        "machine": machine(),
        "versions": versions(),
        "settings": settings(stage, templates, len(samples["raw"])),
    }


def _ratio(of: dict[str, dict[str, Any]], figure: str) -> float:
    ours, raw = (float(of[side][figure]["median"]) for side in SIDES)
    return round(ours / raw, 3)


def _by_round(samples: Samples, figure: Callable[[Sample], float]) -> list[float]:
    """The ratio of each round: how far it can be trusted."""
    pairs = zip(samples["farandole"], samples["raw"], strict=True)
    return [round(figure(ours) / figure(raw), 3) for ours, raw in pairs]


def _cpu_per_order(sample: Sample) -> float:
    return sample.cpu / sample.orders * 1e6


def _throughput(samples: list[Sample], templates: Templates) -> dict[str, Any]:
    messages = messages_per_order(samples[0], templates)
    cpu = [_cpu_per_order(sample) for sample in samples]
    broker = [sample.broker_cpu / sample.orders * 1e6 for sample in samples if sample.broker_cpu is not None]
    return {
        "orders_per_second": spread([sample.orders / sample.seconds for sample in samples]),
        "cpu_us_per_order": spread(cpu),
        "cpu_us_per_message": spread([each / messages for each in cpu]),
        "broker_cpu_us_per_order": spread(broker) if broker else None,
        "messages_per_order": round(messages, 2),
        "records_per_order": round(median(sample.census.records / sample.placed for sample in samples), 2),
        "bytes_per_order": round(median(sample.census.size / sample.placed for sample in samples), 1),
        "journal_lines_per_order": round(median(sample.census.journal / sample.placed for sample in samples), 3),
    }


def messages_per_order(sample: Sample, templates: Templates) -> float:
    """Messages that the services take for one order; a service hears whole topics, so many of them cause nothing."""
    types = sample.census.types
    heard = [topic for topics in templates.topics.values() for topic in topics]
    taken = sum(
        count * heard.count(name.rpartition(".")[0]) for name, count in types.items() if name != "stock.received"
    )
    return taken / sample.placed


def _latency(samples: list[Sample], plan: Plan, causes: dict[str, set[str]]) -> dict[str, Any]:
    return {
        "p50_ms": spread([percentile(sample.latencies, 0.50) for sample in samples]),
        "p99_ms": spread([percentile(sample.latencies, 0.99) for sample in samples]),
        "cpu_of_a_core": spread([sample.paced_cpu / sample.paced_orders * plan.rate for sample in samples]),
        "broker_cpu_of_a_core": _broker_load(samples, plan),
        "hops": _hops(samples, causes),
    }


def _broker_load(samples: list[Sample], plan: Plan) -> dict[str, float] | None:
    known = [each.paced_broker_cpu / each.paced_orders for each in samples if each.paced_broker_cpu is not None]
    return spread([each * plan.rate for each in known]) if known else None


def _hops(samples: list[Sample], causes: dict[str, set[str]]) -> list[dict[str, Any]]:
    """Medians over the rounds of each event type's p50 and p99."""
    rounds = [hops(sample.census.times, causes) for sample in samples]
    return [
        {
            "event": name,
            "p50_ms": median(percentile(each[name], 0.50) for each in rounds if name in each),
            "p99_ms": median(percentile(each[name], 0.99) for each in rounds if name in each),
        }
        for name in rounds[0]
    ]


# ---- the circumstances


def settings(stage: Stage, templates: Templates, rounds: int) -> dict[str, Any]:
    return {
        "broker": stage.broker,
        "partitions": sorted({topic.partitions for topic in stage.topics.topics.values()}),
        "services": list(templates.topics),
        "messages_per_transaction": BATCH,
        "skus": len(SKUS),
        "rounds": rounds,
        "first_seconds_not_counted": LEAD_SECONDS,
        "garbage_collector": list(templates.collector.thresholds) if templates.collector.enabled else "off",
    }


# ---- tables


def show(found: dict[str, Any]) -> None:
    console = _console()
    console.print(_throughput_table(found["throughput"]))
    console.print(_latency_table(found["latency"]))
    console.print(_hop_table(found["latency"]))
    memory = _memory(found["memory"]) if "memory" in found else []
    replay = _replay(found["replay"]) if "replay" in found else []
    transfers = _transfers(found["transfers"]) if "transfers" in found else []
    logins = _logins(found["logins"]) if "logins" in found else []
    for line in (*_conclusions(found), *_recovery(found["recovery"]), *transfers, *logins, *replay, *memory):
        console.print(line, highlight=False)


def _transfers(found: dict[str, Any]) -> list[str]:
    return [
        "",
        f"Transfers at {found['rate']:.0f} per second over HTTP and Kafka, {found['transfers']:,} of them, from when "
        f"each was due to the answer that it is completed: p50 {found['p50_ms']:.0f} ms, p99 {found['p99_ms']:.0f} ms; "
        f"{_aim(found)}",
    ]


def _logins(found: dict[str, Any]) -> list[str]:
    begin, verify = found["begin"], found["verify"]
    return [
        "",
        f"Logins at {found['rate']:.0f} per second over HTTP and Kafka, {found['logins']:,} of them: "
        f"{found['p50_ms']:.0f} ms at the median, challenge and verify together; {_aim(found)}",
        f"challenge: p50 {begin['p50_ms']:.0f} ms, p99 {begin['p99_ms']:.0f} ms; "
        f"verify: p50 {verify['p50_ms']:.0f} ms, p99 {verify['p99_ms']:.0f} ms",
    ]


def _aim(found: dict[str, Any]) -> str:
    return f"the aim, {found['aim_ms']:.0f} ms at the median, is {'met' if found['aim_met'] else 'missed'}"


def _recovery(found: dict[str, Any]) -> list[str]:
    tables, hanging = found["tables"], found["hanging_transaction_seconds"]
    seconds = ", ".join(f"{each:.1f}" for each in found["restart_seconds"])
    owner = ", ".join(f"{each:.1f}" for each in hanging["owner_restarted"])
    return [
        "",
        f"A table of {tables['rows']:,} rows is rebuilt at {tables['rows_per_second']:,} rows/s: "
        f"{tables['rate_ratio']:.2f} of the rate of a loop that only consumes and decodes "
        f"({tables['raw_rows_per_second']:,} rows/s; aim: 0.5 or more)",
        f"A killed worker serves again after {seconds} s from its start (aim: 3 s)",
        f"A transaction that it left open holds up readers for {owner} s if it is restarted, "
        f"{hanging['another_worker_takes_over']:.1f} s if another worker takes over",
    ]


def _replay(found: dict[str, Any]) -> list[str]:
    return [
        f"The history of {found['orders']:,} orders is read again at {found['records_per_second']:,} records/s: "
        f"{found['rate_ratio']:.2f} of the rate of a consumer that only decodes the same records "
        f"({found['raw_records_per_second']:,} records/s; aim: 0.5 or more), at "
        f"{found['cpu_us_per_record']:.1f} µs CPU beside {found['raw_cpu_us_per_record']:.1f}; "
        f"a whole shadow replay of it takes {found['shadow_seconds']:.1f} s "
        f"({found['shadow_records_per_second']:,} records/s)",
    ]


def _memory(found: dict[str, Any]) -> list[str]:
    return [
        f"Under a backlog of {found['orders']:,} orders a worker that was warm with {found['warm_mb']:,} MB resident "
        f"came to {found['most_mb']:,} MB, {found['ratio']:.2f} times as much (aim: 1.1 or less)",
    ]


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _with_spread(figure: dict[str, float] | None, digits: int = 0) -> str:
    if figure is None:
        return "-"
    return f"{figure['median']:,.{digits}f} ({figure['least']:,.{digits}f}–{figure['most']:,.{digits}f})"


def _throughput_table(found: dict[str, Any]) -> Table:
    table = _table(
        f"\nA backlog of {found['orders']:,} orders, exactly once: median (least–most)",
        "", "orders/s", "CPU µs per order", "per message taken", "broker's CPU µs per order",
        "messages", "records", "bytes",
    )  # fmt: skip
    for side in SIDES:
        of = found[side]
        table.add_row(
            NAMES[side],
            _with_spread(of["orders_per_second"]),
            _with_spread(of["cpu_us_per_order"]),
            _with_spread(of["cpu_us_per_message"], 1),
            _with_spread(of["broker_cpu_us_per_order"]),
            f"{of['messages_per_order']:.1f}",
            f"{of['records_per_order']:.1f}",
            f"{of['bytes_per_order']:,.0f}",
        )
    return table


def _latency_table(found: dict[str, Any]) -> Table:
    table = _table(
        f"\n{found['orders_per_second']:g} orders/s for {found['seconds']:g} s, "
        "from the intended start to order.completed, ms",
        "", "p50", "p99", "CPU, of one core", "broker's CPU, of one core",
    )  # fmt: skip
    for side in SIDES:
        of = found[side]
        table.add_row(
            NAMES[side],
            _with_spread(of["p50_ms"], 1),
            _with_spread(of["p99_ms"], 1),
            _with_spread(of["cpu_of_a_core"], 2),
            _with_spread(of["broker_cpu_of_a_core"], 2),
        )
    return table


def _hop_table(found: dict[str, Any]) -> Table:
    table = _table(
        "\nEach hop: from the record that causes an event to the event's own, by the broker's clock, ms",
        "", "Farandole p50", "p99", "raw loop p50", "p99",
    )  # fmt: skip
    raw = {hop["event"]: hop for hop in found["raw"]["hops"]}
    for hop in found["farandole"]["hops"]:
        beside = raw.get(hop["event"])
        cells = [f"{beside[figure]:.0f}" if beside else "-" for figure in ("p50_ms", "p99_ms")]
        table.add_row(hop["event"], f"{hop['p50_ms']:.0f}", f"{hop['p99_ms']:.0f}", *cells)
    return table


def _conclusions(found: dict[str, Any]) -> list[str]:
    on, of, at = found["machine"], found["versions"], found["settings"]
    return [
        "",
        _conclusion("CPU per order", found["cpu_ratio"], found["throughput"]["ratios"]),
        _conclusion("p99", found["p99_ratio"], found["latency"]["ratios"]),
        "",
        f"{at['rounds']} rounds, the sides in turns, each in a fresh process on fresh topics; same client settings,",
        "batches, partitions and records. Farandole alone writes journals, keeps tables, could be killed and go on.",
        "Outside calls are answered at once, in process, on both sides. docs/benchmark.md says what is measured, how.",
        f"{on['processor']}, {on['cores']} cores, {on['memory_gb']} GB, {on['system']}, "
        f"load average {' '.join(map(str, on['load_average']))}",
        ", ".join(f"{name} {number}" for name, number in of.items()),
        f"broker: {at['broker']}; partitions: {', '.join(map(str, at['partitions']))}; "
        f"{len(at['services'])} services in one process",
        f"at most {at['messages_per_transaction']:,} messages a transaction; {at['skus']} skus; "
        f"garbage collector of both sides: {at['garbage_collector']}",
    ]


def _conclusion(what: str, ratio: float, rounds: list[float]) -> str:
    each = ", ".join(f"{one:.2f}" for one in rounds)
    return f"{what}: {ratio:.2f} × the raw loop's (aim: at most {AIM:g}; round by round {each})"


def show_profile(found: dict[str, Any]) -> None:
    console = _console()
    console.print(_stage_table(found))
    table = _table(
        "\nFunctions, under a profiler, which makes small ones look dear", "", "calls", "own µs", "with callees"
    )
    for each in found["functions"]:
        table.add_row(
            each["function"],
            f"{each['calls_per_order']:.2f}",
            f"{each['us_per_order']:.1f}",
            f"{each['with_callees_us_per_order']:.1f}",
        )
    console.print(table)


def _stage_table(found: dict[str, Any]) -> Table:
    services = [name for name in dict.fromkeys(each["service"] for each in found["stages"]) if name]
    table = _table(f"\nCPU µs per order by stage, a backlog of {found['orders']:,}", "", "all", *services)
    took = {(each["stage"], each["service"]): each["us_per_order"] for each in found["stages"]}
    totals = {stage: sum(us for (each, _), us in took.items() if each == stage) for stage, _ in took}
    for stage in sorted(totals, key=lambda stage: -totals[stage]):
        cells = [f"{took[stage, service]:.1f}" if (stage, service) in took else "" for service in services]
        table.add_row(stage, f"{totals[stage]:.1f}", *cells)
    table.add_row("together", f"{sum(totals.values()):.1f}")
    return table
