"""Orders parked by a bug, redriven when it is mended, on a real Kafka with every process that there is in production.

The command that redrives is killed twice on the way, and a worker with it: every order ends as if nothing had happened.
REDRIVEN_ORDERS says how many orders, if not 60.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

import events
from agents.order import order_id
from farandole import audit
from farandole.audit.reading import Reader
from farandole.audit.records import Where
from farandole.codec import Codec
from farandole.demo.flows import FLOW, services_of
from farandole.event import Event, Meta
from farandole.pytest_plugin import TestKafka
from farandole.redrive.queue import Book, Desk
from farandole.system import System

ORDERS = int(os.environ.get("REDRIVEN_ORDERS", "60"))
Letter = tuple[str, Where]
"""Service, and where the message lay that became a letter."""

COMMAND = [sys.executable, "-m", "farandole.cli.main", "dead-letters"]
SERVICES = ("order", "payment", "notification")
BUGS = ("payment.authorise", "order.captured")
PATIENCE = 60.0 + ORDERS / 5
NAMESPACE = "redrive."


def until(happened: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := happened()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return found


class Shop:
    """Places orders and reads what became of them."""

    def __init__(self, kafka: TestKafka, system: System) -> None:
        self.system = system
        self.codec = Codec.load(system.root / "schemas", events)
        self.producer = Producer({**kafka.config, "partitioner": "murmur2_random"})
        self.book = Book(self.codec, SERVICES)
        self.desk = Desk(Reader(kafka.config, NAMESPACE, self.book.topics), self.book)

    def send(self, event: Event, saga: str, flow: str = "order/1", key: str = "") -> None:
        value = self.codec.encode(event, Meta(f"test/{saga}", saga, flow, ""))
        topic = self.codec.type_of(type(event)).topic
        self.producer.produce(f"{NAMESPACE}{topic}", value, key or saga)
        self.producer.poll(0)

    def place(self, number: int) -> None:
        order = events.PlaceOrder(
            customer="anna",
            idempotency_key=str(number),
            lines=(events.OrderLine(line=1, sku=f"sku-{number % 7}", quantity=1, price=500),),
            currency="EUR",
            email="anna@example.org",
            ship_to="1 Main Street",
            card_token="tok_visible_nowhere",
            reserve_for=7200,
        )
        self.send(order, saga(number))

    def waiting(self) -> Counter[str]:
        """Letters that wait, by service."""
        self.desk.read(lambda what, done, total: None, "")
        return Counter(each.service for each in self.book.sequences() for _ in each.letters)

    def sagas(self) -> Counter[str]:
        """Parked sagas, by service."""
        self.waiting()
        return Counter(each.service for each in self.book.sequences())

    def redriven(self) -> int:
        self.waiting()
        return len(self.book.done)

    def letters(self) -> set[Letter]:
        """Every letter that there ever was."""
        self.waiting()
        return {(each.service, each.source) for queue in self.book.letters.values() for each in queue}

    def until_redriven(self, letters: int) -> None:
        until(lambda: self.redriven() >= letters, "nothing was redriven")


def saga(number: int) -> str:
    return order_id("anna", str(number))


def bug_of(number: int) -> str:
    return BUGS[number % 2]


def is_cancelled(number: int) -> bool:
    """Asked for when the order is parked already: too late where it has left."""
    return number % 5 == 0


@contextmanager
def shop(kafka: TestKafka, directory: Path) -> Iterator[Shop]:
    planted = ",".join(f"{bug_of(n)}@{saga(n)}" for n in range(ORDERS))
    environment = {"FARANDOLE_HOME": str(directory / "home"), "FARANDOLE_FAIL": planted}
    with System(
        directory,
        namespace=NAMESPACE,
        services=services_of([FLOW]),
        environment=environment,
        client_config=kafka.config,
    ) as system:
        made = Shop(kafka, system)
        try:
            yield made
        finally:
            made.desk.close()


def mend(system: System, *services: str) -> None:
    """Deploy the services without the bug."""
    for service in services:
        del system.worker(service)._environment["FARANDOLE_FAIL"]
        system.restart(service)
    system.wait_ready()


def dead_letters(system: System, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=system.root,
        env={**os.environ, **system.environment},
    )


def said(system: System, *arguments: str, code: int = 0) -> Any:
    command = dead_letters(system, *arguments)
    out, errors = command.communicate(timeout=PATIENCE)
    assert command.returncode == code, errors
    return json.loads(out)


def test_orders_that_a_bug_has_parked_end_as_if_nothing_had_happened(kafka: TestKafka, tmp_path: Path) -> None:
    with shop(kafka, tmp_path) as running:
        system = running.system
        for sku in range(7):
            stock = events.StockReceived(sku=f"sku-{sku}", quantity=ORDERS)
            running.send(stock, f"delivery-{sku}", "restock/1", f"sku-{sku}")
        for number in range(ORDERS):
            running.place(number)
        running.producer.flush(30)
        odd, even = ORDERS // 2, ORDERS - ORDERS // 2
        parked = {"payment": even, "order": odd}
        until(lambda: running.sagas() == parked, f"they were not parked: {running.sagas()}")
        cancelled = [number for number in range(ORDERS) if is_cancelled(number)]
        before = settled(running)
        for number in cancelled:
            running.send(events.CancelOrder(), saga(number))
        running.producer.flush(30)
        behind = before + Counter({"payment": sum(bug_of(n) == BUGS[0] for n in cancelled)})
        behind += Counter({"order": sum(bug_of(n) == BUGS[1] for n in cancelled)})
        until(lambda: running.waiting() == behind, f"not behind: {running.waiting()}, {behind} is expected")

        # Before it is mended, each saga stays at its letter.
        failed = said(system, "redrive", "--saga", saga(2), code=1)
        assert failed["letters"] == {"failed-again": 1}
        plan = said(system, "redrive", "--all", "--dry-run")
        assert (plan["letters"], plan["sagas"]) == (behind.total(), ORDERS)
        assert running.waiting() == behind

        waited = running.letters()
        assert len(waited) == behind.total()
        mend(system, "payment", "order")
        redrive_in_three_attempts(running, behind.total())
        assert running.waiting() == {}
        check_order(running, waited)

        orders = until(lambda: ended(running), "not every order has ended")
        expected = {number: is_cancelled(number) and bug_of(number) == "payment.authorise" for number in range(ORDERS)}
        assert orders == {"completed": ORDERS - sum(expected.values()), "cancelled": sum(expected.values())}
        report = audit.run(
            kafka.config, NAMESPACE, system.root, settled=True, gateway=system.sandbox.admin_urls["gateway"]
        )
        assert report.ok, report.findings
        assert (report.orders.parked, report.orders.open, report.duplicate_ids) == (0, 0, 0)


def settled(running: Shop) -> Counter[str]:
    """The letters that wait, when no more come: an order's other half may be heard before or after it is parked."""
    before = running.waiting()
    while True:
        time.sleep(2)
        now = running.waiting()
        if now == before:
            return now
        before = now


