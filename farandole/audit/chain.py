"""Ids and causes: whether every id is there once, and every event has the cause, saga and flow that it says.

An event's id begins with the place of its cause, `order/3/1542`, and goes on with what tells it from the cause's other
effects; its `cause` is the id of the record at that place. So two roads lead from an effect to its cause, one by place
and one by name, and they must meet. And because both go by place, no id has to be kept: what is known of a record lies
in arrays, at its offset. 17 bytes per record, instead of some 200 for its id in a set.

Invariants:
- Exact, not sampled: what follows the place is a bit at the cause's offset, so a second use of an id is always seen.
  Cause, saga and flow are compared as one 64-bit hash, at a fixed place; a difference passes unseen once in 2^64.
- The order of reading does not matter: an effect that is read before its cause leaves its claim where the cause will
  be.

What is found here is only a place that is suspect. `Witness` then reads the topics a second time and says what is
wrong there, in words; that pass happens only when something is.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from farandole.audit.findings import Findings
from farandole.audit.records import Place, Where

CHUNK: Final = 1024
"""Offsets per array: topics that begin at a high offset (retention) cost nothing for what is gone."""

SUSPECTS: Final = 1_000
"""Suspect places that are explained; more are counted."""

UNSEEN, CLAIMED, READ = 0, 1, 2
ENDINGS: Final = 64
"""Endings of ids (`.0`, `.1` …) that are bits. They are few; those of orders with many lines are kept in a set."""


class Link(NamedTuple):
    """What a record says of itself, as bytes: id and cause without lengths, context = saga and flow with theirs."""

    id: bytes
    context: bytes
    cause: bytes


class Origin(NamedTuple):
    """An id taken apart: the place of the cause, its offset, and what tells this effect from the cause's others."""

    place: bytes
    offset: int
    ending: bytes


def origin_of(id: bytes) -> Origin | None:
    """`b"order/3/1542.0"` → (b"order/3", 1542, b"0"); None if it does not begin with a place."""
    slash = id.find(b"/", id.find(b"/") + 1)
    offset, point, ending = id[slash + 1 :].partition(b".")
    if slash <= 0 or not (point and ending and offset.isdigit()):
        return None
    return Origin(id[:slash], int(offset), ending)


class _Chunk:
    __slots__ = ("endings", "marks", "states")

    def __init__(self) -> None:
        self.states = bytearray(CHUNK)
        self.endings = array("Q", bytes(8 * CHUNK))
        self.marks = array("q", bytes(8 * CHUNK))


