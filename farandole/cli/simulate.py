"""`farandole simulate`: runs of the real engine, agents and flows in a world where everything goes wrong on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from farandole.cli import progress
from farandole.errors import ConfigError

Flows = tuple[str, ...]


def command(
    seeds: Annotated[int, typer.Option(help="How many runs, one for each seed.", min=1)] = 1_000,
    first_seed: Annotated[int, typer.Option(help="The first of them.", min=0)] = 0,
    seed: Annotated[
        int | None, typer.Option(help="Play this seed alone, and tell its story if it fails.", min=0)
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes that share the work.", min=1, max=256)] = 1,
    flow: Annotated[
        list[str] | None,
        typer.Option(
            help="Of which flows the orders are, such as order,order-hybrid; all of them, mixed, unless said "
            "otherwise. Some seeds have transfers and logins beside them, whatever it says."
        ),
    ] = None,
    orders: Annotated[int | None, typer.Option(help="Orders per run; 1 to 5 otherwise.", min=1, max=20)] = None,
    keep_going: Annotated[bool, typer.Option("--keep-going", help="Go on after a seed that fails.")] = False,
    shrink: Annotated[float, typer.Option(help="Seconds to look for a shorter story; 0: tell it as it is.")] = 20.0,
    tell: Annotated[bool, typer.Option("--tell", help="With --seed: tell the story whether it fails or not.")] = False,
    story: Annotated[Path | None, typer.Option(help="Write the shrunk story to this file, for --replay.")] = None,
    replay: Annotated[Path | None, typer.Option(help="Play a story that --story has written.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Run the real engine, agents and flows on a model of Kafka, time and the outside world, and check every end.

    A seed decides who goes when, where batches are cut, which worker dies, sleeps or is answered by nobody, and what
    gateway, carrier and mail server do. After each run the audit and the engine's own books are checked. A seed that
    fails is shrunk to the shortest story that still fails. Exit code 0 if every run holds, 1 if one does not; after
    Ctrl-C the summary so far, and 130.

    Example: farandole simulate --seeds 10000 --jobs 2
    """
    flows = _flows(flow or [])
    # What a shell may have set for a real system is not this one's.
    _plain_environment()
    if replay is not None:
        raise typer.Exit(_replayed(replay, as_json))
    if seed is not None:
        raise typer.Exit(_one(seed, orders, flows, shrink, tell, story, as_json))
    from farandole.simulation.campaign import campaign

    with progress.shown() as report:
        result = campaign(
            first_seed, seeds, jobs=jobs, orders=orders, flows=flows, keep_going=keep_going, progress=report
        )
    said = result.to_dict()
    code = 130 if result.interrupted else 1 if result.failed else 0
    if not as_json:
        _print_summary(said)
    if result.failed:
        failed = result.failed[0]
        told = _story(failed.seed, orders, flows, 0.0 if result.interrupted else shrink, story)
        said["story"] = told
        if not as_json:
            _print_story(told, failed.seed, _again(orders, flows))
    if as_json:
        print(json.dumps(said), flush=True)
    raise typer.Exit(code)


def _flows(named: list[str]) -> Flows:
    """The keys of the flows that are named, by repetition or with commas; all if none is."""
    from farandole.simulation.plan import FLOWS

    names = [name for each in named for name in each.split(",")]
    for name in names:
        if not any(name in (flow, flow.rpartition("/")[0]) for flow in FLOWS):
            raise ConfigError(
                f"no orders are placed in a flow {name}",
                where="--flow",
                mend=f"one of {', '.join(FLOWS)}, or leave it out for all. One seed in four has transfers beside its "
                "orders, and one in seven logins, whatever --flow says",
            )
    return tuple(flow for flow in FLOWS if not names or flow in names or flow.rpartition("/")[0] in names)


def _again(orders: int | None, flows: Flows) -> str:
    """The options without which a seed is another run."""
    from farandole.simulation.plan import FLOWS

    wanted = "" if flows == FLOWS else "".join(f" --flow {flow}" for flow in flows)
    return (f" --orders {orders}" if orders else "") + wanted


def _plain_environment() -> None:
    import os

    for name in ("FARANDOLE_NAMESPACE", "FARANDOLE_FAIL", "SCHEMA_REGISTRY_URL"):
        os.environ.pop(name, None)


def _one(
    seed: int, orders: int | None, flows: Flows, seconds: float, tell: bool, story: Path | None, as_json: bool
) -> int:
    """Play one seed."""
    from farandole.simulation.campaign import run_seed
    from farandole.simulation.workers import Workshop

    counts, failed = run_seed(Workshop(), seed, orders, flows)
    said: dict[str, Any] = {"ok": failed is None, "seed": seed, "counts": dict(counts)}
    if failed is not None or tell:
        said["story"] = _story(seed, orders, flows, seconds if failed else 0.0, story)
    if as_json:
        print(json.dumps(said), flush=True)
    else:
        if "story" in said:
            _print_story(said["story"], seed, _again(orders, flows))
        if failed is None:
            print(f"seed {seed}: every check holds")
    return 1 if failed else 0


def _story(seed: int, orders: int | None, flows: Flows, seconds: float, file: Path | None) -> dict[str, Any]:
    """The story of a seed, shrunk for so many seconds if it fails."""
    import msgspec

    from farandole.simulation.plan import make_plan
    from farandole.simulation.shrink import Shrinker
    from farandole.simulation.tape import Tape
    from farandole.simulation.trial import trial
    from farandole.simulation.workers import Workshop

    workshop, plan = Workshop(), make_plan(seed, orders, flows)
    tape = Tape(seed, plan.rates)
    found = trial(workshop, plan, tape)
    answers = list(tape.answers)
    if found.violations and seconds > 0:
        with progress.shown() as report:
            shrinker = Shrinker(workshop, plan, answers, found.violations[0].check, seconds, report)
            plan, answers = shrinker.shrink()
    kept = {"seed": seed, "plan": msgspec.to_builtins(plan), "answers": answers}
    if file is not None:
        file.write_text(json.dumps(kept))
    return _told(workshop, plan, answers)


