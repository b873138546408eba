"""What decides how history is played: the code and the schemas of this checkout, and a few settings.

Invariant: where two digests are the same, the same history is played to the same end. They differ too often rather
than too seldom: a comment that changed in an agent is another digest.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from farandole import config
from farandole.codec import Codec

PACKAGES: Final = ("agents", "flows", "events", "farandole")


def digest(codec: Codec, unasked: str) -> str:
    """Of what decides now. unasked: outcome of outside calls that were never made then"""
    found = hashlib.sha256()
    settings = [config.setting(name) for name in ("FARANDOLE_FAIL", "FARANDOLE_SCHEMAS")]
    schemas = sorted((prefix.hex(), decoder.type.name) for prefix, decoder in codec.decoders.items())
    found.update(repr((sys.version_info[:2], unasked, settings, schemas)).encode())
    for name, path in _files():
        found.update(f"\n{name} {path.stat().st_size}\n".encode())
        found.update(path.read_bytes())
    return found.hexdigest()


def _files() -> Iterator[tuple[str, Path]]:
    """Every file that decides, with a name that says which one it is wherever the project lies."""
    for package in PACKAGES:
        spec = find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            for path in sorted(Path(place).rglob("*.py")):
                yield f"{package}/{path.relative_to(place)}", path
        if spec and spec.submodule_search_locations is None and spec.origin:
            yield package, Path(spec.origin)
    root, grown = config.project_root(), config.setting("FARANDOLE_SCHEMAS")
    for folder in (root / "schemas", *([Path(grown)] if grown else [])):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                yield str(path.relative_to(folder)), path
    yield "topics.yaml", root / "topics.yaml"
