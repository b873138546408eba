"""*inspect*: what lies in the topics, record by record, as JSON lines.

Invariants:
- Within a partition records come in order; between partitions in any, unless one saga is asked for: then by time.
- No record stops it, whatever its bytes.
- The positions that it tells are those of what was handed out: whoever goes on from them misses nothing and gets
  nothing twice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from farandole.audit.reading import Offsets, Progress
from farandole.audit.records import LogRecord, Place
from farandole.codec import Codec
from farandole.errors import CodecError, ConfigError
from farandole.replay.moments import Moments
from farandole.replay.pace import Pace
from farandole.replay.plain import described, line
from farandole.replay.selection import Bounds, Selection

FORMAT = "farandole-inspect/1"


class Readable(Protocol):
    def read(
        self, first: Offsets, end: Offsets, take: Callable[[LogRecord], None], progress: Progress, what: str
    ) -> int: ...


class Enough(Exception):
    """The limit is reached."""


class Inspection:
    """Reads a selection and hands out one line for each record of it.

    position: of each place, the offset after the last record that was looked at and, if it was wanted, handed out
    """

    def __init__(self, codec: Codec, selection: Selection, where: Bounds, pace: Pace, limit: int = 0) -> None:
        self._codec, self._selection, self._pace, self._limit = codec, selection, pace, limit
        self.position = dict(where.first)
        self._last = where.last
        self._kept: list[tuple[int, str, int, int, str]] = []
        self.found = 0
        self._moments = Moments()
        self.interrupt = self._moments.interrupt
        """Stop, but not between a record that was handed out and the note that it was. For signal handlers."""

    def run(self, source: Readable, out: Callable[[str], None], progress: Progress) -> int:
        """Returns how many records were wanted."""
        self._out = out
        whole = True
        try:
            source.read(dict(self.position), self._last, self._take, progress, "reading")
        except Enough:
            whole = False
        with self._moments.whole():  # a saga's records are handed out together, and noted then
            for *_, text in sorted(self._kept):
                out(text)
            if whole:
                self.position.update(self._last)
        return self.found

    def _take(self, record: LogRecord) -> None:
        self._pace.step()
        with self._moments.whole():
            self._hand_out(record)
        if self._limit and self.found >= self._limit:
            raise Enough

    def _hand_out(self, record: LogRecord) -> None:
        if self._is_wanted(record):
            text = line(described(self._codec, record))
            if self._selection.saga:
                self._kept.append((record.time, record.topic, record.partition, record.offset, text))
            else:
                self._out(text)
            self.found += 1
        if not self._selection.saga:  # it is handed out in the end
            self.position[record.topic, record.partition] = record.offset + 1

    def _is_wanted(self, record: LogRecord) -> bool:
        wanted = self._selection
        if not (wanted.saga or wanted.flow or wanted.types):
            return True
        value = record.value or b""
        if wanted.types:
            known = self._codec.decoders.get(value[:5])
            if known is None or known.type.name not in wanted.types:
                return False
        if not (wanted.saga or wanted.flow):
            return True
        try:
            meta = self._codec.meta_of(value)
        except CodecError:
            return False
        return wanted.saga in ("", meta.saga) and wanted.flow in ("", meta.flow)


def save(path: Path, asked: dict[str, Any], inspection: Inspection) -> None:
    """Write where to go on, in one piece or not at all."""
    positions = {f"{topic}/{partition}": offset for (topic, partition), offset in inspection.position.items()}
    ends = {f"{topic}/{partition}": offset for (topic, partition), offset in inspection._last.items()}
    state = {"format": FORMAT, "asked": asked, "position": positions, "end": ends}
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(state))
    os.replace(temporary, path)


def load(path: Path, asked: dict[str, Any]) -> Bounds | None:
    """Where an earlier inspection with the same selection stopped; None if there was none."""
    if not path.exists():
        return None
    try:
        state = json.loads(path.read_text())
        if state["format"] != FORMAT:
            raise ValueError(state["format"])
        first, last = places(state["position"]), places(state["end"])
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ConfigError(
            f"this is no state of an inspection: {error}", where=str(path), mend="name another file, or delete it"
        ) from error
    if state["asked"] != asked:
        raise ConfigError(
            "the state is of another selection", where=str(path), mend="give the same options, or name another file"
        )
    return Bounds(first, last, [])


def places(said: dict[str, int]) -> dict[Place, int]:
    return {(name.rpartition("/")[0], int(name.rpartition("/")[2])): int(offset) for name, offset in said.items()}
