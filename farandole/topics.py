"""topics.yaml: every topic of the system, who owns it, how it is keyed, what is in it, how long it is kept.

    services:
      inventory: {principal: "User:inventory", group-id: inventory}

    topics:
      inventory:                        # the Avro namespace of its events is the topic's name
        owner: inventory                # the one service that publishes here; for *.commands the one that listens
        key: saga                       # `saga`, or a field that all its events have, such as `sku`
        partitions: 6
        replicas: 3
        retention: 30 days              # forever | compact | N days
        events: [inventory.reserved, inventory.rejected]
        configs: {min.insync.replicas: 2}
      inventory.journal: {owner: inventory, partitions: 6, replicas: 3, retention: forever}
      inventory-levels-changelog: {owner: inventory, partitions: 6, replicas: 3, retention: compact}

What the engine needs is declared like everything else, so that whoever looks after the cluster sees all of it: a
service's journal and dead letter queue (`<service>.journal`, `<service>.dlq`), what operators ask about its dead
letters (`<service>.operations`), the answers of its outside calls and its timers (`<service>.calls`,
`<service>.timers`), the changelogs of its tables (`<service>-<table>-changelog`).
YAML's anchors and merge keys (`<<: *common`) may be used.

`configs` are Kafka's topic configs by their own names. `cleanup.policy`, `retention.ms` and `retention.bytes` follow
from `retention`, and `message.timestamp.type` is LogAppendTime everywhere: a record's time is the broker's, so a
timer means the same on every machine.

Invariant: what `Topics.load` returns is well-formed and agrees with itself. farandole.topiccheck compares it with
schemas and code, farandole.topicplan with a cluster. Every error names the line, and what to write there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from farandole.errors import TopicsError

if TYPE_CHECKING:
    from farandole.config import ClientConfig
    from farandole.topicplan import Plan

Progress = Callable[[str], None]

DAY_MS: Final = 24 * 60 * 60 * 1000
MAX_PARTITIONS: Final = 10_000
"""Of one topic. A typing error with a zero too many should not cost a cluster."""

CONFIG_NAMES: Final = frozenset(
    {
        "compression.gzip.level", "compression.lz4.level", "compression.type", "compression.zstd.level",
        "delete.retention.ms", "errors.deadletterqueue.group.enable", "file.delete.delay.ms", "flush.messages",
        "flush.ms", "follower.replication.throttled.replicas", "index.interval.bytes",
        "leader.replication.throttled.replicas", "local.retention.bytes", "local.retention.ms",
        "max.compaction.lag.ms", "max.message.bytes", "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms", "min.cleanable.dirty.ratio", "min.compaction.lag.ms",
        "min.insync.replicas", "preallocate", "remote.log.copy.disable", "remote.log.delete.on.disable",
        "remote.storage.enable", "segment.bytes", "segment.index.bytes", "segment.jitter.ms", "segment.ms",
        "unclean.leader.election.enable",
    }
)  # fmt: skip
"""What may stand under `configs`. Kafka's names; the ones that follow from `retention` are left out."""

DERIVED: Final = ("cleanup.policy", "retention.ms", "retention.bytes", "message.timestamp.type")


@dataclass(frozen=True)
class Problem:
    """Something wrong, its place (`topics.yaml:12`) and what to do about it."""

    what: str
    where: str
    mend: str = ""

    def error(self) -> TopicsError:
        return TopicsError(self.what, where=self.where, mend=self.mend)


@dataclass(frozen=True)
class Service:
    """principal: who it is for the broker's access rules; group: its consumer group."""

    name: str
    principal: str
    group: str
    line: int


@dataclass(frozen=True)
class Topic:
    """One topic as declared; `configs` as Kafka gets them, with what follows from `retention`."""

    name: str
    owner: str
    partitions: int
    replicas: int
    retention: str
    key: str | None
    events: tuple[str, ...]
    configs: Mapping[str, str]
    line: int
    event_lines: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_keyed(self) -> bool:
        """Whether the number of partitions says where things are."""
        return self.key is not None or self.name.endswith(("-changelog", ".journal", ".dlq", ".operations"))


