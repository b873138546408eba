"""What a shadow replay reads, in this order: live tables, what was put aside, journals, and every topic of events.

The journals come before the topics: what one of their lines took, or published, is there then.

Invariants:
- History is that of a moment: where a journal ends is fixed before it is read, and where a topic ends when the journals
  are read; whoever goes on later goes on to there.
- What lines rest on and is past retention stops it, in words; so does what is still to be read and has gone meanwhile.
- Where the beginning of a topic that no service hears is gone, that partition is left out, and told: what services
  publish there now would find nothing to take the place of, and each of those sagas would seem to differ.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from typing import Final

from farandole.audit.reading import Offsets, Progress, Source
from farandole.audit.records import Place
from farandole.errors import ReplayError
from farandole.replay.history import History, Log
from farandole.replay.pace import Pace
from farandole.replay.readstate import ANEW, State, unfinished
from farandole.replay.rebuilding import Live, past_retention, read_letters, read_live, read_outcomes, taken
from farandole.replay.replica import Replica
from farandole.replay.resuming import Kept
from farandole.topics import Topics

FROM_THE_BEGINNING: Final = (
    "a shadow replay begins where the system began; keep journals and topics as long as you want to replay "
    "(retention in topics.yaml)"
)

JOURNALS, TOPICS = "journals", "topics"


class Recorded:
    """replicas: by service; kept: a directory to go on from and to keep it in; None: in memory and a temporary file

    lives:     tables as they were when they were read, by service
    condemned: messages whose effects the broker refused, by service
    partial:   places of topics that no service hears whose beginning is gone; they are not in `logs`
    """

    def __init__(
        self,
        source: Source,
        topics: Topics,
        replicas: Mapping[str, Replica],
        pace: Pace | None = None,
        kept: Kept | None = None,
    ) -> None:
        self._source, self._topics, self._replicas = source, topics, replicas
        self._pace, self._kept = pace, kept
        self._state = State("", "") if kept is None else kept.state
        self._codec = next(iter(replicas.values())).project.codec
        self._exit = ExitStack()
        self.lives: dict[str, Live] = {}
        self.partial: list[Place] = []

    def __enter__(self) -> Recorded:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    @property
    def condemned(self) -> Mapping[str, Iterable[tuple[str, int, int]]]:
        return self._state.condemned or {}

    @property
    def records(self) -> int:
        return self._history.records

    @property
    def logs(self) -> dict[Place, Log]:
        """Of everything that is played today."""
        wanted = self._places(JOURNALS) | self._places(TOPICS)
        return {place: self._history.log(place) for place in sorted(wanted - set(self.partial))}

    def read(self, progress: Progress) -> None:
        """All of it, or what is still to be read."""
        kept = self._kept
        if kept is None:
            self._history = self._exit.enter_context(History(self._source, self._pace))
            self._read(progress)
            return
        history = History(self._source, self._pace, kept.spool(progress), kept.moments)
        self._history = self._exit.enter_context(history)
        kept.load(history)
        check_there(self._source, self._topics, self._state)
        kept.moments.note = lambda: kept.note_read(history)
        try:
            with kept.writing():
                self._read(progress)
        except BaseException:
            kept.moments.last()
            raise
        finally:
            kept.moments.note = None

    def _read(self, progress: Progress) -> None:
        self._read_tables(progress)
        if not self._replicas.keys() <= self.condemned.keys():
            self._read_condemned(progress)
        if JOURNALS not in self._state.fixed:
            lives = self.lives.items()
            until = {(f"{service}.journal", p): at for service, live in lives for p, at in live.position.items()}
            check_journals(self._source, self._replicas)
            self._fix(JOURNALS, self._source.ends() | until)
        self._go_on(JOURNALS, progress, "reading the journals")
        for service in self._replicas:
            taken(self._known(), service, self._codec, self._history, FROM_THE_BEGINNING)
        if TOPICS not in self._state.fixed:
            self._fix(TOPICS, self._source.ends())
        self._go_on(TOPICS, progress, "reading the topics")
        heard = {topic for replica in self._replicas.values() for topic in replica.processor.topics}
        self.partial = sorted(p for p in self._places(TOPICS) if p[0] not in heard and self._state.first[p] > 0)

    def _read_tables(self, progress: Progress) -> None:
        for service, replica in self._replicas.items():
            live = self._kept.live(replica) if self._kept else None
            if live is None:
                live = read_live(self._source, replica, progress)
                if self._kept:
                    self._kept.keep_live(replica, live)
            self.lives[service] = live

    def _read_condemned(self, progress: Progress) -> None:
        condemned = {}
        for service in self._replicas:
            letters = read_letters(self._source, service, progress)
            outcomes = read_outcomes(self._source, service, self._codec, progress)
            condemned[service] = sorted({*letters.condemned(), *outcomes.condemned(f"{service}.operations")})
        self._state.condemned = condemned

    def _fix(self, what: str, ends: Offsets) -> None:
        """From now on it is known from where to where these are read."""
        state = self._state
        for place in self._places(what):
            state.first[place] = self._history.position[place] = self._source.starts[place]
            state.end[place] = ends[place]
        state.fixed.append(what)
        if self._kept:
            with self._kept.moments.whole():
                self._kept.note_read(self._history)

    def _go_on(self, what: str, progress: Progress, told: str) -> None:
        wanted = self._places(what)
        if self._kept:
            self._kept.check(wanted)
        # All that was fixed, of today's topics or not: what is kept has no holes.
        ends = {p: end for p, end in self._state.end.items() if p[0].endswith(".journal") == (what == JOURNALS)}
        self._history.read({place: self._history.position[place] for place in ends}, ends, progress, told)
        if self._kept:
            with self._kept.moments.whole():
                self._kept.note_read(self._history)

    def _places(self, what: str) -> set[Place]:
        names = journals(self._replicas) if what == JOURNALS else events(self._topics)
        return {place for place in self._source.starts if place[0] in names}

    def _known(self) -> Offsets:
        """Where each place begins, as it was when its reading began."""
        return {**self._source.starts, **self._state.first}


def check_there(source: Source, topics: Topics, state: State) -> None:
    """ReplayError if what is still to be read has gone meanwhile, or is not what it was when its reading began."""
    if not state.end:
        return
    ends = source.ends()
    for place, end in sorted(state.end.items()):
        if place in ends and ends[place] < end:
            raise ReplayError(
                f"it ends at {ends[place]}, and ended at {end} when its reading began: it was made anew",
                where="{}/{}".format(*place),
                mend=ANEW,
            )
    for place, at in sorted(unfinished(state).items()):
        if place not in source.starts:
            raise ReplayError("it is no topic of this system any more", where="{}/{}".format(*place), mend=ANEW)
        if at < source.starts[place]:
            service = place[0].removesuffix(".journal")
            owner = topics.topics[place[0]].owner or service
            raise past_retention(owner, place, at, source.starts[place], ANEW)


def check_journals(source: Source, services: Collection[str]) -> None:
    """ReplayError if one does not begin where the system began: what happened before made tables that nobody knows."""
    names = journals(services)
    for place, start in sorted(source.starts.items()):
        if place[0] in names and start > 0:
            raise past_retention(place[0].removesuffix(".journal"), place, 0, start, FROM_THE_BEGINNING)


def journals(services: Iterable[str]) -> set[str]:
    return {f"{service}.journal" for service in services}


def events(topics: Topics) -> set[str]:
    """Topics that a shadow replay reads beside the journals."""
    return {name for name, topic in topics.topics.items() if topic.events or name.endswith(".operations")}
