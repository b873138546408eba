"""Line plots as SVG, to stand in a page: axes with units, a legend, no script, colours from the page's style sheet.

Invariant: what is not known is a gap in a line, never a zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 880
HEIGHT: Final = 250
LEFT: Final = 62
RIGHT: Final = 18
TOP: Final = 26
BOTTOM: Final = 40

APART: Final = 64
"""Pixels between two labels of stages, at the least."""

Points = Sequence[tuple[float, float | None]]


@dataclass(frozen=True)
class Line:
    """name: in the legend; colour: a class of the style sheet (`c1` …); dashed: beside the others"""

    name: str
    colour: str
    points: Points
    dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line where something begins; with a label, if there is room."""

    at: float
    label: str


@dataclass(frozen=True)
class Plot:
    """unit: of the vertical axis; log: whether that is logarithmic; level: a horizontal line, with what it means

    span: seconds that the horizontal axis has at the least, so that plots of one run stand below each other
    """

    title: str
    unit: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    log: bool = False
    level: tuple[float, str] | None = None
    about: str = ""
    span: float = 0.0

    def svg(self) -> str:
        """The figure, as HTML. Empty if there is nothing to show."""
        lines = [line for line in self.lines if any(y is not None for _, y in line.points)]
        if not lines:
            return ""
        x, xs, x_unit = _time_axis(max(self.span, *(at for line in lines for at, _ in line.points)))
        y, ys = (_log_axis if self.log else _linear_axis)(self._values(lines))
        parts = [*_frame(xs, ys, x_unit), *_marks(self.marks, x)]
        if self.level is not None:
            parts.append(_level(y(self.level[0]), self.level[1]))
        parts += [_path(line, x, y) for line in lines]
        return _figure(self.title, self.unit, self.about, _legend(lines), parts)

    def _values(self, lines: Iterable[Line]) -> list[float]:
        found = [value for line in lines for _, value in line.points if value is not None]
        return [*found, self.level[0]] if self.level is not None else found


Curves = Sequence[tuple[str, str, Sequence[Sequence[float]]]]
"""(name, colour, [percent, milliseconds] …)"""


def percentile_plot(curves: Curves) -> str:
    """Latency by percentile, the horizontal axis in nines."""
    lines, parts = _percentiles(curves)
    if not lines:
        return ""
    about = "so many percent of the orders ended within so many milliseconds of when they were meant to be placed"
    return _figure("Latency by percentile", "ms", about, _legend(lines) if len(lines) > 1 else "", parts)


def percentile_file(title: str, curves: Curves, style: str) -> str:
    """The same as an SVG file of its own, with names beside the lines' colours. Empty if there is nothing to show."""
    lines, parts = _percentiles(curves)
    if not lines:
        return ""
    names = [
        f'<path class="{_classes(line)}" d="M{LEFT + 12} {TOP + 16 * at + 8}h22"/>'
        f'<text class="tick" x="{LEFT + 40}" y="{TOP + 16 * at + 12}">{escape(line.name)}</text>'
        for at, line in enumerate(lines)
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}" font-family="sans-serif"><style>{style}</style>'
        f'<rect width="{WIDTH}" height="{HEIGHT}" style="fill: var(--paper)"/>'
        f'<text class="tick" x="{LEFT}" y="16">{escape(title)}</text>{"".join([*parts, *names])}</svg>\n'
    )


def _percentiles(curves: Curves) -> tuple[list[Line], list[str]]:
    curves = [curve for curve in curves if len(curve[2]) > 1]
    if not curves:
        return [], []
    highest = max(percent for _, _, points in curves for percent, _ in points)
    nines = [_nines(percent) for percent in (0.0, 50.0, 90.0, 99.0, 99.9, 99.99) if percent <= highest]
    x = _scale(0.0, _nines(highest), LEFT, WIDTH - RIGHT)
    xs = [(x(at), f"{100 - 100 * 10**-at:g} %") for at in nines]
    lines = [Line(name, colour, [(_nines(p), value) for p, value in points]) for name, colour, points in curves]
    y, ys = _log_axis([value for line in lines for _, value in line.points if value is not None])
    return lines, [*_frame(xs, ys, "percentile of orders"), *(_path(line, x, y) for line in lines)]


def _nines(percent: float) -> float:
    return -math.log10(1 - percent / 100)


# ---- axes: a function from a value to a pixel, and the ticks (pixel, label)

Axis = tuple[Callable[[float], float], list[tuple[float, str]]]


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    span = high - low or 1.0
    return lambda value: first + (value - low) / span * (last - first)


def _time_axis(high: float) -> tuple[Callable[[float], float], list[tuple[float, str]], str]:
    units = ((3600.0, "hours"), (60.0, "minutes"))
    unit, name = next((each for each in units if high > 3 * each[0]), (1.0, "seconds"))
    step = _nice(high / unit / 9) * unit
    x = _scale(0.0, high, LEFT, WIDTH - RIGHT)
    ticks = [number * step for number in range(int(high / step + 1e-9) + 1)]
    return x, [(x(at), f"{at / unit:g}") for at in ticks], f"{name} since the load began"


