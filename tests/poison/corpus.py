"""Every form of bad message that we know of, and what has to become of each.

A *form* spoils a good record in one way; it is tried on one good record for each pair of a topic and a service that
hears it (`BASES`). A *case* is a record with a fault that only its own kind can have (`cases`).

What becomes of a record, at each service that hears its topic:

    a dead letter   one, with the reason class that the form names, and its words in the error's text
    ignored         rightly: the service binds no decision to events of this type. It hears whole topics, and what is
                    not for it is not even decoded, so it cannot tell a good one from a bad one. Only what begins like
                    no event of the topic at all (`Judged.BY_ALL`) is a dead letter of all who hear it
    refused         by a decision, which is an outcome and no fault: the customer gets an answer

Each record has a saga of its own, so that none is a dead letter merely because it follows another.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

import events
from agents.order import order_id
from agents.transfers import transfer_id
from events import OrderLine, PlaceOrder
from farandole import config
from farandole.codec import Codec
from farandole.event import Event, Meta
from farandole.flow import load_flows
from farandole.partitioner import partition_of
from farandole.topics import Topics

PARTITIONS = 6
NO_TIME = -1
YEAR_1970, YEAR_2100 = 1_000, 4_102_444_800_000
HUGE = 900_000
"""Bytes: nearly what a broker takes by default."""

Headers = list[tuple[str, bytes | None]]


class Judged(enum.Enum):
    BY_ALL = "every service that hears the topic"
    BY_BOUND = "the services that bind a decision to the event; the others rightly ignore it"
    IN_FLOW = "those that bind one in the record's flow: to the others it is as if it were not there"


class Record(NamedTuple):
    """What a producer sends. timestamp: its own claim, milliseconds; partition None: where the key belongs."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = []  # noqa: RUF012
    timestamp: int = NO_TIME
    partition: int | None = None


class Good(NamedTuple):
    """A good record, and what it was made of."""

    record: Record
    event: Event
    saga: str
    flow: str


@dataclass(frozen=True)
class Form:
    """One way to spoil a record. reason None: it is not spoiled, and must be handled like any other.

    suits: whether a good record can be spoiled like this; parks: its saga can be told, and is parked (in a
    topic whose key is not the saga, a spoilt record's saga cannot be believed)
    """

    name: str
    reason: str | None
    says: str
    judged: Judged
    spoil: Callable[[Good], Record]
    suits: Callable[[Good], bool] = lambda good: True
    parks: bool = False


@dataclass(frozen=True)
class Entry:
    """A record of the corpus. dead: service → reason class of its one dead letter; everybody else has none."""

    name: str
    record: Record
    saga: str
    dead: Mapping[str, str]
    says: str = ""
    parks: bool = False
    why_ignored: str = ""
    publishes: Mapping[str, str] = field(default_factory=dict)
    """Service → event that it answers with instead of a dead letter."""


# ---- what there is


@functools.cache
def codec() -> Codec:
    return Codec.load(config.project_root() / "schemas", events)


@functools.cache
def key_of() -> dict[str, str]:
    return Topics.load(config.project_root() / "topics.yaml").keys()


@functools.cache
def bindings() -> dict[str, set[type[Event]]]:
    """Service → event classes that it has a decision for, in whatever flow."""
    found: dict[str, set[type[Event]]] = {}
    for flow in load_flows().values():
        for service, event in flow.bindings:
            found.setdefault(service, set()).add(event)
    return found


def topic_of(event: type[Event]) -> str:
    return codec().type_of(event).topic


def hearers(topic: str) -> set[str]:
    return {service for service, bound in bindings().items() if any(topic_of(event) == topic for event in bound)}


def binders(event: type[Event]) -> set[str]:
    return {service for service, bound in bindings().items() if event in bound}


def binders_in(flow: str, event: type[Event]) -> set[str]:
    return {service for service, bound in load_flows()[flow].bindings if bound is event}