@dataclass(frozen=True)
class Topics:
    path: Path
    services: Mapping[str, Service]
    topics: Mapping[str, Topic]

    @classmethod
    def load(cls, path: Path | str) -> Topics:
        """TopicsError with the first of what is wrong."""
        topics, problems = read(Path(path))
        if problems:
            more = f" (and {len(problems) - 1} more: farandole topics validate)" if len(problems) > 1 else ""
            raise TopicsError(problems[0].what + more, where=problems[0].where, mend=problems[0].mend)
        return topics

    def keys(self) -> dict[str, str]:
        """Topic → `saga`, or the field that is its key; for the topics that have events."""
        return {topic.name: topic.key for topic in self.topics.values() if topic.key is not None}

    def of_event(self, event: str) -> Topic | None:
        """The topic that lists the event, by full name."""
        return next((topic for topic in self.topics.values() if event in topic.events), None)

    def where(self, line: int) -> str:
        return f"{self.path.name}:{line}"

    def plan(self, admin_config: ClientConfig, namespace: str = "", *, allow_delete: bool = False) -> Plan:
        """What would have to change on the cluster."""
        from farandole import topicplan

        return topicplan.plan(self, admin_config, namespace, allow_delete=allow_delete)

    def apply(
        self,
        admin_config: ClientConfig,
        namespace: str = "",
        progress: Progress | None = None,
        *,
        allow_delete: bool = False,
    ) -> Plan:
        """Make the cluster as declared; returns what was done. Doing it twice is doing it once."""
        from farandole import topicplan

        return topicplan.apply(self, admin_config, namespace, progress, allow_delete=allow_delete)


def read(path: Path) -> tuple[Topics, list[Problem]]:
    """topics.yaml as far as it can be understood, and all that is wrong with it. TopicsError if it is no YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise TopicsError("there is no topics.yaml", where=str(path), mend="go to the project's directory") from None
    except (OSError, UnicodeDecodeError) as error:
        raise TopicsError(f"it cannot be read: {error}", where=str(path)) from error
    try:
        raw = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        what = f"it is no YAML: {error.problem}" if not isinstance(error, _Twice) else str(error.problem)
        raise TopicsError(what, where=f"{path.name}:{line}") from None
    except yaml.YAMLError as error:
        raise TopicsError(f"it is no YAML: {error}", where=path.name) from None
    return _Reader(path).read(raw)


class _Mapping(dict[str, Any]):
    """A mapping that remembers where each key stands."""

    line = 0

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, int] = {}


class _List(list[Any]):
    """A list that remembers where each item stands."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[int] = []


class _Twice(yaml.MarkedYAMLError):
    pass


class _Loader(yaml.SafeLoader):
    """Plain YAML with lines, and an error where a key stands twice: YAML itself would keep the last one in silence."""

    def mapping(self, node: yaml.MappingNode) -> _Mapping:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen and key.tag != "tag:yaml.org,2002:merge":
                raise _Twice(problem=f"{key.value!r} stands here twice", problem_mark=key.start_mark)
            seen.add(key.value)
        self.flatten_mapping(node)
        out = _Mapping()
        for key, value in node.value:
            name = str(self.construct_object(key, deep=True))
            out[name] = self.construct_object(value, deep=True)
            out.lines[name] = key.start_mark.line + 1
        return out

    def sequence(self, node: yaml.SequenceNode) -> _List:
        out = _List()
        for item in node.value:
            out.append(self.construct_object(item, deep=True))
            out.lines.append(item.start_mark.line + 1)
        return out


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)
_Loader.add_constructor("tag:yaml.org,2002:seq", _Loader.sequence)

_SERVICE_KEYS = ("principal", "group-id")
_TOPIC_KEYS = ("owner", "partitions", "replicas", "retention", "key", "events", "configs")
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_FIELD = re.compile(r"[a-z][a-z0-9_]*")


