"""What may be chosen for a load, what does not fit together, and the plan that follows from it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from farandole.errors import ConfigError
from farandole.load.objective import USUAL, Objective
from farandole.load.orders import PIECES, Mix
from farandole.load.stages import MOST_RATE, Stage, burst, steady, with_warm_up
from farandole.system import checked_counts

Via = Literal["kafka", "http"]

RATE: Final = 100.0
MINUTES: Final = 1.0
STEP_SECONDS: Final = 30.0
FIRST_RATE: Final = 50.0
"""Orders per second with which a search begins."""

PROBE_WARM_UP: Final = 5.0
PROBE_SECONDS: Final = 20.0
"""Of each rate that is tried in a search: what is left out, and what counts."""

COLD_WARM_UP: Final = 20.0
"""Seconds that are left out of the first: a system that has just begun is slower than it will ever be again."""

CONFIRMING: Final = 2.0
"""So many times as long the rate that was found is tried again."""

SOAK_SHARE: Final = 0.8
"""Of the limit, at which a soak after the search runs."""

KEEP_SECONDS: Final = 60
"""FARANDOLE_KEEP_SECONDS of a system that is started for a load, unless it is set: rows of ended orders go after a
minute as they go after a week elsewhere, so that memory comes to a level within a run and what still grows is a leak.
"""

SOAK_CONFIRMED: Final = 0.2
"""Of a soak's minutes, through which the rate that was found is held first: a machine that others share is slower for
half a minute every few, and what only the time between can hold is no limit.
"""

SOAK_WARM_UP: Final = 90.0
"""Seconds of a soak that do not count: longer than rows of ended orders stay."""


@dataclass(frozen=True)
class Options:
    """What the command line may choose.

    against: nothing is started: the system is the one that the environment names
    stages:  those of the profile; empty: from rate, minutes, steps, or burst
    warm_up: seconds before the first stage that do not count; None: 10, and of a search's probes 5
    timeout: seconds for the last orders to end
    """

    rate: float | None = None
    minutes: float | None = None
    steps: tuple[float, ...] = ()
    step_seconds: float | None = None
    profile: str = ""
    stages: tuple[Stage, ...] = ()
    burst: int = 0
    find_limit: bool = False
    soak_minutes: float = 0.0
    highest: float = MOST_RATE
    precision: float = 0.05
    warm_up: float | None = None
    objective: Objective | None = None
    mix: Mix = field(default_factory=Mix)
    seed: int = 0
    via: Via = "kafka"
    against: bool = False
    order_url: str = ""
    workers: tuple[tuple[str, int], ...] = ()
    timeout: float = 120.0

    def check(self, services: Collection[str]) -> None:
        """ConfigError if they do not fit together."""
        checked_counts(dict(self.workers), services)
        ways = {
            "--steps": bool(self.steps),
            "--profile": bool(self.stages),
            "--burst": bool(self.burst),
            "--find-limit": self.find_limit,
        }
        chosen = [name for name, there in ways.items() if there]
        if len(chosen) > 1:
            raise ConfigError(f"{' and '.join(chosen)} are different loads", mend="choose one of them")
        self._check_unused(chosen[0] if chosen else "")
        if self.against and self.workers:
            raise ConfigError(
                "--workers is for a system that the load starts itself", where="--against", mend="leave one of them out"
            )
        if self.soak_minutes and not self.find_limit:
            raise ConfigError("a soak comes after a search", where="--soak-minutes", mend="with --find-limit")
        self.mix.check(over_http=self.via == "http")
        if self.find_limit:
            self._check_search()
        else:
            self.planned()

    def _check_search(self) -> None:
        """Its longest stages, at both ends: hours later is too late to refuse one."""
        for rate in (self.first_rate, self.highest):
            self.probe(rate, confirming=True, cold=True)
        if self.soak_minutes:
            self.soak(self.highest)

    def _check_unused(self, way: str) -> None:
        """A flag that would do nothing is a misunderstanding."""
        unused = {
            "--rate": self.rate is not None and way in ("--steps", "--profile", "--burst"),
            "--minutes": self.minutes is not None and way != "",
            "--step-seconds": self.step_seconds is not None and way not in ("--steps", "--find-limit"),
        }
        for name, there in unused.items():
            if there:
                raise ConfigError(f"{name} says nothing here", where=way or "a fixed rate", mend=f"leave out {name}")

    @property
    def wanted(self) -> Objective | None:
        """The objective, if there is one: a search always has one."""
        return self.objective or (Objective.parse(USUAL) if self.find_limit else None)

    @property
    def first_rate(self) -> float:
        """Of a search: never above the highest."""
        return min(_chosen(self.rate, FIRST_RATE), self.highest)

    def planned(self) -> list[Stage]:
        """The stages of a load that is no search."""
        if self.burst:
            return [burst(self.burst)]
        if self.stages:
            stages = list(self.stages)
        elif self.steps:
            seconds = _chosen(self.step_seconds, STEP_SECONDS)
            stages = [steady(f"{rate:g}/s", rate, seconds) for rate in self.steps]
        else:
            rate = _chosen(self.rate, RATE)
            stages = [steady(f"{rate:g}/s", rate, _chosen(self.minutes, MINUTES) * 60)]
        return with_warm_up(stages, 10.0 if self.warm_up is None else self.warm_up)

    def probe(self, rate: float, confirming: bool, cold: bool) -> list[Stage]:
        """The stages of one rate of a search; cold: of the first one."""
        seconds = _chosen(self.step_seconds, PROBE_SECONDS)
        if confirming:
            seconds = max(seconds * CONFIRMING, self.soak_minutes * 60 * SOAK_CONFIRMED)
        name = f"{rate:g}/s" + (" again" if confirming else "")
        warm_up = self.warm_up if self.warm_up is not None else COLD_WARM_UP if cold else PROBE_WARM_UP
        return with_warm_up([steady(name, rate, seconds)], warm_up)

    def soak(self, limit: float) -> list[Stage]:
        """The stages after the search."""
        rate = round(limit * SOAK_SHARE, 1)
        return with_warm_up([steady(f"soak {rate:g}/s", rate, self.soak_minutes * 60)], SOAK_WARM_UP)

    def to_dict(self) -> dict[str, Any]:
        """The settings that a comparison looks at."""
        return {
            "load": self.way,
            "via": self.via,
            "against": "a running system" if self.against else "a system of its own",
            "workers": dict(self.workers),
            "objective": str(self.wanted) if self.wanted else None,
            "seed": self.seed,
            "mix": self.mix.to_dict(),
            "warm_up": self.warm_up,
            **self._plan(),
        }

    def _plan(self) -> dict[str, Any]:
        """What `load` leaves out: a profile's name, say, is not its stages."""
        if not self.find_limit:
            return {
                "planned": [f"{each.name}: {each}{'' if each.measured else ', not counted'}" for each in self.planned()]
            }
        return {
            "rate": self.first_rate,
            "step_seconds": _chosen(self.step_seconds, PROBE_SECONDS),
            "precision": self.precision,
            "highest": self.highest,
        }

    @property
    def way(self) -> str:
        """The load in a few words."""
        if self.find_limit:
            then = f", then {self.soak_minutes:g} min at {SOAK_SHARE:.0%} of it" if self.soak_minutes else ""
            return f"search for the limit{then}"
        if self.stages:
            return f"profile {self.profile}"
        return ", ".join(str(stage) for stage in self.planned() if stage.measured)


