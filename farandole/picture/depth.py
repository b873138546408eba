"""Layers: every cause lies above its effects, but where a circle makes that impossible.

What only a command on the way leads to lies as late as it can: a cancellation is drawn where it matters, not on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from farandole.picture.graph import Arrow, Graph


class Layers(NamedTuple):
    """By name; a decision and an event may be called the same. Arrows of layer 3 lie right above the nodes of 3."""

    nodes: dict[str, int]
    arrows: dict[str, int]

    @property
    def deepest(self) -> int:
        return max([*self.nodes.values(), *self.arrows.values()], default=0)


def layers(graph: Graph) -> Layers:
    below = _downwards(graph)
    above: dict[str, list[str]] = {name: [] for name in graph.nodes}
    for name, others in below.items():
        for other in others:
            above[other].append(name)
    order = _sorted(below, above)
    found: dict[str, int] = {}
    for name in order:
        found[name] = max((found[other] + 1 for other in above[name]), default=0)
    early = _following(graph, [arrow for arrow in graph.arrows.values() if arrow.begins])
    for name in reversed(order):
        if name not in early and below[name]:
            found[name] = max(found[name], min(found[other] for other in below[name]) - 1)
    return Layers(found, {arrow.name: _layer_of(arrow, found) for arrow in graph.arrows.values()})


def _layer_of(arrow: Arrow, found: Mapping[str, int]) -> int:
    """Behind the last that publishes it, unless that is a circle's; a client's right before it is heard."""
    hearers = [found[name] for name in arrow.hearers]
    if not arrow.publishers:
        return min(hearers)
    forward = [name for name in arrow.publishers if not hearers or found[name] < max(hearers)]
    return max((found[name] for name in forward or arrow.publishers), default=0) + 1


def _downwards(graph: Graph) -> dict[str, list[str]]:
    """Node → nodes that hear what it publishes; what would close a circle is left out."""
    below: dict[str, list[str]] = {name: [] for name in graph.nodes}
    done: set[str] = set()
    path: set[str] = set()

    def follow(name: str) -> None:
        path.add(name)
        for event in graph.nodes[name].publishes:
            for other in graph.arrows[event].hearers:
                if other in path or other in below[name]:
                    continue
                below[name].append(other)
                if other not in done:
                    follow(other)
        path.discard(name)
        done.add(name)

    for arrow in sorted(graph.arrows.values(), key=lambda each: not each.begins):
        for name in arrow.hearers if arrow.begins or not arrow.publishers else ():
            if name not in done:
                follow(name)
    return below


def _sorted(below: Mapping[str, list[str]], above: Mapping[str, list[str]]) -> list[str]:
    """Causes before effects; otherwise as they come."""
    left = {name: len(others) for name, others in above.items()}
    order = [name for name, count in left.items() if not count]
    for name in order:
        for other in below[name]:
            left[other] -= 1
            if not left[other]:
                order.append(other)
    return order


def _following(graph: Graph, arrows: list[Arrow]) -> set[str]:
    found: set[str] = set()
    heard = [name for arrow in arrows for name in arrow.hearers]
    while heard:
        fresh = set(heard) - found
        found |= fresh
        heard = [
            other for name in fresh for event in graph.nodes[name].publishes for other in graph.arrows[event].hearers
        ]
    return found
