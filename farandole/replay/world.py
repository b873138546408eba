"""*shadow*: all services of this checkout, together and in memory, over what was recorded.

What clients sent, what the outside answered and when timers fired comes from the record; everything else is published
anew by the services themselves, so what one of them does otherwise the others hear. Journal lines are played in the
order of their times, each after those that published what it took: the interleaving of then.

What differs from the record belongs to a saga, and from then on that saga has left the record: what is new about it is
taken as soon as what lay before it is, its timers fire by the record's clock, and its outside calls are answered as the
same call was then; a call that was never made is answered as the options say, and told.

Invariants:
- A saga that has not left the record meets exactly what it met then, in the order of then.
- What is played is what was committed: nothing reaches a topic, a group or the outside.
"""

from __future__ import annotations

import heapq
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from events import FarandoleJournal
from farandole.assembly import internal_events
from farandole.audit.reading import Progress
from farandole.audit.records import Place
from farandole.codec import Codec
from farandole.partitioner import partition_of
from farandole.replay.chain import Chain, Outcome
from farandole.replay.history import Log, Replayed
from farandole.replay.moments import Moments
from farandole.replay.origins import Origins, origin_of
from farandole.replay.replica import Replica
from farandole.replay.track import MISSED, NOT_YET, SAME, Track, saga_of

UNKNOWN: Final = "unknown"
"""The outcome of a call that was never made, if nothing else is asked for."""

DEEPEST: Final = 20_000
"""Frames. One line may need another that needs another, where brokers' clocks differ."""

ROUNDS: Final = 10_000
"""Rounds of going on behind the end of the record after which a saga goes round in circles."""


