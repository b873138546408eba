"""Plans, outcomes and what runs, as tables for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from farandole import config
from farandole.deploy import health
from farandole.deploy.planning import Plan, Step
from farandole.deploy.run import Options, Report, target_of
from farandole.deploy.state import Deployment
from farandole.deploy.waits import Longest
from farandole.errors import FarandoleError

MOST_LINES: Final = 5


def print_plan(plan: Plan, console: Console) -> None:
    commit = f" (commit {plan.commit})" if plan.commit else ""
    console.print(f"{plan.verb} {plan.version}{commit} to {plan.target}, where {plan.current or 'nothing'} runs")
    for action in plan.topics[:MOST_LINES]:
        console.print(f"  topics: {action}", markup=False)
    if len(plan.topics) > MOST_LINES:
        console.print(f"  topics: and {len(plan.topics) - MOST_LINES} more: farandole topics plan")
    if plan.schemas:
        console.print(f"  schemas: {len(plan.schemas)} new: {', '.join(plan.schemas[:MOST_LINES])}", end="")
        console.print(" …" if len(plan.schemas) > MOST_LINES else "")
    table = Table("service", "from", "to", "workers", "why then", box=None, pad_edge=False, header_style="bold")
    for step in plan.steps:
        table.add_row(step.service, step.old or "-", step.new or "-", _workers(step), step.why)
    console.print(table)
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)


def _workers(step: Step) -> str:
    old, new = step.workers
    return str(new) if old == new else f"{old} → {new}"


def print_report(report: Report, console: Console) -> None:
    outcome = report.outcome
    columns = "service", "from", "to", "workers", "ready after", "caught up after", "behind", "before"
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for each in outcome.rolled:
        table.add_row(
            each.service,
            each.old or "-",
            each.new,
            str(each.workers),
            f"{each.ready_after:.1f} s",
            f"{each.caught_up_after:.1f} s",
            "" if each.lag_after is None else f"{each.lag_after:,}",
            "" if each.lag_before is None else f"{each.lag_before:,}",
        )
    console.print("", table)
    if report.waited is not None:
        console.print(waited_in_words(report.waited), markup=False)
    if report.ok:
        console.print(f"{report.plan.target} runs {report.plan.version}, after {report.seconds:.0f} s")
        return
    console.print(f"\n{outcome.failed} did not become well:\n{outcome.why}", markup=False)
    if outcome.taken_back:
        console.print(f"taken back to {report.plan.current or 'nothing'}: {', '.join(outcome.taken_back)}")
    for service, why in outcome.not_taken_back.items():
        console.print(f"{service} could not be taken back:\n{why}", markup=False)


def waited_in_words(waited: Longest) -> str:
    if waited.seconds is None:
        return "no order was under way"
    usual = "" if waited.usual is None else f" (in the seconds before: {waited.usual:.1f} s)"
    some = "" if waited.complete else "; not all records could be read"
    return (
        f"the longest that an order waited: {waited.seconds:.1f} s{usual}, {waited.saga} after {waited.after}; "
        f"{waited.orders:,} orders were under way, {waited.open:,} are open still{some}"
    )


def status_of(options: Options) -> dict[str, Any]:
    """Everything there is to say of what runs."""
    deployment = Deployment()
    state = deployment.state
    target = target_of(options, deployment, config.project_root())
    instances = target.instances()
    lag: dict[str, int] = {}
    unknown = ""
    if state.current and deployment.versions.has(state.current):
        manifest = deployment.versions.manifest(state.current)
        try:
            lag = health.lags(config.kafka_client_config(), config.namespace(), manifest, manifest.services)
        except FarandoleError as error:
            unknown = error.what
    versions = {each.version for each in instances}
    return {
        "target": state.target or options.target,
        "version": state.current,
        "rolling": state.rolling,
        "former": state.former,
        "rolled_back_from": state.left,
        "well": bool(instances) and all(each.ready for each in instances) and versions == {state.current},
        "workers": [asdict(each) for each in instances],
        "lag": lag,
        "lag_unknown": unknown,
    }


def print_status(found: dict[str, Any], console: Console) -> None:
    if not found["workers"]:
        console.print("nothing runs" + (f"; {found['version']} was deployed last" if found["version"] else ""))
        return
    columns = "worker", "version", "pid", "up", "restarts", "ready", "behind", "HTTP", ""
    table = Table(*columns, box=None, pad_edge=False, header_style="bold")
    for each in found["workers"]:
        table.add_row(
            each["name"],
            each["version"],
            str(each["pid"] or "-"),
            f"{each['uptime']:,.0f} s",
            str(each["restarts"]),
            "yes" if each["ready"] else "no",
            f"{found['lag'][each['service']]:,}" if each["service"] in found["lag"] else "",
            each["address"],
            each["state"],
        )
    console.print(table)
    if found["rolling"]:
        back = found["version"] in found["rolled_back_from"] and found["rolling"] in found["former"]
        verb = "rollback" if back else "apply"
        console.print(
            f"a rollout to {found['rolling']} goes on, or was interrupted: farandole deploy {verb} goes on from here"
        )
    if found["lag_unknown"]:
        console.print(f"how far they are behind is not known: {found['lag_unknown']}", markup=False)
