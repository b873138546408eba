"""HTTP for orders: place one, look at one, ask for one to be stopped.

Any order worker answers for any order; the worker that owns the order's partition gives the answer, from committed
rows only.

    POST /orders               201 placed, 200 placed already: the same request again, be it by a worker whose
                               connection to the owner broke; 409 another body, or another flow, under the same key,
                               422 a bad request, 202 written down but not yet decided; while the partition is handed
                               over, the same request may be told 201 again
    GET /orders/{id}           200 or 404
    POST /orders/{id}/cancel   202 asked for, 404 unknown, 409 ended already

The optional field `flow` of an order names the flow in which it is placed: `order-pay-first/1`, or without the version
for the newest of that name; `order/1` if there is none. An order stays in its flow.

Whatever goes wrong is a JSON object with `problems`, `what`, `where` and `mend`. 503 with Retry-After: nobody owns the
order's partition at this moment. The same request is safe to repeat.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import msgspec
from faust.web import View

from agents import order as service
from events import CancelOrder, Order, OrderLine, PlaceOrder
from farandole.door import Door, replied
from farandole.errors import ConfigError
from farandole.flow import Flow, begun_by, chosen, load_flows

FLOW = "order/1"
"""The flow of an order whose request names none."""

DECIDED_WITHIN = 10.0
"""Seconds that a request waits for its order to be decided before it is answered with 202."""

ORDER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
"""What an order's id may look like; whatever else stands in a path names no order."""

REQUEST_FIELDS = frozenset(PlaceOrder.__struct_fields__) - {"saga"} | {"flow"}

Reply = tuple[int, dict[str, Any]]


def order_as_json(order_id: str, order: Order) -> dict[str, Any]:
    """What the outside may see of an order."""
    return {
        "order": order_id,
        "flow": order.flow or FLOW,
        "status": "cancelling" if order.phase == "placed" and order.causes else order.phase,
        "customer": order.customer,
        "amount": order.amount,
        "currency": order.currency,
        "cancel_requested": order.cancel_requested,
        "causes": list(order.causes),
        "reason": order.reason,
        "paid": order.paid,
        "committed": order.committed,
        "released": order.released,
        "voided": order.voided,
        "refunded": order.refunded,
    }


@functools.cache
def order_flows() -> dict[str, Flow]:
    """The flows in which an order can be placed, by key."""
    return begun_by(PlaceOrder, load_flows())


def read_request(body: bytes) -> tuple[PlaceOrder, str] | list[str]:
    """The command that a request's body is and its flow's key, or what is wrong with it. Says what and where, and never
    repeats a card token.
    """
    try:
        raw = msgspec.json.decode(body)
        command = msgspec.convert(raw, PlaceOrder)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits, say
        return [str(error)[:500]]
    flow, problem = _flow_of(raw.get("flow"))
    problems = _unknown_fields(raw, REQUEST_FIELDS, "") + service.validate(command) + problem
    return problems or (command, flow)


def _flow_of(named: Any) -> tuple[str, list[str]]:
    """The key of the flow that a request names, and what is wrong with the name."""
    if named is None:
        return FLOW, []
    if not isinstance(named, str):
        return "", ["flow: a text, such as order-pay-first"]
    try:
        return chosen(named, order_flows()), []
    except ConfigError as error:
        return "", [f"flow: {error.what}; {error.mend}"]


def _unknown_fields(raw: dict[str, Any], known: frozenset[str], where: str) -> list[str]:
    """A misspelt optional field would otherwise pass in silence."""
    problems = [f"{where}{name[:64]}: there is no such field" for name in raw if name not in known]
    for place, line in enumerate(raw.get("lines", ()) if not where else ()):
        problems += _unknown_fields(line, frozenset(OrderLine.__struct_fields__), f"lines[{place}].")
    return problems


class Orders:
    """The three answers, each (status, JSON)."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def _row(self, partition: int, order_id: str) -> Order | None:
        return service.orders.committed(partition, order_id)

    async def place(self, request: Any) -> Reply:
        read = read_request(await request.read())
        if isinstance(read, list):
            return 422, {"problems": read}
        command, flow = read
        order_id = service.order_id(command.customer, command.idempotency_key)

        async def here(partition: int) -> Reply:
            placed = False
            if self._row(partition, order_id) is None:
                placed = await self._door.send_and_wait(
                    command,
                    order_id,
                    flow,
                    table="orders",
                    timeout=DECIDED_WITHIN,
                    settled=lambda: self._row(partition, order_id) is not None,
                )
            row = self._row(partition, order_id)
            if row is None:
                return 202, {"order": order_id, "status": "accepted"}
            if row.fingerprint != service.fingerprint(command):
                return 409, {"order": order_id, "problems": ["another order was placed under this idempotency key"]}
            if (row.flow or FLOW) != flow:
                what = f"the order was placed in {row.flow or FLOW} under this idempotency key, not in {flow}"
                return 409, {"order": order_id, "problems": [what]}
            return 201 if placed else 200, order_as_json(order_id, row)

        return await self._door.at_owner(request, order_id, here)

    async def get(self, request: Any, order_id: str) -> Reply:
        if not ORDER_ID.fullmatch(order_id):
            return _unknown(order_id)

        async def here(partition: int) -> Reply:
            row = self._row(partition, order_id)
            return (200, order_as_json(order_id, row)) if row else _unknown(order_id)

        return await self._door.at_owner(request, order_id, here)

    async def cancel(self, request: Any, order_id: str) -> Reply:
        if not ORDER_ID.fullmatch(order_id):
            return _unknown(order_id)

        async def here(partition: int) -> Reply:
            row = self._row(partition, order_id)
            if row is None:
                return _unknown(order_id)
            if row.phase != "placed":
                return 409, {"order": order_id, "status": row.phase, "problems": [f"the order is {row.phase} already"]}
            await self._door.send(CancelOrder(), order_id, row.flow or FLOW)
            return 202, {"order": order_id, "status": "cancel requested"}

        return await self._door.at_owner(request, order_id, here)


def _unknown(order_id: str) -> Reply:
    return 404, {"order": order_id[:64], "problems": ["there is no such order"]}


def add_views(app: Any) -> None:
    """Register the views with the order service's App."""
    orders = Orders(Door(app, topic="order.commands"))
    reply = functools.partial(replied, "order")

    @app.page("/orders")
    class Place(View):
        async def post(self, request: Any) -> Any:
            return await reply(self, request, orders.place(request))

    @app.page("/orders/{order_id}")
    class Look(View):
        async def get(self, request: Any, order_id: str) -> Any:
            return await reply(self, request, orders.get(request, order_id))

    @app.page("/orders/{order_id}/cancel")
    class Cancel(View):
        async def post(self, request: Any, order_id: str) -> Any:
            return await reply(self, request, orders.cancel(request, order_id))
