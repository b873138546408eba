"""A load that never was: the figures of a report without a system."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any, cast

from farandole.config import project_root
from farandole.load.limit import search
from farandole.load.options import Options
from farandole.load.outcome import Outcome
from farandole.load.recorder import Played, Recorder
from farandole.load.run import Load
from farandole.load.sampler import Sample, Sampler
from farandole.load.summary import summary
from farandole.topics import Topics

AUDIT = {
    **dict.fromkeys(("accepted", "completed", "cancelled", "refused", "parked", "open"), 0),
    "ok": True,
    "findings_by_check": {},
    "notes": [],
    "read": {"records": 12_345},
}
PROCESSES = ("generator", "broker", "order[0]", "inventory[0]", "payment[0]", "payment[1]", "gateway", "mail")


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Pretended:
    """Plays stages against a system that takes `seconds` for an order."""

    def __init__(self, options: Options, seconds: float = 0.08, name: str = "load-a") -> None:
        self.options, self.seconds = options, seconds
        self.clock = Clock()
        self.recorder = Recorder(self.clock)
        self.samples: list[Sample] = []
        self.draw = random.Random(7)
        self.grows: dict[str, float] = {}
        """Process → times what its memory was when the last stage began, that it has half a minute later."""
        self.load: Any = SimpleNamespace(
            options=options,
            recorder=self.recorder,
            sampler=SimpleNamespace(samples=self.samples, gaps=0, between=self._between),
            problems=[],
            found=None,
            soak=[],
            drained=None,
            interrupted=False,
            settings={"keep_seconds": "60"},
            stage=SimpleNamespace(
                run=name, namespace=f"{name}-", topics=Topics.load(project_root() / "topics.yaml"), client_config={}
            ),
        )

    def _between(self, began: float, over: float) -> list[Sample]:
        return Sampler.between(
            cast(Sampler, SimpleNamespace(_recorder=self.recorder, samples=self.samples)), began, over
        )

    def play(self, stages: Any) -> list[Played]:
        played = []
        for stage in stages:
            each = self.recorder.begin(stage, self.clock.now)
            began = self.clock.now
            for number, due in enumerate(stage.dues()):
                self.clock.now = began + due + self.draw.uniform(0, 0.002)
                saga = b"o-%d-%d" % (len(self.recorder.played), number)
                self.recorder.placed(saga, began + due, each)
                took = self.seconds * self.draw.lognormvariate(0, 0.4)
                self.recorder.ended(saga, self.draw.choice(["completed"] * 9 + ["cancelled"]), began + due + took)
                if number % max(1, int(stage.rate)) == 0:
                    self._sample()
            self.clock.now = began + stage.seconds
            each.over = self.clock.now
            each.cpu = (0.1 * stage.seconds, 0.15 * stage.seconds)
            played.append(each)
        return played

    def _sample(self) -> None:
        at = self.clock.now - self.recorder.began
        self.samples.append(
            Sample(
                at=at,
                in_flight=self.draw.randrange(5, 20),
                lag={name: self.draw.randrange(200) for name in ("order", "inventory", "payment")},
                cpu={name: at * (0.05 + 0.03 * place) for place, name in enumerate(PROCESSES)},
                rss={name: int((80 + 20 * place) * 2**20 * self._grown(name)) for place, name in enumerate(PROCESSES)},
                busy=at * 1.9,
                stolen=0.0,
            )
        )

    def _grown(self, process: str) -> float:
        warm = self.clock.now > self.recorder.played[-1].began + 30
        return self.grows.get(process, 1.0) if warm else 1.0

    def outcome(self, audit: dict[str, Any] | None = AUDIT) -> Outcome:
        return summary(cast(Load, self.load), audit)


def outcome(seconds: float = 0.08, name: str = "load-a", audit: Any = AUDIT, **chosen: Any) -> Outcome:
    """Of a load that is no search."""
    options = Options(**{"rate": 40.0, "minutes": 0.5, "warm_up": 5.0, **chosen})
    pretended = Pretended(options, seconds, name)
    pretended.play(options.planned())
    return pretended.outcome(audit)


def found_limit(limit: float = 30.0, generator: float = 1_000.0) -> Outcome:
    """Of a search; generator: the rate above which it is the bottleneck."""
    from farandole.load.figures import stage_of
    from farandole.load.limit import Probe
    from farandole.load.objective import Objective

    options = Options(find_limit=True, step_seconds=10, objective=Objective.parse("p99<500ms"))
    pretended = Pretended(options)

    def probe(rate: float, confirming: bool) -> Probe:
        pretended.seconds = 0.05 if rate <= limit else 2.0
        row = stage_of(
            pretended.play(options.probe(rate, confirming, cold=False))[-1],
            pretended.recorder,
            pretended.load.sampler,
            options.wanted,
        )
        kept_up = rate <= generator
        figures = {"latency": row["latency"], "placed": row["placed"]}
        return Probe(rate, rate <= limit, valid=kept_up, kept_up=kept_up, figures=figures)

    pretended.load.found = search(probe, 10, 1_000, 0.1)
    return pretended.outcome()
