"""Tables: a service's state, changelogged, partitioned with the messages that change it, and undone when a batch is.

Invariant: after `undo(log, mark)` every table holds exactly what it held when the log had length `mark`. All tables
           of an App
write into one log, so one list is the savepoint of a message, the undo of a batch and the list of keys for the
changelog.

A read is a plain dictionary read: `switch` points the table at the partition of the message under way, once per
stretch of messages, not once per access.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import faust

from farandole.event import Row

if TYPE_CHECKING:
    from farandole.app import App

RowT = TypeVar("RowT", bound=Row)

Keep = Callable[[float], float]
"""Seconds for which rows of ended sagas stay → seconds for which those of one table do."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()


class Part:
    """One partition of one table: its rows by key."""

    __slots__ = ("partition", "rows", "table")

    def __init__(self, table: str, partition: int) -> None:
        self.table, self.partition = table, partition
        self.rows: dict[str, Any] = {}


UndoLog = list[tuple[Part, str, Any]]
"""Every write: where, which key, and what was there before (MISSING: nothing)."""

Changes = dict[Part, dict[str, Any]]
"""What a batch changed: each part's rows by key, None where there is none any more."""


class _Homeless(dict[str, Any]):
    """Stands where the rows would be while no message is under way: whoever asks gets told."""

    def __init__(self, table: str) -> None:
        self._table = table

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError(f"table {self._table!r} is open only within a decision (in tests: farandole.testing.tables)")

    get = __getitem__ = __contains__ = __iter__ = __len__ = _refuse


class Partitioned(Generic[RowT]):
    """The rows of one table in all partitions that this worker owns, and the one that is under way."""

    def __init__(
        self,
        name: str,
        row: type[RowT],
        log: UndoLog,
        ended: Callable[[RowT], bool] | None = None,
        keep: Keep | None = None,
    ) -> None:
        self.name, self.row, self.log, self.ended, self.keep = name, row, log, ended, keep
        self.parts: dict[int, Part] = {}
        self.leave()

    def switch(self, partition: int) -> None:
        """The message under way lies in `partition`: reads and writes go there."""
        self.part = self.parts[partition]
        self.rows = self.part.rows
        self.get = self.rows.get

    def leave(self) -> None:
        """No message is under way."""
        self.rows = _Homeless(self.name)
        self.part = Part(self.name, -1)
        self.get = self.rows.get

    def put(self, key: str, row: RowT) -> None:
        self.log.append((self.part, key, self.get(key, MISSING)))
        self.rows[key] = row

    def remove(self, key: str) -> RowT:
        row: RowT = self.rows[key]
        self.log.append((self.part, key, row))
        del self.rows[key]
        return row


class Table(faust.Table[str, RowT], Generic[RowT]):
    """A Faust table whose rows are kept by the batch engine: `levels[sku] = StockLevel(...)`.

    ended: tells of a row that its saga has ended; such a row is removed a retention after its last change
           (FARANDOLE_KEEP_SECONDS). None: rows stay for ever.
    keep:  seconds of that retention → seconds for which an ended row of this table stays; None: as long

    Keys are strings, values rows generated from schemas/. A row is reachable from messages of its own partition only.
    """

    def __init__(
        self,
        app: App,
        *,
        name: str,
        value: type[RowT],
        log: UndoLog,
        ended: Callable[[RowT], bool] | None = None,
        keep: Keep | None = None,
        **options: Any,
    ) -> None:
        super().__init__(app, name=name, key_type=str, value_type=None, **options)
        self.row = value
        self.local = Partitioned(name, value, log, ended, keep)

    def __getitem__(self, key: str) -> RowT:
        return self.local.rows[key]  # type: ignore[no-any-return]

    def __setitem__(self, key: str, row: RowT) -> None:
        self.local.put(key, row)

    def __delitem__(self, key: str) -> None:
        self.local.remove(key)

    def __contains__(self, key: object) -> bool:
        return key in self.local.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self.local.rows)

    def __len__(self) -> int:
        return len(self.local.rows)

    def get(self, key: str, default: RowT | None = None) -> RowT | None:  # type: ignore[override]
        row: RowT | None = self.local.get(key, default)
        return row

    def pop(self, key: str, default: RowT | None = MISSING) -> RowT | None:  # type: ignore[override]
        local = self.local
        if key in local.rows:
            return local.remove(key)
        if default is MISSING:
            raise KeyError(key)
        return default

    def keys(self) -> Any:
        return self.local.rows.keys()

    def values(self) -> Any:
        return self.local.rows.values()

    def items(self) -> Any:
        return self.local.rows.items()

    def committed(self, partition: int, key: str) -> RowT | None:
        """The row as of the last commit, whatever an open batch did to it: what may be shown to the outside. Any
        thread.

        KeyError: this worker does not own the partition.
        """
        part = self.local.parts[partition]
        row = part.rows.get(key)
        while True:
            for logged, changed, before in list(self.local.log):
                if logged is part and changed == key:
                    return None if before is MISSING else before
            looked, row = row, part.rows.get(key)
            if row is looked:
                # Not in the log, before it and after: a row that an abort took back in between is another one now.
                return row


def undo(log: UndoLog, mark: int = 0) -> None:
    """Take back every write since the log had length `mark`, last first."""
    while len(log) > mark:
        part, key, before = log[-1]
        if before is MISSING:
            part.rows.pop(key, None)
        else:
            part.rows[key] = before
        log.pop()  # after the row is back: `Table.committed` on another thread looks into the log


def changes(log: UndoLog) -> Changes:
    """What the log's writes amount to: each part's rows by key, None where there is none any more. What ended as it
    began is left out.
    """
    changed: Changes = {}
    for part, key, before in log:
        rows = changed.get(part)
        if rows is None:
            rows = changed[part] = {}
        if key not in rows:
            rows[key] = before
    for part, rows in changed.items():
        now = part.rows.get
        for key, before in list(rows.items()):
            row = now(key)
            if row is before or (row is None and before is MISSING):
                del rows[key]
            else:
                rows[key] = row
    return changed
