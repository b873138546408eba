"""Profiles: a load in a file of YAML.

    name: ramp
    about: from little to much, to see where it bends
    stages:
      - {rate: 50, seconds: 20, warm_up: true}
      - {from: 50, to: 400, seconds: 120}
      - {name: top, rate: 400, minutes: 1}
    mix: {declined: 0.03, sold_out: 0.02}
    lines: 1-3
    zipf: 1.1

Invariant: what is misspelt, missing or impossible is named with its place, before anything is started.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import yaml

from farandole.errors import ConfigError
from farandole.load.stages import MOST_STAGES, Stage, checked


class StageEntry(msgspec.Struct, forbid_unknown_fields=True, rename={"start": "from", "until": "to"}):
    """`rate`, or `from` and `to`; `seconds` or `minutes`."""

    name: str = ""
    rate: float | None = None
    start: float | None = None
    until: float | None = None
    seconds: float = 0.0
    minutes: float = 0.0
    warm_up: bool = False


class Profile(msgspec.Struct, forbid_unknown_fields=True):
    """A file. What it leaves out is as the command line has it."""

    stages: list[StageEntry]
    name: str = ""
    about: str = ""
    mix: dict[str, float] | None = None
    lines: str | int | None = None
    quantity: str | int | None = None
    skus: int | None = None
    zipf: float | None = None
    objective: str | None = None


def load(path: Path) -> tuple[Profile, list[Stage]]:
    """ConfigError if there is no such profile, or if it cannot be understood."""
    try:
        raw: Any = yaml.safe_load(path.read_text())
        profile = msgspec.convert(raw, Profile)
    except OSError as error:
        raise ConfigError(
            f"the profile cannot be read: {error.strerror}", where=str(path), mend="see profiles/ for examples"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"this is no YAML: {error}", where=str(path)) from error
    except msgspec.ValidationError as error:
        raise ConfigError(f"{error}", where=str(path), mend="docs/operating-load.md has all that there is") from error
    if not 1 <= len(profile.stages) <= MOST_STAGES:
        raise ConfigError(f"{len(profile.stages)} stages", where=str(path), mend=f"1 to {MOST_STAGES}")
    profile.name = profile.name or path.stem
    return profile, [_stage(entry, number, str(path)) for number, entry in enumerate(profile.stages, 1)]


def _stage(entry: StageEntry, number: int, path: str) -> Stage:
    where = f"{path}, stage {number}"
    if (entry.rate is None) == (entry.start is None and entry.until is None):
        raise ConfigError("a stage has a rate, or from and to", where=where, mend="{rate: 100, seconds: 60}")
    if bool(entry.seconds) == bool(entry.minutes):
        raise ConfigError("a stage has seconds, or minutes", where=where, mend="{rate: 100, seconds: 60}")
    start = entry.rate if entry.rate is not None else entry.start or 0.0
    until = entry.rate if entry.rate is not None else entry.until or 0.0
    name = entry.name or ("warm-up" if entry.warm_up else f"{number}: " + _rates(start, until))
    return checked(Stage(name, entry.seconds or entry.minutes * 60, start, until, not entry.warm_up), where)


def _rates(start: float, until: float) -> str:
    return f"{start:g}/s" if start == until else f"{start:g} to {until:g}/s"
