"""What a kind of fault is, and how kinds are found: one file in a folder adds one.

    from random import Random

    from farandole.chaos import Fault, Stage

    class KillWorker(Fault):
        \"\"\"kill -9 of a worker.\"\"\"

        name = "kill-worker"
        lasts = (1.0, 9.0)

        def inject(self, stage: Stage, rng: Random) -> None:
            stage.kill(stage.pick_worker(rng))

Nothing else is needed: the stage puts right what was broken through it, and knows from what was broken when the system
has recovered. A fault that breaks more than the stage knows of takes it back in `heal` and says in `recovered` when all
is well.

Invariant: a plug-in that cannot be loaded, or is none, is told with its file, and nothing is run.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from random import Random
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, Final

from farandole.errors import ConfigError

if TYPE_CHECKING:
    from farandole.chaos.stage import Stage

OWN: Final = Path(__file__).parent / "faults"
DROP_IN: Final = "chaos_faults"
"""A folder of this name in the project's root is looked into as well."""


class Refused(Exception):
    """Not now: the system would not bear it, or there is nothing to break. It is tried again, later."""


class Fault:
    """A kind of fault. One object is one occurrence; nothing is kept between two of them.

    name:   of the kind: lower case, digits, dashes
    weight: how often it comes, beside the others' 1
    lasts:  seconds between `inject` and `heal`, drawn from this range
    within: seconds after `heal` in which the system has to have recovered
    outside: parts of the outside world that it breaks, one of them; where no service calls any, the kind does not come
    """

    name: ClassVar[str] = ""
    weight: ClassVar[float] = 1.0
    lasts: ClassVar[tuple[float, float]] = (0.0, 0.0)
    within: ClassVar[float] = 60.0
    outside: ClassVar[tuple[str, ...]] = ()

    def inject(self, stage: Stage, rng: Random) -> None:
        """Break something, through the stage. Take every choice from `rng`. Refused: not now."""
        raise NotImplementedError

    def heal(self, stage: Stage) -> None:
        """Take back what the stage does not know of. What was done through the stage it takes back itself, after
        this."""

    def recovered(self, stage: Stage) -> bool:
        """Whether the system works again; asked several times a second from `inject` on, so before `heal`, too."""
        return stage.recovered()


def load(folders: Iterable[Path]) -> dict[str, type[Fault]]:
    """All kinds in these folders, by name. ConfigError names the file that is wrong."""
    kinds: dict[str, type[Fault]] = {}
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError("there is no such folder of faults", where=str(folder), mend="name one with --plugins")
        for path in sorted(folder.glob("*.py")):
            if path.name.startswith("_"):
                continue
            for kind in _kinds_in(path):
                if kind.name in kinds:
                    raise ConfigError(
                        f"two faults are called {kind.name}", where=str(path), mend="give this one another `name`"
                    )
                kinds[kind.name] = kind
    return kinds


def _kinds_in(path: Path) -> list[type[Fault]]:
    module = _module(path)
    found = [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and issubclass(each, Fault) and each.__module__ == module.__name__
        and not each.__name__.startswith("_")
    ]  # fmt: skip
    if not found:
        raise ConfigError(
            "this file holds no fault", where=str(path), mend="write a subclass of farandole.chaos.Fault in it"
        )
    for kind in found:
        if problem := _problem(kind):
            raise ConfigError(f"{kind.__name__} is no fault: {problem}", where=str(path), mend="see docs/chaos.md")
    return found


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"farandole_chaos_{path.parent.name}_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as an import would: dataclasses look there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever somebody's file raises is that file's fault
        raise ConfigError(
            f"this fault cannot be loaded: {type(error).__name__}: {error}", where=str(path), mend="mend the file"
        ) from error
    return module


def _problem(kind: type[Fault]) -> str:
    """What is wrong with its shape; empty if nothing is."""
    if not isinstance(kind.name, str) or not re.fullmatch(r"[a-z][a-z0-9-]{0,39}", kind.name):
        return f"its name is {kind.name!r}, not lower case letters, digits and dashes"
    if kind.inject is Fault.inject:
        return "it has no `inject(self, stage, rng)`"
    for method, wanted in (("inject", 3), ("heal", 2), ("recovered", 2)):
        try:
            inspect.signature(getattr(kind, method)).bind(*range(wanted))
        except TypeError:
            return f"`{method}` does not take (self, stage{', rng' if wanted == 3 else ''})"
        except ValueError:
            pass
    if not _number(kind.weight) or kind.weight <= 0:
        return f"its weight is {kind.weight!r}, not a number above 0"
    lasts = kind.lasts
    if not (isinstance(lasts, tuple) and len(lasts) == 2 and all(map(_number, lasts)) and 0 <= lasts[0] <= lasts[1]):
        return f"`lasts` is {lasts!r}, not (shortest, longest) in seconds"
    if not _number(kind.within) or kind.within <= 0:
        return f"`within` is {kind.within!r}, not seconds"
    return ""


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
