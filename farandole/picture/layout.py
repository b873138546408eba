"""Where everything lies on the sheet.

One lane for each service, from left to right; causes above effects. A decision is a box in its lane's column. An event
is a rail: a line in a row of its own, from the lane of its service to the lanes that hear it. A decision and the rails
that it publishes on are joined by a trunk on the right of the column, a decision and the rails that it hears by a trunk
on the left. So

- rails lie in rows, boxes in other rows: no line crosses a box,
- labels lie in columns, trunks between columns: no line crosses a label,
- trunks of one side that overlap lie in different tracks, rails in one row touch different lanes: no two are mistaken.

Invariant: the same graph gives the same sheet, on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from farandole.picture.depth import layers
from farandole.picture.graph import CLIENTS, Arrow, Graph, Node

CHAR: Final = 7.23
"""Width of a character of a name: a monospaced face of 12 pixels."""
SMALL: Final = 5.72
"""And of a topic: 9.5 pixels."""

MARK: Final = 16
"""What a sign in front of a name takes."""

BOX: Final = 30
BOX_ROW: Final = 42
RAIL_ROW: Final = 36
PAD: Final = 14
"""Beside a name, in its box."""
TRACK: Final = 9
GUTTER: Final = 16
"""Between a column and the first track, where arrowheads are."""
EDGE: Final = 10
"""Between the last track and the lane's border."""
LAYER_GAP: Final = 8
HEAD: Final = 52
"""For the names of the lanes."""


@dataclass(frozen=True)
class Lane:
    """left, right: its borders; begin, end: of its column"""

    name: str
    number: int
    left: float
    begin: float
    end: float
    right: float


@dataclass(frozen=True)
class Box:
    node: Node
    lane: int
    x: float
    y: float
    width: float


@dataclass(frozen=True)
class Rail:
    """y: of the line; joins: x where trunks of publishers meet it; drops: x where those of hearers do."""

    arrow: Arrow
    lane: int
    y: float
    begin: float
    end: float
    joins: tuple[float, ...]
    drops: tuple[float, ...]


@dataclass(frozen=True)
class Bundle:
    """Decisions of one service, and the events that a trunk joins them with."""

    service: str
    nodes: tuple[Node, ...]
    events: tuple[str, ...]


@dataclass(frozen=True)
class Trunk:
    """x: of its track; edge: of the boxes; boxes, rails: the heights at which it meets them."""

    bundle: Bundle
    inward: bool
    x: float
    edge: float
    boxes: tuple[float, ...]
    rails: tuple[float, ...]

    @property
    def top(self) -> float:
        return min(*self.boxes, *self.rails)

    @property
    def bottom(self) -> float:
        return max(*self.boxes, *self.rails)


@dataclass
class Sheet:
    graph: Graph
    width: float = 0
    height: float = 0
    lanes: list[Lane] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    rails: list[Rail] = field(default_factory=list)
    trunks: list[Trunk] = field(default_factory=list)


def sheet_of(graph: Graph) -> Sheet:
    return _Placing(graph).sheet()