def make(event: Event, saga: str, flow: str = "order/1", id: str = "poison/1") -> Good:
    """The event as its rightful producer would write it."""
    kind = codec().type_of(type(event))
    key = saga if key_of()[kind.topic] == "saga" else getattr(event, key_of()[kind.topic])
    value = codec().encode(event, Meta(id=id, saga=saga, flow=flow, cause=""))
    return Good(Record(kind.topic, key.encode(), value), event, saga, flow)


LINE = OrderLine(line=1, sku="sku-1", quantity=1, price=500)


def place_order(key: str, **changes: Any) -> tuple[str, PlaceOrder]:
    """(saga, command)"""
    command = PlaceOrder(
        customer="anna",
        idempotency_key=key,
        lines=(LINE,),
        currency="EUR",
        email="anna@example.org",
        ship_to="1 Main Street",
        card_token="tok_visible_nowhere",
    )
    return order_id("anna", key), msgspec.structs.replace(command, **changes)


def start_transfer(key: str) -> tuple[str, events.StartTransfer]:
    """(saga, command)"""
    command = events.StartTransfer(
        customer="anna", idempotency_key=key, source="anna", target="ben", amount=5, currency="EUR", within=30
    )
    return transfer_id("anna", key), command


def placed() -> events.OrderPlaced:
    return events.OrderPlaced(
        customer="anna", lines=(LINE,), amount=500, currency="EUR", ship_to="x", card_token="t", reserve_for=900
    )


def reserved(**changes: Any) -> events.InventoryReserved:
    event = events.InventoryReserved(amount=500, currency="EUR", card_token="tok", ship_to="x")
    return msgspec.structs.replace(event, **changes)


ORCHESTRATED = "order-orchestrated/1"

ANSWER: dict[str, Any] = {"outcome": "accepted", "reference": "r-1", "reason": ""}

