"""HTTP for transfers: start one, look at one.

Any transfers worker answers for any transfer; the worker that owns the transfer's partition gives the answer, from
committed rows only.

    POST /transfers        201 it has ended, `status` says how: completed or failed; 202 it is under way; 200 the same
                           request again, whatever has become of it; 409 another body under the same key; 422 a bad
                           request
    GET /transfers/{id}    200 with every step, or 404

Whatever goes wrong is a JSON object with `problems`, `what`, `where` and `mend`. 503 with Retry-After: nobody owns the
transfer's partition at this moment. The same request is safe to repeat.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import msgspec
from faust.web import View

from agents import transfers as service
from events import StartTransfer, Transfer
from farandole.door import Door, replied

FLOW = "transfer/1"
ENDED_WITHIN = 5.0
"""Seconds that a request waits for its transfer to end before it is answered with 202."""

TRANSFER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")
"""What a transfer's id may look like; whatever else stands in a path names no transfer."""

REQUEST_FIELDS = frozenset(StartTransfer.__struct_fields__) - {"saga"}
ENDED = ("completed", "failed")

Reply = tuple[int, dict[str, Any]]


def transfer_as_json(transfer_id: str, transfer: Transfer) -> dict[str, Any]:
    """What the outside may see of a transfer."""
    return {
        "transfer": transfer_id,
        "status": transfer.phase,
        "source": transfer.source,
        "target": transfer.target,
        "amount": transfer.amount,
        "currency": transfer.currency,
        "reason": transfer.reason,
        "steps": [msgspec.structs.asdict(step) for step in transfer.steps],
    }


def read_request(body: bytes) -> StartTransfer | list[str]:
    """The command that a request's body is, or what is wrong with it."""
    try:
        raw = msgspec.json.decode(body)
        command = msgspec.convert(raw, StartTransfer)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits, say
        return [str(error)[:500]]
    # A misspelt optional field would otherwise pass in silence.
    problems = [f"{name[:64]}: there is no such field" for name in raw if name not in REQUEST_FIELDS]
    return problems + service.validate(command) or command


class Transfers:
    """The two answers, each (status, JSON)."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def _row(self, partition: int, transfer_id: str) -> Transfer | None:
        return service.states.committed(partition, transfer_id)

    async def start(self, request: Any) -> Reply:
        command = read_request(await request.read())
        if isinstance(command, list):
            return 422, {"problems": command}
        transfer_id = service.transfer_id(command.customer, command.idempotency_key)

        async def here(partition: int) -> Reply:
            def ended() -> bool:
                row = self._row(partition, transfer_id)
                return row is not None and row.phase in ENDED

            known = self._row(partition, transfer_id) is not None
            if not known:
                await self._door.send_and_wait(
                    command, transfer_id, FLOW, table="states", timeout=ENDED_WITHIN, settled=ended
                )
            row = self._row(partition, transfer_id)
            if row is None:
                return 202, {"transfer": transfer_id, "status": "accepted"}
            if row.fingerprint != service.fingerprint(command):
                problem = "another transfer was asked for under this idempotency key"
                return 409, {"transfer": transfer_id, "problems": [problem]}
            status = 200 if known else 201 if row.phase in ENDED else 202
            return status, transfer_as_json(transfer_id, row)

        return await self._door.at_owner(request, transfer_id, here)

    async def get(self, request: Any, transfer_id: str) -> Reply:
        async def here(partition: int) -> Reply:
            row = self._row(partition, transfer_id)
            return (200, transfer_as_json(transfer_id, row)) if row else _unknown(transfer_id)

        if not TRANSFER_ID.fullmatch(transfer_id):
            return _unknown(transfer_id)
        return await self._door.at_owner(request, transfer_id, here)


def _unknown(transfer_id: str) -> Reply:
    return 404, {"transfer": transfer_id[:64], "problems": ["there is no such transfer"]}


def add_views(app: Any) -> None:
    """Register the views with the transfers service's App."""
    transfers = Transfers(Door(app, topic="transfers.commands"))
    reply = partial(replied, "transfer")

    @app.page("/transfers")
    class Start(View):
        async def post(self, request: Any) -> Any:
            return await reply(self, request, transfers.start(request))

    @app.page("/transfers/{transfer_id}")
    class Look(View):
        async def get(self, request: Any, transfer_id: str) -> Any:
            return await reply(self, request, transfers.get(request, transfer_id))
