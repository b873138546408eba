"""More services that want to know that an order was completed: what they cost, run with some stand-ins.

The same plain orders, in one round: with nobody more, with stand-ins that hear the event, and with as many that
somebody commands, who hears the event for them and gets their answers. The stand-ins (farandole.compare.standins) are
processes of their own, that are started before a turn and gone after it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its re-exports are not declared as such
    AdminClient,
    NewTopic,
)

from farandole.compare.costs import AUDIENCE, Turn, summary
from farandole.compare.facts import Facts
from farandole.compare.standins import ANSWERS, COMMANDS, Done
from farandole.config import ClientConfig
from farandole.errors import BrokerError, FarandoleError

MODES: Final[Mapping[str, tuple[str, ...]]] = {
    "nobody": (),
    "heard": ("readers",),
    "commanded": ("answerers", "commander"),
}
"""Word → the roles of its processes."""

PROGRAM: Final = ["-m", "farandole.compare.standins"]
NOTHING: Final = Done(0, 0, 0, 0)
WITHIN: Final = 60.0
LOOK_EVERY: Final = 0.05


def create_topics(client_config: ClientConfig, namespace: str, number: int) -> None:
    """Of commands and answers; they go with the namespace."""
    admin = AdminClient({**client_config, "log_level": 0})
    topics = [NewTopic(namespace + name, num_partitions=number) for name in (COMMANDS, ANSWERS)]
    for future in admin.create_topics(topics).values():
        try:
            future.result()
        except KafkaException as error:
            raise BrokerError(f"the stand-ins' topics cannot be made: {error.args[0].str()}") from error


class StandIn:
    """One process. log: file for what it says; complaints lie beside it"""

    def __init__(self, role: str, number: int, orders: int, environment: Mapping[str, str], log: Path) -> None:
        self.role, self._log, self._complaints = role, log, log.with_suffix(".log")
        with log.open("wb") as out, self._complaints.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *PROGRAM, role, str(number), str(orders)],
                stdin=subprocess.PIPE, stdout=out, stderr=errors, env=dict(environment), start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, lines: int, check: Callable[[], None]) -> dict[str, Any]:
        """Until it has said so many, and the last of them."""
        deadline = time.monotonic() + WITHIN
        while (said := self._log.read_text()).count("\n") < lines:
            check()
            if self._process.poll() is not None or time.monotonic() > deadline:
                last = " / ".join(self._complaints.read_text(errors="replace").strip().splitlines()[-3:])
                raise FarandoleError(f"the {self.role} that stand in for subscribers failed: {last or 'too slow'}")
            time.sleep(LOOK_EVERY)
        return dict(json.loads(said.splitlines()[lines - 1]))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


class Audience:
    """The stand-ins of one turn."""

    def __init__(self, stand_ins: Sequence[StandIn], check: Callable[[], None]) -> None:
        self._stand_ins, self._check = stand_ins, check

    @property
    def pids(self) -> dict[str, int]:
        return {f"{AUDIENCE}, {each.role}": each.pid for each in self._stand_ins}

    def done(self) -> Done:
        """When all of them have what they wait for: what they read and wrote."""
        said = [Done(**each.wait(2, self._check)) for each in self._stand_ins]
        return Done(*(sum(column) for column in zip(NOTHING, *said, strict=True)))


@contextmanager
def audience(
    mode: str, number: int, orders: int, environment: Mapping[str, str], home: Path, check: Callable[[], None]
) -> Iterator[Audience]:
    """It is ready."""
    with ExitStack() as stack:
        stand_ins = []
        for role in MODES[mode]:
            each = StandIn(role, number, orders, environment, home / f"standins-{role}.json")
            stack.callback(each.stop)
            stand_ins.append(each)
        for each in stand_ins:
            each.wait(1, check)
        yield Audience(stand_ins, check)


def table(number: int, turns: Sequence[tuple[Turn, Done]], facts: Facts) -> dict[str, Any]:
    """number: of stand-ins. By mode, for each order; nothing if there was no time for them."""
    found = {}
    for mode in MODES:
        of = [(turn, done) for turn, done in turns if turn.flow == mode]
        costs = summary([turn for turn, _ in of], facts)
        orders = costs["orders"]
        did = Done(*(sum(column) for column in zip(NOTHING, *(done for _, done in of), strict=True)))
        found[mode] = {
            "orders": orders,
            "orders_per_second": costs["orders_per_second"]["median"],
            **{name: costs[name]["median"] for name in ("cpu_ms", "broker_cpu_ms", "audience_cpu_ms")},
            **{name: round(value / orders, 1) if orders else None for name, value in did._asdict().items()},
        }
    return {"number": number, "modes": found} if turns else {}