BASES: dict[tuple[str, str], tuple[Event, str]] = {
    ("order.commands", "order"): (place_order("base")[1], "order/1"),
    ("order", "inventory"): (placed(), "order/1"),
    ("order", "shipping"): (events.OrderCancelRequested(), "order/1"),
    ("order", "notification"): (events.OrderRefused(customer="anna", email="a@b.de", reason="no"), "order/1"),
    ("stock", "inventory"): (events.StockReceived(sku="sku-1", quantity=1), "restock/1"),
    ("inventory", "inventory"): (events.InventoryLineHeld(line=1), "order/1"),
    ("inventory", "order"): (events.InventoryCommitted(), "order/1"),
    ("inventory", "payment"): (reserved(), "order/1"),
    ("inventory", "shipping"): (events.InventoryExpiryRequested(), "order/1"),
    ("inventory.timers", "inventory"): (events.ReservationExpired(), "order/1"),
    ("payment.commands", "payment"): (events.WriteOff(reason="gone"), "order/1"),
    ("payment.calls", "payment"): (events.AuthoriseAnswered(**ANSWER), "order/1"),
    ("payment", "order"): (events.PaymentCaptured(amount=500, currency="EUR", reference="r"), "order/1"),
    ("payment", "inventory"): (events.PaymentDeclined(reason="no"), "order/1"),
    ("payment", "shipping"): (events.PaymentAuthorised(ship_to="x", reference="r"), "order/1"),
    ("shipping", "order"): (events.ShippingFailed(reason="no"), "order/1"),
    ("shipping", "inventory"): (events.ShippingCancelled(asked_by="clock"), "order/1"),
    ("shipping", "payment"): (events.ShippingDispatched(tracking="t"), "order/1"),
    ("shipping.calls", "shipping"): (events.BookAnswered(**ANSWER), "order/1"),
    ("notification.calls", "notification"): (events.MailAnswered(**ANSWER), "order/1"),
    ("order", "payment"): (placed(), "order-pay-first/1"),
    ("order", "orchestrator"): (placed(), ORCHESTRATED),
    ("inventory", "orchestrator"): (reserved(), ORCHESTRATED),
    ("payment", "orchestrator"): (events.PaymentAuthorised(ship_to="x", reference="r"), ORCHESTRATED),
    ("shipping", "orchestrator"): (events.ShippingFailed(reason="no"), ORCHESTRATED),
    ("notification", "orchestrator"): (
        events.NotificationSent(template="completed", outcome="delivered", reason=""),
        ORCHESTRATED,
    ),
    ("orchestrator.timers", "orchestrator"): (events.AnswerOverdue(step="reserve-stock"), ORCHESTRATED),
    ("orchestrator", "shipping"): (events.OrchestratorConfirmed(ship_to="x"), "order-hybrid/1"),
    ("order.closing.commands", "order"): (events.CompleteOrder(written_off=False), ORCHESTRATED),
    ("inventory.commands", "inventory"): (events.CommitStock(), ORCHESTRATED),
    ("shipping.commands", "shipping"): (events.DispatchShipment(ship_to="x"), ORCHESTRATED),
    ("notification.commands", "notification"): (
        events.Notify(email="a@example.org", template="completed"),
        ORCHESTRATED,
    ),
    ("transfers.commands", "transfers"): (start_transfer("base")[1], "transfer/1"),
    ("transfers.timers", "transfers"): (events.AnswerDue(step="debit"), "transfer/1"),
    ("accounts", "transfers"): (events.AccountsDebited(), "transfer/1"),
    ("accounts.commands", "accounts"): (events.OpenAccount(account="anna", currency="EUR"), "account/1"),
    ("login.commands", "login"): (events.BeginLogin(user="anna", seed="s", digest="d"), "login/1"),
    ("login.verifications", "login"): (events.VerifyCode(attempt="a", proof="p"), "login/1"),
    ("login.timers", "login"): (events.LookupExpired(), "login/1"),
    ("login.calls", "login"): (events.DeliverAnswered(**ANSWER), "login/1"),
    ("directory", "login"): (events.DirectoryLookedUp(user="anna", known=True, address="a@b.de"), "login/1"),
    ("directory.commands", "directory"): (events.LookUpUser(user="anna"), "login/1"),
    ("directory.users", "directory"): (events.UserRegistered(user="anna", address="a@b.de"), "register/1"),
}
"""(topic, service that hears it) → an event that this service has a decision for, and its flow."""

EXTERNAL = (
    *("order.commands", "payment.commands", "transfers.commands", "accounts.commands"),
    *("login.commands", "login.verifications", "directory.users"),
)
"""Topics to which clients write. (`stock` too: stock.received.)"""


# ---- the forms


def value(change: Callable[[bytes], bytes | None]) -> Callable[[Good], Record]:
    def spoil(good: Good) -> Record:
        assert good.record.value is not None
        return good.record._replace(value=change(good.record.value))

    return spoil


def other(**changes: Any) -> Callable[[Good], Record]:
    return lambda good: good.record._replace(**changes)


def _envelope_end(good: Good) -> int:
    """Where the metadata ends and the body begins."""
    assert good.record.value is not None
    return good.record.value.index(good.flow.encode()) + len(good.flow) + 1


def _absurd_count(good: Good) -> Record:
    """Where the lines' count stands: 2^62 items."""
    assert good.record.value is not None
    at = good.record.value.index(b"\x02\x02\x0asku-1")  # one line, its number 1, its sku
    return good.record._replace(value=good.record.value[:at] + b"\xfe" + b"\xff" * 7 + b"\x7f" + good.record.value[at:])


def _with_text(text: bytes) -> Callable[[Good], Record]:
    """The first string of the metadata, which is the id, replaced by these bytes."""

    def spoil(good: Good) -> Record:
        assert good.record.value is not None
        return good.record._replace(value=good.record.value.replace(b"poison/1", text, 1))

    return spoil


def _is_external(good: Good) -> bool:
    return good.record.topic in EXTERNAL or isinstance(good.event, events.StockReceived)


