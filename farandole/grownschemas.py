"""Schema versions that other versions of the project write: read as well, though this one's code knows nothing of them.

While a deployment goes on, and after it was taken back, a worker meets records of schemas that came after its code.
They are compatible in both directions, so it can read them as its own version, once it knows what they look like.
FARANDOLE_SCHEMAS names a directory, like schemas/, that `farandole deploy` keeps: every version ever deployed is in it
before the first record of it is written.

Invariant: looked into only for an id that is not known, and read again only when it has changed; so bytes that nobody
can read cost one look at a file's time each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from farandole.schemas import IDS_FILE, Schemas, Version, growing

T = TypeVar("T")

Ids = Callable[[Schemas], Mapping[str, int]]


class Growing(dict[bytes, T], Generic[T]):
    """By the first five bytes of a value. `learn` is asked for what is not there yet, and raises KeyError."""

    def __init__(self, learn: Callable[[bytes], T]) -> None:
        super().__init__()
        self._learn = learn

    def __missing__(self, prefix: bytes) -> T:
        self[prefix] = found = self._learn(prefix)
        return found


class GrownSchemas:
    """directory: where they are; ids: file → id on the wire, the registry's where there is one."""

    def __init__(self, directory: Path, ids: Ids) -> None:
        self._directory, self._ids = directory, ids
        self._changed = -1
        self._known: dict[int, Version] = {}

    def find(self, prefix: bytes) -> Version:
        """KeyError if it is no schema that was ever deployed."""
        if len(prefix) != 5 or prefix[0] != 0:
            raise KeyError(prefix)
        id = int.from_bytes(prefix[1:], "big")
        if id not in self._known:
            self._look()
        return self._known[id]

    def _look(self) -> None:
        try:
            changed = (self._directory / IDS_FILE).stat().st_mtime_ns
        except OSError:
            return
        if changed != self._changed:
            grown = growing(self._directory)
            ids = self._ids(grown)
            self._known = {ids[version.file]: version for version in grown}
            self._changed = changed
