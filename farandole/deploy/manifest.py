"""What a version promises to sagas in flight: its schemas, topics, tables, and flows, in plain words.

Invariant: a manifest is read out of the code and the files, by that code itself, in a process of its own. So it is
true of the version that it is of, and a version that cannot be imported is found out before anything is changed.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from farandole.errors import ConfigError

READ_WITHIN: Final = 60.0
"""Seconds to import the agents. It takes one."""

LAST_LINES: Final = 12


def topic_of(event: str) -> str:
    """An event's topic is its schema's namespace."""
    return event.rpartition(".")[0]


@dataclass(frozen=True)
class Schema:
    """One .avsc file. content: a hash of the schema, but for its words and white space."""

    id: int
    name: str
    version: int
    content: str


@dataclass(frozen=True)
class Binding:
    """What one service does about one event in one flow. Events by full name."""

    service: str
    event: str
    decision: str
    publishes: list[str]
    calls: list[str]
    timers: list[str]


@dataclass(frozen=True)
class TopicFacts:
    partitions: int
    key: str | None
    owner: str


@dataclass(frozen=True)
class Manifest:
    """
    schemas:  by file
    topics:   by name
    tables:   service → table → full name of its rows
    hears:    service → topics
    flows:    flow's key → bindings
    problems: what `farandole topics validate` finds
    """

    schemas: dict[str, Schema] = field(default_factory=dict)
    topics: dict[str, TopicFacts] = field(default_factory=dict)
    tables: dict[str, dict[str, str]] = field(default_factory=dict)
    hears: dict[str, list[str]] = field(default_factory=dict)
    flows: dict[str, list[Binding]] = field(default_factory=dict)
    problems: list[dict[str, str]] = field(default_factory=list)

    @property
    def services(self) -> list[str]:
        return list(self.tables)

    def versions_of(self, name: str) -> set[int]:
        """Of one event or row, by full name."""
        return {schema.version for schema in self.schemas.values() if schema.name == name}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of_dict(cls, raw: dict[str, Any]) -> Self:
        return cls(
            schemas={file: Schema(**each) for file, each in raw["schemas"].items()},
            topics={name: TopicFacts(**each) for name, each in raw["topics"].items()},
            tables=raw["tables"],
            hears=raw["hears"],
            flows={key: [Binding(**each) for each in bindings] for key, bindings in raw["flows"].items()},
            problems=raw["problems"],
        )


def manifest_of(root: Path) -> Manifest:
    """The manifest of the project in this directory, told by its own code. ConfigError if it cannot be imported."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "FARANDOLE_PROJECT": str(root),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "farandole.deploy.manifest"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=READ_WITHIN,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        said = "\n".join(f"    {line}" for line in done.stderr.strip().splitlines()[-LAST_LINES:])
        raise ConfigError(f"this version cannot be read:\n{said}", where=str(root), mend="farandole topics validate")
    return Manifest.of_dict(json.loads(done.stdout))


def read_here() -> Manifest:
    """The manifest of the project that this process runs in."""
    from farandole import config
    from farandole.cli.topics import find_problems
    from farandole.flow import load_flows
    from farandole.generate import class_name
    from farandole.schemas import Schemas
    from farandole.topics import Topics

    root = config.project_root()
    kept = Schemas.load(root / "schemas")
    problems = [asdict(problem) for problem in find_problems()]
    declared = Topics.load(root / "topics.yaml")
    names = {class_name(v.record.namespace, v.record.name): v.fullname for v in kept.latest.values()}

    def full(classes: Any) -> list[str]:
        return sorted(names[cls.__name__] for cls in classes)

    flows = load_flows()
    bindings = {
        key: sorted(
            (
                Binding(
                    service,
                    names[event.__name__],
                    decision.name,
                    full(decision.publishes),
                    full(decision.calls),
                    full(decision.timers),
                )
                for (service, event), decision in flow.bindings.items()
            ),
            key=lambda each: (each.service, each.event),
        )
        for key, flow in sorted(flows.items())
    }
    every = [each for some in bindings.values() for each in some]
    bound = {each.service for each in every}
    services = [name for name in declared.services if name in bound]
    tables = {
        service: {
            name: names[table.row.__name__]
            for name, table in sorted(importlib.import_module(f"agents.{service}").app.rows.items())
        }
        for service in services
    }
    hears = {
        service: sorted({topic_of(each.event) for each in every if each.service == service}) for service in services
    }
    return Manifest(
        schemas={v.file: Schema(v.id, v.fullname, v.version, _hash(v.text)) for v in kept},
        topics={t.name: TopicFacts(t.partitions, t.key, t.owner) for t in declared.topics.values()},
        tables=tables,
        hears=hears,
        flows=bindings,
        problems=problems,
    )


def _hash(text: str) -> str:
    said = json.dumps(_without_words(json.loads(text)), sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def _without_words(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _without_words(each) for name, each in schema.items() if name != "doc"}
    return [_without_words(each) for each in schema] if isinstance(schema, list) else schema


def main() -> None:
    from farandole.errors import FarandoleError

    try:
        print(json.dumps(read_here().to_dict()))
    except FarandoleError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    main()
