"""*shadow --resume*: a directory with what was read, and how far its play has come.

    read        what was read of what, how much of the other files counts, and a checksum of each
    spool       keys and values of all records, only ever added to
    index       what else is known of them, only ever added to
    live-*.gz   the live tables of a service, as a snapshot
    play.gz     the play (playstate), with a digest of the rules that it was played with
    lock        held while the directory is used

Invariants:
- `read` and `play.gz` are written in one piece or not at all. What lies in the spool or the index behind what `read`
  says is cut off: nobody knows whether it is whole.
- What does not fit together is refused, in words; nothing of it is played.
- A directory is used by one process at a time.
"""

from __future__ import annotations

import fcntl
import gzip
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from farandole.audit.reading import Progress
from farandole.audit.records import Place
from farandole.errors import ConfigError, ReplayError
from farandole.replay import playstate
from farandole.replay.history import History, Spool
from farandole.replay.moments import Moments
from farandole.replay.readstate import ANEW, BROKEN, FORMAT, State, look, unwritable
from farandole.replay.rebuilding import Live
from farandole.replay.replica import Replica
from farandole.replay.snapshot import Snapshot
from farandole.replay.world import World

CHUNK: Final = 16 * 1024 * 1024


class Kept:
    """The directory at work: locked, until it is closed.

    rules: digest of what decides now
    """

    def __init__(self, path: Path, namespace: str, cluster: str, rules: str, moments: Moments | None = None) -> None:
        self.path, self.rules, self.moments = path, rules, moments or Moments()
        self.anew = False
        """Whether a play with other rules is kept: it is not gone on with."""
        look(path, namespace, cluster)
        with self.writing():
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (path / "lock").open("a")
        try:
            self._hold(namespace, cluster)
        except BaseException:
            self._lock.close()
            raise

    def _hold(self, namespace: str, cluster: str) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                "another shadow replay uses the directory",
                where=f"--resume {self.path}",
                mend="wait for it, or name another one",
            ) from error
        found = look(self.path, namespace, cluster)
        self.state = found or State(namespace, cluster)
        if found is None:
            self._write_state()
        self._written: dict[Place, int] = {}
        self._play: dict[str, Any] | None = self._head()

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Around what writes into the directory: ConfigError if that is not possible."""
        try:
            yield
        except OSError as error:
            raise unwritable(self.path, error) from error

    # ---- live tables

    def live(self, replica: Replica) -> Live | None:
        """Of a service, as they were when they were read; None: they were not. ConfigError if a table is missing."""
        service = replica.service
        if service not in self.state.tables:
            return None
        if unknown := sorted(set(replica.processor.tables) - set(self.state.tables[service])):
            raise self._lacks(f"the table {unknown[0]} of {service}")
        file = self.path / f"live-{service}.gz"
        try:
            found = Snapshot.load(file, service, self.state.namespace)
        except ReplayError as error:
            raise ReplayError(f"live tables cannot be used: {error.what}", where=str(file), mend=ANEW) from error
        wanted = [(table, p) for table in replica.processor.tables for p in range(replica.partitions)]
        return Live(
            {where: dict(found.rows.get(where, {})) for where in wanted},
            dict(found.position),
            [p for p in range(replica.partitions) if p not in found.position],
            {where: dict(found.times.get(where, {})) for where in wanted},
        )

    def keep_live(self, replica: Replica, live: Live) -> None:
        service = replica.service
        with self.moments.whole(), self.writing():
            Snapshot(service, live.position, live.rows, live.times).save(
                self.path / f"live-{service}.gz", self.state.namespace
            )
            self.state.tables[service] = sorted(replica.processor.tables)
            self._write_state()

    def check(self, wanted: set[Place]) -> None:
        """ConfigError if what is to be played was not there when it was read."""
        if missing := sorted(wanted - self.state.end.keys()):
            raise self._lacks("{}/{}".format(*missing[0]))

    def _lacks(self, what: str) -> ConfigError:
        return ConfigError(
            f"{what} was not part of the system when the history was read",
            where=f"--resume {self.path}",
            mend="name another directory: the history is read anew then",
        )

    # ---- records

    def spool(self, progress: Progress) -> Spool:
        """The spool as far as it counts. ReplayError if it is not what was written."""
        for name, (end, check) in (("spool", self.state.spool), ("index", self.state.index)):
            path = self.path / name
            try:
                found = _checksum(path, end, progress)
            except BROKEN as error:
                raise ReplayError(f"what was read cannot be used: {error}", where=str(path), mend=ANEW) from error
            if found != check:
                raise ReplayError("what was read is damaged: its checksum differs", where=str(path), mend=ANEW)
        with self.writing():
            return Spool(self.path / "spool", self.state.spool[0])

    def load(self, history: History) -> None:
        """What was read before."""
        path, end = self.path / "index", self.state.index[0]
        with self.writing():
            path.touch()
        try:
            with path.open("rb") as file:
                while file.tell() < end:
                    for topic, partition, count in json.loads(file.readline()):
                        for column in history.log((topic, partition)).columns:
                            column.fromfile(file, count)
        except BROKEN as error:
            raise ReplayError(f"what was read cannot be used: {error}", where=str(path), mend=ANEW) from error
        history.position.update(self.state.position)
        history.records = self.state.records
        self._written = {place: len(log) for place, log in history.logs.items()}
        history.spool.settle()

    def note_read(self, history: History) -> None:
        """How far the reading is."""
        with self.writing():
            self._add_spool(history.spool)
            self._add_index(history)
            self.state.position, self.state.records = dict(history.position), history.records
            self._write_state()
        self._written = {place: len(log) for place, log in history.logs.items()}

    def _add_spool(self, spool: Spool) -> None:
        descriptor, (at, check) = spool.sync(), self.state.spool
        while at < spool.end:
            piece = os.pread(descriptor, min(CHUNK, spool.end - at), at)
            at, check = at + len(piece), zlib.crc32(piece, check)
        self.state.spool = at, check

    def _add_index(self, history: History) -> None:
        new = {place: log for place, log in history.logs.items() if len(log) > self._written.get(place, 0)}
        head = [[*place, len(log) - self._written.get(place, 0)] for place, log in new.items()]
        end, check = self.state.index
        with (self.path / "index").open("ab") as file:
            file.truncate(end)
            pieces = [json.dumps(head).encode() + b"\n"] if head else []
            for place, log in new.items():
                pieces += [column[self._written.get(place, 0) :].tobytes() for column in log.columns]
            for piece in pieces:
                file.write(piece)
                end, check = end + len(piece), zlib.crc32(piece, check)
            file.flush()
            os.fsync(file.fileno())
        self.state.index = end, check

    def _write_state(self) -> None:
        with self._replaced("read") as file:
            file.write(self.state.to_text().encode())

    @contextmanager
    def _replaced(self, name: str) -> Iterator[IO[bytes]]:
        """A file that takes the other one's place when all of it is there."""
        temporary = self.path / f"{name}.part"
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path / name)

    # ---- the play

    def _head(self) -> dict[str, Any] | None:
        """Of the play that is kept and that these rules go on with; None: there is none."""
        path = self.path / "play.gz"
        if not path.exists():
            return None
        with self._played(path), gzip.open(path, "rt") as file:
            head: dict[str, Any] = json.loads(file.readline())
            if (head["format"], head["history"]) != (FORMAT, self.state.history):
                raise ValueError("it is of another history")
            self.anew = head["rules"] != self.rules
            return None if self.anew else head

    @contextmanager
    def _played(self, path: Path) -> Iterator[None]:
        try:
            yield
        except BROKEN as error:
            raise ReplayError(
                f"the play that is kept cannot be used: {error}",
                where=str(path),
                mend="delete this file: what was read stays, and the play begins anew",
            ) from error

    def notes(self) -> Iterator[str]:
        """What people should know before it goes on."""
        if self.state.records:
            played = f", and {self.played:,} journal lines were played" if self.played else ""
            yield f"{self.state.records:,} records were read before{played}"
        if self.anew:
            yield "the rules are not those of the play that is kept here: it begins anew, and nothing is read again"

    @property
    def played(self) -> int:
        """Lines that need not be played again."""
        return 0 if self._play is None else int(self._play["lines"])

    def load_play(self, world: World) -> None:
        """Bring a new world to where the play that is kept was, if these rules go on with it."""
        if self._play is None:
            return
        path = self.path / "play.gz"
        with self._played(path):
            _check_whole(path)
        with self._played(path), gzip.open(path, "rt") as file:
            json.loads(file.readline())
            playstate.restore(world, _all_of(file))

    def note_play(self, world: World) -> None:
        """How far the play is."""
        head = {"format": FORMAT, "history": self.state.history, "rules": self.rules, "lines": world.lines}
        with self.writing(), self._replaced("play.gz") as raw, gzip.open(raw, "wt", compresslevel=1) as file:
            file.write(json.dumps(head) + "\n")
            count = 0
            for line in playstate.dump(world):
                file.write(json.dumps(line) + "\n")
                count += 1
            file.write(json.dumps(["end", count]) + "\n")


def _check_whole(path: Path) -> None:
    """To its end: only there the checksum is compared."""
    with gzip.open(path, "rb") as file:
        while file.read(CHUNK):
            pass


def _all_of(file: IO[str]) -> Iterator[list[Any]]:
    """The lines up to the last one, which says how many they are."""
    for count, text in enumerate(file):
        line = json.loads(text)
        if line[0] == "end":
            if line[1] != count:
                raise ValueError(f"{count} lines of {line[1]}")
            return
        yield line
    raise ValueError("it was not written to its end")


def _checksum(path: Path, end: int, progress: Progress) -> int:
    """Of that many bytes. ValueError if there are less."""
    if not end:
        return 0
    found, left = 0, end
    with path.open("rb") as file:
        while left:
            piece = file.read(min(CHUNK, left))
            if not piece:
                raise ValueError(f"{left:,} of {end:,} bytes are missing")
            found, left = zlib.crc32(piece, found), left - len(piece)
            progress("checking what was read before", end - left, end)
    return found
