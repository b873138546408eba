"""What every replay begins with: the project, and a reader of the topics that joins no group and commits nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from farandole import assembly, config
from farandole.assembly import Project
from farandole.config import ClientConfig
from farandole.errors import AuditError, ConfigError, ReplayError
from farandole.replay.replica import Replica
from farandole.replay.runs import QuickReader
from farandole.topics import Topics

PATIENCE = 60.0
"""Seconds without a record after which the reading is given up."""


@dataclass(frozen=True)
class Opened:
    """An installation, as the environment names it."""

    config: ClientConfig
    namespace: str
    topics: Topics
    project: Project
    reader: QuickReader

    def replica(self, service: str) -> Replica:
        """ConfigError if there is no such service."""
        if service not in self.topics.services:
            known = ", ".join(self.topics.services)
            raise ConfigError(f"no such service: {service}", where="--service", mend=f"one of {known}")
        return Replica(service, self.project, self.reader.partitions[f"{service}.journal"])


@contextmanager
def opened() -> Iterator[Opened]:
    """ReplayError where Kafka cannot be read as it should be."""
    kafka, namespace = config.kafka_client_config(), config.namespace()
    topics = Topics.load(config.project_root() / "topics.yaml")
    project = Project.read(registry=assembly.schema_registry())
    config.check_broker(kafka)
    try:
        reader = QuickReader(kafka, namespace, topics.topics, PATIENCE)
        try:
            yield Opened(kafka, namespace, topics, project, reader)
        finally:
            reader.close()
    except AuditError as error:
        raise ReplayError(error.what, where=error.where, mend=error.mend) from error
