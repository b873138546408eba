"""`apply` and `rollback` from beginning to end: plan, prepare, roll, measure, report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from farandole import config
from farandole.config import ClientConfig
from farandole.demo.stage import load_codec
from farandole.deploy import health, rollout
from farandole.deploy.planning import Plan, plan_apply, plan_rollback
from farandole.deploy.rollout import Outcome
from farandole.deploy.state import Deployment
from farandole.deploy.target import Target
from farandole.deploy.waits import Longest, Waits
from farandole.errors import ConfigError
from farandole.system import Progress

TARGETS: Final = ("local", "compose")

SETTLES: Final = 3.0
"""Seconds after the last service for orders that waited to go on, before it is said how long they did."""


@dataclass(frozen=True)
class Options:
    """
    ready_within:     seconds for a worker to be ready
    caught_up_within: seconds for a service to catch up
    """

    target: str = "local"
    workers: Mapping[str, int] | None = None
    ports: Mapping[str, int] | None = None
    ended: Collection[str] = ()
    ready_within: float = 90.0
    caught_up_within: float = 60.0


@dataclass
class Report:
    plan: Plan
    outcome: Outcome
    waited: Longest | None
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.outcome.failed

    def to_dict(self) -> dict[str, Any]:
        return {
            "ok": self.ok,
            "plan": self.plan.to_dict(),
            **asdict(self.outcome),
            "waited": asdict(self.waited) if self.waited else None,
            "seconds": round(self.seconds, 2),
        }


def target_of(options: Options, deployment: Deployment, root: Path) -> Target:
    if options.target not in TARGETS:
        raise ConfigError(f"no such target: {options.target}", where="--target", mend=" or ".join(TARGETS))
    if options.target == "compose":
        from farandole.deploy.compose import ComposeTarget

        return ComposeTarget(deployment, root, options.ready_within)
    from farandole.deploy.local import LocalTarget

    return LocalTarget(deployment, root, options.ready_within)


def make_plan(deployment: Deployment, root: Path, options: Options) -> Plan:
    plan = plan_apply(deployment, options.target, root, workers=options.workers or {}, ended=options.ended)
    plan.refused += target_of(options, deployment, root).refusals(plan)
    return plan


def make_rollback(deployment: Deployment, options: Options, to: str) -> Plan:
    plan = plan_rollback(deployment, options.target, to=to, ended=options.ended)
    plan.refused += target_of(options, deployment, config.project_root()).refusals(plan)
    return plan


def carry_out(plan: Plan, deployment: Deployment, root: Path, options: Options, progress: Progress) -> Report:
    """To be called while the deployment's lock is held. ConfigError if the plan is refused."""
    if plan.refused:
        first = plan.refused[0]
        raise ConfigError(first.what, where=first.where, mend=first.mend)
    began = time.monotonic()
    target = target_of(options, deployment, root)
    target.check()
    for service, port in (options.ports or {}).items():
        for index in range(plan_workers(plan, service)):
            deployment.state.ports[f"{service}-{index}"] = port + index
    if plan.verb == "apply" and deployment.versions.keep(root, plan.manifest) != plan.version:
        raise ConfigError("the project changed after it had been planned", where=str(root), mend="run it again")
    deployment.state.target, deployment.state.namespace = plan.target, config.namespace()
    target.prepare(plan, progress)
    client_config = _client_config(options.target)

    def lag(service: str) -> int | None:
        if client_config is None:
            return None
        return health.lags(client_config, config.namespace(), plan.manifest, [service])[service]

    with _watched(plan, client_config) as waits:
        outcome = rollout.roll_out(plan, target, deployment, lag, options.caught_up_within, progress)
        progress("looking how long orders waited", 0, 0)
        waited = None
        if waits is not None:
            time.sleep(SETTLES)
            waited = waits.end()
    return Report(plan, outcome, waited, time.monotonic() - began)


def plan_workers(plan: Plan, service: str) -> int:
    counts = {step.service: step.workers[1] for step in plan.steps}
    if service not in counts:
        raise ConfigError(f"no such service: {service}", where="--http", mend=f"one of {', '.join(counts)}")
    return counts[service]


def _client_config(target: str) -> ClientConfig | None:
    """The cluster, if it can be asked. Containers have one of their own, which only the environment may name."""
    if target == "local" or config.setting("KAFKA_BOOTSTRAP_SERVERS"):
        return config.kafka_client_config()
    return None


@contextlib.contextmanager
def _watched(plan: Plan, client_config: ClientConfig | None) -> Iterator[Waits | None]:
    """Nobody waits for a system that is brought up for the first time."""
    if client_config is None or not plan.current:
        yield None
        return
    waits = Waits(
        client_config, config.namespace(), plan.manifest, load_codec(config.project_root(), config.namespace())
    )
    waits.start()
    try:
        yield waits
    finally:
        waits.halt()
