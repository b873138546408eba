"""topics.yaml: what is refused and at which line, what is compared with code and schemas, what happens to a cluster."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its re-exports are not declared as such
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from farandole import topicplan
from farandole.config import check_broker
from farandole.errors import BrokerError, TopicsError
from farandole.schemas import Schemas
from farandole.topiccheck import ServiceMap, check
from farandole.topicplan import AddPartitions, Configure, Create, Delete
from farandole.topics import Problem, Topics, read
from tests.farandole import schemaproject as project
from tests.farandole.schemaproject import event, field

if TYPE_CHECKING:
    from farandole.pytest_plugin import TestKafka

ROOT = Path(__file__).resolve().parents[2]

GOOD = """\
services:
  order: {principal: "User:order", group-id: order}
  stock: {principal: "User:stock", group-id: stock}
topics:
  order:
    owner: order
    partitions: 6
    replicas: 3
    key: saga
    retention: 30 days
    events: [order.placed, order.refused]
    configs: {min.insync.replicas: 2, unclean.leader.election.enable: false}
  stock: &own {owner: stock, partitions: 6, replicas: 3, key: sku, retention: 7 days, events: [stock.taken]}
  stock.commands: {owner: stock, partitions: 6, replicas: 3, key: saga, retention: 1, events: [stock.commands.take]}
  order.journal: {owner: order, partitions: 6, replicas: 3, retention: forever}
  order.dlq: {owner: order, partitions: 6, replicas: 3, retention: forever}
  order-parked-changelog: {owner: order, partitions: 6, replicas: 3, retention: compact}
  stock.journal: {owner: stock, partitions: 6, replicas: 3, retention: forever}
  stock.dlq: {owner: stock, partitions: 6, replicas: 3, retention: forever}
  stock-parked-changelog: {owner: stock, partitions: 6, replicas: 3, retention: compact}
  order.operations: {owner: order, partitions: 6, replicas: 3, retention: forever}
  order-handled-changelog: {owner: order, partitions: 6, replicas: 3, retention: compact}
  stock.operations: {owner: stock, partitions: 6, replicas: 3, retention: forever}
  stock-handled-changelog: {owner: stock, partitions: 6, replicas: 3, retention: compact}
  stock-levels-changelog: {owner: stock, partitions: 6, replicas: 3, retention: compact}
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        (tmp_path / "topics.yaml").write_text(textwrap.dedent(text))
        return tmp_path / "topics.yaml"

    return write


def test_a_topic_is_read_with_what_follows_from_its_retention(written: Callable[[str], Path]) -> None:
    topics = Topics.load(written(GOOD))
    order = topics.topics["order"]
    assert (order.owner, order.partitions, order.replicas, order.key) == ("order", 6, 3, "saga")
    assert order.events == ("order.placed", "order.refused")
    assert order.configs == {
        "min.insync.replicas": "2",
        "unclean.leader.election.enable": "false",
        "cleanup.policy": "delete",
        "retention.ms": str(30 * 24 * 3600 * 1000),
        "message.timestamp.type": "LogAppendTime",
    }
    assert topics.topics["order.dlq"].configs["retention.ms"] == "-1"
    assert topics.topics["order.dlq"].configs["retention.bytes"] == "-1"
    assert topics.topics["stock-levels-changelog"].configs["cleanup.policy"] == "compact"
    assert topics.keys() == {"order": "saga", "stock": "sku", "stock.commands": "saga"}
    assert topics.services["stock"].principal == "User:stock"
    assert topics.of_event("stock.taken") == topics.topics["stock"]


def test_every_topic_gets_the_brokers_time() -> None:
    topics = Topics.load(ROOT / "topics.yaml")
    assert {topic.configs["message.timestamp.type"] for topic in topics.topics.values()} == {"LogAppendTime"}


def test_anchors_and_merge_keys_may_be_used(written: Callable[[str], Path]) -> None:
    text = GOOD + "  order.calls:\n    <<: *own\n    owner: order\n    events: []\n    key:\n"
    topic = Topics.load(written(text)).topics["order.calls"]
    assert (topic.owner, topic.partitions, topic.retention, topic.key) == ("order", 6, "7 days", None)


