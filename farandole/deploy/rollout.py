"""One service after the other: new, ready, caught up, then the next; and all of them back when one does not become so.

Invariant: when this returns or raises, the state says what runs. Interrupted anywhere, the same command goes on from
what runs: a service that runs the version already is looked at and left alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from farandole import config
from farandole.deploy.planning import Plan, Step
from farandole.deploy.state import Deployment
from farandole.deploy.target import NotWell, Target
from farandole.system import Progress

LOOK_EVERY: Final = 0.3

SLACK: Final = 1_000
"""Messages by which a service may be further behind than twice what it was: a quarter of a batch. While orders flow
no group is ever quite at the end.
"""

Lag = Callable[[str], int | None]
"""Service → messages that it has not committed; None where nobody can say."""


@dataclass
class Rolled:
    """What became of one service. seconds until all of its workers were ready, and until it had caught up."""

    service: str
    old: str
    new: str
    workers: int
    ready_after: float = 0.0
    caught_up_after: float = 0.0
    lag_before: int | None = None
    lag_after: int | None = None


@dataclass
class Outcome:
    """rolled: in order; failed: the service that did not become well, and why; taken_back: services, in order"""

    rolled: list[Rolled] = field(default_factory=list)
    failed: str = ""
    why: str = ""
    taken_back: list[str] = field(default_factory=list)
    not_taken_back: dict[str, str] = field(default_factory=dict)


def roll_out(
    plan: Plan, target: Target, deployment: Deployment, lag: Lag, caught_up_within: float, progress: Progress
) -> Outcome:
    """Carry out a plan's steps. A service that does not become well takes all that were rolled back with it."""
    outcome, begun = Outcome(), list[Step]()
    state = deployment.state
    # After a rollout that was interrupted, and went elsewhere, nobody knows what runs: all of it goes back, if need be.
    elsewhere = state.rolling not in ("", plan.version)
    if plan.verb == "rollback":
        deployment.goes_back(plan.version)
    state.target, state.namespace, state.rolling = plan.target, config.namespace(), plan.version
    deployment.save()
    for number, step in enumerate(plan.steps):
        progress(f"rolling: {step.service} to {step.new or 'nothing'}", number, len(plan.steps))
        begun.append(step)
        try:
            if step.new:
                outcome.rolled.append(_roll(step, target, lag, caught_up_within, progress))
                state.workers[step.service] = step.workers[1]
            else:
                target.remove(step.service)
                state.workers.pop(step.service, None)
            deployment.save()
        except NotWell as error:
            outcome.failed, outcome.why = step.service, str(error)
            break
    if outcome.failed:
        _take_back(plan.steps if elsewhere else begun, target, outcome, progress)
        if not outcome.not_taken_back:
            deployment.taken_back()
            state.workers |= {step.service: step.workers[0] if step.old else 0 for step in begun}
            state.workers = {service: count for service, count in state.workers.items() if count}
            deployment.save()
    else:
        deployment.arrived(plan.version)
    return outcome


def _roll(step: Step, target: Target, lag: Lag, within: float, progress: Progress) -> Rolled:
    before, began = lag(step.service) if step.old else None, time.monotonic()
    rolled = Rolled(step.service, step.old, step.new, step.workers[1], lag_before=before)
    target.roll(step.service, step.new, step.workers[1], progress)
    rolled.ready_after = time.monotonic() - began
    most = None if before is None else 2 * before + SLACK
    while (now := lag(step.service)) is not None and most is not None and now > most:
        progress(f"catching up: {step.service} {now:,} messages", 0, 0)
        if time.monotonic() - began > rolled.ready_after + within:
            raise NotWell(
                f"{step.service} of version {step.new} does not catch up: {now:,} messages behind after {within:.0f} s"
                f", {before:,} before"
            )
        time.sleep(LOOK_EVERY)
    rolled.lag_after, rolled.caught_up_after = now, time.monotonic() - began
    return rolled


def _take_back(begun: list[Step], target: Target, outcome: Outcome, progress: Progress) -> None:
    """The version before, in reverse; where there was none, nothing."""
    for step in reversed(begun):
        progress(f"taking back: {step.service} to {step.old or 'nothing'}", 0, 0)
        try:
            if step.old and step.workers[0]:
                target.roll(step.service, step.old, step.workers[0], progress)
            else:
                target.remove(step.service)
            outcome.taken_back.append(step.service)
        except NotWell as error:
            outcome.not_taken_back[step.service] = str(error)
