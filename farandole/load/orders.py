"""Which orders are placed: how many of which kind, how many lines, which skus, drawn from a seed.

Invariants: the same seed gives the same orders but for the run's name, which is part of every key; an order is made
when it is wanted, so a soak of hours keeps none; every sku that is asked for has been delivered, except the one that is
sold out on purpose.
"""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from agents.order import order_id
from events import OrderLine, PlaceOrder
from farandole.demo.plan import Kinds, command_of
from farandole.errors import ConfigError

POSSIBLE: Final = (
    Kinds.PLAIN,
    Kinds.SOLD_OUT,
    Kinds.DECLINED,
    Kinds.NOWHERE,
    Kinds.CANCELLED_AT_ONCE,
    Kinds.CANCELLED_SOON,
    Kinds.BAD,
)
"""What a load may consist of: all that needs no fault of the outside world."""

CANCEL_WITHIN: Final = 0.3
"""Seconds after which an order is cancelled at the latest that is cancelled soon."""

MOST_LINES: Final = 100
MOST_PIECES: Final = 1_000
MOST_SKUS: Final = 100_000
CUSTOMERS: Final = 10_000

PIECES: Final = 100_000_000
"""Delivered of each sku: more than any load takes."""


@dataclass(frozen=True)
class Between:
    """A whole number from `least` to `most`, each equally often."""

    least: int
    most: int

    @classmethod
    def parse(cls, text: str | int, largest: int, where: str) -> Between:
        """From `3` or `1-3`."""
        least, dash, most = str(text).partition("-")
        try:
            found = cls(int(least), int(most if dash else least))
        except ValueError:
            found = cls(0, 0)
        if not 1 <= found.least <= found.most <= largest:
            raise ConfigError(f"not a number or two: {text}", where=where, mend=f"such as 1 or 1-3, at most {largest}")
        return found

    def __str__(self) -> str:
        return f"{self.least}" if self.least == self.most else f"{self.least}-{self.most}"


@dataclass(frozen=True)
class Mix:
    """What the orders are like.

    kinds: kind → share of all orders; what is left is plain
    skus:  how many there are
    zipf:  exponent of their popularity: the nth sku is wanted n ** -zipf as often as the first; 0: all alike
    """

    kinds: Mapping[Kinds, float] = field(default_factory=dict)
    lines: Between = Between(1, 1)
    quantity: Between = Between(1, 1)
    skus: int = 1_000
    zipf: float = 0.0

    def check(self, over_http: bool) -> None:
        if not 1 <= self.skus <= MOST_SKUS:
            raise ConfigError(f"{self.skus} skus", where="--skus", mend=f"1 to {MOST_SKUS}")
        if not 0 <= self.zipf <= 10:
            raise ConfigError(f"an exponent of {self.zipf:g}", where="--zipf", mend="0 (all alike) to 10; usual is 1.1")
        if over_http and self.kinds.get(Kinds.BAD):
            raise ConfigError("HTTP lets no bad order in", where="--mix", mend="leave bad out, or use --via kafka")

    def to_dict(self) -> dict[str, object]:
        return {
            "kinds": {kind.value: share for kind, share in self.kinds.items()},
            "lines": str(self.lines),
            "quantity": str(self.quantity),
            "skus": self.skus,
            "zipf": self.zipf,
        }


def kinds_of(shares: Mapping[str, float], where: str) -> dict[Kinds, float]:
    """ConfigError if there is no such kind, or the shares are more than all."""
    possible = {kind.value: kind for kind in POSSIBLE}
    for name, share in shares.items():
        if name not in possible:
            raise ConfigError(f"no such kind of order: {name}", where=where, mend=f"one of {', '.join(possible)}")
        if not 0 <= share <= 1:
            raise ConfigError(f"{share:g} is no share", where=where, mend="0 to 1, such as declined=0.03")
    if sum(share for name, share in shares.items() if name != Kinds.PLAIN) > 1 + 1e-9:
        raise ConfigError("the shares are more than all orders together", where=where, mend="at most 1 in sum")
    return {possible[name]: share for name, share in shares.items() if name != Kinds.PLAIN and share}


def parse_mix(text: str) -> dict[Kinds, float]:
    """From `declined=0.03,sold_out=0.02`."""
    shares = {}
    for part in filter(None, text.split(",")):
        name, _, share = part.partition("=")
        try:
            shares[name.strip()] = float(share)
        except ValueError:
            raise ConfigError(f"not a share: {part}", where="--mix", mend="such as declined=0.03") from None
    return kinds_of(shares, "--mix")


@dataclass(frozen=True)
class Order:
    """One that is to be placed. cancel_after: seconds after it was placed; None: it is not cancelled"""

    saga: str
    kind: Kinds
    command: PlaceOrder
    cancel_after: float | None


class Orders:
    """Makes orders, one after the other.

    run:    part of every idempotency key
    prefix: of every sku, where other runs' stock is about
    """

    def __init__(self, mix: Mix, run: str, seed: int = 0, prefix: str = "") -> None:
        self.mix, self._run = mix, run
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)
        self.skus = [f"{prefix}sku-{number:05}" for number in range(1, mix.skus + 1)]
        self._none = f"{prefix}sold-out"
        self._popularity = list(itertools.accumulate(rank**-mix.zipf for rank in range(1, mix.skus + 1)))
        self._kinds = list(mix.kinds)
        self._shares = list(itertools.accumulate(mix.kinds.values()))

    def stock(self) -> Iterator[tuple[str, int]]:
        """(sku, pieces) that have to be delivered beforehand."""
        return ((sku, PIECES) for sku in self.skus)

    def next(self) -> Order:
        number, draw = next(self._numbers), self._random
        kind = self._kind()
        customer, key = f"customer-{draw.randrange(CUSTOMERS)}", f"{self._run}/{number}"
        address = f"{draw.randrange(1, 99)} Harbour Street, Hamburg"
        command = command_of(kind, customer, key, self._lines(kind), address, str(number))
        return Order(order_id(customer, key), kind, command, self._cancel_after(kind))

    def _kind(self) -> Kinds:
        if not self._shares:
            return Kinds.PLAIN
        at = bisect_left(self._shares, self._random.random())
        return self._kinds[at] if at < len(self._kinds) else Kinds.PLAIN

    def _lines(self, kind: Kinds) -> tuple[OrderLine, ...]:
        draw, mix = self._random, self.mix
        skus = [self._sku() for _ in range(draw.randint(mix.lines.least, mix.lines.most))]
        if kind is Kinds.SOLD_OUT:
            skus[-1] = self._none
        return tuple(
            OrderLine(
                line=number,
                sku=sku,
                quantity=draw.randint(mix.quantity.least, mix.quantity.most),
                price=draw.randint(1, 120) * 50,
            )
            for number, sku in enumerate(skus, 1)
        )

    def _sku(self) -> str:
        place = bisect_left(self._popularity, self._random.random() * self._popularity[-1])
        return self.skus[min(place, len(self.skus) - 1)]

    def _cancel_after(self, kind: Kinds) -> float | None:
        if kind is Kinds.CANCELLED_SOON:
            return self._random.uniform(0.01, CANCEL_WITHIN)
        return 0.0 if kind is Kinds.CANCELLED_AT_ONCE else None
