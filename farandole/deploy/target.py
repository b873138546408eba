"""What a rollout needs of a target: bring one service to a version, worker by worker, and say what runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from farandole.deploy.planning import Plan
from farandole.errors import FarandoleError
from farandole.system import Progress
from farandole.topics import Problem


class NotWell(FarandoleError):
    """A worker of the new version did not become well."""


@dataclass(frozen=True)
class Instance:
    """One worker. uptime in seconds; state: what else there is to say."""

    name: str
    service: str
    version: str
    pid: int | None
    uptime: float
    restarts: int
    ready: bool
    address: str = ""
    state: str = ""


class Target(Protocol):
    name: str

    def check(self) -> None:
        """FarandoleError if the target cannot be used."""

    def refusals(self, plan: Plan) -> list[Problem]:
        """What workers would lack here, as far as it is known before they start."""

    def prepare(self, plan: Plan, progress: Progress) -> None:
        """All that comes before the first worker: the version, topics, schemas. May be done again."""

    def roll(self, service: str, version: str, workers: int, progress: Progress) -> None:
        """Return when so many workers of the service run this version and are ready, and no others.

        NotWell if one does not become ready. What runs already is left as it is.
        """

    def remove(self, service: str) -> None:
        """Return when the service has no worker any more."""

    def instances(self) -> list[Instance]: ...