def _elsewhere(good: Good) -> Record:
    assert good.record.key is not None
    return good.record._replace(partition=(partition_of(good.record.key.decode(), PARTITIONS) + 1) % PARTITIONS)


def _saga(name: str) -> Callable[[Good], Record]:
    return lambda good: make(good.event, name, good.flow).record


def _row(good: Good) -> bytes:
    return codec().type_of(events.Hold).encode_row(events.Hold(phase="held", quantity=1))


def _another_type(good: Good) -> Record:
    """An event of a topic that is none of those that anybody hears with this one."""
    foreign = events.Posted if good.record.topic != "payment.ledger" else events.OrderPlaced
    event = events.Posted(memo="void", currency="EUR", entries=()) if foreign is events.Posted else placed()
    return good.record._replace(value=codec().encode(event, Meta("poison/1", good.saga, good.flow, "")))


UNREADABLE, UNKNOWN = "unreadable", "unknown-type"

FORMS = (
    # Nothing of the right kind at all: whoever hears the topic cannot tell for whom it was meant.
    Form("empty", UNREADABLE, "0 bytes that are not in", Judged.BY_ALL, other(value=b"")),
    Form("tombstone", UNREADABLE, "the record has no value", Judged.BY_ALL, other(value=None)),
    Form("one byte", UNREADABLE, "1 bytes that are not in", Judged.BY_ALL, other(value=b"\0")),
    Form("half a prefix", UNREADABLE, "not in Confluent's wire format", Judged.BY_ALL, value(lambda v: v[:4])),
    Form("wrong magic byte", UNREADABLE, "wire format", Judged.BY_ALL, value(lambda v: b"\1" + v[1:])),
    Form("text", UNREADABLE, "wire format", Judged.BY_ALL, other(value=b"hello, world")),
    Form("JSON", UNREADABLE, "wire format", Judged.BY_ALL, other(value=b'{"order": "o-1", "quantity": 1}')),
    Form("huge junk", UNREADABLE, "wire format", Judged.BY_ALL, other(value=b"x" * HUGE)),
    Form("zeros", UNKNOWN, "schema id 0 is no", Judged.BY_ALL, other(value=bytes(64))),
    Form("unknown schema id", UNKNOWN, "schema id 1000000 is no", Judged.BY_ALL,
         value(lambda v: b"\0\0\x0f\x42\x40" + v[5:]), parks=True),
    Form("valid Avro of another topic's type", UNKNOWN, "is no event of this topic", Judged.BY_ALL, _another_type,
         parks=True),
    Form("a table's row", UNKNOWN, "is no event of this topic", Judged.BY_ALL,
         lambda g: g.record._replace(value=_row(g))),
    # Of the right kind, and broken.
    Form("prefix alone", UNREADABLE, "", Judged.BY_BOUND, value(lambda v: v[:5])),
    Form("truncated in its metadata", UNREADABLE, "", Judged.BY_BOUND, value(lambda v: v[:9])),
    Form("truncated", UNREADABLE, "", Judged.BY_BOUND, value(lambda v: v[:-1]),
         suits=lambda g: len(g.event.__struct_fields__) > 1, parks=True),
    Form("too long", UNREADABLE, "1 bytes are left over", Judged.BY_BOUND, value(lambda v: v + b"\0"), parks=True),
    Form("huge tail", UNREADABLE, "bytes are left over", Judged.BY_BOUND, value(lambda v: v + bytes(HUGE)), parks=True),
    Form("metadata that is not UTF-8", UNREADABLE, "not UTF-8", Judged.BY_BOUND,
         _with_text(b"\xff\xfe" * 4)),
    Form("a body that is not UTF-8", UNREADABLE, "not UTF-8", Judged.BY_BOUND,
         value(lambda v: v.replace(b"EUR", b"\xff\xfe\xfd")),
         suits=lambda g: b"EUR" in (g.record.value or b""), parks=True),
    Form("an array of 2^62 items", UNREADABLE, "more than there are bytes", Judged.BY_BOUND, _absurd_count,
         suits=lambda g: hasattr(g.event, "lines"), parks=True),
    Form("a length of 2^62", UNREADABLE, "", Judged.BY_BOUND,
         value(lambda v: v[:5] + b"\xfe" + b"\xff" * 7 + b"\x7f" + v[6:])),
    Form("a negative length", UNREADABLE, "negative length", Judged.BY_BOUND, value(lambda v: v[:5] + b"\x01" + v[6:])),
    Form("a number of eleven bytes", UNREADABLE, "more than 10 bytes", Judged.BY_BOUND,
         value(lambda v: v[:5] + b"\x80" * 10 + v[5:])),
    # Readable, and not to be acted upon.
    Form("wrong key", "wrong-key", "content says", Judged.IN_FLOW, other(key=b"somebody-else")),
    Form("no key", "wrong-key", "key None", Judged.IN_FLOW, other(key=None)),
    Form("empty key", "wrong-key", "key b''", Judged.IN_FLOW, other(key=b"")),
    Form("a key that is not UTF-8", "wrong-key", "content says", Judged.IN_FLOW, other(key=b"\xff\xfe")),
    Form("unknown flow", "unknown-flow", "order/99", Judged.BY_BOUND,
         lambda g: make(g.event, g.saga, "order/99").record, parks=True),
    Form("a flow without a name", "unknown-flow", "", Judged.BY_BOUND, lambda g: make(g.event, g.saga, "").record,
         parks=True),
    Form("wrong partition", "wrong-partition", "murmur2", Judged.BY_BOUND, _elsewhere, suits=_is_external),
    Form("a saga without a name", "bad-saga", "0 characters", Judged.BY_BOUND, _saga(""), suits=_is_external),
    Form("a saga with a huge name", "bad-saga", "200000 characters", Judged.BY_BOUND, _saga("s" * 200_000),
         suits=_is_external),
    # Headers and times are no business of ours: they come along, and they mend and spoil nothing.
    Form("bad, with many headers", UNREADABLE, "", Judged.BY_ALL,
         other(value=b"?", headers=[(f"h{n}", b"v" * 100) for n in range(500)])),
    Form("bad, with a header without a value", UNREADABLE, "", Judged.BY_ALL, other(value=b"?", headers=[("h", None)])),
    Form("bad, a dead letter already", UNREADABLE, "", Judged.BY_ALL,
         other(value=b"?", headers=[("__dlq.reason", b"forged"), ("__dlq.errors.offset", b"not a number")])),
    Form("bad, dated 1970", UNREADABLE, "", Judged.BY_ALL, other(value=b"?", timestamp=YEAR_1970)),
    Form("bad, dated 2100", UNREADABLE, "", Judged.BY_ALL, other(value=b"?", timestamp=YEAR_2100)),
)  # fmt: skip


