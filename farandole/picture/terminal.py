"""A flow's picture in a terminal: a hundred columns, one colour, Unicode's lines.

One lifeline for each service. Top down, each decision stands on its service's line, with what it hears beside it; below
it are the events that it may publish, as arrows to the lifelines of those who hear them. An event that was drawn
already, for a decision above, is only named again.

Invariant: no line is longer than WIDTH, whatever the flow.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Final

from farandole.picture.depth import layers
from farandole.picture.graph import ANSWER, CLIENTS, TIMER, Arrow, Graph, Node

WIDTH: Final = 100

LEGEND: Final = (
    "┤ decision ├  ┤↩takes a step back ├  ┊ on the way back ┊  ◂ hears  ──▶ event · topic  ╌╌▶ way back",
    "● begins  ◆ how it comes out  ⇄ outside call  ◷ timer  ↺ heard by itself  ○ heard by nobody here",
)


def drawn(graph: Graph) -> str:
    return _Drawing(graph).text()


class _Drawing:
    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        has_clients = any(arrow.source == CLIENTS for arrow in graph.arrows.values())
        self._lanes = graph.lanes if has_clients else graph.services
        self._at = _columns(self._lanes)
        self._rows: list[list[str]] = []
        self._seen: set[str] = set()

    def text(self) -> str:
        graph = self._graph
        called = sorted({name for arrow in graph.arrows.values() for name in arrow.outside})
        counts = (
            (len(graph.services), "service"), (len(graph.nodes), "decision"), (len(graph.arrows), "event"),
            (graph.bindings, "binding"),
        )  # fmt: skip
        said = " · ".join([graph.flow, *(counted(number, what) for number, what in counts)])
        self._rows.append(list(said + (f" · calls {', '.join(called)}" if called else "")))
        self._rows.append([])
        self._names()
        layer = layers(graph).nodes
        for node in sorted(graph.nodes.values(), key=lambda each: (layer[each.name], self._lanes.index(each.service))):
            self._row()
            for name in node.hears:
                if not graph.arrows[name].publishers and name not in self._seen:
                    self._event(graph.arrows[name])
            self._decision(node)
            again = [name for name in node.publishes if name in self._seen]
            for name in node.publishes:
                if name not in self._seen:
                    self._event(graph.arrows[name])
            if again:
                self._again(node, again)
        self._row()
        lines = ["".join(row)[:WIDTH].rstrip() for row in self._rows]
        if graph.unreachable:
            lines += _wrapped(f"bound, and nothing leads there: {', '.join(graph.unreachable)}", WIDTH)
        return "\n".join([*lines, "", *(part for line in LEGEND for part in _wrapped(line, WIDTH))]) + "\n"

    # ---- rows

    def _row(self) -> list[str]:
        row = [" "] * WIDTH
        for column in self._at.values():
            row[column] = "│"
        self._rows.append(row)
        return row

    def _names(self) -> None:
        row, end = [" "] * WIDTH, -1
        for name, column in self._at.items():
            begin = max(end + 1, min(column - len(name) // 2, WIDTH - len(name)))
            end = _write(row, begin, name)
        self._rows.append(row)

    def _decision(self, node: Node) -> None:
        row, column = self._row(), self._at[node.service]
        sides = "┊┊" if node.backward and not node.takes_back else "┤├"
        text = f"{sides[0]}{'↩' if node.takes_back else ' '}{node.label} {sides[1]}"
        begin = min(max(0, column - len(text) // 2), WIDTH - len(text))
        end = _write(row, begin, text)
        self._beside([f"◂ {', '.join(node.hears)}"], begin, end)

    def _again(self, node: Node, names: Iterable[str]) -> None:
        """What was drawn for a decision above."""
        row, column = self._row(), self._at[node.service]
        row[column] = "├" if WIDTH - column - 2 >= column - 2 else "┤"
        self._beside([f"also {', '.join(names)}"], column, column + 1)

    def _beside(self, texts: list[str], begin: int, end: int) -> None:
        """To the right of what ends at `end` in the last row, or to the left, where there is more room; over several
        rows if it must be.
        """
        right = WIDTH - end - 2 >= begin - 2
        room = max(WIDTH - end - 2, begin - 2)
        for number, part in enumerate(part for text in texts for part in _wrapped(text, room)):
            row = self._row() if number else self._rows[-1]
            _write(row, end + 1 if right else begin - 1 - len(part), part)

    # ---- events

    def _event(self, arrow: Arrow) -> None:
        self._seen.add(arrow.name)
        column = self._at[arrow.source]
        ends = sorted({self._at[self._graph.nodes[name].service] for name in arrow.hearers})
        far = [end for end in ends if end != column]
        row = self._row()
        label = _label(arrow)
        if not far:
            sign = "○" if not ends else {ANSWER: "⇄", TIMER: "◷"}.get(arrow.kind, "↺")
            line = "╌" if arrow.backward else "─"
            right = WIDTH - column - 1 >= len(label) + 3
            row[column] = "├" if right else "┤"
            text = f"{line}{sign} {label}" if right else f"{label} {sign}{line}"
            _write(row, column + 1 if right else column - len(text), text)
            return
        marks = sorted({column, *far})
        line = "╌" if arrow.backward else "─"
        for x in range(marks[0] + 1, marks[-1]):
            row[x] = "┼" if row[x] == "│" else line
        for end in far:
            row[end - 1 if end > column else end + 1] = "▶" if end > column else "◀"
            row[end] = "│" if end in (marks[0], marks[-1]) else "┼"
        row[column] = "●" if arrow.begins else "├" if marks[0] == column else "┤" if marks[-1] == column else "┼"
        if column in ends:
            label += " ↺"
        self._label(row, label, marks)

    def _label(self, row: list[str], label: str, marks: list[int]) -> None:
        """On the line where there is room, else behind it, else before it, else above it."""
        gaps = sorted(itertools.pairwise(marks), key=lambda gap: gap[0] - gap[1])
        begin, end = gaps[0]
        if end - begin - 5 >= len(label) + 2:
            _write(row, begin + 2 + (end - begin - 3 - len(label) - 2) // 2, f" {label} ")
        elif marks[-1] + 2 + len(label) <= WIDTH:
            _write(row, marks[-1] + 2, label)
        elif marks[0] - 1 - len(label) >= 0:
            _write(row, marks[0] - 1 - len(label), label)
        else:
            above = self._row()
            self._rows[-1], self._rows[-2] = row, above
            _write(above, max(0, WIDTH - len(label)), label)


def counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _label(arrow: Arrow) -> str:
    outside = f" ← {', '.join(arrow.outside)}" if arrow.outside else ""
    return f"{'◆ ' if arrow.ends else ''}{arrow.label} · {arrow.topic}{outside}"


def _columns(lanes: tuple[str, ...]) -> dict[str, int]:
    """The lifelines, spread over the width, so that the names of the outer ones are whole."""
    if len(lanes) == 1:
        return {lanes[0]: 12}
    first, last = len(lanes[0]) // 2 + 1, WIDTH - len(lanes[-1]) // 2 - 2
    last = min(last, first + 24 * (len(lanes) - 1))
    return {name: first + round(n * (last - first) / (len(lanes) - 1)) for n, name in enumerate(lanes)}


def _write(row: list[str], begin: int, text: str) -> int:
    """Returns where it ends."""
    for number, char in enumerate(text):
        if 0 <= begin + number < WIDTH:
            row[begin + number] = char
    return begin + len(text)


def _wrapped(text: str, room: int) -> Iterator[str]:
    """At spaces."""
    line = ""
    for word in text.split(" "):
        if line and len(line) + 1 + len(word) > room:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