def change(topic: str, old: str, new: str) -> tuple[str, int]:
    """GOOD with a change within one topic, and the topic's line."""
    lines = GOOD.split("\n")
    begin = lines.index("services:" if "group-id" in old + new else "topics:")
    number = next(number for number, line in enumerate(lines) if number > begin and line.startswith(f"  {topic}:"))
    last = next(n for n in range(number, len(lines)) if lines[n] != lines[number] and not lines[n].startswith("    "))
    text = "\n".join(lines[number:last])
    assert old in text
    return "\n".join([*lines[:number], *text.replace(old, new, 1).split("\n"), *lines[last:]]), number + 1


def without(topic: str) -> str:
    return "".join(line for line in GOOD.splitlines(keepends=True) if not line.startswith(f"  {topic}:"))


BROKEN: list[tuple[str, int, str, str]] = [
    ("`partitons` is not known", 7, "    partitions: 6", "    partitons: 6"),
    ("`partitions` is missing", 5, "    partitions: 6\n", ""),
    ("`partitions` cannot be 0", 7, "    partitions: 6", "    partitions: 0"),
    ("`partitions` cannot be True", 7, "    partitions: 6", "    partitions: yes"),
    ("`partitions` cannot be 60000", 7, "    partitions: 6", "    partitions: 60000"),
    ("`replicas` cannot be 'three'", 8, "    replicas: 3", "    replicas: three"),
    ("`key` is missing", 5, "    key: saga\n", ""),
    ("the key cannot be ['saga']", 9, "    key: saga", "    key: [saga]"),
    ("a key, but no events", 14, "events: [stock.commands.take]", "events: []"),
    ("`retention` cannot be 'for ever'", 10, "30 days", "for ever"),
    ("`retention` cannot be '0 days'", 10, "30 days", "0 days"),
    ("`retention` is missing", 5, "    retention: 30 days\n", ""),
    ("'placed' is no event of this topic", 11, "[order.placed, order.refused]", "[placed, order.refused]"),
    ("'stock.taken' is no event of this topic", 11, "[order.placed, order.refused]", "[order.placed, stock.taken]"),
    ("order.placed stands there twice", 11, "[order.placed, order.refused]", "[order.placed, order.placed]"),
    ("`events` is no list", 11, "[order.placed, order.refused]", "order.placed"),
    ("Kafka has no topic config `min.isr`", 12, "min.insync.replicas: 2", "min.isr: 2"),
    ("`retention.ms` follows from elsewhere", 12, "min.insync.replicas: 2", "retention.ms: 2"),
    ("`message.timestamp.type` follows", 12, "min.insync.replicas: 2", "message.timestamp.type: CreateTime"),
    ("`min.insync.replicas` cannot be [2]", 12, "min.insync.replicas: 2", "min.insync.replicas: [2]"),
    ("its owner ordre is no service", 5, "    owner: order\n", "    owner: ordre\n"),
    ("`owner` is missing", 5, "    owner: order\n", ""),
    ("order.dlq needs a mapping", 16, "order.dlq: {", "order.dlq:\n  order.rest: {"),
    ("cannot be a topic's name", 16, "  order.dlq:", "  order/dlq:"),
    ("Kafka cannot tell order_dlq from order.dlq", 17, "order-parked-changelog:", "order_dlq:"),
    ("`principal` is missing", 2, 'principal: "User:order", ', ""),
    ("`group-id` is missing", 2, ", group-id: order", ""),
    ("`gruop-id` is not known", 2, "group-id: order", "gruop-id: order"),
    ("`topcs` is not known", 4, "\ntopics:", "\ntopcs:"),
    ("`services` is missing or empty", 1, GOOD[: GOOD.index("topics:")], ""),
    ("it is no mapping", 1, GOOD, "[]"),
    ("it is no mapping", 1, GOOD, ""),
]


@pytest.mark.parametrize(("what", "line", "old", "new"), BROKEN)
def test_what_is_wrong_is_said_with_its_line(
    written: Callable[[str], Path], what: str, line: int, old: str, new: str
) -> None:
    assert old in GOOD
    path = written(GOOD.replace(old, new, 1))
    _, problems = read(path)
    match = next((problem for problem in problems if what in problem.what), None)
    assert match is not None, problems
    assert (match.where, bool(match.mend)) == (f"topics.yaml:{line}", True)
    with pytest.raises(TopicsError):
        Topics.load(path)


