"""What today's rules would have done to recorded orders: nothing, if they are those of then; else what differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from agents import inventory as stock
from agents import order as orders
from agents import payment
from events import (
    AuthoriseAnswered,
    Hold,
    InventoryLineShort,
    InventoryRejected,
    PlaceOrder,
    StockHoldRequested,
    StockReceived,
)
from farandole.assembly import Binding
from farandole.audit.records import Place
from farandole.errors import ReplayError
from farandole.replay import shadow_report
from farandole.replay.differing import Shadow
from farandole.replay.replica import Replica
from farandole.replay.shadowing import plan, shadow
from farandole.simulation.plan import SERVICES, OrderPlan, Plan, make_plan
from farandole.simulation.run import Run
from farandole.simulation.tape import Tape
from farandole.simulation.trial import trial
from farandole.simulation.workers import Workshop
from tests.replay.maker import Maker, order, ordered, stocked
from tests.replay.model import ModelSource, played, quiet

SEEDS = 30
ACCEPTED = ("accepted", "r", "")


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


def shadowed(workshop: Workshop, run: Run, **options: str) -> Shadow:
    """The handlers are those of the workshop, with what fails on purpose in it."""
    replicas = replicas_of(workshop, run.plan.partitions)
    return shadow(ModelSource(run), workshop.topics, replicas, quiet, **options)  # type: ignore[arg-type]


def test_with_the_rules_of_then_nothing_differs_not_even_a_row(workshop: Workshop) -> None:
    messages = 0
    for seed in range(SEEDS):
        run = played(workshop, seed)
        if run.plan.failures:  # an operator mended them on the way: the rules of then are two
            continue
        found = shadowed(workshop, run)
        assert found.differing == [], f"seed {seed}: {[each.to_dict() for each in found.differing]}"
        assert found.rows_differing == 0, f"seed {seed}: {found.to_dict()['tables']}"
        messages += found.messages
    assert messages > 30 * SEEDS


# ---- with one rule changed


def changed(name: str, heard: type[Any], rule: Callable[[Any], Any]) -> Workshop:
    """The system of today, in which one service decides otherwise about one event."""
    workshop = Workshop()
    service = workshop.services[name]

    def other(binding: Binding) -> Binding:
        flow, event, decision = binding
        return flow, event, dataclasses.replace(decision, function=rule) if event is heard else decision

    service.bindings = [other(binding) for binding in service.bindings]
    return workshop


def few_pieces_only(command: PlaceOrder) -> Any:
    """Orders of more than three pieces are refused."""
    if command.saga not in orders.orders and sum(line.quantity for line in command.lines) > 3:
        return orders._refuse(command, "too many pieces")
    return orders.place(command)


def single_pieces_only(request: StockHoldRequested) -> Any:
    """Nobody gets more than two pieces in one line."""
    if request.quantity > 2 and f"{request.saga}/{request.line}" not in stock.holds:
        stock.holds[f"{request.saga}/{request.line}"] = Hold(phase="short", quantity=request.quantity)
        return InventoryLineShort(line=request.line)
    return stock.hold(request)


def calm(order: OrderPlan) -> OrderPlan:
    """The same lines; nothing is wrong with it, and the outside accepts it."""
    return OrderPlan(order.number, order.at, order.lines)


def many(seed: int, enough: bool) -> Plan:
    """Forty orders. With stock for all, of which some are declined, cancelled, or nowhere to go to; else calm ones."""
    plan = make_plan(seed, 40, ("order/1",))  # the rules that are changed here are that flow's
    if not enough:
        plan = replace(plan, orders=tuple(map(calm, plan.orders)))
    deliveries = tuple(replace(each, at=0, quantity=10_000 if enough else each.quantity) for each in plan.deliveries)
    return replace(plan, deliveries=deliveries, failures=(), nonsense=())


def ends(run: Run) -> dict[str, str]:
    """How each order ended, told by what is committed."""
    codec, found = run.workshop.project.codec, {}
    for partition in range(run.plan.partitions):
        for record in run.cluster.read("order", partition):
            meta, event = codec.decode(record.value)
            name = type(event).__name__
            if name in ("OrderCompleted", "OrderCancelled", "OrderRefused"):
                found[meta.saga] = name
    return found


def test_a_stricter_rule_refuses_exactly_the_orders_that_break_it(workshop: Workshop) -> None:
    strict = changed("order", PlaceOrder, few_pieces_only)
    told = 0
    for seed in range(4):
        plan = many(seed, enough=True)
        run = trial(workshop, plan, Tape(seed, plan.rates)).run
        before = ends(run)
        broken = {each.saga for each in plan.orders if sum(line.quantity for line in each.lines) > 3}
        expected = {saga for saga in broken if before.get(saga) not in (None, "OrderRefused")}
        found = shadowed(strict, run)
        assert {each.saga for each in found.ended_otherwise} == expected, f"seed {seed}"
        assert {each.after.ending for each in found.ended_otherwise} == {"refused"}
        first = {each.first["after"]["type"] for each in found.ended_otherwise}
        assert first == {"order.refused"}
        told += len(expected)
    assert told > 10


def test_who_gets_the_stock_that_others_do_not_is_told_too(workshop: Workshop) -> None:
    """The other system really runs, with the other rule, on the same plan where nothing goes wrong by chance: so it
    says independently how each order would have ended.
    """
    sparing = changed("inventory", StockHoldRequested, single_pieces_only)
    lucky = 0
    for seed in (4, 5, 8):
        plan = many(seed, enough=False)
        run, other = (trial(each, plan, Tape(seed, {})).run for each in (workshop, sparing))
        before, after = ends(run), ends(other)
        expected = {saga for saga in before if before[saga] != after[saga]}
        found = shadowed(sparing, run, unasked="accepted")
        assert {each.saga for each in found.ended_otherwise} == expected, f"seed {seed}"
        lucky += sum(each.after.ending == "completed" for each in found.ended_otherwise)
    assert lucky > 0


def test_what_was_charged_first_and_refunded_was_not_kept(workshop: Workshop) -> None:
    def kept(event: InventoryRejected) -> None:
        """A shortage refunds nothing."""

    plan = many(4, enough=False)
    plan = replace(plan, orders=tuple(replace(each, flow="order-pay-first/1") for each in plan.orders))
    run = trial(workshop, plan, Tape(4, {})).run
    found = shadowed(changed("payment", InventoryRejected, kept), run, unasked="accepted")
    assert found.differing
    assert {(each.before.ending, each.before.charged) for each in found.differing} == {("cancelled", 0)}
    assert all(each.after.charged > 0 for each in found.differing)


def test_what_is_not_published_any_more_is_told_though_nobody_heard_it(workshop: Workshop) -> None:
    """The ledger is heard by no service: no journal line misses a posting."""

    def unposted(answer: AuthoriseAnswered) -> Any:
        effects = payment.authorise_answered(answer)
        return effects[0] if isinstance(effects, tuple) else effects

    careless = changed("payment", AuthoriseAnswered, unposted)
    maker = Maker(workshop)
    stocked(maker, "tea", 10_000)
    ordered(maker, [order(n, "tea", 1) for n in range(50)], orders.order_id)
    maker.settle(lambda saga, step: ACCEPTED)
    found = shadow(maker, workshop.topics, replicas_of(careless), quiet)
    assert (len(found.differing), found.ended_otherwise, found.rows_differing) == (50, [], 0)
    first = found.differing[0].first
    assert (first["before"]["type"], first["before"]["event"]["memo"]) == ("payment.ledger.posted", "authorise")


def replicas_of(workshop: Workshop, partitions: int = 6) -> dict[str, Replica]:
    return {s: Replica(s, workshop.project, partitions, workshop.services[s].bindings) for s in SERVICES}


def test_of_many_orders_exactly_those_that_the_rule_meets_end_otherwise(workshop: Workshop) -> None:
    """Who they are is worked out from the orders alone. The other thousands are told by their number."""
    strict = changed("order", PlaceOrder, few_pieces_only)
    maker = Maker(workshop)
    placed = [order(n, f"sku-{n % 50}", 1 + n % 5, card=f"tok_{n}") for n in range(2_000)]
    for n in range(50):
        stocked(maker, f"sku-{n}", 1_000_000)
    ordered(maker, placed, orders.order_id)
    declined = {orders.order_id("customer", str(n)) for n in range(0, 2_000, 7)}
    maker.settle(lambda saga, step: ("refused", "", "no") if step == "authorise" and saga in declined else ACCEPTED)
    found = shadow(maker, workshop.topics, replicas_of(strict), quiet)
    expected = {orders.order_id("customer", str(n)) for n in range(2_000) if 1 + n % 5 > 3}
    assert {each.saga for each in found.ended_otherwise} == expected
    assert {each.saga for each in found.differing} == expected
    assert found.before == {"completed": 1_714, "cancelled": 286}
    assert found.after["refused"] == len(expected) == 800
    charged = [1_000 * (1 + n % 5) for n in range(2_000) if 1 + n % 5 > 3 and n % 7]
    assert sum(each.before.charged for each in found.differing) == sum(charged)


# ---- what is said


def said(found: Shadow, capsys: pytest.CaptureFixture[str]) -> str:
    shadow_report.show(found, as_json=False)
    return capsys.readouterr().out


def test_rows_that_differ_are_said_though_no_saga_does(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    other = changed("inventory", StockReceived, lambda e: stock.receive(replace(e, quantity=2 * e.quantity)))
    maker = made(workshop)
    found = shadow(maker, workshop.topics, replicas_of(other), quiet)
    text = said(found, capsys)
    assert "nothing differs" not in text
    assert "inventory levels: 1, tea [" in text
    assert found.to_dict()["rows"]["inventory"]["levels"][0]["key"] == "tea"
    assert "nothing differs" in said(shadow(maker, workshop.topics, replicas_of(workshop), quiet), capsys)


def test_a_saga_that_is_parked_today_alone_is_told(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    """It publishes nothing, then or now: no event differs."""

    def broken(event: StockReceived) -> Any:
        raise RuntimeError("a new bug")

    maker = Maker(workshop)
    stocked(maker, "tea", 10_000)
    maker.settle(lambda saga, step: ACCEPTED)
    found = shadow(maker, workshop.topics, replicas_of(changed("inventory", StockReceived, broken)), quiet)
    assert [(each.saga, each.before.ending, each.after.ending) for each in found.differing] == [
        ("delivery-tea", "open", "parked")
    ]
    assert (found.before, found.after) == ({}, {}), "a delivery is no order"
    assert "nothing differs" not in said(found, capsys)


def test_times_choose_the_orders_that_are_counted(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    strict, maker = changed("order", PlaceOrder, few_pieces_only), made(workshop, pieces=5)
    times = sorted(r.time for (topic, _), log in maker.log.items() if topic == "order.commands" for r in log)
    counted = [
        shadow(maker, workshop.topics, replicas_of(strict), quiet, window=window)
        for window in ((None, times[10]), (times[10], None), (times[-1] + 1, None))
    ]
    assert [each.before for each in counted] == [{"completed": 10}, {"completed": 40}, {}]
    assert [each.after["refused"] for each in counted] == [len(each.differing) for each in counted] == [4, 16, 0]
    assert "no saga differs of those that were chosen; 20 left the record" in said(counted[-1], capsys)
    other = shadow(maker, workshop.topics, replicas_of(strict), quiet, flow="restock/1")
    assert (other.before, other.after, other.differing) == ({}, {}, [])


def test_tables_are_compared_as_of_the_moment_when_they_were_read(workshop: Workshop) -> None:
    """The system runs: each service's tables are read at another moment, and all of history after that."""
    maker, moments = Maker(workshop, batch=2), list[dict[Place, int]]()

    def outcome(saga: str, step: str) -> tuple[str, str, str]:
        moments.append(maker.ends())  # between two transactions
        return ACCEPTED

    stocked(maker, "tea", 10_000)
    ordered(maker, [order(n, "tea", 1) for n in range(50)], orders.order_id)
    maker.settle(outcome)
    looks = iter([moments[len(moments) * n // 8] for n in range(2, 7) for _ in range(3)])
    end = maker.ends()
    maker.ends = lambda: next(looks, end)  # type: ignore[method-assign]
    found = shadow(maker, workshop.topics, replicas_of(workshop), quiet)
    assert (next(looks, None), found.moving) == (None, [])
    assert found.rows_differing == 0, found.to_dict()["tables"]
    assert found.differing == []


# ---- what is gone


def test_a_topic_whose_head_is_past_retention_is_refused_by_a_dry_run_too(workshop: Workshop) -> None:
    """The orders that it held would be played as if nobody had ever placed them."""
    maker = made(workshop)
    place = next(place for place, log in maker.log.items() if place[0] == "order.commands" and len(log) > 1)
    maker.starts[place] = 1
    for attempt in (
        lambda: shadow(maker, workshop.topics, replicas_of(workshop), quiet),
        lambda: plan(maker, workshop.topics, workshop.project.codec, quiet),
    ):
        with pytest.raises(ReplayError, match="1 offsets that order's history rests on are past retention") as failure:
            attempt()
        assert failure.value.where == f"order.commands/{place[1]}: needed from 0, there from 1"
        assert "retention in topics.yaml" in failure.value.mend


def made(workshop: Workshop, pieces: int = 1) -> Maker:
    """Fifty orders that all complete, of up to so many pieces."""
    maker = Maker(workshop)
    stocked(maker, "tea", 10_000)
    ordered(maker, [order(n, "tea", 1 + n % pieces) for n in range(50)], orders.order_id)
    maker.settle(lambda saga, step: ACCEPTED)
    return maker
