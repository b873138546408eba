"""Files that a command is told to write: refused before the work whose result goes there, not after it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from farandole.errors import ConfigError


@contextmanager
def written(path: Path, option: str) -> Iterator[None]:
    """Around what writes a file: ConfigError if it cannot be written."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"the file cannot be written: {error.strerror or error}",
            where=f"{option} {path}",
            mend="name a file in a directory that is there, that you may write to and that has room",
        ) from error


def probe(path: Path | None, option: str, beside: bool = False, parents: bool = False) -> None:
    """Before an hour of work whose result goes there. The file itself is left as it is.

    beside:  it is written beside its place first, and moved there
    parents: directories that are not there are made
    """
    if path is None:
        return
    with written(path, option):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        if beside or not path.exists():
            _write_into(path.parent)
        elif path.is_file():  # to open a pipe would wait for its reader
            path.open("a").close()


def probe_directory(path: Path, option: str) -> None:
    """The same for files whose names are not known yet. The directory is made if it is not there."""
    with written(path, option):
        path.mkdir(parents=True, exist_ok=True)
        _write_into(path)


def _write_into(directory: Path) -> None:
    with tempfile.TemporaryFile(dir=directory) as there:
        there.write(b"x")  # a full disk takes a file, and nothing into it