@pytest.mark.parametrize(
    ("what", "line", "text"),
    [
        ("'order.dlq' stands here twice", 17, GOOD.replace("order-parked-changelog:", "order.dlq:")),
        ("it is no YAML", 6, GOOD.replace("  order:\n", "  order\n")),
        ("it is no YAML", 1, "services: {order: [}"),
    ],
)
def test_what_cannot_even_be_read_is_said_with_its_line(
    written: Callable[[str], Path], what: str, line: int, text: str
) -> None:
    with pytest.raises(TopicsError, match=what) as caught:
        Topics.load(written(text))
    assert caught.value.where == f"topics.yaml:{line}"


def test_all_that_is_wrong_is_found_at_once(written: Callable[[str], Path]) -> None:
    _, problems = read(written(GOOD.replace("replicas: 3", "replicas: -3")))
    assert len(problems) == 15 - 1
    with pytest.raises(TopicsError, match="and 13 more"):
        Topics.load(written(GOOD.replace("replicas: 3", "replicas: -3")))


def test_a_file_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(TopicsError, match="there is no topics"):
        Topics.load(tmp_path / "topics.yaml")


def test_a_near_miss_in_a_config_is_answered_with_the_right_name(written: Callable[[str], Path]) -> None:
    _, problems = read(written(GOOD.replace("min.insync.replicas", "min.insync.replica")))
    assert problems[0].mend == "did you mean min.insync.replicas?"


# ---- against schemas and code

SCHEMAS = [
    event("order.placed", field("sku", "string")),
    event("order.refused", field("reason", "string")),
    event("stock.taken", field("sku", "string")),
    event("stock.commands.take", field("sku", "string")),
]
ORDER = ServiceMap("order", {"stock.taken"}, {"order.placed", "order.refused", "stock.commands.take"}, set())
STOCK = ServiceMap("stock", {"stock.commands.take"}, {"stock.taken"}, {"levels"})


@pytest.fixture
def schemas(tmp_path: Path) -> Schemas:
    (tmp_path / "schemas").mkdir()
    return project.load(tmp_path / "schemas", *SCHEMAS)


def found(path: Path, schemas: Schemas, *services: ServiceMap) -> list[Problem]:
    return check(Topics.load(path), schemas, services)


def test_what_agrees_has_no_problem(written: Callable[[str], Path], schemas: Schemas) -> None:
    assert found(written(GOOD), schemas, ORDER, STOCK) == []


FILE = "topics.yaml"
AUDIT = "  audit: {principal: x, group-id: audit}"
DISAGREEING: list[tuple[str, str | None, tuple[str, int]]] = [
    ("order: order.lost has no schema", f"{FILE}:11", change("order", "refused]", "refused, order.lost]")),
    ("has a schema, but no topic lists it", "schemas/order.refused.1.avsc", change("order", ", order.refused]", "]")),
    ("order publishes order.refused, which no topic lists", FILE, change("order", ", order.refused]", "]")),
    ("stock hears stock.commands.take, which no topic lists", FILE, (without("stock.commands"), 0)),
    ("its key is sku, but order.refused has no such field", None, change("order", "key: saga", "key: sku")),
    ("order.placed, but order belongs to stock", f"{FILE}:11", change("order", "owner: order", "owner: stock")),
    ("its journal is not declared", FILE, (without("order.journal"), 0)),
    ("its dead letter queue is not declared", FILE, (without("order.dlq"), 0)),
    ("the changelog of its table levels is not declared", FILE, (without("stock-levels-changelog"), 0)),
    ("no table has this changelog", None, change("stock-levels-changelog", "stock-levels", "stock-leveis")),
    ("stock.dlq belongs to stock, not order", None, change("stock.dlq", "owner: stock", "owner: order")),
    ("dead letters are not thrown away", None, change("stock.dlq", "forever", "9 days")),
    ("what operators ask of it is not declared", FILE, (without("order.operations"), 0)),
    ("what became of dead letters is not thrown", None, change("stock.operations", "forever", "9 days")),
    ("a changelog is compacted", None, change("stock-parked-changelog", "compact", "forever")),
    ("the other topics of stock have 6", None, change("stock-levels-changelog", "partitions: 6", "partitions: 7")),
    ("stock has 12 partitions, the other topics of order", None, change("stock", "partitions: 6", "partitions: 12")),
    ("its consumer group is called after it", f"{FILE}:2", change("order", "group-id: order", "group-id: orders")),
    ("no flow binds a decision of audit", f"{FILE}:2", (GOOD.replace("services:", f"services:\n{AUDIT}"), 0)),
]


