"""Outside calls that wait for their answer: a changelogged table. Performing them is farandole.outside's.

Invariant: a call is in the table exactly from the transaction that asked for it to the transaction that recorded its
           answer or
withdrew it. So after a crash the table says what to perform again, with the same idempotency key, and an answer that
nobody waits for any more is dropped.
"""

from __future__ import annotations

from typing import Any

import msgspec

from events import FarandoleCall
from farandole.codec import EventType
from farandole.event import Call
from farandole.message import MAX_RECORD, TooLarge
from farandole.table import Partitioned, UndoLog

_ROOM = 1_000
"""Bytes of a call's row beside its body, metadata, saga and key: names and lengths."""

_encoder = msgspec.json.Encoder()


class Calls:
    """The outside calls of one service, by partition and idempotency key."""

    def __init__(self, log: UndoLog) -> None:
        self.table: Partitioned[FarandoleCall] = Partitioned("calls", FarandoleCall, log)

    def start(self, call: Call[Any], saga: str, meta: bytes, answer: EventType) -> None:
        """The same key again while the call is under way changes nothing."""
        if call.key in self.table.rows:
            return
        body = _encoder.encode(call.body)  # may be several times what the event was: JSON has escapes
        if len(body) + len(meta) + len(saga) + len(call.key) + _ROOM > MAX_RECORD:
            raise TooLarge(f"the call {call.operation} of {len(body)} bytes")
        self.table.put(
            call.key,
            FarandoleCall(
                saga=saga,
                outside=call.outside,
                operation=call.operation,
                body=body,
                answer=answer.name,
                meta=meta,
                deadline=0.0 if call.deadline is None else max(float(call.deadline), 0.001),
            ),
        )

    def withdraw(self, key: str) -> None:
        if key in self.table.rows:
            self.table.remove(key)
