"""What was read, kept where it can be looked up: places and times in memory, keys and values in a file.

Invariant: a record of a log is what was committed at that offset, or it is not there. What lies in memory is some forty
bytes for each record, so that a hundred thousand orders need a hundred megabytes and not a thousand.
"""

from __future__ import annotations

import mmap
import tempfile
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import IO, Any, Final

from farandole.audit.reading import Progress
from farandole.audit.records import LogRecord, Place
from farandole.replay.inspecting import Readable
from farandole.replay.pace import Pace
from farandole.replay.runs import QuickReader

_BUFFER: Final = 4 * 1024 * 1024
_NONE: Final = -1


class Replayed:
    """A record that was read, with the methods of a Message."""

    __slots__ = ("_key", "_offset", "_partition", "_time", "_topic", "_value")

    def __init__(
        self, topic: str, partition: int, offset: int, time: int, key: bytes | None, value: bytes | None
    ) -> None:
        self._topic, self._partition, self._offset = topic, partition, offset
        self._time, self._key, self._value = time, key, value

    def topic(self) -> str:
        return self._topic

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[tuple[str, bytes]] | None:
        """None: no decision sees them, and what a replay puts aside goes nowhere."""
        return None

    def timestamp(self) -> tuple[int, int]:
        return 2, self._time


class Log:
    """The records of one partition, in order."""

    __slots__ = ("_at", "_keys", "_spool", "_values", "offsets", "partition", "times", "topic")

    def __init__(self, spool: Spool, topic: str, partition: int) -> None:
        self._spool, self.topic, self.partition = spool, topic, partition
        self.offsets, self.times = array("q"), array("q")
        self._at, self._keys, self._values = array("q"), array("i"), array("i")

    def __len__(self) -> int:
        return len(self.offsets)

    def add(self, record: LogRecord) -> None:
        key, value = record.key, record.value
        self.offsets.append(record.offset)
        self.times.append(record.time)
        self._keys.append(_NONE if key is None else len(key))
        self._values.append(_NONE if value is None else len(value))
        self._at.append(self._spool.write(key, value))

    def extend(self, messages: list[Any], offsets: list[int]) -> None:
        """A run of messages of this partition."""
        keys = [message.key() for message in messages]
        values = [message.value() for message in messages]
        self.offsets.extend(offsets)
        self.times.extend([message.timestamp()[1] for message in messages])
        self._keys.extend([_NONE if key is None else len(key) for key in keys])
        self._values.extend([_NONE if value is None else len(value) for value in values])
        pieces = [(key or b"") + (value or b"") for key, value in zip(keys, values, strict=True)]
        begin = self._spool.write(None, b"".join(pieces))
        self._at.extend(accumulate(map(len, pieces[:-1]), initial=begin))

    def key(self, index: int) -> bytes | None:
        length, at = self._keys[index], self._at[index]
        return None if length < 0 else self._spool.bytes[at : at + length]

    def value(self, index: int) -> bytes | None:
        length = self._values[index]
        if length < 0:
            return None
        at = self._at[index] + max(0, self._keys[index])
        return self._spool.bytes[at : at + length]  # type: ignore[no-any-return]

    def message(self, index: int) -> Replayed:
        key, value = self.key(index), self.value(index)
        return Replayed(self.topic, self.partition, self.offsets[index], self.times[index], key, value)

    def span(self, first: int, last: int) -> tuple[int, int]:
        """Indexes of the records from offset `first` to `last`: from, and the one after the last."""
        return bisect_left(self.offsets, first), bisect_right(self.offsets, last)

    def values(self) -> Iterator[bytes | None]:
        return (self.value(index) for index in range(len(self)))


class Spool:
    """The file of keys and values. It has no name: it is gone when the process is."""

    def __init__(self, directory: Path | None = None) -> None:
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=directory, buffering=_BUFFER)  # noqa: SIM115  # see `close`
        self._end = 0
        self.bytes: Any = b""

    def write(self, key: bytes | None, value: bytes | None) -> int:
        """Returns where the key lies, and the value behind it."""
        at = self._end
        if key:
            self._end += self._file.write(key)
        if value:
            self._end += self._file.write(value)
        return at

    def settle(self) -> None:
        """Make what was written so far readable."""
        self._file.flush()
        if self._end:
            self.bytes = mmap.mmap(self._file.fileno(), self._end, access=mmap.ACCESS_READ)

    def close(self) -> None:
        if self._end and not isinstance(self.bytes, bytes):
            self.bytes.close()
            self.bytes = b""
        self._file.close()


class History:
    """Logs that were read from a source. Closed by `close`, or by leaving it."""

    def __init__(self, source: Readable, pace: Pace | None = None, directory: Path | None = None) -> None:
        self._source, self._pace = source, pace or Pace()
        self._spool = Spool(directory)
        self.logs: dict[Place, Log] = {}
        self.records = 0

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    def read(self, first: Mapping[Place, int], end: Mapping[Place, int], progress: Progress, what: str) -> None:
        """Read these stretches, behind whatever was read of these places before."""
        wanted = {place: offset for place, offset in end.items() if first[place] < offset}
        if isinstance(self._source, QuickReader) and not self._pace.rate:
            logs = {place: self.log(place) for place in wanted}
            self.records += self._source.read_runs(
                first, wanted, lambda place, messages, offsets: logs[place].extend(messages, offsets), progress, what
            )
            self._spool.settle()
            return
        adds = {place: self.log(place).add for place in wanted}
        step = self._pace.step

        def take(record: LogRecord) -> None:
            step()
            adds[record.topic, record.partition](record)

        self.records += self._source.read(first, wanted, take, progress, what)
        self._spool.settle()

    def log(self, place: Place) -> Log:
        log = self.logs.get(place)
        if log is None:
            log = self.logs[place] = Log(self._spool, *place)
        return log

    def of_topics(self, topics: Iterable[str]) -> list[Log]:
        names = frozenset(topics)
        return [log for (topic, _), log in sorted(self.logs.items()) if topic in names]
