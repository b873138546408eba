"""Faults on demand: slow, failing, gone, answers lost.

Invariants:
- Which request meets which fault follows from the seed, the operation, the idempotency key and how often that key has
  asked since the plan was set; not from the clock or from other requests. So a run with the same seed repeats.
- Every fault ends: after `lasts` seconds, after `count` hits, or when it is lifted. (Those two bounds do depend on the
  clock and on other requests: leave them wide where a run has to repeat.)
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from math import exp
from statistics import NormalDist
from typing import Annotated, Any, NamedTuple

import msgspec

from farandole.errors import ConfigError

MAX_DELAY = 60.0
"""Seconds that one request waits at most, whatever the distribution says."""

MAX_KEYS = 100_000
"""Keys whose attempts are counted; past that the one counted longest begins anew."""

DAY = 86_400.0
MANY = 1_000_000_000

Rate = Annotated[float, msgspec.Meta(ge=0, le=1)]
Delay = Annotated[float, msgspec.Meta(ge=0, le=MAX_DELAY)]
Lasts = Annotated[float, msgspec.Meta(gt=0, le=DAY)]
Count = Annotated[int, msgspec.Meta(ge=1, le=MANY)]


class _Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """What the faults have in common.

    lasts:      seconds from when the plan was set
    count:      hits after which it is over
    operations: which operations it befalls; empty: all
    keys:       only idempotency keys that contain this
    """

    lasts: Lasts = DAY
    count: Count = MANY
    operations: tuple[str, ...] = ()
    keys: Annotated[str, msgspec.Meta(max_length=255)] = ""

    def befalls(self, operation: str, key: str) -> bool:
        return (not self.operations or operation in self.operations) and self.keys in key


class Latency(_Fault, frozen=True):
    """Seconds that a request is under way before anything is done. One of the three.

    fixed:     always this
    uniform:   between these two
    lognormal: median, and sigma of the logarithm
    """

    fixed: Delay | None = None
    uniform: tuple[Delay, Delay] | None = None
    lognormal: tuple[Delay, Annotated[float, msgspec.Meta(ge=0, le=5)]] | None = None

    def __post_init__(self) -> None:
        if sum(way is not None for way in (self.fixed, self.uniform, self.lognormal)) != 1:
            raise ValueError("latency takes one of fixed, uniform, lognormal")

    def seconds(self, draw: float) -> float:
        """draw: between 0 and 1"""
        if self.fixed is not None:
            return self.fixed
        if self.uniform is not None:
            low, high = self.uniform
            return low + (high - low) * draw
        assert self.lognormal is not None
        median, sigma = self.lognormal
        # exp of a normal draw, without 0 and 1, where it is infinite.
        normal = NormalDist().inv_cdf(min(max(draw, 1e-12), 1 - 1e-12))
        return float(min(median * exp(sigma * normal), MAX_DELAY))


class Errors(_Fault, frozen=True):
    """A share of the requests is answered with `status` and not performed."""

    rate: Rate
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 503

    def __post_init__(self) -> None:
        if self.status < 500 and self.status not in (408, 425, 429):
            raise ValueError("status is one that callers retry: 500 to 599, 408, 425 or 429")


class Lost(_Fault, frozen=True):
    """A share of the requests is performed, and then not answered.

    answer_after: None: the connection is closed; seconds: the answer comes that much later
    """

    rate: Rate
    answer_after: Delay | None = None


class Outage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """Nothing works for a time.

    lasts:  seconds; has to be said
    refuse: connections are refused; otherwise requests are answered 503
    """

    lasts: Lasts
    refuse: bool = False


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All that is to go wrong at one system, as JSON: the body of PUT /faults."""

    seed: int = 0
    latency: Latency | None = None
    errors: Errors | None = None
    lost: Lost | None = None
    outage: Outage | None = None


def plan_of(said: Any) -> Plan:
    """A plan from its JSON, parsed. ConfigError says which field is wrong."""
    try:
        return msgspec.convert(said, Plan)
    except msgspec.ValidationError as error:
        raise ConfigError(f"not a plan of faults: {error}", mend="docs/sandbox.md lists what a plan takes") from error


NO_FAULTS = Plan()


class Fate(NamedTuple):
    """What becomes of one request.

    delay:        seconds before anything is done
    status:       this is answered and nothing done; 0: it is performed
    lost:         performed, but not answered
    answer_after: seconds by which its answer is late
    """

    delay: float = 0.0
    status: int = 0
    lost: bool = False
    answer_after: float = 0.0


UNHARMED = Fate()


class Faults:
    """The plan in force. clock: seconds from anywhere."""

    def __init__(self, plan: Plan = NO_FAULTS, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.put(plan)

    def put(self, plan: Plan) -> None:
        """This plan and no other, from now."""
        self.plan, self._began = plan, self._clock()
        self.hits = dict.fromkeys(("latency", "errors", "lost", "outage"), 0)
        self._attempts: dict[str, int] = {}

    def meet(self, operation: str, key: str) -> Fate:
        plan = self.plan
        if not (plan.latency or plan.errors or plan.lost):
            return UNHARMED
        draw = self._draws(operation, key[:255])
        delay, status, lost, answer_after = 0.0, 0, False, 0.0
        if plan.latency and self._hits("latency", plan.latency, 1.0, draw, operation, key):
            delay = plan.latency.seconds(draw("delay"))
        if plan.errors and self._hits("errors", plan.errors, plan.errors.rate, draw, operation, key):
            status = plan.errors.status
        elif plan.lost and self._hits("lost", plan.lost, plan.lost.rate, draw, operation, key):
            lost, answer_after = plan.lost.answer_after is None, plan.lost.answer_after or 0.0
        return Fate(delay, status, lost, answer_after)

    def outage_left(self) -> float:
        """Seconds until the outage is over; 0 when there is none."""
        outage = self.plan.outage
        return max(0.0, self._began + outage.lasts - self._clock()) if outage else 0.0

    def out_of_order(self) -> bool:
        """Whether a request that is to be performed now meets the outage."""
        out = self.outage_left() > 0
        self.hits["outage"] += out
        return out

    def report(self) -> dict[str, Any]:
        """The plan in force, with the hits so far and the seconds left of each fault: the body of GET /faults."""
        said: dict[str, Any] = msgspec.to_builtins(self.plan)
        for name, hits in self.hits.items():
            if name in said:
                ends_in = max(0.0, self._began + getattr(self.plan, name).lasts - self._clock())
                said[name] |= {"hits": hits, "ends_in": round(ends_in, 3)}
        return said

    def _draws(self, operation: str, key: str) -> Callable[[str], float]:
        attempt = self._attempts.get(key, 0)
        if attempt == 0 and len(self._attempts) >= MAX_KEYS:
            del self._attempts[next(iter(self._attempts))]
        self._attempts[key] = attempt + 1

        def draw(what: str) -> float:
            text = f"{self.plan.seed}/{what}/{operation}/{attempt}/{key}".encode()
            return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big") / 2**56

        return draw

    def _hits(
        self, name: str, fault: _Fault, rate: float, draw: Callable[[str], float], operation: str, key: str
    ) -> bool:
        over = self.hits[name] >= fault.count or self._clock() - self._began >= fault.lasts
        if over or not fault.befalls(operation, key) or (rate < 1 and draw(name) >= rate):
            return False
        self.hits[name] += 1
        return True
