"""What a comparison needs, looked at before it starts: it would be missed after minutes only.

Invariant: nothing is changed by looking, but that the folder for its state is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from farandole import config
from farandole.cli.files import probe, probe_directory
from farandole.compare.flows import WORDS
from farandole.compare.step import COPIED, patch_of
from farandole.errors import ConfigError


def check(root: Path, page: Path | None) -> None:
    """ConfigError if the project is not whole, or its page or its state cannot be written."""
    missing = list(_missing(root))
    if missing:
        raise ConfigError(
            f"a comparison puts a step into a copy of the project, and of that is missing: {', '.join(missing)}",
            where=str(root),
            mend="run it in a checkout, or name one in FARANDOLE_PROJECT; the project's image holds less than that",
        )
    if page is not None:
        probe(page, "--out")
        probe(page.with_suffix(".svg"), "--out")
    probe_directory(config.home() / "compare", "FARANDOLE_HOME")


def _missing(root: Path) -> Iterator[str]:
    yield from (name for name in COPIED if not (root / name).exists())
    for word in WORDS:
        if not patch_of(word).exists():
            yield f"{patch_of(word).parent.name}/{patch_of(word).name}"
