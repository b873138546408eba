"""`python -m bench`: Farandole beside a loop on librdkafka that moves and persists the same records."""

from __future__ import annotations

import json
import signal
import sys
from typing import Annotated, Any

import typer
from confluent_kafka import KafkaException

from bench import backlog, logins, recovery, replay, report, rounds, transfers
from bench.errors import BenchError
from bench.orders import codec
from bench.profiling import profile
from bench.records import causes
from bench.rounds import Plan
from bench.stage import Stage, stage, tell
from farandole.errors import FarandoleError

RATE = 100.0


def command(
    orders: Annotated[int, typer.Option(min=100, help="Orders of the backlog.")] = 20_000,
    paced_seconds: Annotated[float, typer.Option(min=2.0, help="Seconds at 100 orders/s.")] = 20.0,
    repeat: Annotated[int, typer.Option("--rounds", min=1, help="How often each side has its turn.")] = 3,
    rows: Annotated[int, typer.Option(min=1_000, help="Rows of the table that is rebuilt.")] = 1_000_000,
    waiting: Annotated[
        int, typer.Option("--backlog", min=0, help="Orders of the backlog under which memory is watched; 0: leave out.")
    ] = 1_000_000,
    replayed: Annotated[int, typer.Option(min=0, help="Orders whose history is read again; 0: leave out.")] = 20_000,
    transfer_seconds: Annotated[
        float, typer.Option(min=0.0, help="Seconds of transfers at 20 per second; 0: leave out.")
    ] = 20.0,
    login_seconds: Annotated[
        float, typer.Option(min=0.0, help="Seconds of logins at 20 per second; 0: leave out.")
    ] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    profiled: Annotated[bool, typer.Option("--profile", help="Show where Farandole's time goes instead.")] = False,
) -> None:
    """Measure what Farandole costs: CPU per order under a backlog, latency at 100 orders/s, each beside a loop on
    librdkafka that moves and persists the same records in transactions and does nothing else; then how soon work goes
    on after a crash, and how much memory a worker needs under a backlog.

    It starts a Kafka of its own, or takes the one that KAFKA_BOOTSTRAP_SERVERS names, and takes a quarter of an hour.
    Exit code 0 unless it could not measure.

    Example: python -m bench --orders 5000 --paced-seconds 10 --json
    """
    try:
        with stage() as where:
            plan = Plan(orders, paced_seconds, RATE)
            if profiled:
                found = profile(where, codec(), orders)
            else:
                found = compare(where, plan, repeat)
                found["recovery"] = recovery.measure(where, codec(), rows)
                if transfer_seconds:
                    found["transfers"] = transfers.measure(where, transfer_seconds)
                if login_seconds:
                    found["logins"] = logins.measure(where, login_seconds)
                if replayed:
                    found["replay"] = replay.measure(where, codec(), replayed)
                if waiting:
                    found["memory"] = backlog.measure(where, codec(), waiting)
    except FarandoleError as error:
        _fail(error)
    except KafkaException as error:
        _fail(BenchError(f"Kafka said: {error.args[0].str()}", mend="try again; on a busy machine with fewer --orders"))
    if as_json:
        print(json.dumps(found))
    elif profiled:
        report.show_profile(found)
    else:
        report.show(found)


def compare(where: Stage, plan: Plan, repeat: int) -> dict[str, Any]:
    """Both sides in turns, and the figures."""
    known = codec()
    tell("learning what Farandole writes for an order")
    templates = rounds.learn_templates(where, known, min(rounds.WARM_UP, plan.orders))
    sides = {"farandole": rounds.farandole(known), "raw": rounds.raw_loop(templates, where.home / "templates.json")}
    samples: report.Samples = {name: [] for name in sides}
    for number in range(repeat):
        for name, side in sides.items():
            tell(
                f"round {number + 1} of {repeat}, {side.name}: {plan.orders:,} orders at once, "
                f"then {plan.paced_seconds:g} s at {plan.rate:g} orders/s"
            )
            sample = rounds.run(where, known, side, plan)
            samples[name].append(sample)
            tell(report.in_a_line(sample))
    return report.figures(samples, templates, causes(known), plan, where)


def _fail(error: FarandoleError) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)


def _end(*_: Any) -> None:
    """SIGTERM ends it as Ctrl-C does: by leaving every block, so that everything it started is gone."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    try:
        typer.run(command)
    except KeyboardInterrupt:
        sys.exit(130)
