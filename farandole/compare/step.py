"""Adding a step: a fraud check between the payment and the shipping, put into a copy of the project by a patch.

There is a patch for each flow in patches/. What it takes is counted from the patch; that it works is seen by running
the patched copy on the same broker, in topics of its own (farandole.compare.trial). A patch changes a flow in place:
what `farandole deploy` would say of that beside sagas in flight is asked of farandole.deploy itself.

Invariant: the project itself is not touched; the copy goes when its run has ended.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from farandole.compare.flows import FLOWS
from farandole.deploy.breaking import breaking
from farandole.deploy.manifest import Manifest, manifest_of
from farandole.errors import FarandoleError
from farandole.system import System

COPIED: Final = (
    *("farandole", "agents", "flows", "web", "schemas"),
    *("events.py", "topics.yaml", "docker-compose.yml", "pyproject.toml"),
)

THEN: Final = (("events", "generate"), ("topics", "validate"))
"""What is done with a copy that was patched. events.py and the schemas' ids are generated, so no patch has them."""

PROGRAM: Final = ["-m", "farandole.cli.main"]
TRIAL_WITHIN: Final = 90.0


@dataclass(frozen=True)
class Change:
    """One file's part of a patch."""

    path: str
    new: bool
    added: int
    removed: int


def patch_of(word: str) -> Path:
    return Path(__file__).with_name("patches") / f"{word}.patch"


# ---- the patch


def files_of(patch: str) -> Iterator[tuple[str, bool, list[str]]]:
    """(path, whether it is new, lines of its hunks) for each file of a unified diff as git writes it."""
    path, new, lines = "", False, list[str]()
    for line in patch.splitlines():
        if line.startswith("diff --git "):
            if path:
                yield path, new, lines
            path, new, lines = line.rpartition(" b/")[2], False, []
        elif line.startswith("new file "):
            new = True
        elif not line.startswith(("index ", "--- ", "+++ ")) and path:
            lines.append(line)
    if path:
        yield path, new, lines


def changes(patch: str) -> list[Change]:
    return [
        Change(path, new, sum(line[:1] == "+" for line in lines), sum(line[:1] == "-" for line in lines))
        for path, new, lines in files_of(patch)
    ]


def apply(patch: str, root: Path) -> None:
    """Change the files below `root`. FarandoleError if one is not as the patch expects it."""
    for path, new, hunks in files_of(patch):
        file = root / path
        old = [] if new else file.read_text().splitlines()
        try:
            text = patched(old, hunks)
        except ValueError as error:
            raise FarandoleError(
                f"the patch does not fit: {error}", where=path, mend="the flow has changed: make the patch anew"
            ) from None
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join(text) + "\n")


def patched(old: list[str], hunks: list[str]) -> list[str]:
    """The lines that hunks make of old ones, each where it fits nearest to where it says. ValueError: nowhere."""
    out: list[str] = []
    at = 0
    for first, hunk in _hunks(hunks):
        before = [line[1:] for line in hunk if line[:1] != "+"]
        start = _place(old, before, at, first)
        out += old[at:start]
        out += [line[1:] for line in hunk if line[:1] != "-"]
        at = start + len(before)
    return out + old[at:]


def _hunks(lines: list[str]) -> list[tuple[int, list[str]]]:
    """(line at which it begins, from 0; its lines)"""
    found: list[tuple[int, list[str]]] = []
    for line in lines:
        if line.startswith("@@"):
            first = int(line.split()[1].lstrip("-").partition(",")[0])
            found.append((max(0, first - 1), []))
        elif found:
            found[-1][1].append(line)
    return found


def _place(old: list[str], wanted: list[str], first: int, said: int) -> int:
    places = [at for at in range(first, len(old) - len(wanted) + 1) if old[at : at + len(wanted)] == wanted]
    if not places:
        raise ValueError(f"nowhere are the lines {' / '.join(wanted)[:200]!r}")
    return min(places, key=lambda at: abs(at - said))


def counted(patch: str) -> dict[str, Any]:
    """What somebody has written; new: files that are new, as the service and the schemas are."""
    written = changes(patch)
    old = [each for each in written if not each.new]
    return {
        "files": len(written),
        "lines": sum(each.added + each.removed for each in written),
        "new_files": len(written) - len(old),
        "new_lines": sum(each.added for each in written if each.new),
        "changed_files": len(old),
        "changed_lines": sum(each.added + each.removed for each in old),
        "services_changed": sorted(Path(each.path).stem for each in old if each.path.startswith("agents/")),
        "changed": {each.path: each.added + each.removed for each in old},
    }


