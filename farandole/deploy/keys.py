"""Whether login's workers will have their key (farandole/passcodes.py), and the same one; and whether that for their
figures, if there is one, is any: said before any worker is started.

Workers of this machine have the environment of the command that started their supervisor, and the project's .env for
what is empty there; the environment of a later command counts for nothing, and need not have the key.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial

from farandole import config, passcodes
from farandole.deploy.planning import Plan
from farandole.errors import ConfigError
from farandole.topics import Problem

KEY = passcodes.KEY


def local_problems(plan: Plan, theirs: Mapping[str, str] | None) -> list[Problem]:
    """theirs: the environment that workers get from a supervisor that runs; None: it will be this command's."""
    if not _workers(plan):
        return []
    here = config.setting(KEY)
    if theirs is None:
        return _fault(here) + _fault_of_figures(os.environ)
    key = config.setting(KEY, environment=theirs)
    if _fault(key):
        return [
            Problem(
                f"the supervisor of the workers that run was started without a good {KEY}",
                "environment",
                "set it, then: farandole deploy stop, and farandole deploy apply",
            )
        ]
    if os.environ.get(KEY) and here != key:
        return [
            Problem(
                f"the workers that run have another {KEY}",
                "environment",
                "leave it unset to go on with theirs; or farandole deploy stop, and again: codes on their way are lost",
            )
        ]
    return _fault_of_figures(theirs)


def compose_problems(plan: Plan) -> list[Problem]:
    """A container draws its own key if it gets none: that will do for one."""
    key = config.setting(KEY)
    of_figures = _fault_of_figures(os.environ) if _workers(plan) else []
    return [*(_fault(key) if key or _workers(plan) > 1 else []), *of_figures]


def _workers(plan: Plan) -> int:
    return sum(step.workers[1] for step in plan.steps if step.service == passcodes.SERVICE)


def _fault(key: str) -> list[Problem]:
    return _said_by(partial(passcodes.check, key))


def _fault_of_figures(environment: Mapping[str, str]) -> list[Problem]:
    return _said_by(partial(config.metrics_key, environment))


def _said_by(check: Callable[[], object]) -> list[Problem]:
    try:
        check()
    except ConfigError as error:
        return [Problem(error.what, error.where, error.mend)]
    return []
