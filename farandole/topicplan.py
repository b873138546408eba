"""topics.yaml compared with a cluster, and the cluster made to agree.

Invariants:
- A plan is worked out from what the cluster says, so applying it twice is applying it once.
- Nothing is deleted unless asked for, and then only what is ours: under the namespace, with a declared service's
  name. Topics of others on a shared cluster are never looked at.
- The number of partitions of a keyed topic never changes: the partition of a key would change with it, and leave a
  saga's rows, timers and parked messages behind on the old one. Such a plan is refused as a whole, before anything is
  done.
- When `apply` returns, the cluster says what topics.yaml says, and every partition has a leader: whoever starts next
  finds all of it.

A cluster of one broker is somebody's own machine: topics get one replica there, whatever topics.yaml says for
production.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its re-exports are not declared as such
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from farandole.config import check_broker
from farandole.errors import BrokerError, TopicsError
from farandole.topics import Progress, Topic, Topics

if TYPE_CHECKING:
    from farandole.config import ClientConfig

REQUEST_SECONDS: Final = 30.0
READY_SECONDS: Final = 60.0
"""How long new topics may take to get their leaders. A cluster that has just started needs seconds for a hundred."""

BATCH: Final = 100
"""Topics per request to the controller."""


@dataclass(frozen=True)
class Create:
    topic: str
    partitions: int
    replicas: int
    configs: Mapping[str, str]
    kind: str = "create"

    def __str__(self) -> str:
        return f"create {self.topic}: {self.partitions} partitions, {self.replicas} replicas"


@dataclass(frozen=True)
class Configure:
    """changes: config → (value on the cluster, declared value); None: not set there, or to be unset."""

    topic: str
    changes: Mapping[str, tuple[str | None, str | None]]
    kind: str = "configure"

    def __str__(self) -> str:
        changes = ", ".join(f"{n} {old or 'unset'} → {new or 'unset'}" for n, (old, new) in self.changes.items())
        return f"configure {self.topic}: {changes}"


@dataclass(frozen=True)
class AddPartitions:
    topic: str
    now: int
    then: int
    kind: str = "add partitions"

    def __str__(self) -> str:
        return f"add partitions to {self.topic}: {self.now} → {self.then}"


@dataclass(frozen=True)
class Delete:
    topic: str
    kind: str = "delete"

    def __str__(self) -> str:
        return f"delete {self.topic} with all that is in it"


Action = Create | Configure | AddPartitions | Delete


@dataclass(frozen=True)
class Plan:
    """What `apply` would do, or did.

    actions: in the order in which they are done
    refused: what cannot be done, each with where and why; then nothing is done
    orphans: topics of ours that topics.yaml does not have; among the actions only if deletion was allowed
    notes:   what differs and is left alone
    """

    actions: tuple[Action, ...]
    refused: tuple[TopicsError, ...]
    orphans: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Actual:
    partitions: int
    replicas: int
    configs: Mapping[str, str]


def plan(topics: Topics, admin_config: ClientConfig, namespace: str = "", *, allow_delete: bool = False) -> Plan:
    check_broker(admin_config)
    return _Cluster(admin_config).plan(topics, namespace, allow_delete)


def apply(
    topics: Topics,
    admin_config: ClientConfig,
    namespace: str = "",
    progress: Progress | None = None,
    *,
    allow_delete: bool = False,
) -> Plan:
    check_broker(admin_config)
    cluster = _Cluster(admin_config)
    made = cluster.plan(topics, namespace, allow_delete)
    if made.refused:
        raise made.refused[0]
    tell = progress or (lambda _: None)
    for note in made.notes:
        tell(f"note: {note}")
    cluster.carry_out(made.actions, tell)
    cluster.wait_until_ready(topics, namespace, allow_delete)
    return made


class _Cluster:
    def __init__(self, admin_config: ClientConfig) -> None:
        self.where = str(admin_config.get("bootstrap.servers"))
        self.admin = AdminClient(dict(admin_config))

    # ---- what would change

    def plan(self, topics: Topics, namespace: str, allow_delete: bool) -> Plan:
        metadata = self.metadata()
        brokers, there = len(metadata.brokers), metadata.topics
        actual = self.describe(namespace, topics, there)
        actions: list[Action] = []
        refused: list[TopicsError] = []
        notes = set[str]()
        for topic in topics.topics.values():
            wanted = _wanted(topic, namespace, brokers)
            if wanted.replicas > brokers:
                refused.append(_too_few_brokers(topics, topic, brokers))
            elif wanted.topic not in actual:
                actions.append(wanted)
            else:
                actions += _changes(wanted, actual[wanted.topic])
                refused += _refusals(topics, topic, actual[wanted.topic])
                notes |= _notes(wanted, actual[wanted.topic])
        if brokers == 1 and any(topic.replicas > 1 for topic in topics.topics.values()):
            notes.add("this cluster has one broker, so topics have one replica, not what topics.yaml says")
        orphans = tuple(sorted(find_orphans(topics, namespace, there)))
        if allow_delete:
            actions += [Delete(name) for name in orphans]
        return Plan(tuple(actions), tuple(refused), orphans, tuple(sorted(notes)))

    def metadata(self) -> Any:
        try:
            return self.admin.list_topics(timeout=REQUEST_SECONDS)
        except KafkaException as error:
            raise self.failed("the topics cannot be listed", error) from None

    def describe(self, namespace: str, topics: Topics, there: Mapping[str, Any]) -> dict[str, _Actual]:
        """Partitions, replicas and the configs that were set on the declared topics that exist."""
        names = [namespace + name for name in topics.topics if namespace + name in there]
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        found: dict[str, _Actual] = {}
        for some in _batches(resources):
            futures = self.admin.describe_configs(some, request_timeout=REQUEST_SECONDS)
            for resource, future in futures.items():
                what = f"the configs of {resource.name} cannot be read"
                entries = self.result(future, what, fine=KafkaError.UNKNOWN_TOPIC_OR_PART)
                if entries is None:
                    continue  # the broker that was asked does not know the topic yet, or not any more
                partitions = there[resource.name].partitions.values()
                found[resource.name] = _Actual(
                    partitions=len(partitions),
                    replicas=min(len(partition.replicas) for partition in partitions),
                    configs={entry.name: entry.value for entry in entries.values() if _is_set(entry)},
                )
        return found

    # ---- changing it

    def carry_out(self, actions: Iterable[Action], tell: Progress) -> None:
        """One kind after the other, many topics to a request."""
        ways: dict[type, Callable[[list[Any]], Mapping[Any, Future[Any]]]] = {
            Create: self.create,
            Configure: self.configure,
            AddPartitions: self.add_partitions,
            Delete: self.delete,
        }
        for kind, carry_out in ways.items():
            for some in _batches([action for action in actions if isinstance(action, kind)]):
                futures = {str(getattr(key, "name", key)): future for key, future in carry_out(some).items()}
                for action in some:
                    self.result(futures[action.topic], f"cannot {action}", KafkaError.TOPIC_ALREADY_EXISTS)
                    tell(str(action))

    def create(self, actions: list[Create]) -> Mapping[Any, Future[Any]]:
        new = [NewTopic(each.topic, each.partitions, each.replicas, config=dict(each.configs)) for each in actions]
        return self.admin.create_topics(new, operation_timeout=REQUEST_SECONDS, request_timeout=REQUEST_SECONDS)

    def configure(self, actions: list[Configure]) -> Mapping[Any, Future[Any]]:
        resources = [
            ConfigResource(
                ResourceType.TOPIC,
                each.topic,
                incremental_configs=[_config_change(name, new) for name, (_, new) in each.changes.items()],
            )
            for each in actions
        ]
        return self.admin.incremental_alter_configs(resources, request_timeout=REQUEST_SECONDS)

    def add_partitions(self, actions: list[AddPartitions]) -> Mapping[Any, Future[Any]]:
        return self.admin.create_partitions(
            [NewPartitions(each.topic, each.then) for each in actions], request_timeout=REQUEST_SECONDS
        )

    def delete(self, actions: list[Delete]) -> Mapping[Any, Future[Any]]:
        return self.admin.delete_topics([each.topic for each in actions], request_timeout=REQUEST_SECONDS)

    def wait_until_ready(self, topics: Topics, namespace: str, allow_delete: bool) -> None:
        """Until nothing is left to do and every partition has a leader: brokers learn of a change a little later."""
        names = [namespace + name for name in topics.topics]
        deadline = time.monotonic() + READY_SECONDS
        pause = 0.02
        while left := _leaderless(self.metadata().topics, names) or self.plan(topics, namespace, allow_delete).actions:
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"after {READY_SECONDS:.0f} s the cluster is not as it should be yet: {left[0]}",
                    where=self.where,
                    mend="look at the brokers' logs; `farandole topics apply` may be repeated",
                )
            time.sleep(pause)
            pause = min(pause * 2, 0.5)

    # ---- errors

    def result(self, future: Future[Any], what: str, fine: int | None = None) -> Any:
        """The future's result. An error of code `fine` is none: somebody else did the same just now."""
        try:
            return future.result(REQUEST_SECONDS * 2)
        except KafkaException as error:
            if error.args[0].code() == fine:
                return None
            raise self.failed(what, error) from None

    def failed(self, what: str, error: KafkaException) -> BrokerError:
        return BrokerError(
            f"{what}: {error.args[0].str()}", where=self.where, mend=_MENDS.get(error.args[0].code(), "")
        )