@pytest.mark.parametrize(("what", "where", "changed"), DISAGREEING)
def test_what_disagrees_is_named_with_its_place_and_its_cure(
    written: Callable[[str], Path], schemas: Schemas, what: str, where: str | None, changed: tuple[str, int]
) -> None:
    text, line = changed
    problems = found(written(text), schemas, ORDER, STOCK)
    match = next((problem for problem in problems if what in problem.what), None)
    assert match is not None, problems
    assert match.where == (where or f"{FILE}:{line}")
    assert match.mend


def test_a_service_that_calls_or_waits_needs_topics_for_it(written: Callable[[str], Path], schemas: Schemas) -> None:
    calling = ServiceMap("stock", STOCK.hears, STOCK.publishes, STOCK.tables, calls=True, timers=True)
    missing = {problem.mend.split(":")[0] for problem in found(written(GOOD), schemas, ORDER, calling)}
    assert missing == {"stock.calls", "stock.timers", "stock-calls-changelog", "stock-timers-changelog"}


def test_a_service_that_is_not_declared_is_named(written: Callable[[str], Path], schemas: Schemas) -> None:
    mail = ServiceMap("mail", {"order.placed"}, set(), set())
    problems = found(written(GOOD), schemas, ORDER, STOCK, mail)
    assert "mail is a service in the code, but not in topics.yaml" in {problem.what for problem in problems}


def test_the_lines_that_are_proposed_cure_what_they_are_proposed_for(
    written: Callable[[str], Path], schemas: Schemas
) -> None:
    """Whoever pastes them is done."""
    calling = ServiceMap("stock", STOCK.hears, STOCK.publishes, STOCK.tables, calls=True, timers=True)
    problems = found(written(GOOD), schemas, ORDER, calling)
    mended = GOOD + "".join(f"  {problem.mend}\n" for problem in problems)
    assert found(written(mended), schemas, ORDER, calling) == []


# ---- against a cluster


@pytest.fixture
def admin(kafka: TestKafka) -> Any:
    return AdminClient(dict(kafka.config))


def partitions(admin: Any, name: str) -> int | None:
    topic = admin.list_topics(timeout=10).topics.get(name)
    return len(topic.partitions) if topic else None


def config_of(admin: Any, name: str) -> dict[str, str]:
    ((_, future),) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, name)]).items()
    return {entry.name: entry.value for entry in future.result(10).values()}


def test_apply_makes_every_topic_and_does_it_once(
    written: Callable[[str], Path], kafka: TestKafka, admin: Any, namespace: str
) -> None:
    topics, told = Topics.load(written(GOOD)), list[str]()
    planned = topics.plan(kafka.config, namespace)
    assert [type(action) for action in planned.actions] == [Create] * 14
    assert partitions(admin, namespace + "order") is None, "plan does nothing"
    topics.apply(kafka.config, namespace, told.append)
    assert len([line for line in told if line.startswith("create")]) == 14
    for name, topic in topics.topics.items():
        assert partitions(admin, namespace + name) == topic.partitions
    kept = config_of(admin, namespace + "order")
    assert (kept["message.timestamp.type"], kept["cleanup.policy"]) == ("LogAppendTime", "delete")
    assert kept["retention.ms"] == str(30 * 24 * 3600 * 1000)
    assert config_of(admin, namespace + "stock-levels-changelog")["cleanup.policy"] == "compact"
    assert topics.apply(kafka.config, namespace).actions == ()