class _Reader:
    """From YAML to the model; gathers problems instead of stopping at the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []

    def wrong(self, what: str, line: int, mend: str = "") -> None:
        self.problems.append(Problem(what, f"{self.path.name}:{line}", mend))

    def read(self, raw: Any) -> tuple[Topics, list[Problem]]:
        if not isinstance(raw, _Mapping):
            self.wrong("it is no mapping", 1, "services: {...} and topics: {...}")
            return Topics(self.path, {}, {}), self.problems
        self.check_keys(raw, ("services", "topics"), "topics.yaml")
        services = {n: self.service(n, v, at) for n, v, at in self.section(raw, "services")}
        topics = {n: self.topic(n, v, at) for n, v, at in self.section(raw, "topics")}
        self.check_owners(services, topics.values())
        self.check_unique(topics.values())
        return Topics(self.path, services, topics), self.problems

    def section(self, raw: _Mapping, name: str) -> Iterable[tuple[str, _Mapping, int]]:
        section = raw.get(name)
        if not isinstance(section, _Mapping) or not section:
            self.wrong(f"`{name}` is missing or empty", raw.lines.get(name, 1), f"{name}: {{name: {{...}}}}")
            return
        for key, value in section.items():
            if isinstance(value, _Mapping):
                yield key, value, section.lines[key]
            else:
                self.wrong(f"{key} needs a mapping", section.lines[key], f"{key}: {{...}}")

    def check_keys(self, raw: _Mapping, known: tuple[str, ...], of: str) -> None:
        for key in raw:
            if key not in known:
                self.wrong(f"{of}: `{key}` is not known", raw.lines[key], f"one of {', '.join(known)}")

    def service(self, name: str, raw: _Mapping, line: int) -> Service:
        self.check_keys(raw, _SERVICE_KEYS, name)
        values = {}
        for key in _SERVICE_KEYS:
            values[key] = raw.get(key)
            if not isinstance(values[key], str) or not values[key]:
                example = f'"User:{name}"' if key == "principal" else name
                self.wrong(f"{name}: `{key}` is missing", raw.lines.get(key, line), f"{key}: {example}")
        return Service(name, str(values["principal"]), str(values["group-id"]), line)

    def topic(self, name: str, raw: _Mapping, line: int) -> Topic:
        self.check_keys(raw, _TOPIC_KEYS, name)
        if not _NAME.fullmatch(name) or name in (".", ".."):
            self.wrong(f"{name!r} cannot be a topic's name", line, "up to 249 letters, digits, dots, dashes and _")
        retention, derived = self.retention(name, raw, line)
        events = self.events(name, raw)
        return Topic(
            name=name,
            owner=self.owner(name, raw, line),
            partitions=self.number(name, raw, "partitions", line, MAX_PARTITIONS),
            replicas=self.number(name, raw, "replicas", line, 100),
            retention=retention,
            key=self.key(name, raw, line, bool(events)),
            events=tuple(events),
            configs={**self.configs(name, raw), **derived, "message.timestamp.type": "LogAppendTime"},
            line=line,
            event_lines=events,
        )

    def owner(self, name: str, raw: _Mapping, line: int) -> str:
        owner = raw.get("owner")
        if not isinstance(owner, str) or not owner:
            self.wrong(f"{name}: `owner` is missing", raw.lines.get("owner", line), "owner: the service it belongs to")
            return ""
        return owner

    def number(self, name: str, raw: _Mapping, key: str, line: int, most: int) -> int:
        value = raw.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
            return value
        is_there = "is missing" if value is None else f"cannot be {value!r}"
        self.wrong(f"{name}: `{key}` {is_there}", raw.lines.get(key, line), f"{key}: a whole number from 1 to {most}")
        return 1

    def retention(self, name: str, raw: _Mapping, line: int) -> tuple[str, dict[str, str]]:
        value = raw.get("retention")
        days = re.fullmatch(r"([1-9]\d{0,5})( days?)?", str(value)) if not isinstance(value, bool) else None
        if value == "forever":
            return "forever", {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
        if value == "compact":
            return "compact", {"cleanup.policy": "compact"}
        if days:
            kept = str(int(days[1]) * DAY_MS)
            return f"{days[1]} days", {"cleanup.policy": "delete", "retention.ms": kept}
        is_there = "is missing" if value is None else f"cannot be {value!r}"
        mend = "retention: forever, compact, or a number of days such as `30 days`"
        self.wrong(f"{name}: `retention` {is_there}", raw.lines.get("retention", line), mend)
        return "forever", {}

    def events(self, name: str, raw: _Mapping) -> dict[str, int]:
        """Event → line."""
        value = raw.get("events")
        if value is None:
            return {}
        if not isinstance(value, _List):
            self.wrong(f"{name}: `events` is no list", raw.lines["events"], "events: [order.placed, order.refused]")
            return {}
        events: dict[str, int] = {}
        for event, line in zip(value, value.lines, strict=True):
            if not isinstance(event, str) or event.rpartition(".")[0] != name:
                mend = f"the full name of an event of this topic: {name}.…"
                self.wrong(f"{name}: {event!r} is no event of this topic", line, mend)
            elif event in events:
                self.wrong(f"{name}: {event} stands there twice", line, "once is enough")
            else:
                events[event] = line
        return events

    def key(self, name: str, raw: _Mapping, line: int, needed: bool) -> str | None:
        value = raw.get("key")
        if value is None:
            if needed:
                self.wrong(f"{name}: `key` is missing", line, "key: saga, or a field that all its events have")
            return None
        if not isinstance(value, str) or not _FIELD.fullmatch(value):
            self.wrong(f"{name}: the key cannot be {value!r}", raw.lines["key"], "key: saga, or the name of a field")
            return None
        if not needed:
            self.wrong(f"{name}: a key, but no events", raw.lines["key"], "list its events, or leave out the key")
        return value

    def configs(self, name: str, raw: _Mapping) -> dict[str, str]:
        value = raw.get("configs")
        if value is None:
            return {}
        if not isinstance(value, _Mapping):
            self.wrong(f"{name}: `configs` is no mapping", raw.lines["configs"], "configs: {min.insync.replicas: 2}")
            return {}
        configs: dict[str, str] = {}
        for key, item in value.items():
            line = value.lines[key]
            if key in DERIVED:
                mend = "leave it out: retention says it" if key != "message.timestamp.type" else "leave it out"
                self.wrong(f"{name}: `{key}` follows from elsewhere", line, mend)
            elif key not in CONFIG_NAMES:
                self.wrong(f"{name}: Kafka has no topic config `{key}`", line, _nearest(key))
            elif isinstance(item, str | int | float):
                configs[key] = str(item).lower() if isinstance(item, bool) else str(item)
            else:
                self.wrong(f"{name}: `{key}` cannot be {item!r}", line, "a number, true, false, or text")
        return configs

    def check_owners(self, services: Mapping[str, Service], topics: Iterable[Topic]) -> None:
        for topic in topics:
            if topic.owner not in services and topic.owner:
                mend = f"one of {', '.join(sorted(services))}; or add it under `services`"
                self.wrong(f"{topic.name}: its owner {topic.owner} is no service", topic.line, mend)

    def check_unique(self, topics: Iterable[Topic]) -> None:
        """Kafka counts `a.b` and `a_b` as one in its metrics, and so refuses the second."""
        seen: dict[str, Topic] = {}
        for topic in topics:
            other = seen.setdefault(topic.name.replace(".", "_"), topic)
            if other is not topic:
                self.wrong(f"Kafka cannot tell {topic.name} from {other.name}", topic.line, "rename one of them")


def _nearest(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name, CONFIG_NAMES, n=1)
    return f"did you mean {close[0]}?" if close else "see Kafka's topic configs"
