"""Operations of the past: which letters were redriven and failed again, and why.

A letter that was redriven before the decision was mended failed again; it would not today. What the tables are rests on
what happened: so a replay that recomputes them lets it fail as it did then.
"""

from __future__ import annotations

from typing import Any

from events import FarandoleOutcome
from farandole.audit.records import LogRecord
from farandole.codec import Codec
from farandole.errors import CodecError
from farandole.operations import FAILED_AGAIN, Failure
from farandole.processor import Processor
from farandole.replay.letters import DECIDED, Letter, error_of

Asked = tuple[int, int]
"""Partition and offset of an operation."""


class Outcomes:
    """The operations of one service that failed again, by where they lie."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.failed: dict[Asked, Letter] = {}

    def take(self, record: LogRecord) -> None:
        """A record of the service's operations."""
        try:
            decoder = self._codec.decoder_for(record.value)
            outcome = decoder.decode(record.value or b"")
        except CodecError:
            return
        if isinstance(outcome, FarandoleOutcome) and outcome.outcome == FAILED_AGAIN:
            self.failed[record.partition, outcome.operation] = Letter(outcome.reason, outcome.error)

    def condemned(self, topic: str) -> list[tuple[str, int, int]]:
        """Operations whose effects the broker refused."""
        return [(topic, *asked) for asked, letter in self.failed.items() if letter.condemned]


def fail_as_then(processor: Processor, letter: Letter) -> Any:
    """Let the next letter that is redriven fail as it did. Returns what undoes that."""
    failure = Failure(error_of(letter), letter.reason in DECIDED)
    processor._decide_again = lambda redriven: failure  # type: ignore[assignment,method-assign]
    return lambda: processor.__dict__.pop("_decide_again", None)
