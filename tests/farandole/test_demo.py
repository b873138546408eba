"""The demo's own promises, without a system: what is planned, what counts as a failure, which flags are refused.

tests/test_order_flow.py runs it for real.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.order import order_id, validate
from events import PlaceOrder
from farandole.demo import further, runs
from farandole.demo.flows import DEMOS, order_flows, order_services, services_of, show
from farandole.demo.mischief import NOISY_TOPICS, Kill, faults, noise, outage, parse_workers
from farandole.demo.place import PROMISED, Customers, body_of
from farandole.demo.plan import (
    KINDS,
    OVERDUE,
    UNANSWERED_MARK,
    UNBOOKED_MARK,
    Kinds,
    Placement,
    Plan,
    Wishes,
    ends_of,
    make,
)
from farandole.demo.report import (
    Outcome,
    disagreements,
    impossible_endings,
    kinds_of,
    latency_of,
    percentile,
    print_outcome,
    rows_of,
)
from farandole.demo.run import Options, _first, _is_cancelled
from farandole.demo.watch import Ending, Parked, Seen
from farandole.errors import ConfigError, FarandoleError
from farandole.sandbox.faults import plan_of
from farandole.system import checked_counts
from web.orders import read_request

SERVICES = ("order", "inventory", "payment", "shipping", "notification")


def planned(orders: int = 60, run: str = "run", **wishes: Any) -> Plan:
    return make(Wishes(run=run, orders=orders, **wishes), order_id)


# ---- the flows


def test_whoever_has_no_part_in_orders_is_not_started_for_them() -> None:
    assert order_services() == ("inventory", "notification", "orchestrator", "order", "payment", "shipping")
    assert show(["login"]) == ("farandole.demo.login", ("login/1",))


@pytest.mark.parametrize(
    ("named", "flows"),
    [
        ((), ("order/1",)),
        (("order-pay-first",), ("order-pay-first/1",)),
        (("order-pay-first/1", "order"), ("order-pay-first/1", "order/1")),
        (("order,order-pay-first", "order"), ("order/1", "order-pay-first/1")),
        (("all",), order_flows()),
    ],
)
def test_flows_are_named_by_repetition_or_with_commas(named: tuple[str, ...], flows: tuple[str, ...]) -> None:
    assert show(named) == ("farandole.demo.run", flows)


@pytest.mark.parametrize("named", ["pay-first", "order/9", "restock", "", "order,,order"])
def test_a_flow_that_cannot_be_shown_is_refused_with_those_that_can(named: str) -> None:
    with pytest.raises(ConfigError, match="can be shown") as refused:
        show([named])
    assert "order-pay-first" in refused.value.mend


def test_a_flow_of_another_kind_brings_its_own_demo_and_is_not_mixed_with_orders(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(DEMOS, "restock", "farandole.demo.restock")
    assert show(["restock"]) == ("farandole.demo.restock", ("restock/1",))
    with pytest.raises(ConfigError, match="different demos"):
        show(["restock,order"])


def test_the_same_orders_are_placed_in_whatever_flow() -> None:
    one, other = planned(300).placements, planned(300, flows=("order/1", "order-pay-first/1")).placements
    assert [replace(each, flow="order/1") for each in other] == list(one)
    counts = Counter(each.flow for each in other)
    assert min(counts.values()) > 100


def test_a_flow_may_allow_other_ends_of_a_kind_and_shares_the_rest() -> None:
    for kind in Kinds:
        assert ends_of(kind, "order/1") == KINDS[kind].ends
        assert ends_of(kind, "order-pay-first/1") >= KINDS[kind].ends
    assert "payment.failed" in ends_of(Kinds.SOLD_OUT, "order-pay-first/1")
    assert "payment.failed" not in ends_of(Kinds.SOLD_OUT, "order/1")
    for flow in ("order-orchestrated/1", "order-hybrid/1"):  # the stock, too, has to answer in time
        assert OVERDUE in ends_of(Kinds.SOLD_OUT, flow)


class Recorder:
    """A sender that notes what is sent, and in which flow."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str]] = []

    async def send(self, event: Any, saga: str, flow: str, key: str | None = None) -> None:
        self.sent.append((type(event).__name__, saga, flow))


