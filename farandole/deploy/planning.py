"""What a deployment would do, worked out before anything is changed.

Invariant: a plan changes nothing, and says all that stands against it at once, not one thing at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from farandole import config
from farandole.deploy.breaking import breaking
from farandole.deploy.manifest import Manifest, manifest_of
from farandole.deploy.ordering import Order, order_of
from farandole.deploy.state import Deployment
from farandole.deploy.version import commit_of, version_of
from farandole.errors import ConfigError, FarandoleError
from farandole.system import checked_counts
from farandole.topics import Problem, Topics


@dataclass(frozen=True)
class Step:
    """One service. old: the version that was deployed (empty: none); workers: how many it has and will have.
    new: the version to deploy (empty: the service goes).
    """

    service: str
    old: str
    new: str
    workers: tuple[int, int]
    why: str = ""


@dataclass
class Plan:
    """
    verb:    apply or rollback
    version: where it goes; commit: what git calls it
    current: where it comes from (empty: nothing is deployed)
    topics:  what is to be done on the cluster; schemas: files that were never deployed
    refused: why it cannot be done; then nothing is
    notes:   what else there is to know
    """

    verb: str
    target: str
    version: str
    commit: str
    current: str
    manifest: Manifest
    steps: list[Step] = field(default_factory=list)
    topics: list[str] = field(default_factory=list)
    schemas: list[str] = field(default_factory=list)
    refused: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        said = {name: each for name, each in vars(self).items() if name != "manifest"}
        steps = [asdict(each) for each in self.steps]
        return {**said, "steps": steps, "refused": [asdict(each) for each in self.refused]}


def plan_apply(
    deployment: Deployment, target: str, root: Path, *, workers: Mapping[str, int], ended: Collection[str] = ()
) -> Plan:
    """From what is deployed to what the project's directory holds. ConfigError if that cannot even be read."""
    state = deployment.state
    deployment.check_target(target)
    manifest = manifest_of(root)
    plan = Plan("apply", target, version_of(root), commit_of(root), state.current, manifest)
    plan.refused += [Problem(**each) for each in manifest.problems]
    for former in _deployed(deployment):
        found = breaking(former, manifest, ended=ended, known=state.known)
        plan.refused += [each for each in found if each not in plan.refused]
    plan.schemas = sorted(manifest.schemas.keys() - state.known.keys())
    _plan_topics(plan, root)
    _plan_steps(plan, deployment, workers)
    return plan


def plan_rollback(deployment: Deployment, target: str, *, to: str = "", ended: Collection[str] = ()) -> Plan:
    """Back to the version before, or to another one that is kept. ConfigError if there is none."""
    state = deployment.state
    deployment.check_target(target)
    version = to or state.before
    if not version:
        raise _nowhere(deployment)
    manifest = deployment.versions.manifest(version)
    plan = Plan("rollback", target, version, "", state.current, manifest)
    passed = [each for each in state.left if each not in (version, state.current)]
    if passed and not to:
        plan.notes.append(f"passed over, as they were rolled back from: {', '.join(passed)}; --to goes to one of them")
    for former in _deployed(deployment):
        # Schemas only ever grow: the older code is given what it does not have. What must fit is the flows.
        found = breaking(former, manifest, ended=ended, known={}, back=True)
        plan.refused += [each for each in found if each not in plan.refused]
    newer = sorted(state.known.keys() - manifest.schemas.keys())
    if newer:
        plan.notes.append(f"records of {', '.join(newer)} may have been written: the older code reads them as its own")
        if target != "local":
            plan.refused.append(
                Problem(
                    f"records of {', '.join(newer)} may have been written, which version {version} cannot read",
                    "schemas/",
                    "take the code back and leave schemas/ and events.py as they are, then: farandole deploy apply",
                )
            )
    _plan_steps(plan, deployment, {})
    plan.steps.reverse()
    return plan


def _nowhere(deployment: Deployment) -> ConfigError:
    state = deployment.state
    kept = [each for each in deployment.versions.all() if each != state.current]
    before = f"before {state.current} " if state.current else ""
    left = f"; rolled back from: {', '.join(state.left)}" if state.left else ""
    return ConfigError(
        f"there is no version {before}to go back to{left}",
        where=str(deployment.path),
        mend=f"farandole deploy rollback --to VERSION, of those that are kept: {', '.join(kept)}"
        if kept
        else "no other version is kept for --to: check out the commit that you want, then farandole deploy apply",
    )


def _deployed(deployment: Deployment) -> list[Manifest]:
    """Whatever may run now: the version that is deployed, and the one that a rollout was going to."""
    state = deployment.state
    versions = dict.fromkeys(filter(None, (state.current, state.rolling)))
    return [deployment.versions.manifest(each) for each in versions if deployment.versions.has(each)]


def _plan_topics(plan: Plan, root: Path) -> None:
    if plan.target != "local":
        plan.notes.append("topics and schemas are applied by the container `setup`")
        return
    try:
        made = Topics.load(root / "topics.yaml").plan(config.kafka_client_config(), config.namespace())
    except FarandoleError as error:
        plan.notes.append(f"topics were not compared: {error.what}")
        return
    plan.topics = [str(action) for action in made.actions]
    there = {problem.where for problem in plan.refused}
    plan.refused += [
        Problem(each.what, each.where, each.mend)
        for each in made.refused
        if not any(each.what.split()[0] in where for where in there)
    ]
    plan.notes += made.notes


def _plan_steps(plan: Plan, deployment: Deployment, workers: Mapping[str, int]) -> None:
    state, manifest = deployment.state, plan.manifest
    counts = checked_counts(workers, manifest.services)
    old = deployment.versions.manifest(state.current) if state.current else None
    order: Order = order_of(old, manifest) if plan.verb == "apply" or old is None else order_of(manifest, old)
    services = [each for each in order.services if each in manifest.services]
    services += [each for each in manifest.services if each not in services]
    for service in services:
        has = state.workers.get(service, 0)
        was = state.current if old and service in old.services else ""
        will = counts.get(service, has or 1)
        plan.steps.append(Step(service, was, plan.version, (has, will), order.reasons.get(service, "")))
    gone = [service for service in state.workers if service not in manifest.services]
    plan.steps += [Step(service, state.current, "", (state.workers[service], 0)) for service in gone]
    for cycle in order.cycles:
        plan.notes.append(
            f"{' and '.join(cycle)} publish something new for each other, so no order suits all: they go as "
            "topics.yaml names them. "
            + (
                "Older workers read the new schemas from the deployment"
                if plan.target == "local"
                else "An older worker takes what it does not know yet for a dead letter, which can be redriven"
            )
        )
    if state.rolling and state.rolling != state.current:
        plan.notes.append(f"a rollout to {state.rolling} was interrupted; this one goes on from what runs")