# ---- the copy


def put_in(word: str, system: System, orders: int, seconds: float) -> dict[str, Any]:
    """Count the patch, and run the patched copy if there is time. seconds: that are left; 0: it is not run

    trial:  None: it was not run, or could not end in the seconds that were left
    deploy: what farandole deploy refuses about it; None: it was not asked
    """
    until = time.monotonic() + seconds
    patch = patch_of(word).read_text()
    found = counted(patch) | {"trial": None, "deploy": None}
    if seconds <= 0:
        return found
    home = system.directory / f"fraud-{word}"
    root = home / "project"
    try:
        copy(system.root, root)
        found["trial"] = _applied(patch, root) or _completed(root, system, word, until)
        if found["trial"] is None:
            found["deploy"] = refused(system.root, root)
            found["trial"] = _tried(word, root, system, orders, until)
    except subprocess.TimeoutExpired as slow:
        if time.monotonic() < until:
            found["trial"] = {"ok": False, "problem": f"{_said(slow.cmd)} did not end within {slow.timeout:.0f} s"}
    finally:
        shutil.rmtree(home, ignore_errors=True)
    return found


def _said(command: Any) -> str:
    """Without the interpreter's path."""
    return " ".join(str(each) for each in command[1:])


def _within(until: float) -> float:
    return max(0.1, min(TRIAL_WITHIN, until - time.monotonic()))


def refused(deployed: Path, root: Path) -> list[str]:
    """What farandole deploy says of taking `root` to where `deployed` runs, with sagas of every flow in flight."""
    return [problem.what for problem in breaking(_manifest(deployed), manifest_of(root))]


@functools.cache
def _manifest(root: Path) -> Manifest:
    """It does not change while a comparison runs."""
    return manifest_of(root)


def copy(root: Path, to: Path) -> None:
    to.mkdir(parents=True)
    for name in COPIED:
        source = root / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, to / name)


def _environment(word: str, root: Path, system: System) -> dict[str, str]:
    return {
        **os.environ,
        **system.environment,
        "FARANDOLE_PROJECT": str(root),
        "FARANDOLE_NAMESPACE": f"{system.namespace}fraud-{word}-",
        "PYTHONPATH": str(root),
    }


def _applied(patch: str, root: Path) -> dict[str, Any] | None:
    """None if it fits, else what is wrong, as a trial says it: the rest of the comparison has been measured."""
    try:
        apply(patch, root)
    except FarandoleError as error:
        return {"ok": False, "problem": f"{error.where}: {error.what}"}
    return None


def _completed(root: Path, system: System, word: str, until: float) -> dict[str, Any] | None:
    """Generate what no patch has. None if that works, else what is wrong, as a trial says it."""
    for arguments in THEN:
        done = subprocess.run(
            [sys.executable, *PROGRAM, *arguments],
            env=_environment(word, root, system), cwd=root, capture_output=True, text=True,
            timeout=_within(until), check=False,
        )  # fmt: skip
        if done.returncode != 0:
            return {"ok": False, "problem": f"farandole {' '.join(arguments)}: {done.stderr.strip()}"}
    return None


def _tried(word: str, root: Path, system: System, orders: int, until: float) -> dict[str, Any]:
    """Run farandole.compare.trial of the copy. What it starts ends with it, and it ends with us."""
    printed, complaints = root.parent / "said.json", root.parent / "complaints.log"
    with printed.open("wb") as out, complaints.open("wb") as errors:
        trial = subprocess.Popen(
            [sys.executable, "-m", "farandole.compare.trial", FLOWS[word], str(orders)],
            stdin=subprocess.PIPE, stdout=out, stderr=errors, env=_environment(word, root, system), cwd=root,
            start_new_session=True,
        )  # fmt: skip
        try:
            trial.wait(_within(until))
        finally:
            _end(trial)
    lines = printed.read_text().strip().splitlines()
    if trial.returncode != 0 or not lines:
        last = " / ".join(complaints.read_text(errors="replace").strip().splitlines()[-5:])
        return {"ok": False, "problem": f"the patched project failed: {last}"}
    return dict(json.loads(lines[-1]))


def _end(trial: subprocess.Popen[bytes]) -> None:
    """SIGTERM first: it has a system to stop."""
    for number, seconds in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
        if trial.poll() is not None:
            return
        trial.send_signal(number)
        try:
            trial.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
