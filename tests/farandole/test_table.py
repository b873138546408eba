"""Tables: what was written is undone exactly, and the changelog gets what changed."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farandole.event import Row
from farandole.table import Part, Partitioned, Table, UndoLog, changes, undo


class Count(Row, frozen=True):
    n: int


def make(partitions: int = 2) -> tuple[Partitioned[Count], UndoLog]:
    log: UndoLog = []
    table = Partitioned("counts", Count, log)
    table.parts = {p: Part("counts", p) for p in range(partitions)}
    table.switch(0)
    return table, log


writes = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from("abc"), st.one_of(st.none(), st.integers(0, 3))), max_size=30
)


def play(table: Partitioned[Count], steps: list[tuple[int, str, int | None]]) -> None:
    for partition, key, n in steps:
        table.switch(partition)
        if n is not None:
            table.put(key, Count(n))
        elif key in table.rows:
            table.remove(key)


def contents(table: Partitioned[Count]) -> dict[int, dict[str, Count]]:
    return {partition: dict(part.rows) for partition, part in table.parts.items()}


@given(writes, writes)
def test_undo_to_a_mark_gives_back_what_was_there_at_the_mark(
    before: list[tuple[int, str, int | None]], after: list[tuple[int, str, int | None]]
) -> None:
    table, log = make()
    play(table, before)
    mark, then = len(log), contents(table)
    play(table, after)
    undo(log, mark)
    assert contents(table) == then
    undo(log)
    assert contents(table) == {0: {}, 1: {}}


@given(writes, writes)
def test_changes_applied_to_the_old_rows_give_the_new_rows(
    before: list[tuple[int, str, int | None]], after: list[tuple[int, str, int | None]]
) -> None:
    table, log = make()
    play(table, before)
    log.clear()
    replica = contents(table)
    play(table, after)
    for part, rows in changes(log).items():
        for key, row in rows.items():
            if row is None:
                replica[part.partition].pop(key, None)
            else:
                replica[part.partition][key] = row
    assert replica == contents(table)


def test_a_row_set_and_removed_in_one_batch_leaves_no_changelog_record() -> None:
    table, log = make()
    table.put("a", Count(1))
    table.remove("a")
    assert not any(changes(log).values())


def test_outside_a_decision_a_table_says_so() -> None:
    table, _ = make()
    table.leave()
    with pytest.raises(RuntimeError, match="open only within a decision"):
        table.get("a")
    with pytest.raises(RuntimeError, match="counts"):
        table.put("a", Count(1))


def test_what_an_abort_takes_back_while_somebody_looks_is_not_shown() -> None:
    """The engine's thread may abort between any two steps of a look from outside: here after the row was read."""

    class Log(UndoLog):
        def __iter__(self) -> Iterator[tuple[Part, str, Any]]:
            undo(self)
            return super().__iter__()

    log = Log()
    local = Partitioned("counts", Count, log)
    local.parts = {0: Part("counts", 0)}
    local.parts[0].rows["a"] = Count(1)
    local.switch(0)
    local.put("a", Count(2))
    table: Any = SimpleNamespace(local=local)
    assert Table.committed(table, 0, "a") == Count(1)