class Offsets:
    """What is known of the offsets of one partition."""

    __slots__ = ("chunks", "others")

    def __init__(self) -> None:
        self.chunks: defaultdict[int, _Chunk] = defaultdict(_Chunk)
        self.others: set[tuple[int, bytes]] = set()

    def use(self, offset: int, ending: bytes, bit: int) -> bool:
        """An effect of what lies here has this ending; False if another one had it before. bit: 0 if it has none."""
        if not bit:
            before = len(self.others)
            self.others.add((offset, ending))
            return len(self.others) > before
        endings, at = self.chunks[offset // CHUNK].endings, offset % CHUNK
        if endings[at] & bit:
            return False
        endings[at] |= bit
        return True

    def meet(self, offset: int, mark: int, state: int) -> bool:
        """A record (READ) or an effect (CLAIMED) says what lies here; False if that differs from what was said
        before."""
        chunk, at = self.chunks[offset // CHUNK], offset % CHUNK
        known = chunk.states[at]
        if known < state:
            chunk.states[at] = state
        if known == UNSEEN:
            chunk.marks[at] = mark
            return True
        if chunk.marks[at] == mark:
            return True
        if state == READ:
            chunk.marks[at] = mark
        return False

    def only_claimed(self) -> Iterator[int]:
        """Offsets that are named as a cause and were not read."""
        for number, chunk in self.chunks.items():
            at = chunk.states.find(CLAIMED)
            while at >= 0:
                yield number * CHUNK + at
                at = chunk.states.find(CLAIMED, at + 1)


class Chain:
    """Folds the links of all records of all event topics and dead letter queues.

    suspects:   places at which something does not fit: (place, offset); `more` counts those beyond SUSPECTS
    duplicates: records that carried an id that another one had
    """

    def __init__(self) -> None:
        self._offsets: defaultdict[bytes, Offsets] = defaultdict(Offsets)
        self._bits: dict[bytes, int] = {}
        self.suspects: set[tuple[bytes, int]] = set()
        self.more = 0
        self.duplicates = 0

    def at(self, place: Place) -> Offsets:
        """The partition that a record lies in, to be handed to `read`."""
        return self._offsets[place_name(place)]

    def read(self, place: bytes, here: Offsets, offset: int, link: Link) -> None:
        """A record lies here. Whether its own cause fits is `claim`'s."""
        if not here.meet(offset, hash((link.id, link.context)), READ):
            self._suspect(place, offset)

    def claim(self, link: Link, origin: Origin) -> None:
        """The record says that it is an effect of what lies at `origin`."""
        there = self._offsets[origin.place]
        if not there.use(origin.offset, origin.ending, self._bit(origin.ending)):
            self.duplicates += 1
            self._suspect(origin.place, origin.offset)
        if not there.meet(origin.offset, hash((link.cause, link.context)), CLAIMED):
            self._suspect(origin.place, origin.offset)

    def _bit(self, ending: bytes) -> int:
        bit = self._bits.get(ending)
        if bit is None:
            if len(self._bits) >= ENDINGS:
                return 0
            bit = self._bits[ending] = 1 << len(self._bits)
        return bit

    def _suspect(self, place: bytes, offset: int) -> None:
        if len(self.suspects) < SUSPECTS:
            self.suspects.add((place, offset))
        elif (place, offset) not in self.suspects:
            self.more += 1

    def missing(self, starts: dict[bytes, int]) -> tuple[set[tuple[bytes, int]], int]:
        """Causes that were named and never read, and how many of those are older than what the topics still hold.

        starts: by place, the first offset that there is
        """
        missing: set[tuple[bytes, int]] = set()
        older = 0
        for place, offsets in self._offsets.items():
            start = starts.get(place, 0)
            for offset in offsets.only_claimed():
                if offset < start:
                    older += 1
                elif len(missing) < SUSPECTS:
                    missing.add((place, offset))
        return missing, older


def place_name(place: Place) -> bytes:
    return f"{place[0]}/{place[1]}".encode()


class _Said(NamedTuple):
    """What one record says, as text, with the place where it lies."""

    where: Where
    event: str
    id: str
    saga: str
    flow: str
    cause: str


class Witness:
    """Reads what lies at suspect places, and what claims to be caused there; then says what does not fit.

    limit: effects of one place that are kept; an order of a hundred lines has as many
    """

    LIMIT: Final = 200

    def __init__(self, suspects: Iterable[tuple[bytes, int]]) -> None:
        self._records: dict[tuple[bytes, int], _Said] = {}
        self._effects: dict[tuple[bytes, int], list[_Said]] = {where: [] for where in suspects}

    def hear(self, where: Where, event: str, link: Link, saga: str, flow: str, *, copy: bool = False) -> None:
        """Any record of the second reading. copy: a dead letter, which repeats what another record says."""
        here = (place_name((where.topic, where.partition)), where.offset)
        origin = None if copy or not link.cause else origin_of(link.id)
        there = (origin.place, origin.offset) if origin else None
        if here not in self._effects and there not in self._effects:
            return
        said = _Said(where, event, link.id.decode(), saga, flow, link.cause.decode())
        if here in self._effects:
            self._records[here] = said
        if there in self._effects and len(self._effects[there]) < self.LIMIT:
            self._effects[there].append(said)

    def testify(self, findings: Findings) -> None:
        for where, effects in self._effects.items():
            self._doubled(effects, findings)
            cause = self._records.get(where)
            for effect in effects:
                if cause is None:
                    self._without_cause(where, effect, findings)
                else:
                    self._differing(cause, effect, findings)

    def _doubled(self, effects: list[_Said], findings: Findings) -> None:
        first: dict[str, _Said] = {}
        for effect in effects:
            other = first.setdefault(effect.id, effect)
            if other is not effect:
                what = f"{effect.event} has the id {effect.id}, which {other.event} at {other.where} has already"
                findings.add("duplicate-id", what, where=effect.where, saga=effect.saga)

    def _without_cause(self, where: tuple[bytes, int], effect: _Said, findings: Findings) -> None:
        what = f"{effect.event} is said to be caused by {effect.cause} at {where[0].decode()}/{where[1]}: none is there"
        findings.add("unknown-cause", what, where=effect.where, saga=effect.saga, momentary=True)

    def _differing(self, cause: _Said, effect: _Said, findings: Findings) -> None:
        lies = f"at {cause.where} lies {cause.event}"
        for check, said, there in (
            ("cause-differs", effect.cause, cause.id),
            ("saga-differs", effect.saga, cause.saga),
            ("flow-differs", effect.flow, cause.flow),
        ):
            if said != there:
                what = f"{effect.event} says {said!r}, but {lies} with {there!r}"
                findings.add(check, what, where=effect.where, saga=effect.saga)
