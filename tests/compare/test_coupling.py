"""Coupling is counted from bindings: shown on a flow small enough to count by hand, and on the flows that there are."""

from __future__ import annotations

import functools

import pytest

import events
from farandole.codec import Codec
from farandole.compare.coupling import Coupling, coupling
from farandole.compare.facts import Fact, Facts
from farandole.compare.flows import FLOWS, services
from farandole.compare.subscribers import commanded, reads_anew, subscribers
from farandole.config import project_root
from farandole.event import Event
from farandole.flow import Flow, load_flows
from farandole.topics import Topics


@functools.cache
def names() -> dict[type[Event], str]:
    return {kind.cls: kind.name for kind in Codec.load(project_root() / "schemas", events) if not kind.is_row}


@functools.cache
def topics() -> Topics:
    return Topics.load(project_root() / "topics.yaml")


def of(word: str) -> Coupling:
    return coupling(load_flows()[FLOWS[word]], names(), topics())


def test_of_a_small_flow_by_hand() -> None:
    from agents import notification, orchestrator, shipping

    flow = Flow("small", version=1)
    flow.on(events.PaymentAuthorised, orchestrator.authorised)  # hears payment, asks shipping
    flow.on(events.DispatchShipment, shipping.book)
    flow.on(events.BookAnswered, shipping.book_answered)
    flow.on(events.ShippingFailed, orchestrator.stopped_by_carrier)  # what it asks then nobody hears here
    flow.on(events.OrderCompleted, notification.tell_completed)
    found = coupling(flow, names(), topics())
    asks = found.known["orchestrator"]
    assert asks.hears == ("payment.authorised", "shipping.failed")
    assert asks.commands == ("shipping.commands.dispatch_shipment",)
    assert asks.topics == ("payment", "shipping", "shipping.commands")
    assert asks.services == ("payment", "shipping")
    assert found.known["shipping"].messages == 0  # its commands and its answers are its own
    assert found.known["notification"].hears == ("order.completed",)
    assert (found.messages, found.topics, found.pairs, found.most) == (4, 4, 3, "orchestrator")


def test_choreographed_nobody_commands_anybody() -> None:
    assert not any(known.commands for known in of("choreographed").known.values())


def test_orchestrated_all_knowledge_is_the_orchestrators() -> None:
    found = of("orchestrated")
    assert found.to_dict()["most_share"] == 1.0
    assert {name for name, known in found.known.items() if known.services} == {"orchestrator"}


def test_what_one_service_hears_stands_in_its_bindings() -> None:
    known = of("choreographed").known["notification"]
    assert known.hears == ("order.cancelled", "order.completed", "order.refused")
    assert known.services == ("order",)


@pytest.mark.parametrize("word", FLOWS)
def test_sums_are_those_of_the_services(word: str) -> None:
    said = of(word).to_dict()
    by_service = said["by_service"].values()
    assert said["messages"] == sum(len(each["hears"]) + len(each["commands"]) for each in by_service)
    assert said["topics"] == sum(len(each["topics"]) for each in by_service)
    assert said["services"] == len(by_service)


def test_services_are_those_of_the_flows_that_are_compared() -> None:
    assert set(services()) == {"inventory", "notification", "orchestrator", "order", "payment", "shipping"}


def test_a_subscriber_is_commanded_only_where_the_mail_is() -> None:
    flows = load_flows()
    found = {word: commanded(flows[key], names()) for word, key in FLOWS.items()}
    asked = ("notification.commands.notify", "notification.sent")
    assert found == {"choreographed": (), "orchestrated": asked, "hybrid": ()}


def test_what_subscribers_cost_is_made_of_the_records_that_there_are() -> None:
    facts = Facts({
        "a": [
            Fact("order.placed", "order", 1, "order", 80),
            Fact("order.completed", "order", 1, "order", 90),
            Fact("notification.commands.notify", "notification.commands", 2, "orchestrator", 40),
            Fact("notification.sent", "notification", 3, "notification", 20),
        ],
    })  # fmt: skip
    flows = load_flows()
    told = subscribers(flows[FLOWS["orchestrated"]], names(), facts, ["a"])
    assert (told["written"], told["written_bytes"], told["read"]) == (200, 6_000, 200)
    heard = subscribers(flows[FLOWS["choreographed"]], names(), facts, ["a"])
    assert (heard["written"], heard["written_bytes"], heard["read"], heard["event_bytes"]) == (0, 0, 200, 90)
    assert heard["topic_records"] == 2  # order.placed has to be read to get at order.completed


def test_the_orchestrator_reads_the_orders_topic_in_any_case() -> None:
    flows = load_flows()
    assert not any(reads_anew(flows[key], names()) for key in FLOWS.values())
    from agents import notification, orchestrator

    flow = Flow("small", version=1)
    flow.on(events.Notify, notification.tell)
    flow.on(events.NotificationSent, orchestrator.told)
    assert reads_anew(flow, names())
