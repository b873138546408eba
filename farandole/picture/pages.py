"""The pictures that docs/ holds: one SVG for each flow, and the part of docs/flows.md that shows them.

Invariant: what lies there is what the code draws, byte for byte. `draw` writes only what differs; `stale` says what
does. The rest of docs/flows.md is people's: only what lies between the two markers is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from farandole.errors import ConfigError
from farandole.flow import Flow
from farandole.picture.graph import graph_of, names_of
from farandole.picture.layout import sheet_of
from farandole.picture.svg import svg
from farandole.picture.terminal import counted

PICTURES: Final = Path("docs/pictures")
PAGE: Final = Path("docs/flows.md")
BEGIN: Final = "<!-- pictures: begin; written by `farandole flows draw` -->"
END: Final = "<!-- pictures: end -->"


def draw(root: Path, flows: Mapping[str, Flow]) -> list[Path]:
    """Write what is not current, and take away pictures of flows that there are no more. Returns what was changed."""
    changed = []
    for path, text in _wanted(root, flows):
        if text is None:
            path.unlink()
        elif _text_of(path) != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        else:
            continue
        changed.append(path.relative_to(root))
    return changed


def stale(root: Path, flows: Mapping[str, Flow]) -> list[Path]:
    """What `draw` would change."""
    return [path.relative_to(root) for path, text in _wanted(root, flows) if text is None or _text_of(path) != text]


def picture(root: Path, flow: Flow, flows: Mapping[str, Flow]) -> str:
    return svg(sheet_of(graph_of(flow, names_of(root / "schemas"), flows.values())))


def file_of(key: str) -> str:
    return f"{key.replace('/', '-')}.svg"


def by_version(key: str) -> tuple[str, int, str]:
    name, _, version = key.rpartition("/")
    return name, int(version) if version.isdigit() else 0, key


def _wanted(root: Path, flows: Mapping[str, Flow]) -> Iterator[tuple[Path, str | None]]:
    """Files and what they should hold; None: they should not be there."""
    names = names_of(root / "schemas")
    told = []
    for key in sorted(flows, key=by_version):
        graph = graph_of(flows[key], names, flows.values())
        yield root / PICTURES / file_of(key), svg(sheet_of(graph))
        called = sorted({name for arrow in graph.arrows.values() for name in arrow.outside})
        said = f"{counted(len(graph.services), 'service')}, {counted(len(graph.nodes), 'decision')}"
        calls = f"; it calls {', '.join(called)}" if called else ""
        told.append(f"### `{key}`\n\n{said}{calls}.\n\n![who hears what in {key}](pictures/{file_of(key)})\n")
    for path in sorted((root / PICTURES).glob("*.svg")):
        if path.name not in {file_of(key) for key in flows}:
            yield path, None
    page = root / PAGE
    yield page, _page(_text_of(page), "\n".join([BEGIN, "", "\n".join(told), END]))


def _page(before: str | None, block: str) -> str:
    if before is None:
        before = "# The flows\n"
    begins, ends = before.count(BEGIN), before.count(END)
    if (begins, ends) == (0, 0):
        return f"{before.rstrip()}\n\n## Pictures\n\n{block}\n"
    if (begins, ends) != (1, 1) or before.index(BEGIN) > before.index(END):
        raise ConfigError(
            "the markers between which the pictures stand are not there once each, in order",
            where=str(PAGE),
            mend=f"leave one {BEGIN} and behind it one {END}",
        )
    return before[: before.index(BEGIN)] + block + before[before.index(END) + len(END) :]


def _text_of(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
