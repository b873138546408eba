"""The sheet as SVG: a text of its own, without scripts, fonts or anything from elsewhere.

It brings its own ground, and one for dark surroundings. Services differ by colour; whatever the colour tells, a sign, a
dash or a place tells, too. Numbers are rounded to a tenth, so that the same flow is the same bytes on every machine.
"""

from __future__ import annotations

from typing import Final
from xml.sax.saxutils import escape

from farandole.picture.graph import ANSWER, CLIENTS, COMMAND, TIMER
from farandole.picture.layout import BOX, CHAR, HEAD, MARK, PAD, SMALL, Box, Lane, Rail, Sheet, Trunk, under
from farandole.picture.terminal import counted

MARGIN: Final = 28
TITLE: Final = 74
LEGEND: Final = 64
NARROWEST: Final = 760
"""Pixels, for the legend."""

MONO: Final = "ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace"
SANS: Final = "'Helvetica Neue',Helvetica,Arial,'DejaVu Sans',sans-serif"

HUES: Final = (
    ("#2f6db3", "#7fb2ec"),
    ("#a8650a", "#e6b35c"),
    ("#1f7f55", "#6fcf9d"),
    ("#7b46a8", "#c49bea"),
    ("#b23a67", "#f08db2"),
    ("#0f7683", "#6bccd9"),
    ("#6a6a12", "#cfcf6a"),
    ("#8a4b32", "#dfa288"),
)
"""Of the services, one after the other: on light and on dark ground."""
NOBODY: Final = ("#4a4f57", "#b9c0ca")
"""Of the clients."""

_STYLE: Final = """
text{font-family:%(sans)s;fill:%(ink)s}
.n,.t{font-family:%(mono)s}
.n{font-size:12px;font-weight:600}
.t{font-size:9.5px;fill:%(soft)s}
.h{font-size:15px;font-weight:600;letter-spacing:.06em}
.title{font-size:26px;font-weight:700}
.sub,.leg{font-size:12px;fill:%(soft)s}
.ground{fill:%(ground)s}
.lane{fill:%(lane)s}
.box{fill:%(box)s;stroke-width:1.6}
.takes{stroke-dasharray:5 3}
.rail{fill:none;stroke-width:1.8}
.back{stroke-dasharray:7 4}
.call{stroke-dasharray:1.5 4;stroke-linecap:round;stroke-width:2.4}
.clock{stroke-dasharray:12 3 2 3}
.trunk{fill:none;stroke-width:1.1;opacity:.75}
.ring{fill:%(ground)s;stroke-width:1.6}
.sign{fill:none;stroke-width:1.5}
.on{fill:%(ground)s}
"""
_LIGHT: Final = {"ink": "#20242a", "soft": "#646b75", "ground": "#fdfcf9", "lane": "#f4f2ec", "box": "#ffffff"}
_DARK: Final = {"ink": "#e8eaed", "soft": "#9aa3af", "ground": "#15181d", "lane": "#1c2027", "box": "#22272f"}


def svg(sheet: Sheet) -> str:
    return _Drawing(sheet).text()