class World:
    """replicas: all entered; logs: journals, and every topic of events, whole; what is published elsewhere is not kept

    condemned: by service, messages whose effects the broker refused
    unasked: outcome of calls that were never made
    """

    def __init__(
        self,
        replicas: Mapping[str, Replica],
        codec: Codec,
        logs: Mapping[Place, Log],
        condemned: Mapping[str, Iterable[tuple[str, int, int]]],
        unasked: str = UNKNOWN,
    ) -> None:
        self._codec, self._unasked_outcome = codec, unasked
        self.replicas = replicas
        first = next(iter(replicas.values()))
        self._partitions = first.partitions
        decisions = [d for flow in first.project.flows.values() for d in flow.bindings.values()]
        self._inside = {event for d in decisions for event in d.calls | d.timers}
        self.tracks = {place: Track(log) for place, log in logs.items() if not place[0].endswith(".journal")}
        self.chains = {
            (service, p): self._chain(replica, p, logs)
            for service, replica in replicas.items()
            for p in range(self._partitions)
        }
        self._origins = Origins(codec, internal_events(first.project.flows), self._inside, self.chains)
        for service, replica in replicas.items():
            replica.processor._condemned = dict.fromkeys(condemned[service], 1)
        self.left: set[str] = set()
        """Sagas that have left the record."""
        self.unasked: defaultdict[str, list[str]] = defaultdict(list)
        """saga → keys of calls that were never made then."""
        self.messages = self.lines = 0
        self.now = 0
        self.heads: list[tuple[int, int]] = []
        """A heap: when the next line of a chain is due, as far as is known, and the chain's number."""
        self._homes: dict[str, int] = {}

    def _chain(self, replica: Replica, partition: int, logs: Mapping[Place, Log]) -> Chain:
        replica.processor.add_partition(partition)
        tracks = {
            topic: self.tracks[topic, partition]
            for topic in replica.processor.topics
            if (topic, partition) in self.tracks
        }
        journal = logs[f"{replica.service}.journal", partition]
        decode = self._codec.type_of(FarandoleJournal).decode_row

        def line(value: bytes | None, log: Log) -> FarandoleJournal:
            return decode(value or b"")  # type: ignore[no-any-return]

        chain = Chain(replica, partition, journal, tracks, line)
        self._look_ahead(chain, (line(value, journal) for value in journal.values()))
        return chain

    def _look_ahead(self, chain: Chain, lines: Iterable[FarandoleJournal]) -> None:
        """Which answers and timers are to come. The n-th key that is answered belongs to the n-th recorded answer."""
        answered: list[str] = []
        for line in lines:
            for stretch in line.took:
                chain.floor.setdefault(stretch.topic, stretch.first)
            answered += line.answered
            chain.ahead.update(line.fired)
        answers = (
            self._answer(track, index) for track in self._answer_tracks(chain) for index in range(len(track.log))
        )
        for key, answer in zip(answered, filter(None, answers), strict=False):
            chain.answers[key] = answer

    def _answer_tracks(self, chain: Chain) -> list[Track]:
        """Where the answers of its calls lie."""
        decisions = [d for _, _, d in chain.replica.bindings if d.calls]
        topics = {self._codec.type_of(event).topic for d in decisions for event in d.calls}
        return [chain.tracks[topic] for topic in sorted(topics) if topic in chain.tracks]

    def _answer(self, track: Track, index: int) -> Outcome | None:
        """What was answered; None: it is no answer that a service recorded."""
        value = track.log.value(index)
        decoder = self._codec.decoders.get(value[:5]) if value else None
        if decoder is None or decoder.type.cls not in self._inside or origin_of(value) is None:
            return None
        try:
            event = decoder.decode(value)[3]  # type: ignore[arg-type]
        except Exception:
            return None
        return event.outcome, event.reference, event.reason

    # ---- from beginning to end

    def run(self, progress: Progress, what: str = "playing", moments: Moments | None = None) -> None:
        """moments: between two lines. A world that was restored goes on behind the lines that were played."""
        deepest = sys.getrecursionlimit()
        sys.setrecursionlimit(max(deepest, DEEPEST))
        try:
            self._play(lambda: progress(what, self.lines, self.total), moments or Moments())
            self._go_on()
        finally:
            sys.setrecursionlimit(deepest)
        self._find_missing()

    @property
    def total(self) -> int:
        """Lines that there are to play."""
        return sum(chain.lines for chain in self.chains.values())

    def _play(self, tell: Callable[[], None], moments: Moments) -> None:
        chains, heads = list(self.chains.values()), self.heads
        if not heads and not self.lines:
            heads += [(chain.next_time, n) for n, chain in enumerate(chains) if not chain.exhausted]
            heapq.heapify(heads)
        played = 0
        while heads:
            with moments.whole():
                self._next(heads, chains)
            played += 1
            if played % 500 == 0:
                tell()
        moments.finish()

    def _next(self, heads: list[tuple[int, int]], chains: list[Chain]) -> None:
        """The line that is due, unless one that needed it had it played before."""
        time, number = heapq.heappop(heads)
        chain = chains[number]
        if not chain.exhausted and chain.next_time == time:
            self._line(chain)
        if not chain.exhausted:
            heapq.heappush(heads, (chain.next_time, number))

    # ---- one line

    def _line(self, chain: Chain) -> None:
        """Do what the transaction did that this line is of."""
        line, time = chain.line, chain.next_time
        chain.step()
        chain.busy = True
        try:
            spans = [
                (s.topic, *chain.tracks[s.topic].log.span(s.first, s.last))
                for s in line.took
                if s.topic in chain.tracks
            ]
            for topic, begin, end in spans:
                for index in chain.absent(topic, begin, end):
                    self._look_for(chain.tracks[topic], index)
        finally:
            chain.busy = False
        self.now = time
        messages = chain.news()
        for topic, begin, end in spans:
            chain.take(topic, begin, end, messages)
        for stretch in line.took:
            chain.taken[stretch.topic] = stretch.last + 1
        self._decide(chain, messages)
        for key in line.answered:
            self._answered(chain, key)
        for name in line.fired:
            chain.ahead[name] -= 1
            self._fire(chain, name)
        self._late(chain)
        for name in line.evicted:
            self._evict(chain, *name.split(" ", 1))
        self.lines += 1
        self._publish(chain)

    def _decide(self, chain: Chain, messages: list[Replayed]) -> None:
        if messages:
            self.messages += len(messages)
            chain.processor.process(messages)

    def _answered(self, chain: Chain, key: str) -> None:
        """The outside answers as it did then."""
        outcome = chain.answers.pop(key, None)
        if outcome is None:
            return
        if chain.row("calls", key) is None:
            chain.unused[key] = outcome
        else:
            chain.processor.answer(chain.partition, key, *outcome)

    def _fire(self, chain: Chain, name: str) -> None:
        if chain.row("timers", name) is None:
            return
        row = chain.remove("timers", name)
        kind = self._codec.decoders[row.event[:5]].type
        chain.processor.records.append((kind.topic, row.event, row.key, chain.partition))

    def _evict(self, chain: Chain, table: str, key: str) -> None:
        """A row goes that went then, if its saga has ended this time, too."""
        row = chain.row(table, key)
        ended = chain.replica.ended.get(table)
        if row is not None and ended is not None and ended(row):
            chain.remove(table, key)

    def _late(self, chain: Chain) -> None:
        """Answers and timers of sagas that have left the record."""
        due, chain.due = chain.due, []
        for key, outcome in due:
            if chain.row("calls", key) is not None:
                chain.processor.answer(chain.partition, key, *outcome)
        for name, at in list(chain.timers.items()):
            row = chain.row("timers", name)
            if row is None or row.due != at:
                del chain.timers[name]
            elif at <= self.now and chain.ahead[name] <= 0:
                del chain.timers[name]
                self._fire(chain, name)

    # ---- what comes of it

    def _publish(self, chain: Chain) -> None:
        """The transaction is committed: what it published is there."""
        processor, at = chain.processor, self.now
        for topic, value, key in processor.events:
            self._one(topic, self._home(key), value, key, at)
        for topic, encoded, name, partition in processor.records:
            if encoded is not None and not self._codec.decoders[encoded[:5]].type.is_row:
                self._one(topic, partition, encoded, name, at)
        for part, key, _ in chain.replica.undo:
            if part.table == "calls":
                self._started(chain, key)
            elif part.table == "timers":
                saga = key.rpartition(" ")[0]
                row = part.rows.get(key)
                if row is not None and saga in self.left:
                    chain.timers[key] = row.due
        processor.commit(at)

    def _home(self, key: str) -> int:
        home = self._homes.get(key)
        if home is None:
            home = self._homes[key] = partition_of(key, self._partitions)
        return home

    def _one(self, topic: str, partition: int, value: bytes, key: str | None, at: int) -> None:
        track = self.tracks.get((topic, partition))
        if track is None:
            return
        index = track.publish(value, key, at)
        if index is None or track.state[index] != SAME:
            self._leaves(saga_of(value))
        if index is not None and track.missed:
            for chain in track.missed.pop(index, ()):
                chain.pending.append(track.message(index))

    def _started(self, chain: Chain, key: str) -> None:
        """A call is made, or was. One whose answer came before it was made, or never, is answered in the next turn."""
        row = chain.row("calls", key)
        if row is None or key in chain.answers:
            return
        if key in chain.unused:
            chain.due.append((key, chain.unused.pop(key)))
        elif row.saga in self.left:
            self._never_made(chain, key, row)

    def _never_made(self, chain: Chain, key: str, row: Any) -> None:
        """A call without a deadline is made until it is answered: `unknown` is nothing that the outside could say."""
        outcome = self._unasked_outcome
        if outcome == UNKNOWN and not row.deadline:
            outcome = "accepted"
        self.unasked[row.saga].append(key)
        chain.due.append((key, (outcome, "", "it was never asked in what is replayed")))

    def _leaves(self, saga: str) -> None:
        """From now on it goes its own way."""
        if saga in self.left:
            return
        self.left.add(saga)
        for chain in self.chains.values():
            timers = chain.processor.tables.get("timers")
            if timers is None:
                continue
            rows = timers.parts[chain.partition].rows
            for event in self._inside:
                name = f"{saga} {event.__name__}"
                if name in rows:
                    chain.timers[name] = rows[name].due

    # ---- what a line takes and is not there

    def _look_for(self, track: Track, index: int) -> None:
        """Whoever published it then has its turn first. What nobody here publishes has always been there."""
        origin = self._origins.publisher(track, index)
        if origin is None:
            track.state[index] = SAME
            track.frontier = max(track.frontier, index)
            return
        chain, done = origin
        while track.state[index] == NOT_YET and not chain.busy and not chain.exhausted and not done():
            self._line(chain)
        if track.state[index] == NOT_YET and chain.exhausted and not done():
            track.state[index] = SAME  # its transaction lies behind the end of what is played
        elif track.state[index] == NOT_YET:
            track.state[index] = MISSED
            self._leaves(saga_of(track.log.value(index)))

    def _find_missing(self) -> None:
        """What nobody took and nobody publishes any more."""
        for track in self.tracks.values():
            index = track.state.find(NOT_YET)
            while index >= 0:
                origin = self._origins.publisher(track, index)
                if origin is not None and self._origins.is_over(*origin, track, index):
                    track.state[index] = MISSED
                    self._leaves(saga_of(track.log.value(index)))
                index = track.state.find(NOT_YET, index + 1)

    # ---- behind the end of the record

    def _go_on(self) -> None:
        """What left the record goes on until nothing is left to do for it."""
        self.now = max((chain.last_time for chain in self.chains.values()), default=0)
        for _ in range(ROUNDS):
            turns = [self._turn(chain) for chain in self.chains.values()]
            if not any(turns):
                return

    def _turn(self, chain: Chain) -> bool:
        messages = chain.news()
        for topic, track in chain.tracks.items():
            chain.rest(topic, len(track.log), messages, self.left)
        self._decide(chain, messages)
        for key, row in chain.rows("calls"):
            if row.saga in self.left:
                self._last_answer(chain, key, row)
        self._late(chain)
        busy = bool(messages or chain.replica.undo or chain.processor.events or chain.processor.records)
        self._publish(chain)
        return busy

    def _last_answer(self, chain: Chain, key: str, row: Any) -> None:
        if any(key == each for each, _ in chain.due):
            return
        outcome = chain.answers.pop(key, None) or chain.unused.pop(key, None)
        if outcome is not None:
            chain.due.append((key, outcome))
        else:
            self._never_made(chain, key, row)
