"""A copy of the project that a test may change, and the changes that the tests of deployment make."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from farandole import generate
from farandole.deploy.version import PARTS
from farandole.flow import load_flows

ROOT = Path(__file__).parents[2]


def copy(directory: Path) -> Path:
    """The project as it stands, without what is not deployed."""
    directory.mkdir(parents=True)
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(ROOT / name, directory / name)
    return directory


def edit(root: Path, file: str, old: str, new: str) -> None:
    """Replace the one place where `old` stands."""
    path = root / file
    text = path.read_text()
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {file}"
    path.write_text(text.replace(old, new))


def edit_schema(root: Path, file: str, **fields: Any) -> None:
    """Change a schema file in place."""
    path = root / "schemas" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields, indent=2))


def add_field(root: Path, record: str, field: Mapping[str, Any]) -> None:
    """The next version of a record, with one more field, and events.py to it."""
    files = (root / "schemas").glob(f"{record}.*.avsc")
    newest = max(files, key=lambda path: int(re.findall(r"\d+", path.name)[-1]))
    number = int(re.findall(r"\d+", newest.name)[-1])
    schema = json.loads(newest.read_text())
    schema["fields"].append(dict(field))
    (root / "schemas" / f"{record}.{number + 1}.avsc").write_text(json.dumps(schema, indent=2))
    generate.write(root / "schemas", root / "events.py")


def keep_flows(root: Path, *names: str) -> None:
    """Leave these flows, and the services and topics that they need: eleven workers on two cores are slow to succeed
    one another, and nothing that they show is not shown by five.
    """
    services = {service for flow in load_flows().values() if flow.name in names for service, _ in flow.bindings}
    for path in (root / "flows").glob("[!_]*.py"):
        if path.stem not in names:
            path.unlink()
    for path in (root / "agents").glob("[!_]*.py"):
        if path.stem not in services:
            path.unlink()
    said = yaml.safe_load((root / "topics.yaml").read_text())
    said["services"] = {name: each for name, each in said["services"].items() if name in services}
    for name, topic in list(said["topics"].items()):
        if topic["owner"] not in services and not topic.get("events"):
            del said["topics"][name]
        elif topic["owner"] not in services:  # its schemas are still there, as the audit reads all flows
            topic["owner"] = "order"
    (root / "topics.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