# ---- the cases


def cases() -> Iterator[Entry]:
    """Records that are legal Avro, under the right key, and ask for what must not be."""
    for quantity in (0, -1, -(1 << 31)):
        event = events.StockReceived(sku="sku-1", quantity=quantity)
        yield _case(f"a delivery of {quantity}", make(event, f"delivery-of-{quantity}", "restock/1"), "inventory",
                    "decision-failed", "at least one piece")  # fmt: skip
        hold = events.StockHoldRequested(sku="sku-1", line=1, quantity=quantity)
        yield _case(f"a hold of {quantity}", make(hold, f"hold-of-{quantity}"), "inventory",
                    "decision-failed", "at least one piece")  # fmt: skip
    sku = events.StockReceived(sku="s" * 100_000, quantity=1)
    yield _case("a sku with a huge name", make(sku, "delivery-huge-sku", "restock/1"), "inventory",
                "decision-failed", "at most 64")  # fmt: skip
    for amount in (-1, (1 << 53) + 1, (1 << 63) - 1, -(1 << 63)):
        good = make(reserved(amount=amount), f"amount-{amount}")
        yield _case(f"an amount of {amount}", good, "payment", "decision-failed", "minor units")
    for times in (200_000, 400_000):  # control characters grow sixfold in a call's JSON
        good = make(reserved(card_token="\1" * times), f"large-{times}")
        yield _case(f"a call of {6 * times} bytes", good, "payment", "output-too-large", "the call authorise of")
    good = make(reserved(ship_to="x" * 1_020_000), "large-row")
    yield _case("a row of a megabyte", good, "payment", "output-too-large", "refuses what this message causes")
    saga, command = place_order("huge id")
    good = make(command, saga, id="i" * 999_000)
    yield _case("metadata as large as a record", good, "order", "output-too-large", "OrderPlaced of")
    yield from _refused_commands()