def test_configs_follow_topics_yaml_whoever_changed_them(
    written: Callable[[str], Path], kafka: TestKafka, admin: Any, namespace: str
) -> None:
    Topics.load(written(GOOD)).apply(kafka.config, namespace)
    tampered = ConfigEntry("max.message.bytes", "5000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, namespace + "order", incremental_configs=[tampered])
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(10)
    deadline = time.monotonic() + 10
    while config_of(admin, namespace + "order")["max.message.bytes"] != "5000":
        assert time.monotonic() < deadline
    changed = Topics.load(written(GOOD.replace("30 days", "31 days")))
    (action,) = changed.plan(kafka.config, namespace).actions
    assert isinstance(action, Configure)
    days = 24 * 3600 * 1000
    assert action.changes["max.message.bytes"] == ("5000", None)
    assert action.changes["retention.ms"] == (str(30 * days), str(31 * days))
    changed.apply(kafka.config, namespace)
    kept = config_of(admin, namespace + "order")
    assert (kept["retention.ms"], kept["max.message.bytes"] != "5000") == (str(31 * days), True)
    assert changed.plan(kafka.config, namespace).actions == ()


def test_keyed_topics_get_no_partitions_and_then_nothing_is_done(
    written: Callable[[str], Path], kafka: TestKafka, admin: Any, namespace: str
) -> None:
    Topics.load(written(GOOD)).apply(kafka.config, namespace)
    more = GOOD.replace("partitions: 6", "partitions: 7") + (
        "  order.new: {owner: order, partitions: 7, replicas: 3, retention: forever}\n"
    )
    grown = Topics.load(written(more))
    refused = grown.plan(kafka.config, namespace).refused
    assert len(refused) == 14
    assert refused[0].where == "topics.yaml:5"
    assert "other partitions" in refused[0].mend
    with pytest.raises(TopicsError, match="is keyed"):
        grown.apply(kafka.config, namespace)
    assert partitions(admin, namespace + "order") == 6
    assert partitions(admin, namespace + "order.new") is None
    shrunk = Topics.load(written(GOOD.replace("partitions: 6", "partitions: 5")))
    with pytest.raises(TopicsError, match="5 are declared"):
        shrunk.apply(kafka.config, namespace)


def test_a_topic_that_nothing_is_keyed_by_may_grow(
    written: Callable[[str], Path], kafka: TestKafka, admin: Any, namespace: str
) -> None:
    free = "  order.exports: {{owner: order, partitions: {}, replicas: 3, retention: forever}}\n"
    Topics.load(written(GOOD + free.format(1))).apply(kafka.config, namespace)
    made = Topics.load(written(GOOD + free.format(3))).apply(kafka.config, namespace)
    assert made.actions == (AddPartitions(namespace + "order.exports", 1, 3),)
    assert partitions(admin, namespace + "order.exports") == 3


def test_nothing_is_deleted_unless_asked_for_and_never_what_is_not_ours(
    written: Callable[[str], Path], kafka: TestKafka, admin: Any, namespace: str
) -> None:
    Topics.load(written(GOOD)).apply(kafka.config, namespace)
    Topics.load(written(GOOD)).apply(kafka.config, namespace + "2.")
    other = 'services: {orders: {principal: "User:x", group-id: orders}}\ntopics:\n'
    other += "  orders.private: {owner: orders, partitions: 1, replicas: 1, retention: forever}\n"
    Topics.load(written(other)).apply(kafka.config, namespace)
    smaller = Topics.load(written(GOOD[: GOOD.index("  stock-levels-changelog")]))
    kept = smaller.apply(kafka.config, namespace)
    assert kept.actions == ()
    assert kept.orphans == (f"{namespace}stock-levels-changelog",)
    assert partitions(admin, namespace + "stock-levels-changelog") == 6
    deleted = smaller.apply(kafka.config, namespace, allow_delete=True)
    assert deleted.actions == (Delete(f"{namespace}stock-levels-changelog"),)
    assert partitions(admin, namespace + "orders.private") == 1
    assert partitions(admin, namespace + "2.stock-levels-changelog") == 6


def test_an_orphan_is_under_our_namespace_and_called_after_a_service(written: Callable[[str], Path]) -> None:
    topics = Topics.load(written(GOOD))
    orphans = ["stock.old", "stock-old-changelog", "order.timers"]
    others = ["stock", "orders", "order-service", "stock-old", "_schemas", "__consumer_offsets", "x.stock.old"]
    there = [*orphans, *others, *(f"mine.{name}" for name in orphans + others)]
    assert list(topicplan.find_orphans(topics, "", there)) == orphans
    assert list(topicplan.find_orphans(topics, "mine.", there)) == [f"mine.{name}" for name in orphans]
    assert list(topicplan.find_orphans(topics, "mine", there)) == []


def test_without_a_broker_it_is_said_that_there_is_none(
    written: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topicplan, "check_broker", functools.partial(check_broker, timeout=0.5))
    with pytest.raises(BrokerError) as caught:
        Topics.load(written(GOOD)).plan({"bootstrap.servers": "127.0.0.1:9", "log_level": 0})
    assert caught.value.where == "127.0.0.1:9"


def test_three_brokers_get_the_replicas_that_are_declared(
    written: Callable[[str], Path], kafka_cluster: Any, namespace: str
) -> None:
    config: Any = {"bootstrap.servers": kafka_cluster.bootstrap_servers}
    Topics.load(written(GOOD)).apply(config, namespace)
    topic = AdminClient(config).list_topics(timeout=10).topics[namespace + "order"]
    assert {len(partition.replicas) for partition in topic.partitions.values()} == {3}
    many = Topics.load(written(GOOD.replace("replicas: 3", "replicas: 5", 1)))
    with pytest.raises(TopicsError, match="wants 5 replicas, the cluster has 3 brokers"):
        many.apply(config, namespace)


# ---- the command line


def command(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    call = [sys.executable, "-m", "farandole.cli.main", "topics", *arguments]
    given = {"FARANDOLE_PROJECT": str(root), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(call, env=given, capture_output=True, text=True, check=False, timeout=60)


def test_the_projects_own_topics_schemas_and_code_agree() -> None:
    run = command(ROOT, "validate", "--json")
    assert (run.returncode, json.loads(run.stdout)) == (0, {"valid": True, "problems": []}), run.stderr


def test_validate_prints_what_where_and_how_to_mend_it(written: Callable[[str], Path]) -> None:
    path = written(GOOD.replace("replicas: 3", "replicas: none"))
    run = command(path.parent, "validate")
    assert run.returncode == 1
    assert "where: topics.yaml:8" in run.stderr
    assert "mend:  replicas: a whole number from 1 to 100" in run.stderr
    assert "14 problems" in run.stderr
    assert "Traceback" not in run.stderr
    found = json.loads(command(path.parent, "validate", "--json").stdout)
    assert (found["valid"], len(found["problems"])) == (False, 14)


def test_whatever_is_wrong_validate_prints_one_object(written: Callable[[str], Path]) -> None:
    """Broken YAML, no schemas, an events.py of yesterday: each is a problem like any other."""
    root = written(GOOD).parent
    (root / "schemas").mkdir()
    project.load(root / "schemas", *SCHEMAS)

    def problem() -> str:
        run = command(root, "validate", "--json")
        assert (run.returncode, run.stderr) == (1, "")
        return str(json.loads(run.stdout)["problems"][0]["what"])

    assert problem() == "events.py is not what schemas/ say"
    (root / "schemas" / "ids.json").write_text("{}")
    assert problem() == "order.placed.1.avsc has no schema id"
    written("topics: [")
    assert problem().startswith("it is no YAML")


def test_the_verbs_have_exit_codes_and_json_for_scripts(
    written: Callable[[str], Path], kafka: TestKafka, namespace: str
) -> None:
    root, environment = written(GOOD).parent, {**kafka.environment, "FARANDOLE_NAMESPACE": namespace}
    listed = json.loads(command(root, "list", "--json", **environment).stdout)["topics"]
    assert (len(listed), listed[0]["topic"], listed[0]["key"]) == (14, namespace + "order", "saga")
    planned = command(root, "plan", "--exit-code", "--json", **environment)
    assert planned.returncode == 10
    assert len(json.loads(planned.stdout)["actions"]) == 14
    applied = command(root, "apply", **environment)
    assert (applied.returncode, applied.stdout) == (0, "14 done\n")
    assert command(root, "plan", "--exit-code", **environment).returncode == 0
    written(GOOD.replace("partitions: 6", "partitions: 7"))
    refused = command(root, "plan", **environment)
    assert refused.returncode == 1
    assert "refused: order is keyed" in refused.stderr
    failed = command(root, "apply", **environment)
    assert (failed.returncode, failed.stdout) == (1, "")
    assert "Traceback" not in failed.stderr
