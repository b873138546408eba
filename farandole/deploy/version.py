"""A version: the code and the schemas that workers run, named by a hash of their content.

Invariant: a version's directory is complete or it is not there, and never changes; so a rollback runs what ran before,
whatever has become of the checkout. A hash says nothing of time: the same content is the same version.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from farandole.deploy.manifest import Manifest
from farandole.errors import ConfigError

PARTS: Final = ("agents", "flows", "web", "schemas", "farandole", "events.py", "topics.yaml")
"""What a worker runs, and the map of its topics."""

SKIPPED: Final = ("__pycache__", ".pyc")
DIGITS: Final = 12

KEPT: Final = 5
"""Versions that are kept, besides the ones that run or may be gone back to."""

COMPLETE: Final = ".complete"
MANIFEST: Final = "manifest.json"


def files_of(root: Path) -> Iterator[Path]:
    """The files of a version, in an order that is always the same. ConfigError if a part is missing."""
    for name in PARTS:
        part = root / name
        if not part.exists():
            if name == "web":
                continue  # a project without HTTP of its own
            raise ConfigError(
                f"there is no {name} to deploy", where=str(root), mend="deploy from the project's directory"
            )
        found = sorted(part.rglob("*")) if part.is_dir() else [part]
        yield from (path for path in found if path.is_file() and not _skipped(path.relative_to(root)))


def _skipped(path: Path) -> bool:
    return any(each in SKIPPED or each.startswith(".") for each in path.parts) or path.suffix in SKIPPED


def version_of(root: Path) -> str:
    """The version that the project's directory holds now."""
    digest = hashlib.sha256()
    for path in files_of(root):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:DIGITS]


def commit_of(root: Path) -> str:
    """The git commit that the project's directory is, with a + if files have changed since; empty without git."""
    try:
        said = _git(root, "describe", "--always", "--exclude=*", "--abbrev=10")
        return f"{said}+" if said and _git(root, "status", "--porcelain", "--", *PARTS) else said
    except (OSError, subprocess.SubprocessError):
        return ""


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL
    )
    return done.stdout.strip() if done.returncode == 0 else ""


class Versions:
    """The versions that are kept on this machine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, version: str) -> Path:
        return self.directory / version

    def has(self, version: str) -> bool:
        return (self.path(version) / COMPLETE).is_file()

    def manifest(self, version: str) -> Manifest:
        """What a kept version promised. ConfigError if it is not kept."""
        path = self.path(version) / MANIFEST
        if not self.has(version):
            there = ", ".join(sorted(each.name for each in self.directory.glob("*") if self.has(each.name)))
            raise ConfigError(
                f"version {version} is not kept here", where=str(self.directory), mend=f"one of {there or 'none'}"
            )
        return Manifest.of_dict(json.loads(path.read_text()))

    def keep(self, root: Path, manifest: Manifest) -> str:
        """Copy the project's present state; returns its version. ConfigError if it changes meanwhile."""
        version = version_of(root)
        if self.has(version):
            return version
        part = self.directory / f"{version}.part"
        shutil.rmtree(part, ignore_errors=True)
        for source in files_of(root):
            copy = part / source.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
        if version_of(part) != version:
            shutil.rmtree(part, ignore_errors=True)
            raise ConfigError("the project changed while it was copied", where=str(root), mend="run it again")
        # Settings are not part of a version: they are read where they are kept, when a worker starts.
        (part / ".env").symlink_to(root / ".env")
        (part / MANIFEST).write_text(json.dumps(manifest.to_dict()))
        (part / COMPLETE).touch()
        shutil.rmtree(self.path(version), ignore_errors=True)
        os.replace(part, self.path(version))
        return version

    def all(self) -> list[str]:
        """Those that are whole, the newest one first."""
        there = [marker.parent for marker in self.directory.glob(f"*/{COMPLETE}")]
        return [path.name for path in sorted(there, key=_made, reverse=True) if path.suffix != ".part"]

    def forget(self, needed: set[str]) -> list[str]:
        """Remove the oldest ones beyond KEPT that nobody needs; returns which."""
        if not self.directory.is_dir():
            return []
        there = [path for path in self.directory.iterdir() if path.is_dir()]
        loose = sorted((path for path in there if path.name not in needed), key=_made, reverse=True)
        for path in loose[KEPT:]:
            (path / COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(path, ignore_errors=True)
        return [path.name for path in loose[KEPT:]]


def _made(path: Path) -> float:
    marker = path / COMPLETE
    return marker.stat().st_mtime if marker.is_file() else 0.0
