"""What a choice of flows starts, loads and breaks: without a system. tests/test_chaos.py runs it for real."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from farandole.chaos import fault
from farandole.chaos.doomed import DECISIONS, EACH, Doomed
from farandole.chaos.flows import Flows, bound_events
from farandole.chaos.load import Load, Means, Source, Taken
from farandole.chaos.options import Options, kinds
from farandole.chaos.report import _goes_through, total
from farandole.chaos.run import sources_of
from farandole.chaos.stage import Stage
from farandole.demo.flows import every_flow
from farandole.demo.watch import Ending, Parked, Seen
from farandole.errors import ConfigError
from farandole.flow import load_flows
from farandole.partitioner import partition_of
from tests.farandole.audit_log import codec, topics
from tests.flows.world import world

PARTITIONS = 3
ORDER = ("inventory", "notification", "order", "payment", "shipping")
MOST_OF_A_SETTING = 128 * 1024
"""Bytes that Linux takes of one variable of the environment."""


def of(*named: str) -> Flows:
    return Flows.named(named)


# ---- which flows, which services, which faults


@pytest.mark.parametrize(
    ("named", "keys", "services"),
    [
        ((), ("order/1",), ORDER),
        (("transfer",), ("transfer/1",), ("accounts", "transfers")),
        (("login",), ("login/1",), ("directory", "login")),
        (
            ("login,order-hybrid",),
            ("login/1", "order-hybrid/1"),
            ("directory", "inventory", "login", "notification", "orchestrator", "order", "payment", "shipping"),
        ),
    ],
)
def test_only_the_services_of_the_chosen_flows_are_started(
    named: tuple[str, ...], keys: tuple[str, ...], services: tuple[str, ...]
) -> None:
    assert (of(*named).keys, of(*named).services) == (keys, services)


def test_all_is_every_flow_and_every_service() -> None:
    assert of("all").keys == every_flow()
    assert set(of("all").services) == set(topics().services)
    assert set(of("all").orders) | {"transfer/1", "login/1"} == set(every_flow())


@pytest.mark.parametrize("named", ["pay-first", "restock", "order,,login", "login/9"])
def test_a_flow_that_there_is_not_is_told_with_those_that_there_are(named: str) -> None:
    with pytest.raises(ConfigError) as told:
        of(named)
    assert {"transfer", "login", "order-hybrid", "all"} <= set(told.value.mend.replace(",", "").split())


def test_the_outside_world_is_broken_only_where_somebody_calls_it() -> None:
    names = set(kinds(Options()))
    outside = {name for name, kind in fault.load([fault.OWN]).items() if kind.outside}
    assert outside == {"kill-outside", "late-answers", "outage", "outside-errors"}
    assert outside <= names
    assert set(kinds(Options(flows=of("transfer")))) == names - outside
    assert set(kinds(Options(flows=of("login")))) == names - {"late-answers", "outage"}
    assert set(kinds(Options(flows=of("all")))) == names
    with pytest.raises(ConfigError, match="late-answers has nothing to break"):
        kinds(Options(only=("kill-worker", "late-answers"), flows=of("login")))


def test_who_calls_what_is_read_from_the_services() -> None:
    assert of().callers == {"gateway": ("payment",), "carrier": ("shipping",), "mail": ("notification",)}
    assert of("transfer").callers == {}
    assert of("all").callers["mail"] == ("login", "notification")


def test_a_service_that_does_not_run_is_expected_to_hear_nothing() -> None:
    bound = bound_events(of("transfer").services)
    assert set(bound) == {"accounts", "transfers"}
    assert {codec().type_of(event).topic for events in bound.values() for event in events} == {
        "accounts", "accounts.commands", "transfers.commands", "transfers.timers",
    }  # fmt: skip


class NoCaller:
    """A world in which nobody calls anything outside."""

    callers: dict[str, tuple[str, ...]] = {}  # noqa: RUF012


def test_what_nobody_calls_cannot_be_broken() -> None:
    stage: Any = Stage(NoCaller())  # type: ignore[arg-type]
    assert stage.outside(("gateway", "mail")) == []
    for breaking in (stage.break_outside, stage.kill_outside):
        with pytest.raises(fault.Refused, match="calls gateway"):
            breaking("gateway")


class Workers:
    """A world of one service whose workers are all well."""

    def __init__(self, number: int, spared: int) -> None:
        self.system = SimpleNamespace(services=("transfers",))
        self.spared, self.claims = spared, {}  # type: ignore[var-annotated]
        well = SimpleNamespace(ready=True)
        self.all = [SimpleNamespace(name=f"transfers[{n}]", pid=1, health=lambda: well) for n in range(number)]

    def workers(self, service: str) -> list[Any]:
        return self.all

    def claimed(self, what: str) -> bool:
        return what in self.claims

    def claim(self, what: str, who: object) -> bool:
        return self.claims.setdefault(what, who) is who


@pytest.mark.parametrize(("number", "spared", "picked"), [(2, 1, 1), (3, 1, 2), (1, 0, 1)])
def test_the_last_worker_is_spared_unless_there_never_was_another(number: int, spared: int, picked: int) -> None:
    here: Any = Workers(number, spared)
    for _ in range(picked):
        Stage(here).pick_worker(Random(1))
    with pytest.raises(fault.Refused, match="no worker can be spared"):
        Stage(here).pick_worker(Random(1))


# ---- the load


def means(partitions: int = PARTITIONS) -> Means:
    sagas: dict[str, str] = {}
    nobody: Any = None
    return Means(
        run="run",
        seed=7,
        partitions=partitions,
        client_config={},
        namespace="",
        topics=topics(),
        codec=codec(),
        sender=nobody,
        seen=Seen(sagas.keys()),
        sagas=sagas,
        urls=dict.fromkeys(topics().services, ("http://127.0.0.1:1",)),
    )


def sources(*named: str, rate: float = 30.0) -> list[Source]:
    return sources_of(Options(rate=rate, flows=of(*named)), means())


def test_each_flow_has_the_same_share_of_the_load() -> None:
    assert [(each.what, each.rate) for each in sources("all")] == [("orders", 20), ("transfers", 5), ("logins", 5)]
    assert [(each.what, each.rate) for each in sources("transfer")] == [("transfers", 30)]
    assert [each.flows for each in sources("order,order-pay-first")] == [("order/1", "order-pay-first/1")]


@pytest.mark.parametrize("flow", ["order", "order-orchestrated,order-hybrid,order-pay-first", "transfer", "login"])
def test_a_wave_is_looked_for_when_it_begins_and_no_saga_is_in_two_waves(flow: str) -> None:
    (source,) = sources(flow)
    sagas = source.means.sagas
    first, second = source.wave(0), source.wave(1)
    assert not sagas
    first.begin()
    assert set(sagas.values()) <= set(source.flows)
    assert len(sagas) == (0 if flow == "login" else first.size)  # a challenge has no name before it is there
    second.begin()
    assert len(sagas) == (0 if flow == "login" else first.size + second.size)
    assert {flow: set(counts.values()) for flow, counts in source.counts().items()} == {
        flow: {0} for flow in source.flows
    }


def test_every_flow_of_orders_has_some_in_a_wave() -> None:
    (source,) = sources("order-orchestrated,order-hybrid,order-pay-first")
    source.wave(0).begin()
    assert set(source.means.sagas.values()) == set(source.flows)


def test_what_ended_or_is_parked_is_counted_in_its_flow_and_not_open() -> None:
    (source,) = sources("transfer")
    load = Load([source], source.means, Doomed("run", of("transfer"), PARTITIONS))
    source.wave(0).begin()
    one, two, *rest = source.means.sagas
    seen = source.means.seen
    seen.endings[one] = Ending("refunded", "", 1.0)
    seen.parked["accounts", two] = Parked(two, "accounts", "accounts.commands", 0, 0, "", "", 1)
    seen.parked["accounts", "somebody"] = Parked("somebody", "accounts", "accounts.commands", 0, 0, "", "", 1)
    seen.parked["transfers", one] = Parked(one, "transfers", "transfers.commands", 0, 0, "", "", 1)
    assert load.open() == len(rest)
    assert source.counts()["transfer/1"] == {
        "placed": 0, "completed": 0, "failed": 0, "refunded": 1, "parked": 2,
    }  # fmt: skip


def test_a_transfer_that_ends_as_it_may_not_is_a_problem() -> None:
    (source,) = sources("transfer")
    source.wave(0).begin()
    seen = source.means.seen
    seen.endings.update({saga: Ending("completed", "", 1.0) for saga in source.means.sagas})
    said = source.problems(None)
    assert any("is completed; possible: " in each for each in said)


def test_a_visitor_who_was_let_in_and_is_not_in_the_topics_is_a_problem() -> None:
    (source,) = sources("login")
    source._visits.told.granted = 2  # type: ignore[attr-defined]
    assert source.problems({"flows": {"login": {"granted": 2}}}) == []
    assert "2 visitors were told that they are in, 1 are" in source.problems({"flows": {"login": {"granted": 1}}})


def test_what_stood_still_concerns_those_who_go_through_it() -> None:
    taken = Taken(0, 1.0, {"transfers": frozenset({0}), "accounts": frozenset({1, 2})})
    assert _goes_through(taken, {"accounts": {2}})
    assert not _goes_through(taken, {"accounts": {0}, "order": {0, 1, 2}})
    assert total([{"placed": 1, "completed": 1}, {"placed": 2}]) == {"placed": 3, "completed": 1}


# ---- sagas that a decision fails on


def test_whatever_is_doomed_comes_to_the_decision_that_fails() -> None:
    doomed, flows = Doomed("run", of("all"), PARTITIONS), load_flows()
    assert set(doomed.left()) == set(DECISIONS)
    for decision in DECISIONS:
        for doom in {each.flow: each for each in [doomed.take(decision) for _ in range(EACH)]}.values():
            with world() as here:
                for each in doomed.needed():
                    here.send(each.event, each.saga, each.flow)
                here.run()
                here.send(doom.event, doom.saga, doom.flow)
                here.run()
                came = [flows[each.flow].bindings[each.service, type(each.event)] for each in here.delivered]
            assert decision in {each.name for each in came}, f"{decision} in {doom.flow}"


@pytest.mark.parametrize("flow", every_flow())
def test_of_each_flow_every_service_fails_somewhere(flow: str) -> None:
    flows = of(flow)
    assert {each.partition(".")[0] for each in Doomed("run", flows, PARTITIONS).left()} == set(flows.services)


def test_a_doomed_login_lies_where_its_user_does_and_all_that_is_doomed_fits_into_the_environment() -> None:
    doomed = Doomed("chaos-20261122-120000.999", of("all"), PARTITIONS)
    assert len(doomed.setting) < MOST_OF_A_SETTING
    load = Load([], means(), doomed)
    doom = load.take_doomed("login.begin")
    topic, key, value = load.encode(doom)
    assert (topic, key) == ("login.commands", doom.event.user)  # type: ignore[attr-defined]
    assert partition_of(key, PARTITIONS) == partition_of(doom.saga, PARTITIONS)
    assert codec().decode(value)[1].saga == doom.saga
    assert doom.saga in load._means.sagas
