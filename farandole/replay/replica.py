"""A service as it is in this checkout, without Kafka: its processor, with tables of its own.

Invariant: nothing of it reaches a topic, a group or the outside world. Rows never go by the clock here: they go when
the journal says so.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from farandole import assembly, config
from farandole.app import App
from farandole.event import Row
from farandole.processor import Processor
from farandole.table import Partitioned, UndoLog


class Replica:
    """service: its name; project: read once for all of them; partitions: how many its topics have

    bindings: what it hears; None: what the flows of this checkout bind
    """

    def __init__(
        self,
        service: str,
        project: assembly.Project,
        partitions: int,
        bindings: Sequence[assembly.Binding] | None = None,
    ) -> None:
        self.service, self.project, self.partitions = service, project, partitions
        self.app: App = importlib.import_module(f"agents.{service}").app
        if bindings is None:
            bindings = assembly.with_planted_failures(
                assembly.bindings_of(self.app, project.flows), config.setting("FARANDOLE_FAIL")
            )
        self.bindings = list(bindings)
        self.ended = {
            name: ended for name, table in self.app.rows.items() if (ended := table.local.ended) is not None
        }  # fmt: skip
        self.undo: UndoLog = []
        # No `ended`: a queue of rows that wait for their time would only grow.
        self._tables = [(table, Partitioned(table.name, table.row, self.undo)) for table in self.app.rows.values()]
        own: list[Partitioned[Any]] = [local for _, local in self._tables]
        self.processor: Processor = assembly.build(self.app, project, self.bindings, own, self.undo).processor
        self.processor.partition_count = partitions

    @contextmanager
    def entered(self) -> Iterator[Replica]:
        """Decisions read and write these tables, and no others, until it is left."""
        with ExitStack() as stack:
            for table, local in self._tables:
                stack.callback(setattr, table, "local", table.local)
                table.local = local
            yield self

    def rows(self, partition: int) -> Iterator[tuple[str, str, Row]]:
        """(table, key, row) of one partition."""
        for name, table in self.processor.tables.items():
            for key, row in table.parts[partition].rows.items():
                yield name, key, row

    def encoded(self, table: str, partition: int) -> dict[bytes, bytes]:
        """A table's partition as its changelog would have it."""
        encode = self.processor._row_types[table].encode_row
        return {key.encode(): encode(row) for key, row in self.processor.tables[table].parts[partition].rows.items()}
