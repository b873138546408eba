"""`POST /orders` and the flow that it names: chosen once, and for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace

from agents import order
from events import CancelOrder, PlaceOrder
from farandole.demo.place import body_of
from farandole.door import Door
from farandole.event import Event
from farandole.flow import load_flows
from farandole.testing import tables
from tests.flows.scenarios import an_order, saga_of
from web.orders import Orders, Reply, order_flows

ORDER = an_order("1")
SAGA = saga_of(ORDER)


class OpenDoor:
    """A door to one partition in which a command is decided at once, in the flow that it names."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []

    async def at_owner(self, request: Any, saga: str, here: Callable[[int], Awaitable[Reply]]) -> Reply:
        return await here(0)

    async def send(self, command: Event, saga: str, flow: str) -> None:
        self.sent.append((type(command).__name__, flow))
        bound = load_flows()[flow].bindings["order", type(command)]
        bound.function(replace(cast(Any, command), saga=saga))
        order.app.undo_log.clear()

    async def send_and_wait(self, command: Event, saga: str, flow: str, **_: Any) -> bool:
        await self.send(command, saga, flow)
        return True


class Request:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body


@pytest.fixture
def door() -> Iterator[OpenDoor]:
    with tables(order.app):
        yield OpenDoor()


def post(door: OpenDoor, **more: Any) -> Reply:
    said = msgspec.json.encode(msgspec.json.decode(body_of(ORDER)) | more)
    return asyncio.run(Orders(cast(Door, door)).place(Request(said)))


@pytest.mark.parametrize(
    ("named", "flow"),
    [(None, "order/1"), ("order", "order/1"), ("order/1", "order/1"), ("order-pay-first", "order-pay-first/1")],
)
def test_an_order_is_placed_in_the_flow_that_the_request_names(door: OpenDoor, named: str | None, flow: str) -> None:
    status, said = post(door, **({} if named is None else {"flow": named}))
    assert (status, said["flow"], said["order"]) == (201, flow, SAGA)
    assert door.sent == [("PlaceOrder", flow)]
    assert post(door, flow=flow)[0] == 200


@pytest.mark.parametrize(
    "named", ["pay-first", "order/2", "order-pay-first/", "restock", "", "order/1 ", 7, ["order"], {}]
)
def test_a_flow_in_which_no_order_can_be_placed_is_refused_with_those_that_there_are(
    door: OpenDoor, named: object
) -> None:
    status, said = post(door, flow=named)
    assert status == 422
    [problem] = said["problems"]
    assert problem.startswith("flow: ")
    if isinstance(named, str):
        assert all(flow in problem for flow in ("order/1", "order-pay-first/1"))
        assert "restock/1" not in problem
    assert not door.sent


def test_the_same_key_in_another_flow_is_a_conflict_and_changes_nothing(door: OpenDoor) -> None:
    assert post(door, flow="order-pay-first")[0] == 201
    before = order.orders[SAGA]
    for other in ({}, {"flow": "order"}):
        status, said = post(door, **other)
        assert status == 409
        assert "order-pay-first/1" in said["problems"][0]
    assert order.orders[SAGA] == before
    assert len(door.sent) == 1


def test_two_requests_at_once_under_one_key_and_two_flows_place_one_order(door: OpenDoor) -> None:
    """Both have seen that there is no order, and both commands are written."""
    post(door, flow="order-pay-first")
    asyncio.run(door.send(ORDER, SAGA, "order/1"))
    assert order.orders[SAGA].flow == "order-pay-first/1"
    assert order.orders[SAGA].charged_first


def test_a_cancellation_goes_into_the_orders_own_flow(door: OpenDoor) -> None:
    post(door, flow="order-pay-first")
    status, _ = asyncio.run(Orders(cast(Door, door)).cancel(Request(b""), SAGA))
    assert (status, door.sent[-1]) == (202, ("CancelOrder", "order-pay-first/1"))
    assert order.orders[SAGA].cancel_requested


def test_a_cancellation_that_names_another_flow_is_nobodys(door: OpenDoor) -> None:
    post(door, flow="order-pay-first")
    asyncio.run(door.send(CancelOrder(), SAGA, "order/1"))
    assert not order.orders[SAGA].cancel_requested


def test_orders_from_before_there_was_a_choice_are_of_the_first_flow(door: OpenDoor) -> None:
    order.place(replace(ORDER, saga=SAGA))
    order.app.undo_log.clear()
    assert post(door)[0] == 200
    assert post(door, flow="order-pay-first")[0] == 409


def test_every_flow_that_places_orders_can_be_chosen() -> None:
    assert {"order/1", "order-pay-first/1"} <= set(order_flows())
    assert all(any(event is PlaceOrder for _, event in flow.bindings) for flow in order_flows().values())
