"""One partition of a service, played journal line by journal line.

Partitions of a service know nothing of each other: a row is reachable from messages of its own partition only. So
each is played by itself, and what the journal tells of it is all that there is to its order.

Invariant: after a line the tables are what they were when its transaction was committed, if the decisions are those of
then. What the journal tells and cannot be done (an answer that nobody waits for, a row that is not there) is noted: it
is the first sign that they are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from events import FarandoleJournal
from farandole.audit.records import Place
from farandole.replay.history import Log, Replayed
from farandole.replay.letters import Letter, Letters, Recorded, put_aside
from farandole.replay.redriven import Outcomes, fail_as_then
from farandole.replay.replica import Replica

NOTES: Final = 1_000
"""Notes that are kept; more are only counted."""


class Notes:
    """What did not fit, in words; so many are kept, all are counted."""

    def __init__(self) -> None:
        self.kept: list[str] = []
        self.count = 0

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.kept) < NOTES:
            self.kept.append(text)


class Player:
    """replica: entered; logs: what the lines took; letters: what was put aside then; outcomes: of operations"""

    def __init__(
        self,
        replica: Replica,
        partition: int,
        logs: Mapping[Place, Log],
        letters: Letters,
        outcomes: Outcomes,
        notes: Notes,
    ) -> None:
        self._outcomes = outcomes
        self._replica, self.partition, self._logs, self._notes = replica, partition, logs, notes
        self._processor = replica.processor
        self._letters = {
            topic: marked for (topic, p), marked in letters.by_place.items() if p == partition
        }  # fmt: skip
        self.messages = self.transactions = 0

    def begin(self, rows: Iterable[tuple[str, str, bytes, int]] = ()) -> None:
        """With empty tables, or with these rows: (table, key, encoded row, time)."""
        processor, partition = self._processor, self.partition
        processor.add_partition(partition)
        restore = {name: processor.restore(name, partition) for name in processor.tables}
        for table, key, value, time in rows:
            if table in restore:
                restore[table](key.encode(), value, time)
            else:
                self._notes.add(f"table {table} is none of {self._replica.service} any more")
        processor.restored(partition)

    def end(self) -> None:
        self._processor.drop_partition(self.partition)

    def play(self, line: FarandoleJournal, at: int) -> None:
        """What one line tells, in its order. at: the line's record time"""
        processor = self._processor
        for stretch in line.took:
            self._take(stretch.topic, stretch.first, stretch.last)
        for key in line.answered:
            self._remove("calls", key, "answered")
        for name in line.fired:
            self._remove("timers", name, "fired")
        for name in line.evicted:
            table, _, key = name.partition(" ")
            self._remove(table, key, "evicted")
        for reason, source, saga, error in processor.dead:
            if error is not None and not isinstance(error, Recorded):
                self._notes.add(f"{source}: a message of {saga or 'no saga'} fails today ({reason}), and did not then")
        processor.commit(at)
        self.transactions += 1

    def _take(self, topic: str, first: int, last: int) -> None:
        if topic not in self._processor._routes:
            self._notes.add(f"{topic}/{self.partition}: {self._replica.service} does not hear it any more")
            return
        log = self._logs[topic, self.partition]
        begin, end = log.span(first, last)
        self.messages += end - begin
        marked = self._letters.get(topic)
        messages = map(log.message, range(begin, end))
        if topic == self._processor.operations.topic:
            self._operate(messages)
        elif marked is None:
            self._processor.process(messages)
        else:
            self._process(messages, marked)

    def _operate(self, messages: Iterator[Replayed]) -> None:
        """What operators asked about dead letters: what failed again fails again."""
        for message in messages:
            letter = self._outcomes.failed.get((self.partition, message.offset()))
            undo = fail_as_then(self._processor, letter) if letter else None
            self._processor.process([message])
            if undo is not None:
                undo()

    def _process(self, messages: Iterator[Replayed], marked: Mapping[int, Letter]) -> None:
        """Some of them were put aside: they are again."""
        waiting: list[Replayed] = []
        for message in messages:
            letter = marked.get(message.offset())
            if letter is None:
                waiting.append(message)
                continue
            self._processor.process(waiting)
            waiting = []
            put_aside(self._processor, message, letter)
        self._processor.process(waiting)

    def _remove(self, name: str, key: str, what: str) -> None:
        table = self._processor.tables.get(name)
        if table is not None:
            table.switch(self.partition)
            if key in table.rows:
                table.remove(key)
                return
        self._notes.add(f"{self._replica.service}/{self.partition}: {name} {key} was {what}, and is not there")