_MENDS = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "whoever applies topics needs Create, Alter and Describe on them",
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: "whoever applies topics needs Create and Alter on the cluster",
    KafkaError.INVALID_CONFIG: "mend the value in topics.yaml",
    KafkaError.TOPIC_DELETION_DISABLED: "the brokers have delete.topic.enable=false",
}


def _wanted(topic: Topic, namespace: str, brokers: int) -> Create:
    """The topic as it should be on a cluster of so many brokers."""
    replicas = topic.replicas if brokers > 1 else 1
    configs = dict(topic.configs)
    if brokers == 1 and "min.insync.replicas" in configs:
        configs["min.insync.replicas"] = "1"
    return Create(namespace + topic.name, topic.partitions, replicas, configs)


def _changes(wanted: Create, actual: _Actual) -> Iterator[Action]:
    names = sorted({*wanted.configs, *actual.configs})
    both = {name: (actual.configs.get(name), wanted.configs.get(name)) for name in names}
    if changes := {name: pair for name, pair in both.items() if pair[0] != pair[1]}:
        yield Configure(wanted.topic, changes)
    if wanted.partitions > actual.partitions:
        yield AddPartitions(wanted.topic, actual.partitions, wanted.partitions)


def _refusals(topics: Topics, topic: Topic, actual: _Actual) -> Iterator[TopicsError]:
    where = topics.where(topic.line)
    if topic.partitions < actual.partitions:
        yield TopicsError(
            f"{topic.name} has {actual.partitions} partitions on the cluster, {topic.partitions} are declared",
            where=where,
            mend=f"partitions: {actual.partitions}; Kafka cannot take partitions away",
        )
    elif topic.partitions > actual.partitions and topic.is_keyed:
        yield TopicsError(
            f"{topic.name} is keyed: it has {actual.partitions} partitions and cannot get {topic.partitions}",
            where=where,
            mend=f"partitions: {actual.partitions}; with more, keys would move to other partitions and leave their "
            "rows, timers and parked messages behind. Begin afresh under another FARANDOLE_NAMESPACE",
        )