def test_over_kafka_an_order_is_placed_and_cancelled_in_its_flow() -> None:
    plan = planned(20, ways=("kafka",), flows=("order-pay-first/1",))
    sender = Recorder()

    async def nothing() -> None: ...

    customers = Customers(plan, urls=["http://x"], sender=sender, seen=Seen(set()), rate=1, outage=nothing)  # type: ignore[arg-type]
    placement = plan.placements[0]
    asyncio.run(customers._place_kafka(replace(placement, again=False)))
    asyncio.run(customers._cancel(placement, True))
    assert sender.sent == [
        ("PlaceOrder", placement.order, "order-pay-first/1"),
        ("CancelOrder", placement.order, "order-pay-first/1"),
    ]


def test_a_gateway_that_never_answers_does_so_in_every_flow() -> None:
    assert set(faults(0)["gateway"]["errors"]["operations"]) == {"authorise", "charge"}


def test_a_request_names_the_flow_unless_it_is_the_usual_one() -> None:
    command = planned(1, failures=False).placements[0].command
    assert "flow" not in json.loads(body_of(command))
    assert json.loads(body_of(command, "order-pay-first/1"))["flow"] == "order-pay-first/1"


# ---- the plan


def test_the_same_seed_plans_the_same_and_another_one_does_not() -> None:
    assert planned() == planned()
    assert [each.kind for each in planned(seed=1).placements] != [each.kind for each in planned(seed=2).placements]


def test_another_run_places_other_orders_of_the_same_kinds() -> None:
    one, other = planned(run="a").placements, planned(run="b").placements
    assert [each.kind for each in one] == [each.kind for each in other]
    assert not {each.order for each in one} & {each.order for each in other}


def test_sixty_orders_have_room_for_everything_that_can_go_wrong() -> None:
    plan = planned(60)
    assert {each.kind for each in plan.placements} == set(Kinds)
    assert any(each.again for each in plan.placements)
    assert any(each.conflict for each in plan.placements)
    assert plan.rejected
    assert plan.outage_at is not None
    assert {each.way for each in plan.placements} == {"http", "kafka"}


@settings(max_examples=30, deadline=None)
@given(orders=st.integers(1, 300), seed=st.integers(0, 1000), failures=st.booleans())
def test_exactly_as_many_good_orders_are_planned_as_were_asked_for(orders: int, seed: int, failures: bool) -> None:
    plan = planned(orders, seed=seed, failures=failures)
    assert sum(each.kind is not Kinds.BAD for each in plan.placements) == orders
    assert len({each.order for each in plan.placements}) == len(plan.placements)


def test_without_failures_nothing_is_wrong() -> None:
    plan = planned(100, failures=False)
    assert {each.kind for each in plan.placements} == {Kinds.PLAIN}
    assert (plan.rejected, plan.outage_at, plan.broken) == ((), None, None)
    assert not any(each.again or each.conflict for each in plan.placements)


def test_every_order_is_valid_but_the_bad_ones() -> None:
    for each in planned(300).placements:
        assert bool(validate(each.command)) == (each.kind is Kinds.BAD)


def test_what_http_is_to_refuse_it_refuses_and_what_it_is_to_take_it_takes() -> None:
    plan = planned(300, ways=("http",))
    assert all(isinstance(read_request(body), list) for body in plan.rejected)
    taken = [read_request(body_of(each.command)) for each in plan.placements if each.kind is not Kinds.BAD]
    assert all(isinstance(each, tuple) for each in taken)


def test_only_orders_that_the_outside_world_is_not_to_answer_have_its_mark() -> None:
    marks = {Kinds.UNANSWERED: UNANSWERED_MARK, Kinds.UNBOOKED: UNBOOKED_MARK}
    for each in planned(500).placements:
        found = {mark for mark in marks.values() if mark in f"{each.order}/authorise"}
        assert found == ({marks[each.kind]} if each.kind in marks else set())


def test_there_is_stock_for_every_order_but_those_that_are_to_meet_a_shortage() -> None:
    plan = planned(500)
    wanted: Counter[str] = Counter()
    for each in plan.placements:
        if each.kind is not Kinds.BAD:
            wanted.update({line.sku: 0 for line in each.command.lines})
            for line in each.command.lines:
                wanted[line.sku] += line.quantity
    short = {sku for sku, pieces in wanted.items() if plan.stock.get(sku, 0) < pieces}
    assert short == {sku for sku in wanted if sku.startswith(("last-units", "sold-out"))}


