"""What tests of decisions need: tables without Kafka."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from farandole.app import App
from farandole.table import Part


@contextmanager
def tables(app: App, partition: int = 0) -> Iterator[App]:
    """Give every table of `app` one fresh, empty partition, and take it away again afterwards."""
    before = {name: table.local.parts for name, table in app.rows.items()}
    for table in app.rows.values():
        table.local.parts = {partition: Part(table.name, partition)}
        table.local.switch(partition)
    try:
        yield app
    finally:
        app.undo_log.clear()
        for name, table in app.rows.items():
            table.local.parts = before[name]
            table.local.leave()
