"""What the demo is going to do: every order, what is wrong with it, and how it may therefore end.

Invariants: the same seed and settings give the same plan, except for the name of the run, which is part of every
order's id; each order has a kind, and the kind says which endings are possible. An order that ends otherwise is a
failure of the system, whatever an audit of the books would say.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final, Literal

from events import OrderLine, PlaceOrder
from farandole.demo.flows import FLOW

OrderId = Callable[[str, str], str]
"""Customer and idempotency key → order id."""

Way = Literal["http", "kafka"]

UNANSWERED_MARK, UNBOOKED_MARK = "o-aaa", "o-bbb"
"""How the ids of orders begin that the gateway or the carrier will not answer: the sandbox's faults choose by key."""

MOST_MARKED: Final = 20
"""Orders of each of those kinds: an id with a mark is found by trying."""

COMPLETED, REFUSED, PARKED = "completed", "refused", "parked"
SHORTAGE, DECLINE, NO_ANSWER = "inventory.rejected", "payment.declined", "payment.failed"
NO_CARRIER, STOPPED = "shipping.failed", "shipping.cancelled"
"""The causes of a cancelled order."""

OVERDUE: Final = "orchestrator.timers.answer_overdue"
"""One more where there is an orchestrator."""

TIMEOUTS: Final = frozenset({NO_ANSWER, NO_CARRIER})
"""What the outside world may do to any order: not answer in time."""


@dataclass(frozen=True)
class Kind:
    """A sort of order.

    title: for people
    share: of all orders, when failures are wanted; at least one order is of each kind
    ends:  how such an order may end: `completed`, `refused`, `parked`, or the cause for which it was cancelled
    """

    title: str
    share: float
    ends: frozenset[str]


class Kinds(StrEnum):
    PLAIN = "plain"
    SCARCE = "scarce"
    SOLD_OUT = "sold_out"
    DECLINED = "declined"
    NOWHERE = "nowhere"
    CANCELLED_AT_ONCE = "cancelled_at_once"
    CANCELLED_SOON = "cancelled_soon"
    CANCELLED_LATE = "cancelled_late"
    EXPIRING = "expiring"
    UNANSWERED = "unanswered"
    UNBOOKED = "unbooked"
    BROKEN = "broken"
    BAD = "bad"


MARKS: Final = {Kinds.UNANSWERED: UNANSWERED_MARK, Kinds.UNBOOKED: UNBOOKED_MARK}

_CANCELLED = frozenset({COMPLETED, STOPPED, *TIMEOUTS})

KINDS: Final[dict[Kinds, Kind]] = {
    Kinds.PLAIN: Kind("nothing is wrong", 1.0, frozenset({COMPLETED, *TIMEOUTS})),
    Kinds.SCARCE: Kind("many want the last units", 0.04, frozenset({COMPLETED, SHORTAGE, *TIMEOUTS})),
    Kinds.SOLD_OUT: Kind("one line is sold out", 0.02, frozenset({SHORTAGE})),
    Kinds.DECLINED: Kind("the card is declined", 0.03, frozenset({DECLINE, NO_ANSWER})),
    Kinds.NOWHERE: Kind("the carrier refuses the address", 0.02, frozenset({NO_CARRIER, NO_ANSWER})),
    Kinds.CANCELLED_AT_ONCE: Kind("cancelled as soon as it was placed", 0.02, _CANCELLED),
    Kinds.CANCELLED_SOON: Kind("cancelled while it is under way", 0.02, _CANCELLED),
    Kinds.CANCELLED_LATE: Kind("cancelled when it is dispatched", 0.01, frozenset({COMPLETED, *TIMEOUTS})),
    Kinds.EXPIRING: Kind("its reservation runs out", 0.01, _CANCELLED | {SHORTAGE}),
    Kinds.UNANSWERED: Kind("the gateway never answers", 0.004, frozenset({NO_ANSWER})),
    Kinds.UNBOOKED: Kind("the carrier's answers are lost", 0.004, frozenset({NO_CARRIER, NO_ANSWER})),
    Kinds.BROKEN: Kind("its handler keeps failing", 0.0, frozenset({PARKED})),
    Kinds.BAD: Kind("a bad order", 0.01, frozenset({REFUSED})),
}