def test_orders_that_are_to_expire_come_when_the_gateway_has_just_gone() -> None:
    plan = planned(1000)
    assert plan.outage_at is not None
    expiring = [number for number, each in enumerate(plan.placements) if each.kind is Kinds.EXPIRING]
    assert expiring
    assert all(0 <= number - plan.outage_at < 100 for number in expiring)


def test_kinds_that_cannot_be_brought_about_are_not_planned() -> None:
    possible = frozenset(Kinds) - {Kinds.BROKEN, Kinds.UNANSWERED}
    plan = planned(200, possible=possible)
    assert {each.kind for each in plan.placements} == possible
    assert (plan.broken, plan.outage_at) == (None, None)


def test_every_kind_says_how_it_may_end() -> None:
    assert set(KINDS) == set(Kinds)
    assert all(kind.ends for kind in KINDS.values())


# ---- what goes wrong


def test_faults_are_plans_that_the_sandbox_takes() -> None:
    for plan in [*faults(7).values(), outage(7, refuse=True), outage(7, refuse=False)]:
        plan_of(plan)


def test_noise_is_unreadable_and_comes_on_every_noisy_topic() -> None:
    assert {topic for topic, _, _ in noise(1)} == set(NOISY_TOPICS)
    assert noise(1) == noise(1)


def test_a_kill_is_read_and_nonsense_is_refused() -> None:
    assert Kill.parse("payment@2000") == Kill("payment", 2000)
    for text in ("payment", "@5", "payment@", "payment@0", "payment@-1", "payment@x"):
        with pytest.raises(ConfigError, match="not a kill"):
            Kill.parse(text)