def _told(workshop: Any, plan: Any, answers: list[int]) -> dict[str, Any]:
    from farandole.simulation.timeline import names_of, timeline

    found, entries = timeline(workshop, plan, answers)
    return {
        "violations": [{"check": each.check, "what": each.what} for each in found.violations],
        "orders": {letter: saga for saga, letter in names_of(plan).items()},
        "plan": _plan_lines(plan),
        "timeline": [str(entry) for entry in entries],
        "fingerprint": found.fingerprint(),
    }


def _plan_lines(plan: Any) -> list[str]:
    from farandole.simulation.timeline import names_of

    workers = ", ".join(f"{count} {service}" for service, count in plan.workers.items() if count > 1)
    lines = [f"{plan.partitions} partitions; one worker of each service{', but ' + workers if workers else ''}"]
    letters = names_of(plan)
    for order, letter in ((order, letters[order.saga]) for order in plan.orders):
        wanted = ", ".join(f"{line.quantity} sku-{line.sku}" for line in order.lines)
        lines.append(
            f"order {letter} in {order.flow}: {wanted}; card {order.card}, to {order.ship_to!r}, "
            f"reserved for {order.reserve_for} s"
        )
    for each in plan.accounts:
        ends = f", closed at {each.closes} ms" if each.closes >= 0 else ""
        lines.append(f"account {each.name}: {each.amount} {each.currency}, overdraft {each.overdraft}{ends}")
    for each in plan.transfers:
        lines.append(
            f"transfer {letters[each.saga]}: {each.amount} from {each.source} to {each.target} within {each.within} s"
        )
    for each in plan.logins:
        entered = ", ".join(f"{'wrong' if off else 'right'} at {at} ms" for at, off in each.entered)
        lines.append(f"login {each.name} of {each.user} at {each.at} ms; codes: {entered or 'none'}")
    lines += [f"delivery {each.number}: {each.quantity} sku-{each.sku}" for each in plan.deliveries]
    lines += [f"{each.decision} fails for {letters.get(each.saga, each.saga)}" for each in plan.failures]
    lines += [f"an operator {'mends and ' if each.heals else ''}redrives at {each.at} ms" for each in plan.repairs]
    lines += ["at rest an operator leaves no dead letter"] if plan.mends else []
    return lines


def _replayed(file: Path, as_json: bool) -> int:
    import msgspec

    from farandole.simulation.plan import Plan
    from farandole.simulation.workers import Workshop

    try:
        kept = json.loads(file.read_text())
        plan, answers = msgspec.convert(kept["plan"], Plan), [int(answer) for answer in kept["answers"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"this is no story: {error}", where=str(file), mend="one that `farandole simulate --story FILE` has written"
        ) from error
    told = _told(Workshop(), plan, answers)
    if as_json:
        print(json.dumps(told), flush=True)
    else:
        _print_story(told, None)
    return 1 if told["violations"] else 0


# ---- for people


SUMMARY = {
    "happened": {
        "records": "records",
        "transactions": "transactions",
        "aborts": "aborted",
        "rebalances": "rebalances",
        "late_markers": "late markers",
    },
    "orders": {"completed": "completed", "cancelled": "cancelled", "refused": "refused", "parked": "parked"},
    "transfers": {
        "transfers completed": "completed",
        "transfers failed": "failed",
        "transfers failed and refunded": "refunded",
        "transfers overdue": "overdue",
        "transfers parked": "parked",
    },
    "logins": {
        "logins granted": "granted",
        "logins locked": "locked",
        "logins expired": "expired",
        "logins superseded": "superseded",
        "logins refused": "refused",
        "logins unanswered": "unanswered",
    },
    "workers": {
        "crash": "crashes",
        "kill": "kills",
        "zombie": "zombies",
        "pause": "pauses",
        "expire": "lost sessions",
        "leave": "handovers",
    },
    "kafka": {"unknown": "unknown outcomes", "fail": "failed requests", "timed_out": "transactions timed out"},
    "clients": {"nonsense": "records of nonsense", "dead_letters": "dead letters"},
    "operator": {"redrives": "redrives", "discards": "discards"},
}
"""Row → count → what it is called. A run in which nothing went wrong proves nothing: so it is told."""


def _print_summary(said: dict[str, Any]) -> None:
    print(f"{said['runs']:,} runs in {said['seconds']:.1f} s, {said['runs_per_second']:.0f} per second")
    for row, names in SUMMARY.items():
        print(f"  {row:<9}", ", ".join(f"{said['counts'].get(name, 0):,} {called}" for name, called in names.items()))
    if said["failed"]:
        print(f"{len(said['failed'])} failed: seeds {', '.join(str(each['seed']) for each in said['failed'][:20])}")
    else:
        print("every check holds" + (", so far" if said["interrupted"] else ""))


def _print_story(told: dict[str, Any], seed: int | None, options: str = "") -> None:
    print()
    for violation in told["violations"][:5]:
        print(f"{violation['check']}: {violation['what'].removeprefix(violation['check'] + ': ')}")
    if len(told["violations"]) > 5:
        print(f"… and {len(told['violations']) - 5} more")
    print()
    for line in told["plan"]:
        print(f"  {line}")
    print()
    for line in told["timeline"]:
        print(line)
    if seed is not None:
        print(f"\nreplay: farandole simulate --seed {seed}{options}")