def redrive_in_three_attempts(running: Shop, letters: int) -> None:
    """Killed twice on the way, in the second attempt together with the worker that carries it out."""
    system = running.system
    rate = str(max(20, letters // 5))
    for attempt in (1, 2):
        command = dead_letters(system, "redrive", "--all", "--rate", rate)
        running.until_redriven(letters * attempt // 4)
        if attempt == 2:
            system.kill("payment")
        command.kill()
        command.communicate()
        done = running.redriven()
        assert done < letters, "it was over before it was killed"
        print(f"killed when {done} of {letters} letters were redriven")
    system.restart("payment")
    last = said(system, "redrive", "--all")
    print(f"at last: {last['letters']} in {last['seconds']} s")
    assert last["ok"], last
    assert last["letters"].get("ignored", 0) == 0, "what was asked for was asked for again"


def check_order(running: Shop, waited: set[Letter]) -> None:
    """Each letter was redriven once, a saga's in their order. More were than waited before where a call that one letter
    began was answered before the saga's next letter had its turn: the answer waits behind it.
    """
    redriven: defaultdict[tuple[str, int, str], list[tuple[int, Where]]] = defaultdict(list)
    for (service, partition, _), outcome in sorted(running.book.outcomes.items()):
        if outcome.outcome == "redriven":
            source = Where(outcome.topic, partition, outcome.offset)
            redriven[service, partition, outcome.saga].append((outcome.number, source))
    letters = running.letters()
    assert sum(map(len, redriven.values())) == len(letters)
    for (service, partition, each), found in redriven.items():
        queue = running.book.letters[service, (f"{service}.dlq", partition)]
        sources = [letter.source for letter in queue if letter.saga == each]
        assert found == list(enumerate(sources)), "each once, in the queue's order"
    assert {source.topic for _, source in letters - waited} <= {"payment.calls"}


def ended(running: Shop) -> dict[str, int] | None:
    """How many orders ended how, once all have."""
    report = audit.run(running.system.client_config, NAMESPACE, running.system.root)
    orders = report.orders
    if orders.completed + orders.cancelled < ORDERS or report.waiting:
        return None
    return {"completed": orders.completed, "cancelled": orders.cancelled}