def test_numbers_of_workers_are_read_and_nonsense_is_refused() -> None:
    assert parse_workers("payment=2") == ("payment", 2)
    for text in ("payment", "=2", "payment=two", "payment=-1"):
        with pytest.raises(ConfigError, match="not a number of workers"):
            parse_workers(text)
    for counts in ({"pigeons": 1}, {"payment": 0}, {"payment": 1_000}):
        with pytest.raises(ConfigError):
            checked_counts(counts, SERVICES)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(orders=0), "0 orders"),
        (Options(kills=(Kill("pigeons", 1),)), "no such service: pigeons"),
        (Options(orders=100, kills=(Kill("order", 101),)), "there are 100"),
        (Options(workers=(("pigeons", 2),)), "no such service: pigeons"),
        (Options(use_running=True, kills=(Kill("order", 1),)), "--kill and --workers"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_starts(options: Options, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        options.check(SERVICES)


# ---- what counts


def order(kind: Kinds, id: str = "o-1") -> Placement:
    command = PlaceOrder(
        customer="c", idempotency_key="k", lines=(), currency="EUR", email="a@b", ship_to="x", card_token="t"
    )
    return Placement(kind=kind, order=id, command=command, way="http")


def seen(**endings: Ending) -> Seen:
    found = Seen(frozenset({"o-1", "o-2", "o-3"}))
    for name, ending in endings.items():
        id = name.replace("_", "-")
        found.endings[id] = ending
        found.ended[ending.how] += 1
    return found


def parked_in(service: str, saga: str) -> Parked:
    return Parked(saga, service, "stock", 1, 7, "decision-failed", "RuntimeError: no", 1)


@pytest.mark.parametrize(
    ("kind", "how", "cause", "possible"),
    [
        (Kinds.PLAIN, "completed", "", True),
        (Kinds.PLAIN, "cancelled", "payment.failed", True),
        (Kinds.PLAIN, "cancelled", "payment.declined", False),
        (Kinds.PLAIN, "refused", "", False),
        (Kinds.DECLINED, "completed", "", False),
        (Kinds.SOLD_OUT, "completed", "", False),
        (Kinds.NOWHERE, "completed", "", False),
        (Kinds.UNANSWERED, "completed", "", False),
        (Kinds.CANCELLED_LATE, "cancelled", "shipping.cancelled", False),
        (Kinds.BROKEN, "completed", "", False),
        (Kinds.BAD, "completed", "", False),
    ],
)
def test_an_ending_that_the_kind_does_not_allow_is_a_failure(kind: Kinds, how: str, cause: str, possible: bool) -> None:
    found = impossible_endings([order(kind)], seen(o_1=Ending(how, cause, 1.0)))
    assert bool(found) != possible
    assert possible or "o-1" in found[0]


def test_only_the_broken_order_may_be_parked() -> None:
    parked = seen()
    parked.parked["inventory", "o-1"] = parked_in("inventory", "o-1")
    assert not impossible_endings([order(Kinds.BROKEN)], parked)
    assert impossible_endings([order(Kinds.PLAIN)], parked)


def test_an_order_that_ended_and_is_parked_has_ended() -> None:
    both = seen(o_1=Ending("completed", "", 1.0))
    both.parked["notification", "o-1"] = parked_in("notification", "o-1")
    both.parked["inventory", "o-2"] = parked_in("inventory", "o-2")
    both.parked["inventory", "somebody-else"] = parked_in("inventory", "somebody-else")
    assert both.counts() == {"completed": 1, "cancelled": 0, "refused": 0, "parked": 1, "open": 1}


def test_latency_counts_from_when_an_order_was_meant_to_be_placed() -> None:
    placements = [order(Kinds.PLAIN), order(Kinds.DECLINED, "o-2"), order(Kinds.PLAIN, "o-3")]
    found = seen(o_1=Ending("completed", "", 12.0), o_2=Ending("cancelled", "payment.declined", 13.0))
    intended = {"o-1": 10.0, "o-2": 10.0, "o-3": 10.0}
    assert latency_of(placements, found, intended) == {
        "p50_ms": 3000.0,
        "p99_ms": 3000.0,
        "plain_p50_ms": 2000.0,
        "plain_p99_ms": 2000.0,
    }
    rows = [(row.outcome, row.cause, row.orders, row.p50_ms) for row in rows_of(placements, found, intended)]
    assert rows == [
        ("completed", "", 1, 2000.0),
        ("cancelled", "payment.declined", 1, 3000.0),
        ("open", "", 1, None),
    ]
    assert kinds_of(placements, found) == {"plain": {"completed": 1, "open": 1}, "declined": {"payment.declined": 1}}


def test_percentiles_are_by_nearest_rank() -> None:
    assert percentile([], 0.5) is None
    assert percentile([0.001 * each for each in range(100)], 0.99) == 99.0
    assert percentile([0.004], 0.99) == 4.0


def test_an_audit_that_counts_otherwise_is_a_failure() -> None:
    found = seen(o_1=Ending("completed", "", 1.0))
    found.placed.add("o-1")
    agrees = {"accepted": 1, "completed": 1, "cancelled": 0, "refused": 0}
    assert not disagreements(agrees, found)
    assert disagreements(agrees | {"completed": 2}, found) == ["the audit counts 2 orders completed, the demo saw 1"]


def outcome(**fields: Any) -> Outcome:
    given = {
        "run": {},
        "orders": {"accepted": 3},
        "rows": rows_of([order(Kinds.PLAIN)], seen(o_1=Ending("completed", "", 1.0)), {"o-1": 0.0}),
        "kinds": {},
        "latency": latency_of([], seen(), {}),
        "rates": {"placed_per_second": 1.0, "ended_per_second": 1.0},
        "parked": [parked_in("inventory", "o-1")],
        "dead_letters": {"inventory": {"decision-failed": 1}},
        "letters": [],
        "requests": {},
        "restarts": [],
        "problems": [],
        "audit": {"ok": True, "read": {"records": 1}},
    }
    return Outcome(**{**given, **fields})


def test_any_problem_makes_it_fail() -> None:
    assert outcome().ok
    assert not outcome(problems=["1 order had not ended"]).ok
    assert outcome(problems=["x"]).to_dict()["ok"] is False


def test_the_outcome_is_json_and_names_the_parked_order() -> None:
    said = json.loads(json.dumps(outcome().to_dict()))
    assert said["parked"][0]["saga"] == "o-1"
    assert {"service", "topic", "partition", "offset", "error"} <= said["parked"][0].keys()
    assert said["audit"]["ok"] is True


def test_the_table_says_where_the_parked_order_is_and_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    print_outcome(outcome(problems=["something was lost"], next_steps=["farandole audit"]), Console(width=200))
    said = capsys.readouterr().out
    assert "order o-1 in inventory since stock[1]@7" in said
    assert "failed: something was lost" in said
    assert "farandole audit" in said


def test_every_request_has_a_promised_answer() -> None:
    assert all(PROMISED.values())


def test_of_many_errors_the_users_own_is_told_and_no_cancellation() -> None:
    import asyncio

    ours, theirs = ValueError("x"), FarandoleError("the worker died")
    group = BaseExceptionGroup("", [asyncio.CancelledError(), BaseExceptionGroup("", [ours, theirs])])
    assert _first(group) is theirs
    assert _first(ours) is ours
    assert _is_cancelled(BaseExceptionGroup("", [asyncio.CancelledError()]))


# ---- runs


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FARANDOLE_HOME", str(tmp_path))
    return tmp_path


def test_runs_of_the_same_second_share_neither_directory_nor_namespace(home: Path) -> None:
    with runs.new_run(0) as one, runs.new_run(0) as other:
        assert one != other
        mine, theirs = runs.namespace_of(one), runs.namespace_of(other)
        assert not mine.startswith(theirs)
        assert not theirs.startswith(mine)


def test_the_oldest_runs_are_cleared_away_but_not_one_that_is_under_way(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: list[str] = []
    monkeypatch.setattr(runs, "_delete_topics", lambda config, namespace: deleted.append(namespace))
    with runs.new_run(0) as under_way:
        for _ in range(runs.KEPT + 1):
            with runs.new_run(0) as last:
                pass
        cleared = runs.clear_old({})
    assert deleted == [name + "-" for name in cleared]
    assert len(cleared) == 1
    assert under_way.exists()
    assert last.exists()


# ---- the command line


def cli(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "farandole.cli.main", "demo", *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--kill", "payment"], "SERVICE@N"),
        (["--kill", "pigeons@5"], "no such service: pigeons"),
        (["--workers", "payment=none"], "SERVICE=N"),
        (["--transport", "pigeon"], "http, kafka or both"),
        (["--orders", "many"], "--orders"),
        (["--rate", "0"], "--rate"),
        (["--flow", "login", "--rate", "100"], "40 at most"),
        (["--flow", "login", "--transport", "http"], "--transport means nothing to the demo of login/1"),
        (["--flow", "login", "--timeout", "60"], "--timeout means nothing"),
        (["--flow", "login", "--use-running", "--order-url", "http://127.0.0.1:1"], "--order-url means nothing"),
        (["--flow", "login", "--use-running", "--kill", "login@1"], "--kill and --workers are for a system"),
        (["--flow", "transfer", "--use-running", "--order-url", "http://127.0.0.1:1"], "--order-url means nothing"),
    ],
)
def test_a_bad_flag_is_told_with_what_to_do_and_nothing_is_started(arguments: list[str], says: str) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_help_shows_an_example() -> None:
    done = cli("--help")
    assert done.returncode == 0
    assert "farandole demo --orders 5000 --kill payment@2000" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("flows", "verbs"),
    [
        (("order/1", "order-pay-first/1"), ["story"]),
        (("order-hybrid/1",), ["trail"]),
        (order_flows(), ["story", "trail"]),
    ],
)
def test_what_tells_an_order_best_in_its_flow_is_suggested(flows: tuple[str, ...], verbs: list[str]) -> None:
    plan = planned(flows=flows)
    on = SimpleNamespace(namespace="n-", stops_kafka=True, own=True, directory=None)
    steps = further.next_steps(cast(Any, SimpleNamespace(stage=on, plan=plan)), kept=False)
    told = [step.split()[-2:] for step in steps if step.split()[-2] in ("trail", "story")]
    assert sorted(verb for verb, _ in told) == verbs
    for verb, order in told:
        [placement] = [each for each in plan.placements if each.order == order]
        assert ("orchestrator" in services_of((placement.flow,))) == (verb == "trail")
        assert placement.kind is not Kinds.BAD, "of a refused order there is no trail"


def test_a_demo_whose_kafka_was_stopped_says_first_how_to_start_it() -> None:
    on = cast(Any, SimpleNamespace(namespace="n-", stops_kafka=True))
    started, audited = further.first_steps(on, kept=False)
    assert " kafka start " in started
    assert audited.startswith("FARANDOLE_NAMESPACE=n- ")
    assert audited.endswith(" audit --settled")
    assert further.first_steps(on, kept=True) == [audited]


def test_a_system_that_does_not_run_is_told_with_what_to_do(kafka: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in kafka.environment.items():
        monkeypatch.setenv(name, value)
    done = cli("--use-running", "--order-url", "http://127.0.0.1:1")
    assert done.returncode == 2
    assert "the order service does not answer" in done.stderr
    assert "--order-url" in done.stderr
