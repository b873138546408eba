"""What was read, kept where it can be looked up: places and times in memory, keys and values in a file.

Invariant: a record of a log is what was committed at that offset, or it is not there. What lies in memory is some forty
bytes for each record, so that a hundred thousand orders need a hundred megabytes and not a thousand.
"""

from __future__ import annotations

import mmap
import os
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
from farandole.replay.moments import Moments
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

    @property
    def columns(self) -> tuple[array[int], ...]:
        """All that is known of the records but their bytes, a number for each record in each."""
        return self.offsets, self.times, self._at, self._keys, self._values

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
    """The file of keys and values. It has no name: it is gone when the process is.

    path: a file with a name instead, that stays; end: how much of it counts, what lies behind is cut off
    """

    def __init__(self, path: Path | None = None, end: int = 0) -> None:
        self._file: IO[bytes]
        if path is None:
            self._file = tempfile.TemporaryFile(buffering=_BUFFER)  # noqa: SIM115  # see `close`
        else:
            self._file = path.open("a+b", buffering=_BUFFER)
            self._file.truncate(end)
        self._end = end
        self.bytes: Any = b""

    @property
    def end(self) -> int:
        """Bytes that were written."""
        return self._end

    def sync(self) -> int:
        """What was written so far is in the file, whatever happens. Returns its descriptor."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.fileno()

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
    """Logs that were read from a source. Closed by `close`, or by leaving it.

    spool:    where keys and values go; moments: between which a run of records, or one, is read
    position: of each place, the offset behind what was read of it
    """

    def __init__(
        self, source: Readable, pace: Pace | None = None, spool: Spool | None = None, moments: Moments | None = None
    ) -> None:
        self._source, self._pace, self._moments = source, pace or Pace(), moments or Moments()
        self.spool = spool or Spool()
        self.logs: dict[Place, Log] = {}
        self.position: dict[Place, int] = {}
        self.records = 0

    def __enter__(self) -> History:
        return self

    def __exit__(self, *_: object) -> None:
        self.spool.close()

    def read(self, first: Mapping[Place, int], end: Mapping[Place, int], progress: Progress, what: str) -> None:
        """Read these stretches, behind whatever was read of these places before."""
        wanted = {place: offset for place, offset in end.items() if first[place] < offset}
        logs = {place: self.log(place) for place in wanted}
        if wanted and isinstance(self._source, QuickReader) and not self._pace.rate:

            def take_run(place: Place, messages: list[Any], offsets: list[int]) -> None:
                with self._moments.whole():
                    logs[place].extend(messages, offsets)
                    self._took(place, offsets[-1], len(offsets))

            self._source.read_runs(first, wanted, take_run, progress, what)
        elif wanted:
            step = self._pace.step

            def take(record: LogRecord) -> None:
                step()
                with self._moments.whole():
                    place = record.topic, record.partition
                    logs[place].add(record)
                    self._took(place, record.offset, 1)

            self._source.read(first, wanted, take, progress, what)
        with self._moments.whole():
            self.position.update(wanted)
            self.spool.settle()

    def _took(self, place: Place, last: int, count: int) -> None:
        self.position[place] = last + 1
        self.records += count

    def log(self, place: Place) -> Log:
        log = self.logs.get(place)
        if log is None:
            log = self.logs[place] = Log(self.spool, *place)
        return log

    def of_topics(self, topics: Iterable[str]) -> list[Log]:
        names = frozenset(topics)
        return [log for (topic, _), log in sorted(self.logs.items()) if topic in names]
