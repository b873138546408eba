"""Which demo shows which flow.

A demo is a module with `prepared(options, progress)`, a context manager that gives a demo with `play(progress)` and
`next_steps(kept)`, and with `print_outcome(outcome, console)`; farandole.demo.run has them all. Orders have one for all
flows in which they can be placed; a flow of another kind gets a module of its own and a line in `DEMOS`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from events import PlaceOrder
from farandole.errors import ConfigError
from farandole.flow import begun_by, chosen, load_flows

ORDERS: Final = "farandole.demo.run"

DEMOS: Final[dict[str, str]] = {"transfer": "farandole.demo.transfers", "login": "farandole.demo.login"}
"""Name of a flow that places no orders → the module of its demo."""

FLOW: Final = "order/1"
"""What is shown unless a flow is named."""

ALL: Final = "all"
"""Stands for every flow that there is to show: for a demo, those in which orders can be placed."""


class Show(NamedTuple):
    """module: of the demo; flows: keys, such as `order/1`"""

    module: str
    flows: tuple[str, ...]


def order_flows() -> tuple[str, ...]:
    """Keys of the newest versions of all flows in which orders can be placed."""
    flows = begun_by(PlaceOrder, load_flows())
    return tuple(dict.fromkeys(chosen(flow.name, flows) for flow in flows.values()))


def every_flow() -> tuple[str, ...]:
    """Keys of the newest versions of all flows that can be shown."""
    return (*order_flows(), *(chosen(name, load_flows()) for name in DEMOS))


def order_services() -> tuple[str, ...]:
    """The services that have a part in orders, whatever the flow. Others would have nothing to do."""
    return services_of(begun_by(PlaceOrder, load_flows()))


def services_of(keys: Iterable[str]) -> tuple[str, ...]:
    """The services that have a part in these flows."""
    flows = load_flows()
    return tuple(sorted({service for key in keys for service, _ in flows[key].bindings}))


def keys_of(named: Iterable[str], every: Iterable[str]) -> tuple[str, ...]:
    """Keys of these flows: each a name, a key, several with commas between them, or `all`, which stands for `every`."""
    names = [name.strip() for each in named for name in each.split(",")]
    flows = {key: flow for key, flow in load_flows().items() if flow.name in DEMOS}
    flows |= begun_by(PlaceOrder, load_flows())
    keys: dict[str, None] = {}
    for name in names or [FLOW]:
        if name == ALL:
            keys.update(dict.fromkeys(every))
        elif any(name in (flow.name, flow.key) for flow in flows.values()):
            keys[chosen(name, flows)] = None
        else:
            there = ", ".join(dict.fromkeys(flow.name for flow in flows.values()))
            raise ConfigError(f"no flow {name!r} can be shown", where="--flow", mend=f"one of {there}, or {ALL}")
    return tuple(keys)


def show(named: Iterable[str]) -> Show:
    """The demo of these flows; `all` are those in which orders can be placed."""
    flows, keys = load_flows(), keys_of(named, order_flows())
    modules = {DEMOS.get(flows[key].name, ORDERS) for key in keys}
    if len(modules) > 1:
        raise ConfigError(
            f"{' and '.join(keys)} are shown by different demos", where="--flow", mend="run the demo once for each"
        )
    return Show(modules.pop(), keys)
