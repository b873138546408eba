"""Which sagas are in flight, midway through histories: none is missed, and in the end none is left."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from agents.order import order_id
from events import OrderRefused, WriteOff
from farandole.audit.records import LogRecord
from farandole.event import Meta
from farandole.flow import Flow
from farandole.inflight import counting
from farandole.inflight.counting import Count
from farandole.simulation.workers import Workshop
from tests.inflight.stepwise import Stepwise, order_2
from tests.replay.maker import order, stocked
from tests.replay.model import quiet

Answer = tuple[str, str, str]


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture(autouse=True)
def whole(workshop: Workshop) -> Iterator[None]:
    yield
    workshop.heal()


def saga(number: int) -> str:
    return order_id("customer", str(number))


def begin(made: Stepwise, number: int, flow: str, sku: str = "tea", quantity: int = 1) -> str:
    made.now += 1
    made.send(order(number, sku, quantity), saga(number), flow)
    return saga(number)


def accepted(name: str, operation: str) -> Answer:
    return "accepted", f"{operation}-1", ""


def decline_some(name: str, operation: str) -> Answer:
    return ("refused", "", "no") if operation == "authorise" and name < "o-8" else accepted(name, operation)


def left(found: Count, flow: str) -> int:
    return len(found.flows[flow].left)


def both(workshop: Workshop) -> dict[str, Flow]:
    flows = workshop.project.flows
    return flows | {"order/2": order_2(flows["order/1"])}


def test_whoever_publishes_anything_later_was_counted_before(workshop: Workshop) -> None:
    """At every moment of a history of two versions with declined cards and shortages: nobody is missed; and whoever is
    counted has something that is still to be read, answered or ended. In the end nobody is left.
    """
    made = Stepwise(workshop, both(workshop), decline_some)
    stocked(made, "tea", 9)
    flow_of = {begin(made, n, f"order/{1 + n % 2}"): f"order/{1 + n % 2}" for n in range(14)}
    moments: list[tuple[dict[Any, int], dict[str, set[str]]]] = []
    with made.running():
        for _ in made.steps():
            found = made.counted()
            moments.append((made.ends(), {flow: set(each.left) for flow, each in found.flows.items()}))
            assert found.gone.open == 0
        last = made.counted()
    assert last.flows.keys() == both(workshop).keys()
    assert not any(each.open for each in last.flows.values())
    assert len(moments) > 50
    sizes = []
    for ends, counted in moments:
        everybody = set().union(*counted.values())
        assert made.sagas_since(ends) <= everybody
        for flow, sagas in counted.items():
            assert all(flow_of.get(each, "restock/1") == flow for each in sagas)
        sizes.append(len(everybody & flow_of.keys()))
    assert sizes[0] == 14
    assert sizes[-1] == 0
    assert all(later <= earlier for earlier, later in itertools.pairwise(sizes)), "one that has ended is back"
    assert len(set(sizes)) > 5, "they do not end all at once"


def test_each_saga_ends_under_its_version(workshop: Workshop) -> None:
    made = Stepwise(workshop, both(workshop), accepted)
    stocked(made, "tea", 3)
    made.send(order(1, "no sku at all", 1), saga(1), "order/1")
    made.send(order(2, "no sku at all", 1), saga(2), "order/2")
    begin(made, 3, "order/1")
    begin(made, 4, "order/2")
    with made.running():
        for _ in made.steps():
            pass
        found = made.counted()
    assert (left(found, "order/1"), left(found, "order/2")) == (0, 0)

    def kinds(number: int) -> list[str]:
        return [type(event).__name__ for event in made.of_saga(saga(number))]

    assert kinds(1) == ["PlaceOrder", "OrderRefused", "MailAnswered", "NotificationSent"]
    assert kinds(2) == ["PlaceOrder", "OrderRefused"], "order/2 tells nobody"
    assert kinds(3)[-1] == kinds(4)[-1] == "NotificationSent"
    flows = {self_flow for number in (1, 2, 3, 4) for self_flow in _flows_of(made, saga(number))}
    assert flows == {(saga(1), "order/1"), (saga(2), "order/2"), (saga(3), "order/1"), (saga(4), "order/2")}


def _flows_of(made: Stepwise, name: str) -> set[tuple[str, str]]:
    found = set()
    for (topic, _), records in made.log.items():
        if made.workshop.topics.topics[topic].events:
            for record in records:
                meta = made.codec.meta_of(record.value or b"")
                if meta.saga == name:
                    found.add((name, meta.flow))
    return found


def test_what_only_a_row_tells_waits_for_somebody(workshop: Workshop) -> None:
    """A capture that the gateway refuses: no message, no call, no timer; until an operator gives it up."""
    made = Stepwise(
        workshop,
        workshop.project.flows,
        lambda name, operation: ("refused", "", "no") if operation == "capture" else accepted(name, operation),
    )
    stocked(made, "tea", 3)
    name = begin(made, 1, "order/1")
    with made.running():
        for _ in made.steps():
            pass
        found = made.counted()
        assert found.flows["order/1"].left == {
            name: [
                "a row of order's table orders has not ended",
                "a row of payment's table charges has not ended",
            ]
        }
        assert found.flows["order/1"].waiting == {name}
        made.send(WriteOff(reason="it will not come"), name, "order/1")
        assert made.counted().flows["order/1"].waiting == set()
        assert left(made.counted(), "order/1") == 1
        for _ in made.steps():
            pass
        assert left(made.counted(), "order/1") == 0


def test_a_timer_and_a_call_are_under_way(workshop: Workshop) -> None:
    made = Stepwise(workshop, workshop.project.flows, accepted)
    stocked(made, "tea", 3)
    name = begin(made, 1, "order/1")
    with made.running():
        whys = set(made.counted().flows["order/1"].left[name])
        for _ in made.steps():
            whys.update(made.counted().flows["order/1"].left.get(name, []))
    assert "inventory has set the timer ReservationExpired" in whys
    assert "payment waits for gateway/authorise" in whys
    assert any(why.startswith("order has not read order.commands/") for why in whys)
    assert any(why.startswith("notification has not read order/") for why in whys), "its end is not its last message"


def test_parked_sagas_are_counted_apart(workshop: Workshop) -> None:
    made = Stepwise(workshop, workshop.project.flows, accepted)
    stocked(made, "tea", 3)
    first, second = begin(made, 1, "order/1"), begin(made, 2, "order/1")
    bindings = workshop.services["payment"].bindings
    workshop.fail("payment.authorise", first)
    service = workshop.services["payment"]
    with _failing(made, service, bindings):
        for _ in made.steps():
            pass
        found = made.counted()
    standing = found.flows["order/1"]
    assert standing.left == {}
    assert list(standing.parked) == [first]
    assert standing.parked[first][0] == "parked in payment"
    assert second not in standing.parked


def _failing(made: Stepwise, service: Any, bindings: Any) -> Any:
    """`running`, with the bindings of the workshop, which may be made to fail."""
    from farandole import assembly

    before = assembly.bindings_of
    patch = pytest.MonkeyPatch()
    patch.setattr(assembly, "bindings_of", lambda app, flows: bindings if app is service.app else before(app, flows))
    context = made.running()

    class Both:
        def __enter__(self) -> None:
            context.__enter__()

        def __exit__(self, *args: Any) -> None:
            patch.undo()
            context.__exit__(*args)

    return Both()


def test_a_flow_that_the_checkout_does_not_have_is_counted_under_its_name(workshop: Workshop) -> None:
    """Its sagas are counted by the same rules, but that nobody knows who hears what: so whoever reads the topic."""
    made = Stepwise(workshop, both(workshop), accepted)
    stocked(made, "tea", 30)
    for number in range(6):
        begin(made, number, f"order/{1 + number % 2}")
    seen = []
    with made.running():
        for _ in made.steps():
            found = made.counted(workshop.project.flows)
            knowing = made.counted()
            assert set(knowing.flows["order/2"].left) <= set(found.flows.get("order/2", counting.Standing()).left)
            seen.append(left(found, "order/2") if "order/2" in found.flows else 0)
        assert "order/2" not in made.counted(workshop.project.flows).flows
    assert seen[0] == 3
    assert seen[-1] == 0


def test_a_saga_whose_records_are_past_retention_has_no_flow_and_that_is_said(workshop: Workshop) -> None:
    made = Stepwise(
        workshop,
        workshop.project.flows,
        lambda name, operation: ("refused", "", "no") if operation == "capture" else accepted(name, operation),
    )
    stocked(made, "tea", 3)
    name = begin(made, 1, "order/1")
    with made.running():
        for _ in made.steps():
            pass
        assert left(made.counted(), "order/1") == 1
        ends = made.ends()
        for place in made.starts:
            if made.workshop.topics.topics[place[0]].events:
                made.starts[place] = ends[place]
        found = made.counted()
    assert left(found, "order/1") == 0
    assert set(found.gone.left) == {name}


def test_it_searches_as_far_back_as_it_has_to_and_no_further(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "WINDOW", 4)
    stuck: list[str] = []
    made = Stepwise(
        workshop,
        workshop.project.flows,
        lambda name, operation: (
            ("refused", "", "no") if operation == "capture" and name in stuck else accepted(name, operation)
        ),
    )
    stocked(made, "tea", 300)
    early = begin(made, 1, "order/1")
    stuck.append(early)
    with made.running():
        for _ in made.steps():
            pass
        nearby = made.counted().records
        for number in range(100, 160):
            begin(made, number, "order/1")
        for _ in made.steps():
            pass
        found = made.counted()
    assert set(found.flows["order/1"].left) == {early}
    assert nearby < found.records


def test_whose_row_it_is() -> None:
    assert counting.candidates("o-1") == ("o-1",)
    assert counting.candidates("o-1/2") == ("o-1/2", "o-1")


def test_what_cannot_be_read_stops_nothing_and_is_told(workshop: Workshop) -> None:
    made = Stepwise(workshop, workshop.project.flows, accepted)
    name = begin(made, 1, "order/1")
    made._append("order.commands", b"x", b"nonsense", 0)
    unknown = b"\0\0\0\xff\xff" + made.codec.encode(OrderRefused("c", "e", "r"), Meta("a", "o-9", "order/9", ""))[5:]
    made._append("order", b"o-9", unknown, 0)
    with made.running():
        found = made.counted()
    assert list(found.flows["order/1"].left) == [name]
    assert list(found.flows["order/9"].left) == ["o-9"]
    assert found.notes == ["1 unread records cannot be read, and are of no flow"]
    assert isinstance(made.log["order", 0][0], LogRecord)


def test_services_that_go_on_meanwhile_hide_nobody(workshop: Workshop) -> None:
    """Positions are asked for, services go on for a while, then the topics are read: whoever was in flight when the
    positions were asked for is counted, however far it has come since.
    """
    made = Stepwise(workshop, workshop.project.flows, decline_some)
    stocked(made, "tea", 9)
    for number in range(8):
        begin(made, number, "order/1")
    checked = 0
    with made.running():
        steps = made.steps()
        for _ in range(200):
            positions, ends = made.positions(), made.ends()
            for _ in range(7):
                if next(steps, made) is made:
                    break
            found = counting.count(made, made.told(), positions, quiet)
            meanwhile = made.sagas_since(ends)
            assert meanwhile <= {saga for each in found.flows.values() for saga in each.left}
            checked += bool(meanwhile)
    assert checked > 5


def test_whoever_never_committed_anything_has_everything_to_read(workshop: Workshop) -> None:
    made = Stepwise(workshop, workshop.project.flows, accepted)
    stocked(made, "tea", 9)
    name = begin(made, 1, "order/1")
    with made.running():
        for _ in made.steps():
            pass
        positions = made.positions()
        del positions["notification"]
        assert left(counting.count(made, made.told(), positions, quiet), "order/1") == 0, "no such service runs"
        positions["notification"] = {}
        found = counting.count(made, made.told(), positions, quiet)
    assert list(found.flows["order/1"].left) == [name]
    assert found.flows["order/1"].left[name][0].startswith("notification has not read ")