def _chosen(wish: float | None, usual: float) -> float:
    """0 is a wish, too: one that is refused where it makes no load."""
    return usual if wish is None else wish


def plan_of(options: Options) -> dict[str, Any]:
    """For --dry-run: what would be done, and how much of it."""
    mix = options.mix
    stock = {"skus": mix.skus, "pieces_of_each": PIECES}
    if options.find_limit:
        first = options.probe(options.first_rate, confirming=False, cold=True)
        again = options.probe(options.first_rate, confirming=True, cold=False)
        return {
            **_common(options, stock),
            "stages": [stage.to_dict() for stage in first],
            "orders": None,
            "seconds": None,
            "note": "the rate doubles until it is not held, and then what is between is halved; "
            f"{sum(stage.seconds for stage in first):g} s for each rate, some ten of them; "
            f"{sum(stage.seconds for stage in again):g} s for the one that was found",
        }
    stages = options.planned()
    return {
        **_common(options, stock),
        "stages": [stage.to_dict() for stage in stages],
        "orders": sum(stage.orders for stage in stages),
        "seconds": sum(stage.seconds for stage in stages),
        "note": "",
    }


def _common(options: Options, stock: Mapping[str, int]) -> dict[str, Any]:
    return {**options.to_dict(), "stock": dict(stock)}


def parse_steps(text: str) -> tuple[float, ...]:
    """From `100,200,400`."""
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"not rates: {text}", where="--steps", mend="such as 100,200,400") from None


def existing(path: Path) -> Path:
    """A profile's path: as it is given, or the name of one in profiles/."""
    from farandole import config

    for found in (path, config.project_root() / "profiles" / f"{path}.yaml"):
        if found.is_file():
            return found
    raise ConfigError("there is no such profile", where=str(path), mend="a file, or a name in profiles/, such as ramp")
