"""What is deployed on a target: one file, changed by one process at a time.

    .farandole/deploy/state.json        this
    .farandole/deploy/lock              held by whoever deploys, freed by the system however that ends
    .farandole/deploy/versions/         the versions that are kept
    .farandole/deploy/schemas/          every schema that was ever deployed from here; only grows

Invariant: the file is replaced as a whole, before and after each step, so whoever is killed leaves behind what had been
done and what was being done.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from farandole import config
from farandole.deploy.manifest import Manifest, Schema
from farandole.deploy.version import Versions
from farandole.errors import ConfigError
from farandole.schemas import IDS_FILE

MOST_FORMER: Final = 20
"""Versions that are remembered by name; farandole.deploy.version says how many are kept."""


@dataclass
class State:
    """
    current:  the version that all services run, but for a rollout that was interrupted
    former:   versions that ran before it, the last one last: where rollbacks go, one after the other
    left:     versions that were rolled back from, the last one last; `current` among them: a rollback from it has begun
    rolling:  the version that a rollout goes to, while one goes on or was interrupted
    workers:  service → number of workers
    ports:    worker → port of its HTTP (local)
    known:    every schema that was ever deployed, by file
    """

    target: str = ""
    namespace: str = ""
    current: str = ""
    former: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    rolling: str = ""
    workers: dict[str, int] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)
    known: dict[str, Schema] = field(default_factory=dict)

    @property
    def going_back(self) -> bool:
        """A rollback has begun, and has neither arrived nor been taken back."""
        return self.current in self.left

    @property
    def before(self) -> str:
        """Where a rollback goes that is not told where: never to what was rolled back from. Empty: nowhere."""
        last = (self.former or [""])[-1]
        if self.going_back:  # the same command goes on where it was interrupted
            return self.rolling if self.rolling in self.former else last
        return self.current if self.rolling not in ("", self.current) else last


class Deployment:
    """What this machine has deployed, and where that is written down."""

    def __init__(self, home: Path | None = None) -> None:
        self.home = (home or config.home()) / "deploy"
        self.versions = Versions(self.home / "versions")
        self.schemas = self.home / "schemas"
        self.state = self._load()

    @property
    def path(self) -> Path:
        return self.home / "state.json"

    def _load(self) -> State:
        try:
            raw: dict[str, Any] = json.loads(self.path.read_text())
            raw["known"] = {file: Schema(**each) for file, each in raw["known"].items()}
            return State(**raw)
        except FileNotFoundError:
            return State()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"what is deployed cannot be read: {error}",
                where=str(self.path),
                mend="bring the file back from a backup; without it nobody knows what sagas in flight need",
            ) from error

    def save(self) -> None:
        write_json(self.path, asdict(self.state))

    def check_target(self, target: str) -> None:
        """ConfigError if something else is deployed from here than what is meant now."""
        state = self.state
        if not state.current and not state.rolling:
            return
        for what, is_now, before in (
            ("target", target, state.target),
            ("namespace", config.namespace(), state.namespace),
        ):
            if is_now != before:
                raise ConfigError(
                    f"the {what} here is {before or 'none'!r} and not {is_now or 'none'!r}",
                    where=str(self.path),
                    mend=f"deploy with {before or 'none'!r}, or deploy the other from another FARANDOLE_HOME",
                )

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock. ConfigError if somebody else deploys."""
        self.home.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"another deployment is under way (process {os.pread(handle, 20, 0).decode() or 'unknown'})",
                    where=str(self.home / "lock"),
                    mend="wait until it has ended",
                ) from None
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
            self.state = self._load()
            yield
        finally:
            os.close(handle)

    # ---- what a version leaves behind for ever

    def learn(self, manifest: Manifest, schemas: Path) -> None:
        """Keep a version's schemas, before the first record is written with them."""
        self.state.known = {**self.state.known, **manifest.schemas}
        self.schemas.mkdir(parents=True, exist_ok=True)
        for file in manifest.schemas:
            if not (self.schemas / file).exists():
                part = self.schemas / f"{file}.part"
                shutil.copyfile(schemas / file, part)
                os.replace(part, self.schemas / file)
        # The ids come last: whoever finds an id finds its file.
        write_json(self.schemas / IDS_FILE, {str(each.id): file for file, each in sorted(self.state.known.items())})
        self.save()

    def goes_back(self, version: str) -> None:
        """A rollback begins. One that is told to go to a version that was left before is a deployment like others."""
        state = self.state
        if version in state.former and not state.going_back:
            state.left = [*state.left, state.current]

    def taken_back(self) -> None:
        """All services run again what they ran."""
        state = self.state
        state.left = [each for each in state.left if each != state.current]
        state.rolling = ""

    def arrived(self, version: str) -> None:
        """All services run this version."""
        state = self.state
        if state.going_back and version in state.former:
            place = state.former.index(version)
            state.left = state.former[place + 1 :] + state.left
            state.former = state.former[:place]
        elif state.current and state.current != version:
            state.former = [each for each in state.former if each != version]
            state.former += [] if state.going_back else [state.current]
            state.former = state.former[-MOST_FORMER:]
        state.left = [each for each in state.left if each != version][-MOST_FORMER:]
        state.current, state.rolling = version, ""
        self.save()
        self.versions.forget({state.current, *state.former[-1:]})


def write_json(path: Path, content: Any) -> None:
    """Replace a file as a whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(part, path)