def _linear_axis(values: Sequence[float]) -> Axis:
    step = _nice(max(max(values), 1e-9) / 4)
    count = max(1, math.ceil(max(values) / step - 1e-9))
    y = _scale(0.0, count * step, HEIGHT - BOTTOM, TOP)
    return y, [(y(number * step), _short(number * step)) for number in range(count + 1)]


def _log_axis(values: Sequence[float]) -> Axis:
    positive = [value for value in values if value > 0] or [1.0]
    low, high = _edge(min(positive), math.floor), _edge(max(positive), math.ceil)
    if high <= low:
        high = low * 10
    scale = _scale(math.log10(low), math.log10(high), HEIGHT - BOTTOM, TOP)
    steps = (1, 2, 5) if math.log10(high / low) <= 3.01 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [digit * 10.0**power for power in range(first, last + 1) for digit in steps]
    shown = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
    return lambda value: scale(math.log10(max(value, low))), [(scale(math.log10(tick)), _short(tick)) for tick in shown]


def _edge(value: float, rounding: Callable[[float], int]) -> float:
    """The 1, 2 or 5 of its power of ten beside a value."""
    power = 10.0 ** math.floor(math.log10(value) + 1e-12)
    digits = (1, 2, 5, 10)
    lead = value / power
    if rounding is math.floor:
        return max(digit for digit in digits if digit <= lead + 1e-9) * power
    return min(digit for digit in digits if digit >= lead - 1e-9) * power


def _nice(step: float) -> float:
    """The next 1, 2 or 5 of a power of ten."""
    return _edge(step, math.ceil) if step > 0 else 1.0


def _short(value: float) -> str:
    if value >= 100_000:
        return f"{value / 1000:,.4g}k"
    return f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"


# ---- parts


def _frame(xs: Sequence[tuple[float, str]], ys: Sequence[tuple[float, str]], x_title: str) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = [
        f'<line class="grid" x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{escape(label)}</text>'
        for at, label in ys
    ]
    parts += [
        f'<line class="axis" x1="{at:.1f}" y1="{bottom}" x2="{at:.1f}" y2="{bottom + 4}"/>'
        f'<text class="tick" x="{at:.1f}" y="{bottom + 17}" text-anchor="{_anchor(at)}">{escape(label)}</text>'
        for at, label in xs
    ]
    parts.append(f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{WIDTH - RIGHT}" y2="{bottom}"/>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle:.0f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_title)}</text>')
    return parts


def _anchor(at: float) -> str:
    """A label at the very end of the axis ends there, so that it is not cut off."""
    return "end" if at > WIDTH - RIGHT - 12 else "middle"


def _marks(marks: Sequence[Mark], x: Callable[[float], float]) -> list[str]:
    parts, free = [], float(LEFT)
    for mark in marks:
        at = x(mark.at)
        if not LEFT - 1 <= at <= WIDTH - RIGHT:
            continue
        parts.append(f'<line class="mark" x1="{at:.1f}" y1="{TOP - 10}" x2="{at:.1f}" y2="{HEIGHT - BOTTOM}"/>')
        width = 6.2 * len(mark.label) + 6
        if mark.label and at >= free - 1 and at + width <= WIDTH:
            parts.append(f'<text class="stage" x="{at + 3:.1f}" y="{TOP - 12}">{escape(mark.label)}</text>')
            free = at + max(width, APART)
    return parts


def _level(at: float, label: str) -> str:
    return (
        f'<line class="level" x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}"/>'
        f'<text class="stage" x="{WIDTH - RIGHT - 4}" y="{at - 4:.1f}" text-anchor="end">{escape(label)}</text>'
    )


def _path(line: Line, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    steps, drawing = [], False
    for at, value in line.points:
        if value is None:
            drawing = False
            continue
        # A point alone is drawn as one: a line of no length has round ends.
        steps.append(f"L{x(at):.1f} {y(value):.1f}" if drawing else f"M{x(at):.1f} {y(value):.1f}h0")
        drawing = True
    return f'<path class="{_classes(line)}" d="{"".join(steps)}"><title>{escape(line.name)}</title></path>'


def _classes(line: Line) -> str:
    return f"line {line.colour}" + (" dashed" if line.dashed else "")


def _legend(lines: Sequence[Line]) -> str:
    items = "".join(
        f'<li><svg class="key" viewBox="0 0 22 8" aria-hidden="true"><path class="{_classes(line)}" d="M1 4H21"/></svg>'
        f"{escape(line.name)}</li>"
        for line in lines
    )
    return f'<ul class="legend">{items}</ul>'


def _figure(title: str, unit: str, about: str, legend: str, parts: Sequence[str]) -> str:
    note = f"<p>{escape(about)}</p>" if about else ""
    return (
        f"<figure><figcaption><h3>{escape(title)} <small>{escape(unit)}</small></h3>{note}</figcaption>{legend}"
        f'<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}, {escape(unit)}">'
        f"{''.join(parts)}</svg></figure>"
    )
