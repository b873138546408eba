"""What else the machine did: CPU that others took while something was measured, and its load average.

CPU of others is counted as `farandole load` counts it (farandole.load.figures): all that the machine spent, less what
the processes of this run did.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any, Final

from farandole.load.sampler import Pids, Sample, cpu_times, machine_cpu

MUCH: Final = 0.1
"""Part of all cores. Who takes more is in the figures."""


class Machine:
    """counted: the processes whose CPU is a figure; beside: more processes of this run"""

    def __init__(self, counted: Pids, beside: Pids) -> None:
        self.counted, self._beside = counted, beside

    def look(self) -> Sample:
        busy, stolen = machine_cpu()
        ours = {**self._beside(), **self.counted()}
        return Sample(time.monotonic(), 0, {}, cpu_times(ours), {}, busy, stolen)


def averages() -> list[float]:
    return [round(each, 2) for each in os.getloadavg()]


def load(before: Sequence[float], others: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """before: the load averages then; others: what was measured → cores that others took, each time"""
    return {
        "cores": os.cpu_count() or 1,
        "before": list(before),
        "after": averages(),
        "others": {
            what: {"mean": round(mean(each), 2), "most": round(max(each), 2)} for what, each in others.items() if each
        },
    }


def warnings(found: Mapping[str, Any]) -> Iterator[str]:
    """Of what `load` gives: where others took more than MUCH, plainly."""
    for what, each in found["others"].items():
        if each["mean"] > MUCH * found["cores"]:
            yield (
                f"others on this machine took {each['mean']:.2f} of its {found['cores']} cores during {what}: "
                "take its times and its CPU with care"
            )
