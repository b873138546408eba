"""What a rebuild found, for people and for scripts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farandole.replay.rebuilding import Rebuilt, TableDifference

SHOWN = 20
"""Notes and keys that are shown to people."""


@dataclass
class Comparison:
    """A service's tables from history beside the live ones.

    moving:  partitions that never stood still
    written: rows that were put in the place of the live ones; None: that was not asked for
    left:    rows that still differ after that
    """

    rebuilt: Rebuilt
    moving: list[int]
    tables: list[TableDifference]
    snapshot: Path | None = None
    written: int | None = None
    left: int = 0

    @property
    def differing(self) -> int:
        return sum(table.count for table in self.tables)

    @property
    def ok(self) -> bool:
        return not self.moving and not (self.differing if self.written is None else self.left)

    def to_dict(self) -> dict[str, Any]:
        rebuilt = self.rebuilt
        return {
            "ok": self.ok,
            "service": rebuilt.service,
            "from": str(self.snapshot) if self.snapshot else "the beginning",
            "records": rebuilt.records,
            "messages": rebuilt.messages,
            "transactions": rebuilt.transactions,
            "seconds": round(rebuilt.seconds, 3),
            "differing": self.differing,
            "moving": self.moving,
            "written": self.written,
            "left": self.left,
            "tables": {table.table: table.to_dict() for table in self.tables},
            "notes": rebuilt.notes.kept,
            "notes_count": rebuilt.notes.count,
        }


def show(outcome: Comparison, as_json: bool) -> None:
    """On standard output."""
    if as_json:
        print(json.dumps(outcome.to_dict()), flush=True)
        return
    rebuilt = outcome.rebuilt
    begin = f"from {outcome.snapshot}" if outcome.snapshot else "from the beginning"
    print(
        f"{rebuilt.service}, {begin}: {rebuilt.messages:,} messages in {rebuilt.transactions:,} journal lines, "
        f"{rebuilt.seconds:.1f} s"
    )
    for table in outcome.tables:
        found = f"{table.count:,} differ" if table.count else "the same"
        older = f", {table.older:,} written with an older version of their schema" if table.older else ""
        print(f"  {table.table}: {table.rows:,} rows, {found}{older}")
        for sample in table.samples[:SHOWN]:
            print(f"    {sample['key']} [{sample['partition']}]\n      live:    {sample['live']}")
            print(f"      rebuilt: {sample['rebuilt']}")
    for note in rebuilt.notes.kept[:SHOWN]:
        print(f"  note: {note}")
    if rebuilt.notes.count > SHOWN:
        print(f"  and {rebuilt.notes.count - SHOWN:,} more notes (--json shows more)")
    if outcome.moving:
        print(f"  partitions {', '.join(map(str, outcome.moving))} never stood still: not compared")
    if outcome.written is not None:
        left = f"; {outcome.left:,} rows still differ" if outcome.left else ": they are the live ones now"
        print(f"  {outcome.written:,} rows were written to the changelogs{left}")
    elif outcome.ok:
        print("  history and the live tables are the same, to the byte")
