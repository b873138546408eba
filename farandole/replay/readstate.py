"""What a shadow replay has read, as it is noted in its directory (resuming): whose history, and how far of each place.

Invariant: a directory that something else has made, or that is of another history, is refused and left as it is.
"""

from __future__ import annotations

import json
import secrets
import sys
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from farandole.audit.records import Place
from farandole.errors import ConfigError, ReplayError
from farandole.replay.inspecting import places

FORMAT: Final = "farandole-shadow/1"
ANEW: Final = "delete the directory, or name another one: it is read anew then"
BROKEN: Final = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zlib.error)
"""What reading a file raises that is not what it was."""


@dataclass
class State:
    """What was read.

    namespace, cluster: whose history it is
    tables:    of the services whose live tables are kept
    condemned: by service, messages whose effects the broker refused; None: not yet read
    fixed:     what of it is known from where to where it is read: "journals", "topics"
    first, end, position: of each place: from where, to where, how far it is read
    """

    namespace: str
    cluster: str
    history: str = field(default_factory=lambda: secrets.token_hex(8))
    byteorder: str = sys.byteorder
    tables: dict[str, list[str]] = field(default_factory=dict)
    condemned: dict[str, list[tuple[str, int, int]]] | None = None
    fixed: list[str] = field(default_factory=list)
    first: dict[Place, int] = field(default_factory=dict)
    end: dict[Place, int] = field(default_factory=dict)
    position: dict[Place, int] = field(default_factory=dict)
    records: int = 0
    spool: tuple[int, int] = (0, 0)
    index: tuple[int, int] = (0, 0)

    def to_text(self) -> str:
        said = dict(self.__dict__)
        for name in ("first", "end", "position"):
            said[name] = {f"{topic}/{partition}": at for (topic, partition), at in said[name].items()}
        text = json.dumps({"format": FORMAT, **said})
        return f"{text}\n{zlib.crc32(text.encode())}\n"

    @classmethod
    def from_text(cls, text: str) -> State:
        line, check, _ = text.split("\n")
        if zlib.crc32(line.encode()) != int(check):
            raise ValueError("its checksum is another one")
        said = json.loads(line)
        if said.pop("format") != FORMAT:
            raise ValueError("its format is another one")
        for name in ("first", "end", "position"):
            said[name] = places(said[name])
        if said["condemned"] is not None:
            said["condemned"] = {name: [(t, p, at) for t, p, at in each] for name, each in said["condemned"].items()}
        for name in ("spool", "index"):
            said[name] = tuple(said[name])
        return cls(**said)


def look(path: Path, namespace: str, cluster: str) -> State | None:
    """What is kept there, without touching it; None: nothing yet. ConfigError if it is none of ours."""
    file = path / "read"
    try:
        if not path.exists():
            return None
        if not path.is_dir():
            raise ConfigError("this is a file, not a directory", where=f"--resume {path}", mend="name a directory")
        if not file.exists():
            _check_ours(path)
            return None
        state = State.from_text(file.read_text())
    except PermissionError as error:
        raise unwritable(path, error) from error
    except BROKEN as error:
        raise ReplayError(f"what was read cannot be used: {error}", where=str(file), mend=ANEW) from error
    for name, theirs, ours in (("namespace", state.namespace, namespace), ("cluster", state.cluster, cluster)):
        if theirs != ours:
            raise ConfigError(
                f"the directory is of another {name}: {theirs!r}, not {ours!r}",
                where=f"--resume {path}",
                mend="name another directory; each history has its own",
            )
    if state.byteorder != sys.byteorder:
        raise ConfigError("the directory was made on another kind of machine", where=f"--resume {path}", mend=ANEW)
    return state


def _check_ours(path: Path) -> None:
    """Nothing that it could be of ours says that it is: nothing else may be in it either."""
    others = sorted(each.name for each in path.iterdir() if each.name not in ("read.part", "lock", "spool", "index"))
    if others:
        raise ConfigError(
            f"the directory holds something else ({others[0]})",
            where=f"--resume {path}",
            mend="name one that is empty or not there yet, or one that a shadow replay has made",
        )


def unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"the directory cannot be used: {error.strerror or error}",
        where=f"--resume {path}",
        mend="name one that you may write to, where there is room; what was noted there stays good",
    )


def unfinished(state: State) -> Mapping[Place, int]:
    """Of each place that is not read to its end, how far it is."""
    return {place: at for place, at in state.position.items() if at < state.end[place]}