_OR_OVERDUE: Final = {
    name: kind.ends | {OVERDUE}
    for name, kind in KINDS.items()
    if name in (Kinds.SOLD_OUT, Kinds.EXPIRING) or NO_ANSWER in kind.ends
}

ENDS_ELSEWHERE: Final[dict[str, dict[Kinds, frozenset[str]]]] = {
    "order-pay-first": {
        Kinds.SOLD_OUT: frozenset({SHORTAGE, NO_ANSWER}),
        Kinds.BROKEN: frozenset({PARKED, NO_ANSWER}),
    },
    "order-orchestrated": _OR_OVERDUE,
    "order-hybrid": _OR_OVERDUE,
}
"""Flow name → kinds that may end otherwise there. Who pays first may meet a silent gateway before anything else;
an orchestrator waits for no answer for ever."""


def ends_of(kind: Kinds, flow: str) -> frozenset[str]:
    """How an order of this kind may end in the flow with this key."""
    return ENDS_ELSEWHERE.get(flow.rpartition("/")[0], {}).get(kind, KINDS[kind].ends)


AGAIN_SHARE, CONFLICT_SHARE, BAD_HTTP_SHARE = 0.02, 0.01, 0.01
"""Of all orders: sent twice; another body under the same key; so wrong that HTTP refuses them."""

HOT_SHARE: Final = 0.2
"""Of all lines: the one sku that everybody wants."""

OUTAGE_AT: Final = 0.5
"""Of all orders, when the gateway goes away; the expiring orders come right then."""


@dataclass(frozen=True)
class Placement:
    """One order to be placed.

    cancel_after: seconds after it was accepted; None: not at all, or when something happens (`cancelled_late`)
    again:        send it twice
    conflict:     send another body under its key, and its own in another flow
    flow:         key of the flow in which it is placed
    """

    kind: Kinds
    order: str
    command: PlaceOrder
    way: Way
    cancel_after: float | None = None
    again: bool = False
    conflict: bool = False
    flow: str = FLOW


@dataclass(frozen=True)
class Plan:
    """All that is to be done, in order.

    placements: orders; those of kind `bad` are not counted among the orders that were asked for
    rejected:   bodies of HTTP requests that are to be answered with 422
    stock:      sku → pieces that are delivered beforehand
    outage_at:  number of the placement at which the gateway goes away; None: it does not
    """

    run: str
    placements: tuple[Placement, ...]
    rejected: tuple[bytes, ...] = ()
    stock: dict[str, int] = field(default_factory=dict)
    outage_at: int | None = None

    @property
    def broken(self) -> str | None:
        """The order whose handler keeps failing."""
        return next((each.order for each in self.placements if each.kind is Kinds.BROKEN), None)


@dataclass(frozen=True)
class Wishes:
    """What the plan is made from.

    run:      name of the run; part of every idempotency key
    orders:   well-formed orders, of whatever kind
    prefix:   of every sku, where other runs' stock is about
    possible: kinds that can be brought about; the others need faults that are out of reach
    flows:    keys of the flows in which orders are placed, mixed
    """

    run: str
    orders: int
    seed: int = 0
    failures: bool = True
    ways: tuple[Way, ...] = ("http", "kafka")
    prefix: str = ""
    possible: frozenset[Kinds] = frozenset(Kinds)
    flows: tuple[str, ...] = (FLOW,)


