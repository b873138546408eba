"""Facts of orders that the real decisions took through each flow, in memory, written down as Kafka would have them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from events import StockReceived
from farandole.compare import facts as facts_of
from farandole.compare import outages
from farandole.compare.facts import Facts
from farandole.compare.flows import FLOWS, WORDS
from farandole.compare.rollback import rollback_of
from tests.farandole.audit_log import Recording, codec, recording, topics
from tests.flows.outside import Plan
from tests.flows.scenarios import an_order, saga_of


def silent(what: str, done: int, total: int) -> None: ...


def an_order_in(word: str, plan: Plan, before: Callable[[Recording], None] = lambda world: None) -> tuple[Facts, str]:
    order = an_order("1", ("apple", 2))
    saga = saga_of(order)
    with recording() as world:
        world.send(StockReceived(sku="apple", quantity=9), "delivery-1", "restock/1")
        world.outside.plans[saga] = plan
        before(world)
        world.send(order, saga, FLOWS[word])
        world.run()
        return facts_of.read(world.finish(), codec(), topics(), silent), saga


def test_traffic_is_in_the_order_of_time_whatever_the_topics_were_read_in() -> None:
    found, _ = an_order_in("choreographed", Plan())
    first, *_, last = at = [each.at for each in found.traffic]
    assert at == sorted(at)
    assert sum(count for count, _ in found.written(first, last + 1).values()) == found.records


@pytest.mark.parametrize("word", WORDS)
def test_a_plain_order_takes_every_step(word: str) -> None:
    found, saga = an_order_in(word, Plan())
    assert set(outages.reached(found, [saga], 2**62).values()) == {1}
    assert found.of[saga][0].name == "order.commands.place_order"
    assert found.of[saga][0].by == ""


def test_commands_are_written_by_the_orchestrator() -> None:
    found, saga = an_order_in("orchestrated", Plan())
    asked = [fact for fact in found.of[saga] if ".commands." in fact.name and fact.by]
    assert {fact.by for fact in asked} == {"orchestrator"}
    assert len(asked) == 7  # reserve, authorise, dispatch, capture, commit, complete, notify
    plain, saga = an_order_in("choreographed", Plan())
    assert len(found.of[saga]) == len(plain.of[saga]) + len(asked)  # otherwise it is the same


@pytest.mark.parametrize(
    ("word", "messages", "services"),
    # request, released line, released, void's answer, posted, voided, cancelled; and three commands if commanded
    [("choreographed", 7, 4), ("orchestrated", 10, 5), ("hybrid", 10, 5)],
)
def test_a_refused_shipment_is_taken_back(word: str, messages: int, services: int) -> None:
    found, saga = an_order_in(word, Plan(books=False))
    back = rollback_of(found.of[saga], "shipping.failed")
    assert back is not None
    assert (back.messages, back.services) == (messages, services)
    assert 0 < back.compensated <= back.cancelled


@pytest.mark.parametrize("word", WORDS)
def test_a_declined_card_is_taken_back(word: str) -> None:
    found, saga = an_order_in(word, Plan(declines=True))
    back = rollback_of(found.of[saga], "payment.declined")
    assert back is not None
    assert back.messages == (4 if word == "choreographed" else 6)


@pytest.mark.parametrize(("word", "done"), [("choreographed", 7), ("hybrid", 1), ("orchestrated", 1)])
def test_without_an_orchestrator_only_the_choreographed_order_moves(word: str, done: int) -> None:
    def down(world: Recording) -> None:
        world.gates = {"OrderPlaced@orchestrator"}

    found, saga = an_order_in(word, Plan(), down)
    assert sum(outages.reached(found, [saga], 2**62).values()) == done