def _too_few_brokers(topics: Topics, topic: Topic, brokers: int) -> TopicsError:
    return TopicsError(
        f"{topic.name} wants {topic.replicas} replicas, the cluster has {brokers} brokers",
        where=topics.where(topic.line),
        mend="wait until all brokers are up, or declare fewer replicas",
    )


def _notes(wanted: Create, actual: _Actual) -> set[str]:
    if wanted.replicas == actual.replicas:
        return set()
    return {
        f"{wanted.topic} has {actual.replicas} replicas, {wanted.replicas} are declared: "
        "moving replicas is work for kafka-reassign-partitions"
    }


def find_orphans(topics: Topics, namespace: str, there: Iterable[str]) -> Iterator[str]:
    """Topics that look like a declared service's and are not declared."""
    services = "|".join(re.escape(name) for name in topics.services)
    ours = re.compile(rf"({services})(\..+|-.+-changelog)?")
    for name in there:
        rest = name.removeprefix(namespace)
        if name.startswith(namespace) and rest not in topics.topics and services and ours.fullmatch(rest):
            yield name


def _is_set(entry: Any) -> bool:
    return bool(entry.source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value)


def _config_change(name: str, value: str | None) -> Any:
    operation = AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET
    return ConfigEntry(name, value, incremental_operation=operation)


def _leaderless(there: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    return [
        f"{name} has partitions without a leader"
        for name in names
        if name not in there
        or there[name].error is not None
        or any(partition.leader < 0 for partition in there[name].partitions.values())
    ]


def _batches(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))
