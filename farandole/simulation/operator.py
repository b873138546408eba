"""The operator of a run: has dead letters redriven at moments that suit nobody, mends what fails, and in the end leaves
nothing undone.

Invariant: what is asked for follows from the committed topics, the plan and the tape alone; it is written as
farandole.redrive writes it, and the repetitions of a command that was killed are among it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from events import FarandoleOperation
from farandole.audit.records import LogRecord
from farandole.operations import DISCARD, REDRIVE
from farandole.redrive.queue import Book, Letter, Sequence
from farandole.simulation import logins
from farandole.simulation.plan import SERVICES, Repair

if TYPE_CHECKING:
    from farandole.simulation.run import Run

ROUNDS = 20
"""Times that an operator tries to leave nothing undone: each letter takes one at the most that is redriven, and one
that is discarded."""


class Operator:
    """What one run's operator does."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._tried: set[tuple[str, str]] = set()
        self._rounds = 0

    def repair(self, repair: Repair) -> None:
        """At its moment: mend, perhaps; have everything redriven, some of it twice, or stop in the middle."""
        if repair.heals:
            self._run.tell("operator", "mends what fails")
            self._run.workshop.heal()
        for sequence in self._outstanding():
            letters = len(sequence.letters)
            wanted = letters - self._run.choose(letters + 1, "how many letters a killed command did not ask for")
            for number in range(wanted):
                for _ in range(1 + self._run.choose(2, "whether an operation is written twice")):
                    self._ask(REDRIVE, sequence, number)

    def finish(self) -> bool:
        """At rest: mend, redrive what is outstanding, discard what fails again all the same. False: nothing is left."""
        self._run.workshop.heal()
        asked = False
        for sequence in self._outstanding():
            due = sequence.letters[0]
            name = (sequence.service, str(due.source))
            if name in self._tried:
                self._ask(DISCARD, sequence, 0)
            else:
                self._tried.add(name)
                for number in range(len(sequence.letters)):
                    self._ask(REDRIVE, sequence, number)
            asked = True
        self._rounds += asked
        return asked and self._rounds <= ROUNDS

    def _outstanding(self) -> list[Sequence]:
        book = Book(self._run.workshop.project.codec, (*SERVICES, *logins.SERVICES))
        for queues in (False, True):
            for topic in book.topics:
                if topic.endswith(".dlq") is queues:
                    for partition in range(self._run.plan.partitions):
                        for r in self._run.cluster.read(topic, partition):
                            book.take(LogRecord(topic, partition, r.offset, r.timestamp, r.key, r.value, r.headers))
        return list(book.sequences())

    def _ask(self, action: str, sequence: Sequence, number: int) -> None:
        letter: Letter = sequence.letters[number]
        operation = FarandoleOperation(
            action=action,
            saga=letter.saga,
            first=sequence.first,
            number=sequence.number + number,
            topic=letter.source.topic,
            offset=letter.source.offset,
            time=letter.time,
            key=letter.key,
            value=letter.value if action == REDRIVE else None,
            edited=False,
            who="the simulation",
            why="",
        )
        run = self._run
        run.tell("operator", f"{action} {letter.source} of {letter.service}", letter.saga)
        run.counts[f"{action}s"] += 1
        value = run.workshop.project.codec.type_of(FarandoleOperation).encode_row(operation)
        run.cluster.append(
            f"{letter.service}.operations", letter.saga.encode(), value, partition=letter.source.partition
        )
