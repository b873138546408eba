"""What pages of reports have in common: the style sheet, tables, tiles.

Invariant: a page needs nothing from elsewhere (no script, no font, no picture), can be read in light and in dark, and
whatever stands in it is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

STYLE: Final = Path(__file__).with_name("style.css").read_text()


def page(title: str, body: Iterable[str], *, broad: bool = False) -> str:
    """broad: two figures stand beside each other, where the window is wide enough"""
    kind = ' class="broad"' if broad else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body{kind}>\n"
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def heading(text: str) -> str:
    return f"<h2>{escape(text)}</h2>"


def verdict(kind: str, said: str, details: Sequence[str] = ()) -> str:
    """kind: good, bad or warn"""
    items = "".join(f"<li>{escape(each)}</li>" for each in details)
    return f'<div class="verdict {kind}"><b>{escape(said)}</b>{f"<ul>{items}</ul>" if items else ""}</div>'


def tiles(figures: Iterable[tuple[str, str]]) -> str:
    """(value, what it is)"""
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="tile"><b>{escape(value)}</b><span>{escape(what)}</span></div>' for value, what in figures
        )
        + "</div>"
    )


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], kind: str = "figures") -> str:
    """rows: (class, cells); the first column is text, and so is the last if its head is empty

    kind: figures, or words
    """
    text = len(head) - 1 if not head[-1] else -1
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        f'<tr class="{kind}">'
        + "".join(
            f'<td class="text">{escape(cell)}</td>' if place == text else f"<td>{escape(cell)}</td>"
            for place, cell in enumerate(row)
        )
        + "</tr>"
        for kind, row in rows
    )
    return f'<div class="wide"><table class="{kind}"><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>'


def facts(about: Mapping[str, Any]) -> str:
    return (
        "<dl>"
        + "".join(f"<dt>{escape(name)}</dt><dd>{escape(in_words(each))}</dd>" for name, each in about.items())
        + "</dl>"
    )


def in_words(value: Any) -> str:
    """A setting or a figure as text; nothing is a dash."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {in_words(each)}" for name, each in value.items()) or "–"
    if isinstance(value, list | tuple):
        return ", ".join(in_words(each) for each in value) or "–"
    return "–" if value is None or value == "" else f"{value:g}" if isinstance(value, float) else str(value)