def command_of(
    kind: Kinds, customer: str, key: str, lines: tuple[OrderLine, ...], address: str, card: str
) -> PlaceOrder:
    """The request for an order of this kind: what is wrong with it stands in the address, the card or the currency."""
    return PlaceOrder(
        customer=customer,
        idempotency_key=key,
        lines=lines,
        currency="euros" if kind is Kinds.BAD else "EUR",
        email=f"{customer}@example.org",
        ship_to="1 Utopia Square, Nowhere" if kind is Kinds.NOWHERE else address,
        card_token=f"tok_declined_{card}" if kind is Kinds.DECLINED else f"tok_{card}",
        reserve_for=1 if kind is Kinds.EXPIRING else 900,
    )


def make(wishes: Wishes, order_id: OrderId) -> Plan:
    """The plan for these wishes."""
    return _Maker(wishes, order_id).plan()


class _Maker:
    def __init__(self, wishes: Wishes, order_id: OrderId) -> None:
        self._wishes, self._order_id = wishes, order_id
        self._random = random.Random(wishes.seed)
        self._flows = random.Random(f"flows {wishes.seed}")  # of its own: the same orders, in whatever flow
        self._usual = [f"{wishes.prefix}tea-{number:02}" for number in range(40)]
        self._hot, self._none = f"{wishes.prefix}kettle", f"{wishes.prefix}sold-out"
        self._scarce = [f"{wishes.prefix}last-units-{number}" for number in range(3)]

    def plan(self) -> Plan:
        kinds = self._kinds()
        placements = [self._placement(number, kind) for number, kind in enumerate(kinds, 1)]
        failures = self._wishes.failures
        if failures:
            self._repeat(placements)
        rejected = tuple(self._rejected()) if failures and "http" in self._wishes.ways else ()
        return Plan(
            run=self._wishes.run,
            placements=tuple(placements),
            rejected=rejected,
            stock=self._stock(placements),
            outage_at=self._outage_at(kinds),
        )

    def _outage_at(self, kinds: list[Kinds]) -> int | None:
        if not self._wishes.failures or Kinds.UNANSWERED not in self._wishes.possible:
            return None
        return kinds.index(Kinds.EXPIRING) if Kinds.EXPIRING in kinds else int(len(kinds) * OUTAGE_AT)

    # ---- which kinds, in which order

    def _kinds(self) -> list[Kinds]:
        """A kind for each order. The slow ones come early, the expiring ones when the outage begins."""
        orders, possible = self._wishes.orders, self._wishes.possible
        if not self._wishes.failures:
            return [Kinds.PLAIN] * orders
        wrong = [kind for kind in Kinds if kind in possible and kind is not Kinds.PLAIN]
        counts = {kind: self._count(KINDS[kind].share) for kind in wrong}
        counts |= {kind: min(counts[kind], MOST_MARKED) for kind in MARKS if kind in counts}
        bad = counts.pop(Kinds.BAD, 0)
        # A demo of three orders has no room for all of it: what there is room for comes in the order of the list above.
        wanted: list[Kinds] = [kind for kind, count in counts.items() for _ in range(count)]
        early = {Kinds.UNANSWERED, Kinds.UNBOOKED}
        first: list[Kinds] = [kind for kind in wanted if kind in early]
        outage: list[Kinds] = [kind for kind in wanted if kind is Kinds.EXPIRING]
        mixed: list[Kinds] = [kind for kind in wanted if kind not in early and kind is not Kinds.EXPIRING]
        mixed = mixed[: max(0, orders - len(first) - len(outage))]
        mixed += [Kinds.PLAIN] * (orders - len(first) - len(outage) - len(mixed)) + [Kinds.BAD] * bad
        self._random.shuffle(mixed)
        return self._insert(self._insert(mixed, first, 0.05), outage, OUTAGE_AT)[: orders + bad]

    def _count(self, share: float) -> int:
        return max(1, round(self._wishes.orders * share))

    @staticmethod
    def _insert(kinds: list[Kinds], some: list[Kinds], at: float) -> list[Kinds]:
        """Put `some` in from this fraction on, every other place."""
        place = int(len(kinds) * at)
        for number, kind in enumerate(some):
            kinds.insert(min(len(kinds), place + 1 + 2 * number), kind)
        return kinds

    # ---- one order

    def _placement(self, number: int, kind: Kinds) -> Placement:
        draw = self._random
        way: Way = draw.choice(self._wishes.ways)
        address = f"{draw.randrange(1, 99)} Harbour Street, Hamburg"
        customer = f"customer-{draw.randrange(200)}"
        key, order = self._key(number, kind, customer)
        if kind is Kinds.BAD:
            way = "kafka"  # HTTP does not let it in
        return Placement(
            kind=kind,
            order=order,
            command=command_of(kind, customer, key, self._lines(kind), address, f"{number}"),
            way=way,
            cancel_after=self._cancel_after(kind),
            flow=self._flows.choice(self._wishes.flows),
        )

    def _cancel_after(self, kind: Kinds) -> float | None:
        if kind is Kinds.CANCELLED_SOON:
            return self._random.uniform(0.01, 0.3)
        return 0.0 if kind is Kinds.CANCELLED_AT_ONCE else None

    def _key(self, number: int, kind: Kinds, customer: str) -> tuple[str, str]:
        """Idempotency key and order id, with the mark of its kind and no other's: a mark is one id in four thousand."""
        mark = MARKS.get(kind, "")
        for attempt in range(100_000):
            key = f"{self._wishes.run}/{number}" + (f".{attempt}" if attempt else "")
            order = self._order_id(customer, key)
            found = next((each for each in MARKS.values() if order.startswith(each)), "")
            if found == mark:
                return key, order
        raise AssertionError("no order id has this mark: have ids another form now?")

    def _lines(self, kind: Kinds) -> tuple[OrderLine, ...]:
        count = self._random.choice((1, 1, 1, 2, 2, 3))
        skus = [self._sku() for _ in range(count)]
        if kind is Kinds.SCARCE:
            skus[0] = self._random.choice(self._scarce)
        if kind is Kinds.SOLD_OUT:
            skus.append(self._none)
        draw = self._random.randint
        return tuple(
            OrderLine(line=number, sku=sku, quantity=draw(1, 3), price=draw(1, 120) * 50)
            for number, sku in enumerate(skus, 1)
        )

    def _sku(self) -> str:
        return self._hot if self._random.random() < HOT_SHARE else self._random.choice(self._usual)

    def _repeat(self, placements: list[Placement]) -> None:
        """Some plain orders are sent twice, and some get another body under their key."""
        plain = [number for number, each in enumerate(placements) if each.kind is Kinds.PLAIN]
        over_http = [number for number in plain if placements[number].way == "http"]
        for number in self._random.sample(plain, min(len(plain), self._count(AGAIN_SHARE))):
            placements[number] = replace(placements[number], again=True)
        for number in self._random.sample(over_http, min(len(over_http), self._count(CONFLICT_SHARE))):
            placements[number] = replace(placements[number], conflict=True)

    def _rejected(self) -> Iterator[bytes]:
        """What HTTP must not let in."""
        bodies = [b"{}", b"not json", b'{"customer": 7}', b'{"customer": "c", "lines": []}', b"[1, 2]", b"\xff\xfe"]
        for number in range(self._count(BAD_HTTP_SHARE)):
            yield bodies[number % len(bodies)]

    # ---- what has to be there for it

    def _stock(self, placements: list[Placement]) -> dict[str, int]:
        """Enough of everything but of what is scarce; there, half of what is wanted."""
        wanted: dict[str, int] = dict.fromkeys([self._hot, *self._usual], 10)
        for placement in placements:
            if placement.kind is not Kinds.BAD:
                for line in placement.command.lines:
                    wanted[line.sku] = wanted.get(line.sku, 0) + line.quantity
        wanted.pop(self._none, None)
        return {sku: max(1, pieces // 2) if sku in self._scarce else pieces for sku, pieces in wanted.items()}
