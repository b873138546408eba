"""The sagas in flight on the cluster that the environment names."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka.admin import AdminClient

from farandole import config
from farandole.assembly import Project, schema_registry
from farandole.audit.reading import Progress
from farandole.config import ClientConfig
from farandole.errors import AuditError, BrokerError
from farandole.inflight.counting import Count, Told, count
from farandole.inflight.groups import ANSWER_WITHIN, committed
from farandole.replay.runs import QuickReader
from farandole.topics import Topics

PATIENCE = 60.0
"""Seconds without a record after which the reading is given up."""


def told_by(project: Project, topics: Topics, services: Iterable[str] | None = None) -> Told:
    """What the code of this checkout says."""
    names = topics.services if services is None else services
    ended = {name: _ended(importlib.import_module(f"agents.{name}").app) for name in names}
    return Told(
        project.codec,
        project.flows,
        ended,
        frozenset(name for name, topic in topics.topics.items() if topic.events),
    )


def _ended(app: Any) -> Mapping[str, Any]:
    return {name: ended for name, table in app.rows.items() if (ended := table.local.ended) is not None}


def ask(progress: Progress) -> Count:
    """BrokerError if there is no cluster, or it does not answer."""
    kafka, namespace = config.kafka_client_config(), config.namespace()
    config.check_broker(kafka)
    topics = Topics.load(config.project_root() / "topics.yaml")
    told = told_by(Project.read(registry=schema_registry()), topics)
    wanted = told.topics | told.changelogs().keys()
    there = wanted & _topics_of(kafka, namespace)
    if not there:
        raise BrokerError(
            f"there are no topics {f'that begin with {namespace!r}' if namespace else 'of this system'}",
            where=str(kafka["bootstrap.servers"]),
            mend="check FARANDOLE_NAMESPACE and KAFKA_BOOTSTRAP_SERVERS; `farandole topics apply` creates them",
        )
    positions = committed(kafka, namespace, topics.services)
    try:
        reader = QuickReader(kafka, namespace, there, PATIENCE)
        try:
            found = count(reader, told, positions, progress)
        finally:
            reader.close()
    except AuditError as error:
        raise BrokerError(error.what, where=error.where, mend=error.mend) from error
    if missing := len(wanted) - len(there):
        found.notes.append(f"{missing} topics are not there yet: farandole topics plan")
    return found


def _topics_of(kafka: ClientConfig, namespace: str) -> set[str]:
    found = AdminClient({**kafka, "log_level": 0}).list_topics(timeout=ANSWER_WITHIN).topics
    return {name[len(namespace) :] for name in found if name.startswith(namespace)}