def _case(name: str, good: Good, service: str, reason: str, says: str) -> Entry:
    return Entry(name, good.record, good.saga, {service: reason}, says, parks=True)


def _refused_commands() -> Iterator[Entry]:
    """The order service answers bad requests with order.refused: an outcome, not a fault."""
    line: dict[str, Any] = {"line": 1, "sku": "sku-1", "quantity": 1, "price": 500}
    bad_lines: dict[str, dict[str, Any]] = {
        "a negative quantity": {**line, "quantity": -5},
        "a quantity of zero": {**line, "quantity": 0},
        "a negative price": {**line, "price": -1},
        "an amount beyond 64 bits": {**line, "quantity": 1_000_000, "price": 1 << 62},
        "an amount beyond 53 bits": {**line, "quantity": 1_000_000, "price": 1 << 40},
        "the largest numbers that there are": {
            "line": (1 << 31) - 1, "sku": "x", "quantity": (1 << 31) - 1, "price": (1 << 63) - 1},
        "a sku that is a sentence": {**line, "sku": "two words"},
    }  # fmt: skip
    changes: dict[str, dict[str, Any]] = {name: {"lines": (OrderLine(**bad),)} for name, bad in bad_lines.items()}
    changes |= {
        "no lines": {"lines": ()},
        "ten thousand lines": {"lines": (LINE,) * 10_000},
        "control characters": {"ship_to": "\0\x1b[2J"},
        "a huge address": {"ship_to": "x" * HUGE},
        "a time out of time": {"reserve_for": -(1 << 31), "asked_at": -(1 << 63)},
    }
    for name, change in changes.items():
        saga, command = place_order(f"refused: {name}", **change)
        yield Entry(
            name, make(command, saga).record, saga, {}, publishes={"order": "OrderRefused"},
            why_ignored="it is refused, and the customer told",
        )  # fmt: skip


# ---- all of it


def corpus() -> list[Entry]:
    """Every form on every pair of topic and service, and every case. The order is fixed, and so are the bytes."""
    found: list[Entry] = []
    for (topic, service), (event, flow) in BASES.items():
        for form in FORMS:
            saga = f"poison-{len(found):04}"
            good = make(event, saga, flow)
            if not form.suits(good):
                continue
            assert form.reason is not None
            judges = {
                Judged.BY_ALL: hearers(topic),
                Judged.BY_BOUND: binders(type(event)),
                Judged.IN_FLOW: binders_in(flow, type(event)),
            }[form.judged]
            found.append(
                Entry(
                    name=f"{form.name}: {type(event).__name__} for {service}",
                    record=form.spoil(good),
                    saga=saga,
                    dead=dict.fromkeys(judges, form.reason),
                    says=form.says,
                    parks=form.parks and key_of()[topic] == "saga",
                    why_ignored="" if form.judged is Judged.BY_ALL else "no decision of theirs is bound to it",
                )
            )
    return found + list(cases())


def strangely_dated() -> list[Record]:
    """Good orders whose clients' clocks are wrong: nothing follows from that, since record time is the broker's."""
    dated = []
    for year in (0, YEAR_1970, YEAR_2100):
        saga, command = place_order(f"dated {year}", asked_at=year)
        dated.append(make(command, saga).record._replace(timestamp=year))
    return dated
