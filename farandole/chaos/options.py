"""What may be chosen for a run, and what does not fit together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from farandole import config
from farandole.chaos import fault
from farandole.chaos.fault import Fault
from farandole.chaos.flows import Flows
from farandole.errors import ConfigError
from farandole.system import MOST_WORKERS

WARM_UP: Final = 15.0
"""Seconds of load before the first fault: what a calm system does is measured, too."""

MOST_ORDERS: Final = 10_000_000
MOST_FAULTS: Final = 100_000
MOST_PARTITIONS: Final = 60


@dataclass(frozen=True)
class Options:
    """What the command line may choose.

    orders, faults, minutes: the least of each; the load goes on until all three are there
    faults:  None: as many as fit, one every few seconds
    rate:    orders per second; of several flows each has the same share of it
    workers: of each service; where there is one, faults do not spare it
    at_once: faults at the same time, at the most
    partitions: of each topic. A transaction's cost, on three brokers that share a machine, is in the partitions that it
             touches: a third more than workers is enough for one more to join
    """

    orders: int = 2_000
    faults: int | None = None
    minutes: float = 0.0
    seed: int = 0
    rate: float = 20.0
    workers: int = 2
    at_once: int = 3
    partitions: int = 3
    only: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()
    flows: Flows = field(default_factory=Flows)

    def check(self) -> None:
        if not 1 <= self.orders <= MOST_ORDERS:
            raise ConfigError(f"{self.orders} orders cannot be placed", where="--orders", mend=f"1 to {MOST_ORDERS}")
        if self.faults is not None and not 0 <= self.faults <= MOST_FAULTS:
            raise ConfigError(f"{self.faults} faults cannot be made", where="--faults", mend=f"0 to {MOST_FAULTS}")
        if not 1 <= self.workers <= MOST_WORKERS // 2:
            raise ConfigError(
                f"{self.workers} workers of each service will not do",
                where="--workers",
                mend=f"1 to {MOST_WORKERS // 2}; where one alone is killed, nobody takes over",
            )
        if not self.workers <= self.partitions <= MOST_PARTITIONS:
            raise ConfigError(
                f"{self.partitions} partitions are not for {self.workers} workers",
                where="--partitions",
                mend=f"{self.workers} to {MOST_PARTITIONS}",
            )

    @property
    def seconds(self) -> float:
        """How long orders are placed, at the least."""
        return max(self.orders / self.rate, self.minutes * 60)

    @property
    def wanted(self) -> int:
        """Faults."""
        return max(1, round((self.seconds - WARM_UP) / 5)) if self.faults is None else self.faults


def kinds(options: Options) -> dict[str, type[Fault]]:
    """The kinds of fault to choose from: those that have something to break in these flows."""
    folders = [fault.OWN, *options.plugins]
    drop_in = config.project_root() / fault.DROP_IN
    if drop_in.is_dir():
        folders.append(drop_in)
    found = fault.load(folders)
    for name in options.only:
        if name not in found:
            raise ConfigError(f"no fault is called {name}", where="--only", mend=f"one of {', '.join(sorted(found))}")
    chosen = {name: kind for name, kind in found.items() if not options.only or name in options.only}
    there = options.flows.callers
    fit = {
        name: kind for name, kind in chosen.items() if not kind.outside or any(each in there for each in kind.outside)
    }
    if missing := sorted(set(options.only) - fit.keys()):
        outside = " nor ".join(found[missing[0]].outside)
        raise ConfigError(
            f"{missing[0]} has nothing to break: {', '.join(options.flows.keys)} calls neither {outside}",
            where="--only",
            mend="leave it out, or add a --flow that does",
        )
    return fit
