"""The transaction coordinator: epochs of transactional ids, what their transactions wrote, how they end.

Invariants:
- Of one transactional id the newest epoch alone is heard; whoever initialises the id ends what was open under it.
- A transaction ends as a whole. Its markers, one in each partition and one for its offsets, may be written later than
  the end is decided, as by a real coordinator; before that a reader is blocked, afterwards it sees all or nothing.
- An open transaction ends by itself at its time-out, and its producer is fenced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from farandole.simulation.kafka_log import ABORTED, COMMITTED, CONTROL, OPEN, PartitionLog, Stored

MARKERS_MS = 30
"""How late a late marker is."""

Place = tuple[str, int]


class Outgoing(NamedTuple):
    """A record on its way."""

    log: PartitionLog
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class Transaction:
    """What is open, or ending, under a transactional id."""

    __slots__ = ("commits", "id", "logs", "markers_due", "offsets", "started")

    def __init__(self, id: str, started: int) -> None:
        self.id, self.started = id, started
        self.logs: dict[PartitionLog, list[Stored]] = {}
        """What it wrote, by partition; a partition goes when its marker is written."""
        self.offsets: dict[str, dict[Place, int]] = {}
        """Group → positions, pending."""
        self.commits: bool | None = None
        """How it was decided; None while it is open."""
        self.markers_due = 0


class Transactions:
    """Args: now; choose; timeout_ms; commit_offsets(group, positions); changed: called when readers may see more."""

    def __init__(
        self,
        now: Callable[[], int],
        choose: Callable[[int, str], int],
        timeout_ms: int,
        commit_offsets: Callable[[str, dict[Place, int]], None],
        changed: Callable[[], None],
    ) -> None:
        self._now, self._choose, self._timeout = now, choose, timeout_ms
        self._commit_offsets, self._changed = commit_offsets, changed
        self.epochs: dict[str, int] = {}
        self.under_way: dict[str, Transaction] = {}
        """Open ones, and decided ones with markers still to be written."""
        self.counts = {"committed": 0, "aborted": 0, "timed_out": 0, "late_markers": 0}

    # ---- what a producer asks for

    def init(self, id: str) -> int:
        """A new epoch of the id; what was under way ends first, aborted unless it was decided already."""
        transaction = self.under_way.get(id)
        if transaction is not None:
            if transaction.commits is None:
                self._decide(transaction, commits=False)
            self._finish(transaction)
        self.epochs[id] = epoch = self.epochs.get(id, -1) + 1
        return epoch

    def is_current(self, id: str, epoch: int) -> bool:
        return self.epochs.get(id) == epoch

    def is_open(self, id: str) -> bool:
        transaction = self.under_way.get(id)
        return transaction is not None and transaction.commits is None

    def write(self, id: str, epoch: int, records: Iterable[Outgoing]) -> bool:
        """Append records to the open transaction; False: fenced."""
        if self.epochs.get(id) != epoch:
            return False
        transaction = self._begun(id)
        logs, now, producer = transaction.logs, self._now(), (id, epoch)
        for log, key, value, headers in records:
            written = logs.get(log)
            if written is None:
                written = logs[log] = []
                log.first_open[id] = len(log.records)
            written.append(log.append(now, key, value, headers, producer, OPEN))
        return True

    def add_offsets(self, id: str, epoch: int) -> bool:
        """Announce that offsets will follow; False: fenced."""
        if self.epochs.get(id) != epoch:
            return False
        self._begun(id)
        return True

    def pend_offsets(self, id: str, group: str, positions: dict[Place, int]) -> None:
        """Offsets that the group gets when the transaction commits."""
        self._begun(id).offsets.setdefault(group, {}).update(positions)

    def end(self, id: str, epoch: int, commits: bool) -> bool:
        """Decide the open transaction; False: fenced. Markers may be late."""
        if self.epochs.get(id) != epoch:
            return False
        transaction = self.under_way.get(id)
        if transaction is not None and transaction.commits is not None:
            self._finish(transaction)  # the one before; this one has written nothing
            return True
        if transaction is None:
            return True
        self._decide(transaction, commits)
        partitions = len(transaction.logs)
        late = self._choose(partitions + 3, "markers that come late")
        if late == 0:
            self._finish(transaction)
            return True
        self.counts["late_markers"] += 1
        transaction.markers_due = self._now() + MARKERS_MS
        if late <= partitions:
            self._mark(transaction, list(transaction.logs)[late:])
            self._settle_offsets(transaction)
        elif late == partitions + 1:
            self._mark(transaction, list(transaction.logs))
        return True

    def _begun(self, id: str) -> Transaction:
        transaction = self.under_way.get(id)
        if transaction is not None and transaction.commits is not None:
            self._finish(transaction)  # a real coordinator lets the producer wait for the former one's markers
            transaction = None
        if transaction is None:
            transaction = self.under_way[id] = Transaction(id, self._now())
        return transaction

    # ---- ends

    def _decide(self, transaction: Transaction, commits: bool) -> None:
        transaction.commits = commits
        self.counts["committed" if commits else "aborted"] += 1

    def _finish(self, transaction: Transaction) -> None:
        """All markers that are still to be written."""
        self._mark(transaction, list(transaction.logs))
        self._settle_offsets(transaction)
        del self.under_way[transaction.id]

    def _mark(self, transaction: Transaction, logs: list[PartitionLog]) -> None:
        state, now = (COMMITTED if transaction.commits else ABORTED), self._now()
        for log in logs:
            for record in transaction.logs.pop(log):
                record.state = state
            del log.first_open[transaction.id]
            log.append(now, None, None, (), None, CONTROL)
        self._changed()

    def _settle_offsets(self, transaction: Transaction) -> None:
        offsets, transaction.offsets = transaction.offsets, {}
        if transaction.commits:
            for group, positions in offsets.items():
                self._commit_offsets(group, positions)

    # ---- time

    def tick(self, now: int) -> None:
        for transaction in list(self.under_way.values()):
            if transaction.commits is not None:
                if now >= transaction.markers_due:
                    self._finish(transaction)
            elif now >= transaction.started + self._timeout:
                self.counts["timed_out"] += 1
                self.epochs[transaction.id] += 1
                self._decide(transaction, commits=False)
                self._finish(transaction)

    def next_deadline(self) -> int | None:
        return min(
            (t.started + self._timeout if t.commits is None else t.markers_due for t in self.under_way.values()),
            default=None,
        )

    def is_pending(self, group: str, places: Iterable[Place]) -> bool:
        """Whether a transaction that is not finished holds offsets of the group for one of these places."""
        if not self.under_way:
            return False
        wanted = set(places)
        return any(not wanted.isdisjoint(t.offsets.get(group, ())) for t in self.under_way.values())
