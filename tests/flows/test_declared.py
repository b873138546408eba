"""What the flows hear and publish, topics.yaml, schemas/ and events.py are one system."""

from __future__ import annotations

import pytest

from agents import notification
from agents import order as orders
from events import OrderCancelled, OrderCompleted
from farandole import generate, topiccheck
from farandole.demo.flows import order_flows
from farandole.flow import Flow, load_flows
from farandole.schemas import Schemas
from farandole.topics import Topics
from tests.flows.world import ROOT, topic_of


def test_topics_yaml_is_what_the_code_hears_and_publishes() -> None:
    schemas = Schemas.load(ROOT / "schemas")
    maps = topiccheck.service_maps(load_flows(), schemas)
    assert topiccheck.check(Topics.load(ROOT / "topics.yaml"), schemas, maps) == []
    assert topiccheck.check_flows(load_flows()) == []


def test_an_event_that_happens_only_in_another_flow_is_waited_for_in_vain() -> None:
    flows = {"order/1": load_flows()["order/1"]}
    other = Flow("points", 1)
    other.on(OrderCompleted, notification.tell_completed)
    [problem] = topiccheck.check_flows({**flows, other.key: other})
    assert problem.what == "notification hears OrderCompleted in flow points/1, but it happens only in order/1"
    assert problem.mend.startswith("bind notification.tell_completed in order/1")


def test_events_py_is_current() -> None:
    generate.check(ROOT / "schemas", ROOT / "events.py")


FOR_THE_WORLD = {"PaymentStuck", "Posted"}
TOLD = {
    "order/1": {*FOR_THE_WORLD, "NotificationSent", "ShippingCancelRefused"},
    "order-orchestrated/1": FOR_THE_WORLD,
    "order-hybrid/1": {*FOR_THE_WORLD, "NotificationSent", "ShippingCancelRefused"},
}
"""What no service hears, because it is for the outside world."""

UNDONE_BY = {
    "inventory.request_holds": "inventory.request_releases",
    "inventory.hold": "inventory.release",
    "payment.authorise": "payment.void",
}


OWN = {
    "order/1": set(),
    "order-pay-first/1": {
        *("order.place_charged_first", "order.charged", "order.refunded", "order.refund_written_off"),
        *("payment.charge", "payment.charge_answered", "payment.refund", "payment.refund_answered", "payment.earn"),
        "payment.write_off_refund",
    },
    "order-orchestrated/1": {"order.complete", "order.abandon", "shipping.stop", "notification.tell"},
    "order-hybrid/1": {"order.abandon", "order.capture_written_off"},
}
"""The orchestrator aside, which has no part in `order/1`: the decisions that are not those of `order/1`."""


def test_no_decision_is_written_twice_for_another_flow() -> None:
    """A flow binds what is there to other triggers. What it adds differs in substance, and is listed here."""
    flows = load_flows()
    shared = {decision.name for decision in flows["order/1"].bindings.values()}
    added = {
        key: {each.name for each in flows[key].bindings.values() if each.name not in shared} for key in order_flows()
    }
    theirs = {key: {name for name in names if not name.startswith("orchestrator.")} for key, names in added.items()}
    assert theirs == OWN, "bind the decision of order/1, or list the new one here if it decides something else"
    assert {key for key in added if added[key] - theirs[key]} == {"order-orchestrated/1", "order-hybrid/1"}


@pytest.mark.parametrize("flow", TOLD)
def test_every_event_that_a_service_publishes_is_heard_or_told_to_the_world(flow: str) -> None:
    """A binding that was forgotten would show as an event that nobody hears."""
    order = load_flows()[flow]
    heard = {event for _, event in order.bindings}
    published = {event for decision in order.bindings.values() for event in decision.publishes}
    unheard = {event.__name__ for event in published - heard}
    assert unheard == TOLD[flow], "no service hears it: bind it in the flow, or list it here if it is for the world"


@pytest.mark.parametrize("flow", TOLD)
def test_everything_that_is_heard_comes_from_a_service_a_client_a_call_or_a_timer(flow: str) -> None:
    order = load_flows()[flow]
    decisions = order.bindings.values()
    sources = {event for each in decisions for event in each.publishes | each.calls | each.timers}
    clients = {event.__name__ for _, event in order.bindings if event not in sources}
    assert clients == {"PlaceOrder", "CancelOrder", "WriteOff"}


@pytest.mark.parametrize("flow", TOLD)
def test_every_step_that_can_be_taken_back_names_its_compensation(flow: str) -> None:
    order = load_flows()[flow]
    pairs = {step.name: undo.name for step, undo in order.compensations.items()}
    by_command = {"shipping.book": "shipping.stop"} if flow == "order-orchestrated/1" else {}
    assert pairs == UNDONE_BY | by_command
    bound = {decision.name for decision in order.bindings.values()}
    assert set(pairs.values()) <= bound


def test_what_ends_an_order_never_waits_for_orders_to_end() -> None:
    """The topic with which clients begin orders is paused while too many are open."""
    intake = orders.app.intake
    ending = {OrderCompleted, OrderCancelled}
    waiting = {
        (flow.key, event.__name__)
        for flow in load_flows().values()
        for (service, event), decision in flow.bindings.items()
        if service == "order" and topic_of()[event.__name__] == intake and decision.publishes & ending
    }
    assert intake == "order.commands"
    assert waiting == set()