class _Placing:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        has_clients = any(arrow.source == CLIENTS for arrow in graph.arrows.values())
        self._lanes = graph.lanes if has_clients else graph.services
        self._number = {name: number for number, name in enumerate(self._lanes)}
        self._layers = layers(graph)
        self._box_y: dict[str, float] = {}
        """Of the middle of each box."""
        self._rail_y: dict[str, float] = {}
        """Of each rail's line."""

    def sheet(self) -> Sheet:
        bottom = self._rows()
        outward, inward = self._bundles()
        out_tracks, in_tracks = self._tracks(outward), self._tracks(inward)
        lanes = self._columns(in_tracks, out_tracks)
        sheet = Sheet(self._graph, lanes[-1].right, bottom, lanes)
        sheet.boxes = [self._box(node, lanes) for node in self._graph.nodes.values()]
        sheet.trunks = [
            *(self._trunk(each, False, out_tracks, lanes) for each in outward),
            *(self._trunk(each, True, in_tracks, lanes) for each in inward),
        ]
        sheet.rails = [self._rail(arrow, sheet) for arrow in self._graph.arrows.values()]
        return sheet

    def _bundles(self) -> tuple[list[Bundle], list[Bundle]]:
        """What goes out, and what comes in. Decisions of a lane that publish on the same rails share their trunk."""
        same: dict[tuple[str, tuple[str, ...]], list[Node]] = {}
        for node in self._graph.nodes.values():
            if node.publishes:
                same.setdefault((node.service, tuple(sorted(node.publishes))), []).append(node)
        outward = [Bundle(service, tuple(nodes), events) for (service, events), nodes in same.items()]
        return outward, [Bundle(node.service, (node,), node.hears) for node in self._graph.nodes.values()]

    # ---- rows

    def _rows(self) -> float:
        """Give every box and every rail its height on the sheet. Returns where it ends."""
        y = float(HEAD)
        for layer in range(self._layers.deepest + 1):
            arrows = [each for each in self._graph.arrows.values() if self._layers.arrows[each.name] == layer]
            for row in self._packed(arrows):
                for arrow in row:
                    self._rail_y[arrow.name] = y + RAIL_ROW / 2 + 2
                y += RAIL_ROW
            y += LAYER_GAP if arrows else 0
            y += self._stack([each for each in self._graph.nodes.values() if self._layers.nodes[each.name] == layer], y)
        return y + LAYER_GAP

    def _packed(self, arrows: list[Arrow]) -> list[list[Arrow]]:
        """Rows of rails whose lanes do not touch."""
        rows: list[tuple[set[int], list[Arrow]]] = []
        for arrow in sorted(arrows, key=lambda each: (min(self._span(each)), self._number[each.source], each.name)):
            lanes = set(self._span(arrow))
            free = next((row for row in rows if not row[0] & lanes), None)
            if free is None:
                rows.append((lanes, [arrow]))
            else:
                free[0].update(lanes)
                free[1].append(arrow)
        return [row for _, row in rows]

    def _span(self, arrow: Arrow) -> range:
        lanes = [self._number[arrow.source], *(self._number[self._graph.nodes[each].service] for each in arrow.hearers)]
        return range(min(lanes), max(lanes) + 1)

    def _stack(self, nodes: list[Node], y: float) -> float:
        """Boxes of one layer: side by side, or one above the other in one lane. Returns the height."""
        used = dict.fromkeys(self._lanes, 0)
        for node in nodes:
            self._box_y[node.name] = y + used[node.service] * BOX_ROW + BOX_ROW / 2
            used[node.service] += 1
        return max(used.values()) * BOX_ROW

    # ---- columns

    def _tracks(self, bundles: list[Bundle]) -> dict[Bundle, int]:
        """Trunk → its track, counted from the column. Short ones lie inside, so that fewer lines cross."""
        spans = {}
        for each in bundles:
            ys = [*(self._box_y[node.name] for node in each.nodes), *(self._rail_y[event] for event in each.events)]
            spans[each] = (min(ys), max(ys))
        tracks: dict[Bundle, int] = {}
        for each in sorted(spans, key=lambda one: (spans[one][1] - spans[one][0], spans[one], one.nodes[0].name)):
            taken = {
                track
                for other, track in tracks.items()
                if other.service == each.service and _overlap(spans[other], spans[each])
            }
            tracks[each] = next(track for track in range(len(spans)) if track not in taken)
        return tracks

    def _columns(self, in_tracks: dict[Bundle, int], out_tracks: dict[Bundle, int]) -> list[Lane]:
        lanes, x = [], 0.0
        for number, service in enumerate(self._lanes):
            before = _gutter(track for each, track in in_tracks.items() if each.service == service)
            after = _gutter(track for each, track in out_tracks.items() if each.service == service)
            begin = x + before
            end = begin + self._column(service)
            lanes.append(Lane(service, number, x, begin, end, end + after))
            x = end + after
        return lanes

    def _column(self, service: str) -> float:
        boxes = [box_width(node) for node in self._graph.nodes.values() if node.service == service]
        labels = [label_width(arrow) for arrow in self._graph.arrows.values() if arrow.source == service]
        return round(max([*boxes, *labels, len(service) * 9.0]))

    def _box(self, node: Node, lanes: list[Lane]) -> Box:
        lane = lanes[self._number[node.service]]
        width = lane.end - lane.begin
        return Box(node, lane.number, lane.begin, self._box_y[node.name] - BOX / 2, width)

    def _trunk(self, bundle: Bundle, inward: bool, tracks: dict[Bundle, int], lanes: list[Lane]) -> Trunk:
        lane, away = lanes[self._number[bundle.service]], GUTTER + tracks[bundle] * TRACK
        edge = lane.begin if inward else lane.end
        return Trunk(
            bundle,
            inward,
            edge - away if inward else edge + away,
            edge,
            tuple(self._box_y[node.name] for node in bundle.nodes),
            tuple(self._rail_y[event] for event in bundle.events),
        )

    def _rail(self, arrow: Arrow, sheet: Sheet) -> Rail:
        lane = sheet.lanes[self._number[arrow.source]]
        joins = tuple(t.x for t in sheet.trunks if not t.inward and arrow.name in t.bundle.events)
        drops = tuple(t.x for t in sheet.trunks if t.inward and arrow.name in t.bundle.events)
        ends = (lane.begin, lane.end, *joins, *drops)
        return Rail(arrow, lane.number, self._rail_y[arrow.name], min(ends), max(ends), joins, drops)


def box_width(node: Node) -> float:
    return len(node.label) * CHAR + 2 * PAD + (MARK if node.takes_back else 0)


def label_width(arrow: Arrow) -> float:
    sign = MARK if arrow.kind != "event" or arrow.begins else 0
    return max(len(arrow.label) * CHAR + sign + (PAD if arrow.ends else 4), len(under(arrow)) * SMALL + 4)


def under(arrow: Arrow) -> str:
    """What stands below the line: the topic, and whose answer it is."""
    return f"{arrow.topic} ← {', '.join(arrow.outside)}" if arrow.outside else arrow.topic


def _gutter(tracks: Iterable[int]) -> float:
    deepest = max(tracks, default=-1)
    return EDGE if deepest < 0 else GUTTER + deepest * TRACK + EDGE


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] + 3 and other[0] <= one[1] + 3