class _Drawing:
    def __init__(self, sheet: Sheet) -> None:
        self._sheet, self._graph = sheet, sheet.graph
        self._out: list[str] = []
        services = [lane.name for lane in sheet.lanes if lane.name != CLIENTS]
        self._hue = {name: f"c{number % len(HUES)}" for number, name in enumerate(services)} | {CLIENTS: "cn"}

    def text(self) -> str:
        width = max(self._sheet.width, NARROWEST) + 2 * MARGIN
        height = TITLE + self._sheet.height + LEGEND + (20 if self._graph.unreachable else 0)
        self._add(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_n(width)} {_n(height)}"')
        self._add(f' width="{_n(width)}" height="{_n(height)}" role="img" aria-labelledby="t">')
        self._add(f'<title id="t">The flow {escape(self._graph.flow)}: who hears what</title>')
        self._add(
            f"<style>{_sheet_style(0, _LIGHT)}@media(prefers-color-scheme:dark){{{_sheet_style(1, _DARK)}}}</style>"
        )
        self._add(f'<rect class="ground" width="{_n(width)}" height="{_n(height)}" rx="10"/>')
        self._heading()
        shift = MARGIN + max(0.0, (NARROWEST - self._sheet.width) / 2)
        self._add(f'<g transform="translate({_n(shift)} {TITLE})">')
        for lane in self._sheet.lanes:
            self._lane(lane)
        for trunk in self._sheet.trunks:
            self._trunk(trunk)
        for rail in self._sheet.rails:
            self._rail(rail)
        for box in self._sheet.boxes:
            self._box(box)
        self._add("</g>")
        self._legend(TITLE + self._sheet.height + 30)
        self._add("</svg>")
        return "\n".join(self._out) + "\n"

    def _add(self, text: str) -> None:
        self._out.append(text)

    def _heading(self) -> None:
        graph = self._graph
        self._add(f'<text class="title" x="{MARGIN}" y="44">{escape(graph.flow)}</text>')
        called = sorted({name for arrow in graph.arrows.values() for name in arrow.outside})
        said = [
            counted(len(graph.services), "service"),
            counted(len(graph.nodes), "decision"),
            counted(len(graph.arrows), "event"),
            counted(graph.bindings, "binding"),
            *([f"calls {', '.join(called)}"] if called else []),
        ]
        self._add(f'<text class="sub" x="{MARGIN}" y="64">{escape(" · ".join(said))}</text>')

    # ---- lanes and boxes

    def _lane(self, lane: Lane) -> None:
        height = self._sheet.height
        if lane.number % 2 == 0:
            width = lane.right - lane.left
            self._add(
                f'<rect class="lane" x="{_n(lane.left)}" y="0" width="{_n(width)}" height="{_n(height)}" rx="6"/>'
            )
        middle, hue = (lane.begin + lane.end) / 2, self._hue[lane.name]
        self._add(f'<text class="h f{hue}" x="{_n(middle)}" y="30" text-anchor="middle">{escape(lane.name)}</text>')
        if lane.name != CLIENTS:
            self._add(f'<path class="sign s{hue}" d="M{_n(lane.begin)} {HEAD - 12}H{_n(lane.end)}"/>')

    def _box(self, box: Box) -> None:
        node, hue = box.node, self._hue[box.node.service]
        takes = " takes" if node.takes_back or node.backward else ""
        about = f"{node.name}: {node.about}" if node.about else node.name
        if node.takes_back:
            about += f" Takes back {', '.join(node.takes_back)}."
        self._add(f"<g><title>{escape(about)}</title>")
        self._add(
            f'<rect class="box s{hue}{takes}" x="{_n(box.x)}" y="{_n(box.y)}" width="{_n(box.width)}" '
            f'height="{BOX}" rx="{13 if takes else 3}"/>'
        )
        begin = box.x + (box.width - len(node.label) * CHAR - (MARK if node.takes_back else 0)) / 2
        if node.takes_back:
            self._back_sign(begin + 5, box.y + BOX / 2, hue)
            begin += MARK
        self._name(node.label, begin, box.y + BOX / 2 + 4.3)
        self._add("</g>")

    def _name(self, text: str, x: float, y: float, extra: str = "") -> None:
        """The length is set, so that another face takes no more room."""
        self._add(
            f'<text class="n{extra}" x="{_n(x)}" y="{_n(y)}" textLength="{_n(len(text) * CHAR)}" '
            f'lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
        )

    # ---- lines

    def _trunk(self, trunk: Trunk) -> None:
        """It has the colour of what it carries, where that is one service's."""
        sources = {self._hue[self._graph.arrows[name].source] for name in trunk.bundle.events}
        hue = sources.pop() if len(sources) == 1 else self._hue[trunk.bundle.service]
        self._add(f'<path class="trunk s{hue}" d="M{_n(trunk.x)} {_n(trunk.top)}V{_n(trunk.bottom)}"/>')
        for y in trunk.boxes:
            tip = trunk.edge - 1 if trunk.inward else trunk.edge
            self._add(f'<path class="trunk s{hue}" d="M{_n(trunk.x)} {_n(y)}H{_n(tip)}"/>')
            if trunk.inward:
                self._add(f'<path class="f{hue}" d="M{_n(tip)} {_n(y)}l-8 -4v8z"/>')

    def _rail(self, rail: Rail) -> None:
        arrow, hue = rail.arrow, self._hue[rail.arrow.source]
        lane = self._sheet.lanes[rail.lane]
        look = {ANSWER: " call", TIMER: " clock"}.get(arrow.kind, " back" if arrow.backward else "")
        self._add(f"<g><title>{escape(self._told(rail))}</title>")
        self._add(f'<path class="rail s{hue}{look}" d="M{_n(rail.begin)} {_n(rail.y)}H{_n(rail.end)}"/>')
        for x in rail.joins:
            self._add(f'<circle class="f{hue}" cx="{_n(x)}" cy="{_n(rail.y)}" r="3"/>')
        for x in rail.drops:
            self._add(f'<circle class="ring s{hue}" cx="{_n(x)}" cy="{_n(rail.y)}" r="3"/>')
        if not rail.drops:
            self._add(f'<path class="rail s{hue}" d="M{_n(lane.begin)} {_n(rail.y - 5)}v10"/>')
        self._label(rail, lane, hue)
        self._add("</g>")

    def _label(self, rail: Rail, lane: Lane, hue: str) -> None:
        arrow, x, y = rail.arrow, lane.begin + 2, rail.y
        signed = arrow.kind != "event" or arrow.begins
        if arrow.ends:
            width = len(arrow.label) * CHAR + PAD
            self._add(f'<rect class="f{hue}" x="{_n(x)}" y="{_n(y - 18)}" width="{_n(width)}" height="15" rx="7.5"/>')
            self._name(arrow.label, x + PAD / 2, y - 6.4, " on")
        else:
            if signed:
                self._sign(arrow.kind, arrow.begins, x + 6, y - 11, hue)
            self._name(arrow.label, x + (MARK if signed else 0), y - 6.5)
        below = under(arrow)
        self._add(
            f'<text class="t" x="{_n(x)}" y="{_n(y + 11.5)}" textLength="{_n(len(below) * SMALL)}" '
            f'lengthAdjust="spacingAndGlyphs">{escape(below)}</text>'
        )

    def _told(self, rail: Rail) -> str:
        arrow = rail.arrow
        by = ", ".join(arrow.publishers) or "clients"
        to = ", ".join(arrow.hearers) or "nobody in this flow"
        return f"{arrow.name}: from {by}; heard by {to}"

    # ---- signs

    def _sign(self, kind: str, begins: bool, x: float, y: float, hue: str) -> None:
        if kind == ANSWER:  # a telephone's two ends
            self._add(
                f'<path class="sign s{hue}" d="M{_n(x - 5)} {_n(y - 2)}h9l-3 -3M{_n(x + 5)} {_n(y + 2)}h-9l3 3"/>'
            )
        elif kind == TIMER:
            self._add(f'<circle class="sign s{hue}" cx="{_n(x)}" cy="{_n(y)}" r="5"/>')
            self._add(f'<path class="sign s{hue}" d="M{_n(x)} {_n(y - 3)}v3h2.5"/>')
        elif begins:
            self._add(f'<circle class="f{hue}" cx="{_n(x)}" cy="{_n(y)}" r="5"/>')
        elif kind == COMMAND:
            self._add(f'<circle class="sign s{hue}" cx="{_n(x)}" cy="{_n(y)}" r="4"/>')

    def _back_sign(self, x: float, y: float, hue: str) -> None:
        self._add(
            f'<path class="sign s{hue}" d="M{_n(x + 5)} {_n(y + 3.5)}v-3a3.5 3.5 0 0 0 -3.5 -3.5h-6m3 -3l-3 3l3 3"/>'
        )

    # ---- what the signs mean

    def _legend(self, y: float) -> None:
        x = float(MARGIN)
        hue = "cn"

        def told(text: str, width: float = 44) -> None:
            nonlocal x
            self._add(f'<text class="leg" x="{_n(x + width)}" y="{_n(y + 4)}">{escape(text)}</text>')
            x += width + len(text) * 6.3 + 22

        self._sign(COMMAND, True, x + 8, y, hue)
        told("it begins", 20)
        width = 36
        self._add(f'<rect class="f{hue}" x="{_n(x)}" y="{_n(y - 7)}" width="{width}" height="14" rx="7"/>')
        told("how it comes out", width + 6)
        self._line(x, y, "rail", hue)
        told("event")
        self._line(x, y, "rail back", hue)
        told("only on the way back")
        self._add(f'<rect class="box takes s{hue}" x="{_n(x)}" y="{_n(y - 9)}" width="38" height="18" rx="9"/>')
        self._back_sign(x + 18, y, hue)
        told("takes a step back")
        x, y = float(MARGIN), y + 22
        self._add(f'<circle class="f{hue}" cx="{_n(x + 8)}" cy="{_n(y)}" r="3"/>')
        told("publishes", 20)
        self._add(f'<circle class="ring s{hue}" cx="{_n(x + 8)}" cy="{_n(y)}" r="3"/>')
        told("hears", 20)
        self._line(x, y, "rail call", hue)
        told("answer of an outside call")
        self._line(x, y, "rail clock", hue)
        told("timer")
        self._add(f'<path class="rail s{hue}" d="M{_n(x)} {_n(y - 5)}v10M{_n(x)} {_n(y)}h36"/>')
        told("heard by nobody in this flow")
        if self._graph.unreachable:
            said = f"Bound, and nothing leads there: {', '.join(self._graph.unreachable)}"
            self._add(f'<text class="leg" x="{MARGIN}" y="{_n(y + 24)}">{escape(said)}</text>')

    def _line(self, x: float, y: float, look: str, hue: str) -> None:
        self._add(f'<path class="{look} s{hue}" d="M{_n(x)} {_n(y)}h36"/>')


def _sheet_style(which: int, colours: dict[str, str]) -> str:
    rules = _STYLE % {**colours, "mono": MONO, "sans": SANS}
    hues = {f"c{number}": pair[which] for number, pair in enumerate(HUES)} | {"cn": NOBODY[which]}
    return rules + "".join(f".s{name}{{stroke:{hue}}}.f{name}{{fill:{hue}}}" for name, hue in hues.items()) + "\n"


def _n(number: float) -> str:
    """With one digit behind the point at the most."""
    return f"{number:.1f}".removesuffix(".0")
