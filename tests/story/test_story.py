"""One saga's story: every event of it once, below its cause; where it is stuck; and read from few partitions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agents.order import order_id
from events import OrderPlaced, WriteOff
from farandole.audit.records import LogRecord, Place
from farandole.errors import CodecError, FarandoleError
from farandole.event import Meta
from farandole.inflight.asking import told_by
from farandole.partitioner import partition_of
from farandole.picture.graph import names_of
from farandole.replay.plain import MASK
from farandole.simulation.workers import Workshop
from farandole.story.asking import tell
from farandole.story.reading import Source, texts_of
from farandole.story.telling import Story, advice, lines
from farandole.story.tree import ANSWERED, CALL, CANCELLED, EVENT, FIRED, LETTER, SET, TIMER, WAITS, WITHDRAWN, Step
from tests.inflight.stepwise import Stepwise
from tests.replay.maker import order, stocked
from tests.replay.model import ModelSource, played, quiet

NAMES = names_of(Path(__file__).parents[2] / "schemas")


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture(autouse=True)
def healed(workshop: Workshop) -> Iterator[None]:
    yield
    workshop.heal()


def accepted(name: str, operation: str) -> tuple[str, str, str]:
    return "accepted", f"{operation}-1", ""


def saga(number: int) -> str:
    return order_id("customer", str(number))


def begin(made: Stepwise, number: int, sku: str = "tea", quantity: int = 1) -> str:
    made.now += 1
    made.send(order(number, sku, quantity, card="tok_secret"), saga(number), "order/1")
    return saga(number)


def story(made: Stepwise, name: str) -> Story:
    return tell(name, made, made.told(), made.workshop.topics, made.positions(), NAMES, quiet)


def found(told: Story, **wanted: Any) -> list[Step]:
    return [step for _, step in told.steps() if all(getattr(step, name) == value for name, value in wanted.items())]


def settled(made: Stepwise) -> None:
    for _ in made.steps():
        pass


# ---- an order that ends


def test_an_order_is_told_from_its_command_to_its_mail(workshop: Workshop) -> None:
    made = Stepwise(workshop, workshop.project.flows, accepted)
    stocked(made, "tea", 30)
    for number in range(2, 9):
        begin(made, number)
    name = begin(made, 1)
    with made.running():
        settled(made)
        told = story(made, name)
    assert told.ended
    assert told.flow == "order/1"
    [top] = told.top
    assert (top.what, top.who) == ("order.commands.place_order", "")
    steps = {step.what: step for _, step in told.steps() if step.kind != TIMER}
    assert steps["order.placed"].who == "order.place"
    assert steps["stock.hold_requested"].who == "inventory.request_holds"
    assert steps["inventory.reserved"].who == "inventory.line_held"
    answered = steps["payment.calls.authorise_answered"]
    assert (answered.kind, answered.state, answered.fields["call"]) == (CALL, ANSWERED, "gateway/authorise")
    assert answered.since is not None
    assert answered.since <= answered.at
    [timer] = found(told, kind=TIMER)
    assert (timer.state, timer.what, timer.who) == (CANCELLED, "ReservationExpired", "inventory.request_holds")
    path = _path(top, "notification.sent")
    assert path[-4:] == ["payment.captured", "order.completed", "notification.calls.mail_answered", "notification.sent"]
    assert advice(told) == [f"clients and operators may send {', '.join(told.commands)}"]
    assert set(told.commands) == {"order.commands.cancel_order", "payment.commands.write_off"}


def _path(step: Step, what: str) -> list[str]:
    if step.what == what:
        return [what]
    return next(([step.what, *path] for each in step.below if (path := _path(each, what))), [])


def test_it_reads_only_where_its_keys_lie(workshop: Workshop) -> None:
    made = Stepwise(workshop, workshop.project.flows, accepted)
    stocked(made, "tea", 30)
    name = begin(made, 1)
    read: dict[Place, int] = {}

    class Watched:
        partitions, starts = made.partitions, made.starts
        ends, at_time = made.ends, made.at_time

        def read(self, first: Mapping[Place, int], end: Mapping[Place, int], take: Any, *rest: Any) -> int:
            for place in end:
                read[place] = min(first[place], read.get(place, first[place]))
            return made.read(first, end, take, *rest)

    with made.running():
        settled(made)
        since = made.now
        for number in range(9, 20):
            made.now += 60_000
            begin(made, number)
        late = begin(made, 99)
        settled(made)
        source: Source = Watched()
        told = tell(name, source, made.told(), workshop.topics, made.positions(), NAMES, quiet)
        early, read = read, {}
        tell(late, source, made.told(), workshop.topics, made.positions(), NAMES, quiet)
    assert len(found(told, what="stock.hold_requested")) == 1
    home, sku = partition_of(name, 2), partition_of("tea", 2)
    assert {p for topic, p in early if topic == "order"} == {home}
    assert early["stock", sku] == 0
    assert made.log["stock", sku][read["stock", sku]].time > since, "of what lies before it nothing is read"


# ---- where it is stuck


def test_every_reason_to_wait_is_told_with_what_one_can_do(workshop: Workshop) -> None:
    made = Stepwise(
        workshop,
        workshop.project.flows,
        lambda name, operation: ("refused", "", "no") if operation == "capture" else accepted(name, operation),
        batch=1,
    )
    stocked(made, "tea", 30)
    name = begin(made, 1)
    seen: set[str] = set()
    with made.running():
        told = story(made, name)
        assert [why.partition(" order.commands/")[0] for why in told.waiting] == ["order has not read"]
        assert advice(told)[0].startswith("is order running")
        for _ in made.steps():
            told = story(made, name)
            seen.update(f"{step.kind} {step.state}" for _, step in told.steps())
            assert sum(bool(step.where) for _, step in told.steps()) == len(made.of_saga(name)), "one is not told yet"
            assert len(found(told, kind=CALL, state=WAITS)) == sum(" waits for " in why for why in told.waiting)
            assert bool(found(told, kind=TIMER, state=SET)) == any("has set the timer" in why for why in told.waiting)
            if any(" waits for gateway/" in why for why in told.waiting):
                assert any("asked again and again" in each for each in advice(told))
        stuck = story(made, name)
        assert not stuck.ended
        assert {f"{CALL} {WAITS}", f"{CALL} {ANSWERED}", f"{TIMER} {SET}", f"{TIMER} {CANCELLED}"} <= seen
        assert found(stuck, what="payment.stuck")
        assert advice(stuck) == [
            "clients and operators may send order.commands.cancel_order, payment.commands.write_off"
        ]
        made.send(WriteOff(reason="\x1b[2Jgiven up"), name, "order/1")
        settled(made)
        ended = story(made, name)
    assert ended.ended
    assert [step.what for step in ended.top] == ["order.commands.place_order", "payment.commands.write_off"]
    text = "\n".join(lines(ended))
    assert "\x1b" not in text
    assert "\\x1b[2Jgiven up" in text


def test_a_parked_saga_shows_its_letters_where_they_belong(workshop: Workshop) -> None:
    """Runs of the simulation in which something is parked: each letter stands below the record that it is of."""
    seen = 0
    for seed in range(120):
        run = played(workshop, seed)
        source = ModelSource(run)
        workshop.heal()
        for name in sorted(_parked(source)):
            told = told_of(workshop, source, name)
            letters = found(told, kind=LETTER)
            assert letters
            assert told.parked
            assert f"farandole dead-letters redrive --saga {name}" in "\n".join(advice(told))
            assert sum(step.state == "parked" for step in letters) >= 1
            places = {step.where for _, step in told.steps() if step.kind != LETTER}
            for letter in letters:
                assert letter.fields["source"] in places or _saga_of(source, letter.where) == name, "of another saga"
            for step in (each for _, each in told.steps()):
                for letter in (each for each in step.below if each.kind == LETTER):
                    assert letter.fields["source"] == step.where
            seen += 1
        if seen > 2:
            return
    raise AssertionError("nothing was parked in 120 runs")


def _parked(source: ModelSource) -> set[str]:
    rows: dict[tuple[Place, bytes], bool] = {}
    for place, records in source.log.items():
        if place[0].endswith("-parked-changelog"):
            for record in records:
                rows[place, record.key or b""] = record.value is not None
    return {key.decode() for (_, key), there in rows.items() if there}


def _saga_of(source: ModelSource, where: str) -> str:
    """Whom a letter parks."""
    topic, partition, offset = where.rsplit("/", 2)
    record = next(each for each in source.log[topic, int(partition)] if each.offset == int(offset))
    return (dict(record.headers).get("__dlq.saga") or b"").decode()


def told_of(workshop: Workshop, source: ModelSource, name: str) -> Story:
    positions = dict.fromkeys(workshop.services, source.ends())
    told = told_by(workshop.project, workshop.topics)
    return tell(name, source, told, workshop.topics, positions, NAMES, quiet)


def test_every_event_of_every_saga_is_told_once_below_its_cause(workshop: Workshop) -> None:
    """Whatever went wrong in the run: crashes, aborts, fired timers, letters."""
    kinds: set[str] = set()
    for seed in range(6):
        source = ModelSource(played(workshop, seed))
        workshop.heal()
        for name, records in _events(workshop, source).items():
            told = told_of(workshop, source, name)
            steps = {step.where: step for _, step in told.steps() if step.where and step.kind != LETTER}
            assert records.keys() <= steps.keys()
            assert sum(step.kind != LETTER and bool(step.where) for _, step in told.steps()) == len(steps)
            for where in steps.keys() - records.keys():
                assert [below.kind for below in steps[where].below] == [LETTER], "of this saga, under another's key"
            for step in (each for _, each in told.steps()):
                kinds.add(f"{step.kind} {step.state}")
                for below in step.below:
                    if below.where in records and below.kind != LETTER:
                        assert records[below.where].cause == step.id
            assert all(not step.lost for step in told.top)
            text = "\n".join(lines(told))
            assert "tok_" not in text
            assert MASK not in text
            assert all(step.what in text for step in steps.values())
            json.dumps(told.to_dict())
    assert {f"{CALL} {ANSWERED}", f"{EVENT} "} <= kinds
    assert {f"{TIMER} {CANCELLED}", f"{TIMER} {FIRED}"} & kinds


def _events(workshop: Workshop, source: ModelSource) -> dict[str, dict[str, Meta]]:
    """Saga → place → metadata, of all that can be read."""
    sagas: dict[str, dict[str, Meta]] = {}
    for (topic, _), records in source.log.items():
        if not workshop.topics.topics[topic].events:
            continue
        for record in records:
            try:
                meta, event = workshop.project.codec.decode(record.value)
            except CodecError:
                continue
            key = (record.key or b"").decode()
            at_home = record.partition == partition_of(key, source.partitions[topic])
            if at_home and key == getattr(event, workshop.project.keys[topic]):
                sagas.setdefault(meta.saga, {})[f"{topic}/{record.partition}/{record.offset}"] = meta
    return sagas


def test_a_call_that_was_given_up_is_withdrawn(workshop: Workshop) -> None:
    """Its row has gone, and no answer came."""
    made = Stepwise(workshop, workshop.project.flows, accepted)
    stocked(made, "tea", 30)
    name = begin(made, 1)
    with made.running():
        for _ in made.steps():
            if found(story(made, name), kind=CALL, state=WAITS):
                break
        place, row = next(
            (place, record)
            for place, records in made.log.items()
            if place[0] == "payment-calls-changelog"
            for record in records
        )
        made._append(*place[:1], row.key, None, place[1])
        [call] = found(story(made, name), kind=CALL)
    assert (call.state, call.what, call.who) == (WITHDRAWN, "gateway/authorise", "payment.authorise")


# ---- what is not there


def test_a_delivery_has_a_story_although_no_topic_is_keyed_by_it(workshop: Workshop) -> None:
    made = Stepwise(workshop, workshop.project.flows, accepted)
    stocked(made, "tea", 3)
    with made.running():
        settled(made)
        told = story(made, "delivery-tea")
    assert [step.what for _, step in told.steps()] == ["stock.received"]
    assert told.flow == "restock/1"


def test_who_is_not_known_is_said_with_where_it_was_looked_for(workshop: Workshop) -> None:
    made = Stepwise(workshop, workshop.project.flows, accepted)
    with made.running(), pytest.raises(FarandoleError) as error:
        story(made, "o-nobody")
    assert "no record of a saga 'o-nobody'" in str(error.value)
    assert re.search(r"\d+ partitions of \d+ topics were read", error.value.where)


def test_what_is_past_retention_is_said(workshop: Workshop) -> None:
    made = Stepwise(workshop, workshop.project.flows, accepted)
    stocked(made, "tea", 30)
    name = begin(made, 1)
    with made.running():
        settled(made)
        place = ("order.commands", partition_of(name, 2))
        made.starts[place] = len(made.log[place])
        told = story(made, name)
    assert told.gone == [f"{place[0]}/{place[1]}"]
    assert [(step.what, bool(step.lost)) for step in told.top] == [("order.placed", True)]
    assert "is not there" in "\n".join(lines(told))


def test_keys_are_found_however_deep() -> None:
    placed = OrderPlaced(order(1, "tea", 1).customer, order(1, "tea", 1).lines, 1, "EUR", "x", "y", 1)
    assert {"tea", "customer", "EUR"} <= texts_of(placed)
    assert texts_of(("a", ["b", ("c" * 300,)], 3)) == {"a", "b"}


def test_records_without_a_value_are_no_part_of_it(workshop: Workshop) -> None:
    made = Stepwise(workshop, workshop.project.flows, accepted)
    name = begin(made, 1)
    place = ("order", partition_of(name, 2))
    made.log[place].append(LogRecord(*place, 0, made.now, name.encode(), None))
    with made.running():
        settled(made)
        assert story(made, name).top
