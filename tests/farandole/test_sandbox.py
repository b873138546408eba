"""The sandbox's promises, on the real processes over loopback (and, for the rules alone, without them)."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farandole.errors import ConfigError
from farandole.sandbox import SYSTEMS, Sandbox
from farandole.sandbox.faults import Faults, Latency, plan_of
from farandole.sandbox.gateway import Gateway
from farandole.sandbox.journal import Journal, Operation

TOKEN = "tok_4242secret4242"
CLI = [sys.executable, "-m", "farandole.cli.main", "sandbox"]
numbers = count(1)


class Said(NamedTuple):
    status: int
    body: dict[str, Any]


def address(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def post(url: str, operation: str, key: str, body: Any, timeout: float = 10.0) -> Said:
    connection = http.client.HTTPConnection(*address(url), timeout=timeout)
    try:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", f"/{operation}", raw, {"Idempotency-Key": key} if key else {})
        response = connection.getresponse()
        return Said(response.status, json.loads(response.read()))
    finally:
        connection.close()


def get(url: str, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection(*address(url), timeout=10)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def eventually(true: Callable[[], object], within: float = 10.0) -> None:
    end = time.monotonic() + within
    while not true():
        assert time.monotonic() < end, "did not come to pass"
        time.sleep(0.02)


def new_order() -> str:
    return f"o-{next(numbers)}"


def payment(order: str, amount: int = 1999, token: str = TOKEN) -> dict[str, Any]:
    return {"amount": amount, "currency": "EUR", "card_token": token, "order": order}


def authorise(url: str, order: str, **options: Any) -> Said:
    return post(url, "authorise", f"{order}/authorise", payment(order, **options))


def void(url: str, order: str) -> Said:
    return post(url, "void", f"{order}/void", {"authorisation": f"{order}/authorise"})


def capture(url: str, order: str, amount: int = 1999, name: str = "capture") -> Said:
    return post(url, "capture", f"{order}/{name}", {"authorisation": f"{order}/authorise", "amount": amount})


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox.start(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(started: Sandbox) -> Sandbox:
    """The same processes for all tests; each test uses orders of its own and finds no faults."""
    for system in SYSTEMS:
        started.faults(system)
    return started


@pytest.fixture
def gateway(sandbox: Sandbox) -> str:
    return sandbox.urls["gateway"]


def done(sandbox: Sandbox, order: str, system: str = "gateway") -> list[Operation]:
    return [o for o in sandbox.state(system).operations if order in (o.order, o.key.split("/")[0])]


# ---- idempotency


def test_the_same_request_again_gets_the_same_answer_and_is_performed_once(sandbox: Sandbox, gateway: str) -> None:
    order = new_order()
    first, second = authorise(gateway, order), authorise(gateway, order)
    assert first == second
    assert first.status == 200
    assert first.body["reference"]
    assert [o.operation for o in done(sandbox, order)] == ["authorise"]


def test_the_order_of_a_bodys_fields_does_not_make_it_another_body(gateway: str) -> None:
    order = new_order()
    backwards = dict(reversed(payment(order).items()))
    assert authorise(gateway, order) == post(gateway, "authorise", f"{order}/authorise", backwards)


def test_a_refusal_is_remembered_like_an_acceptance(gateway: str) -> None:
    order = new_order()
    assert authorise(gateway, order, token="tok_declined") == authorise(gateway, order, token="tok_declined")


def test_another_body_under_the_same_key_is_a_conflict_and_changes_nothing(sandbox: Sandbox, gateway: str) -> None:
    order = new_order()
    first = authorise(gateway, order)
    assert authorise(gateway, order, amount=1).status == 422
    assert authorise(gateway, order, amount=1).status == 422
    assert authorise(gateway, order) == first
    assert [(o.status, o.violation) for o in done(sandbox, order)] == [(200, ""), (422, "idempotency conflict")]


def test_another_operation_under_the_same_key_is_a_conflict(gateway: str) -> None:
    order = new_order()
    authorise(gateway, order)
    assert post(gateway, "charge", f"{order}/authorise", payment(order)).status == 422


def test_the_same_request_many_times_at_once_is_performed_once(sandbox: Sandbox, gateway: str) -> None:
    order = new_order()
    sandbox.faults("gateway", latency={"uniform": [0, 0.2]})
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: authorise(gateway, order), range(20)))
    assert len({str(answer) for answer in answers}) == 1
    assert len(done(sandbox, order)) == 1


def test_references_are_the_same_in_every_run() -> None:
    body = json.dumps(payment("o-1")).encode()
    assert Gateway().perform("authorise", "k", body) == Gateway().perform("authorise", "k", body)
    assert Gateway().perform("authorise", "k", body) != Gateway().perform("authorise", "l", body)


# ---- the gateway's rules


def test_cards_are_declined_by_rule(gateway: str) -> None:
    declined = authorise(gateway, new_order(), token="tok_declined_visa")
    assert declined == (402, {"reason": "card declined"})
    assert authorise(gateway, new_order(), token="tok_insufficient") == (402, {"reason": "insufficient funds"})


def test_a_void_takes_an_authorisation_back(sandbox: Sandbox, gateway: str) -> None:
    order = new_order()
    authorise(gateway, order)
    assert void(gateway, order).body["outcome"] == "undone"
    last = done(sandbox, order)[-1]
    assert (last.operation, last.order, last.amount, last.violation) == ("void", order, 1999, "")


def test_a_void_before_its_authorisation_is_remembered_and_the_authorisation_refused(
    sandbox: Sandbox, gateway: str
) -> None:
    order = new_order()
    answer = void(gateway, order)
    assert answer.status == 200
    assert answer.body["outcome"] == "nothing-to-undo"
    assert authorise(gateway, order).status == 410
    assert void(gateway, order) == answer
    assert not [o for o in done(sandbox, order) if o.violation]


def test_a_void_of_a_declined_authorisation_has_nothing_to_undo(gateway: str) -> None:
    order = new_order()
    authorise(gateway, order, token="tok_declined")
    assert void(gateway, order).body["outcome"] == "nothing-to-undo"


def test_an_authorisation_whose_caller_hung_up_cannot_take_effect_after_its_void(
    sandbox: Sandbox, gateway: str
) -> None:
    order = new_order()
    sandbox.faults("gateway", latency={"fixed": 0.6, "operations": ["authorise"]})
    with pytest.raises(TimeoutError):
        post(gateway, "authorise", f"{order}/authorise", payment(order), timeout=0.1)
    assert void(gateway, order).body["outcome"] == "nothing-to-undo"
    eventually(lambda: len(done(sandbox, order)) == 2)
    assert [(o.operation, o.status) for o in done(sandbox, order)] == [("void", 200), ("authorise", 410)]


def test_an_authorisation_whose_caller_hung_up_still_takes_effect(sandbox: Sandbox, gateway: str) -> None:
    order = new_order()
    sandbox.faults("gateway", latency={"fixed": 0.3})
    with pytest.raises(TimeoutError):
        post(gateway, "authorise", f"{order}/authorise", payment(order), timeout=0.1)
    eventually(lambda: [o.status for o in done(sandbox, order)] == [200])


def after_capture(gateway: str, order: str) -> Said:
    authorise(gateway, order)
    capture(gateway, order)
    return void(gateway, order)


def twice(gateway: str, order: str) -> Said:
    authorise(gateway, order)
    capture(gateway, order)
    return capture(gateway, order, name="again")


def after_void(gateway: str, order: str) -> Said:
    authorise(gateway, order)
    void(gateway, order)
    return capture(gateway, order)


def after_decline(gateway: str, order: str) -> Said:
    authorise(gateway, order, token="tok_declined")
    return capture(gateway, order)


def too_much(gateway: str, order: str) -> Said:
    authorise(gateway, order)
    return capture(gateway, order, amount=2000)


@pytest.mark.parametrize(
    ("deed", "violation"),
    [
        (after_capture, "void after its capture"),
        (twice, "captured twice"),
        (after_void, "capture after its void"),
        (capture, "capture without an authorisation"),
        (after_decline, "capture of a refused authorisation"),
        (too_much, "capture of more than was authorised"),
    ],
)
def test_what_a_caller_may_never_do_is_refused_and_shown(
    sandbox: Sandbox, gateway: str, deed: Callable[[str, str], Said], violation: str
) -> None:
    order = new_order()
    before = len(sandbox.state("gateway").violations)
    assert deed(gateway, order) == (409, {"reason": violation})
    violations = sandbox.state("gateway").violations
    assert len(violations) == before + 1
    assert violations[-1].violation == violation
    assert violations[-1].key.startswith(order)
    assert json.loads(get(gateway, "/health")[1])["violations"] == before + 1


def test_what_was_refused_changes_nothing_later(gateway: str) -> None:
    order = new_order()
    assert capture(gateway, order).status == 409
    assert authorise(gateway, order).status == 200
    assert void(gateway, order).body["outcome"] == "undone"


def test_only_the_step_it_is_for_can_be_taken_back(gateway: str) -> None:
    order = new_order()
    post(gateway, "charge", f"{order}/charge", payment(order))
    wrong = post(gateway, "void", f"{order}/void", {"authorisation": f"{order}/charge"})
    assert wrong == (409, {"reason": "what it would undo is not one to authorise"})
    assert post(gateway, "refund", f"{order}/r", {"charge": f"{order}/charge", "amount": 1999}).status == 200


def test_a_charge_is_refunded_in_parts_and_never_more_than_it_was(gateway: str) -> None:
    order = new_order()
    charge = f"{order}/charge"

    def refund(amount: int, name: str) -> Said:
        return post(gateway, "refund", f"{order}/{name}", {"charge": charge, "amount": amount})

    assert post(gateway, "charge", charge, payment(order)).status == 200
    assert refund(999, "a").body["outcome"] == "undone"
    assert refund(1001, "b").status == 409
    assert refund(1000, "c").body["outcome"] == "undone"
    assert refund(1, "d").status == 409


def test_a_refund_before_its_charge_is_remembered_and_the_charge_refused(gateway: str) -> None:
    order = new_order()
    refund = post(gateway, "refund", f"{order}/refund", {"charge": f"{order}/charge", "amount": 1999})
    assert refund.body["outcome"] == "nothing-to-undo"
    assert post(gateway, "charge", f"{order}/charge", payment(order)).status == 410


deeds = st.lists(
    st.tuples(
        st.sampled_from(["authorise", "capture", "void", "charge", "refund"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["1", "2"]),
        st.sampled_from([50, 100]),
        st.sampled_from(["tok_good", "tok_declined"]),
    ),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(deeds)
def test_whatever_callers_do_no_money_moves_twice_or_without_leave(all_deeds: list[Any]) -> None:
    gateway = Gateway()
    for operation, step, name, amount, token in all_deeds:
        about = {"capture": "authorisation", "void": "authorisation", "refund": "charge"}.get(operation)
        key = f"{step}/{operation}" if about is None else f"{step}/{operation}/{name}"
        target = f"{step}/{'charge' if about == 'charge' else 'authorise'}"
        body = {about: target, "amount": amount} if about else payment(step, amount, token)
        gateway.perform(operation, key, json.dumps(body).encode())
    kept = [o for o in gateway.operations() if o.accepted]
    for step in ("a", "b"):
        captures = [o for o in kept if o.operation == "capture" and o.about == f"{step}/authorise"]
        undone = [o for o in kept if o.operation == "void" and o.order == step and o.outcome == "undone"]
        given_leave = [o for o in kept if o.key == f"{step}/authorise"]
        assert len(captures) + len(undone) <= len(given_leave) <= 1
        charged = sum(o.amount or 0 for o in kept if o.key == f"{step}/charge")
        refunds = [o for o in kept if o.operation == "refund" and o.about == f"{step}/charge"]
        assert sum(o.amount or 0 for o in refunds if o.outcome == "undone") <= charged


# ---- the carrier and the mail sink


def test_a_booking_that_was_cancelled_before_it_arrived_is_refused(sandbox: Sandbox) -> None:
    carrier, order = sandbox.urls["carrier"], new_order()
    cancel = post(carrier, "cancel", f"{order}/cancel", {"booking": f"{order}/book"})
    assert cancel.body["outcome"] == "nothing-to-undo"
    book = post(carrier, "book", f"{order}/book", {"order": order, "ship_to": "Elm Street 1"})
    assert book == (410, {"reason": "cancelled before it arrived"})


def test_a_booking_is_made_and_cancelled(sandbox: Sandbox) -> None:
    carrier, order = sandbox.urls["carrier"], new_order()
    book = post(carrier, "book", f"{order}/book", {"order": order, "ship_to": {"street": "Elm Street 1"}, "weight": 2})
    assert book.body["reference"]
    cancel = {"booking": f"{order}/book"}
    assert post(carrier, "cancel", f"{order}/cancel", cancel).body["outcome"] == "undone"
    assert post(carrier, "cancel", f"{order}/again", cancel).body["outcome"] == "nothing-to-undo"
    assert [o.order for o in done(sandbox, order, "carrier")] == [order] * 3


@pytest.mark.parametrize("ship_to", ["1 Nowhere Lane", {"street": "1 Elm", "town": "NOWHERE"}])
def test_nobody_delivers_nowhere(sandbox: Sandbox, ship_to: Any) -> None:
    order = new_order()
    answer = post(sandbox.urls["carrier"], "book", f"{order}/book", {"order": order, "ship_to": ship_to})
    assert answer == (422, {"reason": "undeliverable address"})


def test_a_mail_is_taken_once_and_shown(sandbox: Sandbox) -> None:
    mail, order = sandbox.urls["mail"], new_order()
    body = {"to": "ann@example.org", "template": "completed", "order": order}
    assert post(mail, "send", f"{order}/mail", body) == post(mail, "send", f"{order}/mail", body)
    (sent,) = done(sandbox, order, "mail")
    assert (sent.to, sent.template, sent.status) == ("ann@example.org", "completed", 200)
    assert post(mail, "send", f"{order}/other", body | {"to": "ann"}).status == 422


# ---- faults


def failing(url: str, orders: list[str]) -> list[str]:
    return [order for order in orders if authorise(url, order).status == 503]


def test_a_run_with_the_same_seed_meets_the_same_faults(sandbox: Sandbox, gateway: str) -> None:
    orders = [new_order() for _ in range(60)]
    runs = []
    for seed in (7, 7, 8):
        sandbox.faults("gateway", seed=seed, errors={"rate": 0.3})
        runs.append(failing(gateway, orders))
    assert runs[0] == runs[1] != runs[2]
    assert 5 < len(runs[0]) < 35


def test_a_request_that_fails_is_not_performed_and_a_retry_has_another_fate(sandbox: Sandbox, gateway: str) -> None:
    order = new_order()
    sandbox.faults("gateway", seed=3, errors={"rate": 0.7})
    answers: list[int] = []
    while not answers or answers[-1] == 503:
        answers.append(authorise(gateway, order).status)
        assert len(answers) < 100
    assert [o.operation for o in done(sandbox, order)] == ["authorise"]


def test_a_fault_ends_after_its_count(sandbox: Sandbox, gateway: str) -> None:
    sandbox.faults("gateway", errors={"rate": 1, "count": 2, "status": 429})
    order = new_order()
    assert [authorise(gateway, order).status for _ in range(4)] == [429, 429, 200, 200]
    assert json.loads(get(gateway, "/faults")[1])["errors"]["hits"] == 2


def test_a_fault_befalls_only_the_keys_and_operations_it_names(sandbox: Sandbox, gateway: str) -> None:
    one, other = new_order() + "x", new_order() + "y"
    sandbox.faults("gateway", errors={"rate": 1, "keys": one, "operations": ["authorise"]})
    assert authorise(gateway, one).status == 503
    assert void(gateway, one).status == 200
    assert authorise(gateway, other).status == 200


def test_a_lost_answer_was_performed_and_the_retry_gets_it(sandbox: Sandbox, gateway: str) -> None:
    order = new_order()
    sandbox.faults("gateway", lost={"rate": 1, "count": 1})
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        authorise(gateway, order)
    assert [o.operation for o in done(sandbox, order)] == ["authorise"]
    assert authorise(gateway, order).status == 200
    assert len(done(sandbox, order)) == 1


def test_a_late_answer_comes_after_the_deed(sandbox: Sandbox, gateway: str) -> None:
    order = new_order()
    sandbox.faults("gateway", lost={"rate": 1, "answer_after": 0.4})
    began = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(authorise, gateway, order)
        eventually(lambda: done(sandbox, order))
        assert not answer.done()
        assert answer.result().status == 200
    assert time.monotonic() - began >= 0.4


def test_latency_is_spent_before_the_deed(sandbox: Sandbox, gateway: str) -> None:
    sandbox.faults("gateway", latency={"fixed": 0.2})
    began = time.monotonic()
    assert authorise(gateway, new_order()).status == 200
    assert 0.2 <= time.monotonic() - began < 2


def test_an_outage_answers_503_and_ends_by_itself(sandbox: Sandbox, gateway: str) -> None:
    order = new_order()
    sandbox.faults("gateway", outage={"lasts": 0.4})
    assert authorise(gateway, order).status == 503
    eventually(lambda: authorise(gateway, order).status == 200)


def is_cut(connection: socket.socket) -> bool:
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    connection.close()
    return True


def test_an_outage_can_refuse_connections_and_the_address_comes_back(sandbox: Sandbox, gateway: str) -> None:
    kept_alive = socket.create_connection(address(gateway), timeout=5)
    kept_alive.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert kept_alive.recv(100)
    sandbox.faults("gateway", outage={"lasts": 0.5, "refuse": True})
    with pytest.raises(ConnectionRefusedError):
        authorise(gateway, new_order())
    assert is_cut(kept_alive)
    assert sandbox.state("gateway").system == "gateway"

    def back() -> bool:
        try:
            return authorise(gateway, new_order()).status == 200
        except ConnectionRefusedError:
            return False

    eventually(back)


def test_an_outage_can_be_lifted(sandbox: Sandbox, gateway: str) -> None:
    admin = sandbox.admin_urls["gateway"]
    sandbox.faults("gateway", outage={"lasts": 600, "refuse": True})
    assert json.loads(get(admin, "/faults")[1])["outage"]["ends_in"] > 500
    assert get(admin, "/faults", "DELETE") == (200, "{}")
    assert authorise(gateway, new_order()).status == 200


def test_who_sets_an_outage_on_the_callers_address_gets_an_answer(gateway: str, sandbox: Sandbox) -> None:
    status, text = get(gateway, "/faults", "PUT", b'{"outage": {"lasts": 600, "refuse": true}}')
    assert status == 200
    assert json.loads(text)["outage"]["refuse"]


@pytest.mark.parametrize(
    "plan",
    [
        {"errors": {"rate": 2}},
        {"errors": {"rate": 1, "status": 404}},
        {"latency": {}},
        {"latency": {"fixed": 1, "uniform": [0, 1]}},
        {"latency": {"fixed": 61}},
        {"outage": {}},
        {"outages": {"lasts": 1}},
        {"lost": {"rate": 1, "lasts": 1e9}},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_and_says_why(sandbox: Sandbox, plan: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="refused: "):
        sandbox.faults("gateway", **plan)
    with pytest.raises(ConfigError):
        plan_of(plan)


@pytest.mark.parametrize("body", [b"", b"[1", b'{"seed": "\xff"}', b"[" * 60_000, b"x" * 70_000])
def test_a_plan_that_cannot_be_read_is_refused_and_changes_nothing(sandbox: Sandbox, gateway: str, body: bytes) -> None:
    before = sandbox.faults("gateway", errors={"rate": 0}, seed=5)
    assert get(gateway, "/faults", "PUT", body)[0] == 400
    assert json.loads(get(gateway, "/faults")[1])["seed"] == before["seed"] == 5


def test_every_latency_stays_within_its_bounds() -> None:
    draws = [n / 1000 for n in range(1001)]
    spread = sorted(Latency(lognormal=(0.1, 1.0)).seconds(draw) for draw in draws)
    assert spread[500] == pytest.approx(0.1, rel=0.02)
    assert 0 < spread[0] < 0.01 < 1 < spread[-1] <= 60
    assert max(Latency(lognormal=(60.0, 5.0)).seconds(draw) for draw in draws) == 60
    assert {Latency(uniform=(1, 2)).seconds(draw) for draw in (0.0, 1.0)} == {1, 2}


def test_attempts_are_counted_for_a_bounded_number_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("farandole.sandbox.faults.MAX_KEYS", 10)
    faults = Faults(plan_of({"errors": {"rate": 0.5}}))
    for n in range(100):
        faults.meet("authorise", f"k{n}")
    assert len(faults._attempts) == 10


# ---- nothing is forgotten


def test_kill_9_forgets_nothing_and_keeps_the_address(tmp_path: Path) -> None:
    with Sandbox.start(tmp_path) as sandbox:
        gateway, order = sandbox.urls["gateway"], new_order()
        first = authorise(gateway, order)
        void(gateway, "o-late")
        capture(gateway, order)
        capture(gateway, "o-never")
        before = sandbox.state("gateway")
        sandbox.kill("gateway")
        assert sandbox.dead() == ["gateway"]
        with pytest.raises(ConnectionRefusedError):
            authorise(gateway, order)
        with (tmp_path / "gateway.jsonl").open("ab") as journal:
            journal.write(b'{"fingerprint":"torn')
        sandbox.restart("gateway")
        assert sandbox.urls["gateway"] == gateway
        assert sandbox.state("gateway") == before
        assert authorise(gateway, order) == first
        assert authorise(gateway, "o-late").status == 410
        assert capture(gateway, order, name="again").status == 409
        assert authorise(gateway, order, amount=1).status == 422
    assert len(list(Journal(tmp_path, "gateway").replay())) == len(before.operations) + 3


def test_kill_9_under_load_performs_everything_once(tmp_path: Path) -> None:
    """Callers that repeat until they are answered, as the services do, over a gateway that dies twice."""
    with Sandbox.start(tmp_path) as sandbox:
        gateway, orders = sandbox.urls["gateway"], [new_order() for _ in range(600)]

        def insist(order: str) -> int:
            for _ in range(400):
                try:
                    return authorise(gateway, order).status
                except (OSError, http.client.HTTPException):
                    time.sleep(0.05)
            return 0

        with ThreadPoolExecutor(8) as pool:
            answers = [pool.submit(insist, order) for order in orders]
            for share in (100, 300):
                while len(sandbox.state("gateway").operations) < share:
                    time.sleep(0.02)
                sandbox.kill("gateway")
                sandbox.restart("gateway")
            assert {answer.result() for answer in answers} == {200}
        assert sorted(o.order for o in sandbox.state("gateway").operations) == sorted(orders)


def test_a_broken_line_of_the_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "gateway.jsonl").write_text('{"journal":"gateway","version":1}\n{"nonsense":1}\n')
    with pytest.raises(ConfigError) as caught:
        Gateway(Journal(tmp_path, "gateway"))
    assert caught.value.where.endswith("gateway.jsonl:2")


def test_the_journal_of_another_system_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gateway.jsonl").write_text('{"journal":"carrier","version":1}\n')
    with pytest.raises(ConfigError, match="not a journal of the gateway"):
        Gateway(Journal(tmp_path, "gateway"))


def test_two_processes_cannot_share_a_journal(tmp_path: Path) -> None:
    first = Journal(tmp_path, "gateway")
    with pytest.raises(ConfigError, match="in use"):
        Journal(tmp_path, "gateway")
    first.close()
    Journal(tmp_path, "gateway").close()


def test_a_journal_that_cannot_be_written_performs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path, "gateway")
    gateway = Gateway(journal)
    body = json.dumps(payment("o-1")).encode()

    def full(entry: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal, "append", full)
        assert gateway.perform("authorise", "k", body).status == 507
    assert not len(gateway)
    assert gateway.perform("authorise", "k", body).status == 200


def test_a_full_system_performs_nothing_new_and_still_knows_the_old() -> None:
    gateway = Gateway(limit=1)
    body = json.dumps(payment("o-1")).encode()
    first = gateway.perform("authorise", "k", body)
    assert gateway.perform("authorise", "l", body).status == 507
    assert gateway.perform("authorise", "k", body).body == first.body
    assert len(gateway) == 1


# ---- secrets


def test_card_tokens_are_nowhere(sandbox: Sandbox, gateway: str) -> None:
    order = new_order()
    said = [authorise(gateway, order), authorise(gateway, order, amount=1), authorise(gateway, new_order())]
    wrong = payment(order) | {"amount": "many"}
    said += [post(gateway, "authorise", "k1", wrong), post(gateway, "authorise", "k2", f'{{"a": "{TOKEN}'.encode())]
    said += [post(gateway, "authorise", "k3", [TOKEN]), post(gateway, "authorise", "", payment(order))]
    texts = [str(said), get(gateway, "/state")[1], get(gateway, "/metrics")[1], get(gateway, "/health")[1]]
    texts += [malformed(gateway, order), get(gateway, "/faults")[1]]
    assert sandbox.directory
    texts += [path.read_text() for path in sandbox.directory.iterdir()]
    assert not [text for text in texts if TOKEN in text or "secret" in text]


def malformed(url: str, order: str) -> str:
    """What comes back when the rest of a body is read as the next request, and when a header is none."""
    body = json.dumps(payment(order))
    texts = []
    for head in ("Content-Length: 3\r\nIdempotency-Key: k9", f"{TOKEN}\r\nContent-Length: 3"):
        with socket.create_connection(address(url), timeout=5) as connection:
            connection.sendall(f"POST /authorise HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n{body}\r\n\r\n".encode())
            text = b""
            try:
                while piece := connection.recv(4096):
                    text += piece
            except ConnectionResetError:
                pass
        assert b"400" in text
        texts.append(text.decode())
    return "".join(texts)


# ---- bad requests, and looking


@pytest.mark.parametrize(
    ("key", "body", "status"),
    [
        ("", b"{}", 400),
        ("k" * 256, b"{}", 400),
        ("b1", b"", 400),
        ("b2", b"{}", 400),
        ("b3", b'{"amount": 1e400}', 400),
        ("b4", b"[" * 60_000, 400),
        ("b5", b'"\xff"', 400),
        ("b6", b'"' + b"x" * 70_000 + b'"', 413),
        ("b7", json.dumps(payment("o" * 1001)).encode(), 400),
        ("b8", json.dumps(payment("o", -1)).encode(), 400),
        ("b9", json.dumps(payment("o", 2**70)).encode(), 400),
    ],
)
def test_a_bad_request_is_refused_with_a_reason_and_not_kept(
    sandbox: Sandbox, gateway: str, key: str, body: bytes, status: int
) -> None:
    before = len(sandbox.state("gateway").operations)
    answer = post(gateway, "authorise", key, body)
    assert answer.status == status
    assert answer.body["reason"]
    assert len(sandbox.state("gateway").operations) == before


def test_a_body_of_no_stated_length_has_the_same_limit(gateway: str) -> None:
    connection = http.client.HTTPConnection(*address(gateway), timeout=10)
    pieces = (b"x" * 7_000 for _ in range(10))
    connection.request("POST", "/authorise", pieces, {"Idempotency-Key": "k"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_an_unknown_operation_or_page_is_404_and_another_method_405(gateway: str, sandbox: Sandbox) -> None:
    assert post(gateway, "authorize", "k", {}).status == 404
    assert get(gateway, "/authorise")[0] == 405
    assert get(gateway, "/state", "DELETE")[0] == 405
    assert get(sandbox.admin_urls["gateway"], "/authorise", "POST")[0] == 404


def test_state_can_be_read_in_pages(sandbox: Sandbox) -> None:
    mail = sandbox.urls["mail"]
    for n in range(5):
        post(mail, "send", f"page/{n}", {"to": "a@b", "subject": str(n)})
    whole = sandbox.state("mail").operations
    read: list[int] = []
    while True:
        head, *lines = get(mail, f"/state?after={len(read)}&limit=2")[1].splitlines()
        read += [json.loads(line)["n"] for line in lines]
        if len(read) == json.loads(head)["last"]:
            break
    assert read == [operation.n for operation in whole]
    assert get(mail, "/state?after=x")[0] == 400


def test_metrics_count_requests_and_faults(sandbox: Sandbox, gateway: str) -> None:
    sandbox.faults("gateway", errors={"rate": 1, "count": 1})
    order = new_order()
    for _ in range(3):
        authorise(gateway, order)
    text = get(gateway, "/metrics")[1]
    for series in ('answer="repeated",operation="authorise"', 'answer="fault",operation="authorise"', 'kind="errors"'):
        assert series in text
    assert "o-" not in text.replace("no-", "")


# ---- the command line


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*CLI, *arguments], capture_output=True, text=True, timeout=60, check=False)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def everything(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    command = [*CLI, "all", "--port", "0", "--json", "--data", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process, json.loads(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


Everything = tuple["subprocess.Popen[str]", dict[str, Any]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_says_where_it_is_in_one_line_and_stops_cleanly(everything: Everything, number: int) -> None:
    process, said = everything
    assert set(said["urls"]) == set(said["pids"]) == set(SYSTEMS)
    assert authorise(said["urls"]["gateway"], "o-1").status == 200
    assert said["env"]["PAYMENT_GATEWAY_URL"] == said["urls"]["gateway"]
    process.send_signal(number)
    rest, errors = process.communicate(timeout=10)
    assert (process.returncode, rest, errors) == (0, "", "")
    assert not [pid for pid in said["pids"].values() if alive(pid)]


def test_no_system_outlives_whoever_started_it(everything: Everything) -> None:
    process, said = everything
    process.kill()
    process.wait()
    eventually(lambda: not [pid for pid in said["pids"].values() if alive(pid)])


def test_a_system_that_was_killed_comes_back_with_its_memory(everything: Everything) -> None:
    process, said = everything
    gateway = said["urls"]["gateway"]
    first = authorise(gateway, "o-1")
    os.kill(said["pids"]["gateway"], signal.SIGKILL)

    def back() -> bool:
        try:
            return authorise(gateway, "o-1") == first
        except (OSError, http.client.HTTPException):
            return False

    eventually(lambda: not alive(said["pids"]["gateway"]))
    eventually(back)
    assert process.poll() is None
    assert capture(gateway, "o-1").status == 200


def test_a_taken_port_that_was_asked_for_is_an_error_that_says_how_to_mend_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for system in ("gateway", "all"):
            wrong = run(system, "--port", port)
            assert wrong.returncode == 2
            assert f"127.0.0.1:{port}" in wrong.stderr
            assert "mend:" in wrong.stderr
            assert "Traceback" not in wrong.stderr
            assert wrong.stdout == ""


def test_the_usual_port_is_left_to_whoever_has_it(tmp_path: Path) -> None:
    try:
        taken: Any = socket.create_server(("127.0.0.1", SYSTEMS["mail"]))
    except OSError:
        taken = socket.socket()
    with taken:
        process = subprocess.Popen([*CLI, "mail", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout
        url = json.loads(process.stdout.readline())["url"]
        assert address(url)[1] != SYSTEMS["mail"]
        assert post(url, "send", "k", {"to": "a@b"}).status == 200
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "takes a free one" in errors


def test_faults_can_be_set_from_the_start(tmp_path: Path) -> None:
    options = ["--error-rate", "1", "--latency", "uniform:0.01,0.02", "--seed", "5", "--outage", "0.5"]
    with Sandbox.start(tmp_path, options=options) as sandbox:
        plan = json.loads(get(sandbox.urls["carrier"], "/faults")[1])
        assert plan["latency"]["uniform"] == [0.01, 0.02]
        assert (plan["seed"], plan["errors"]["rate"], plan["outage"]["lasts"]) == (5, 1.0, 0.5)
        assert authorise(sandbox.urls["gateway"], "o-1").status == 503


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["gateway", "--latency", "slow"], "--latency"),
        (["all", "--latency", "uniform:1"], "--latency"),
        (["gateway", "--port", "0", "--outage", "1000000"], "outage"),
        (["gateway", "--port", "0", "--data", "/dev/null/x"], "journal"),
    ],
)
def test_a_flag_that_makes_no_sense_is_named(arguments: list[str], word: str) -> None:
    wrong = run(*arguments)
    assert wrong.returncode == 2
    assert word in wrong.stderr
    assert "mend:" in wrong.stderr
    assert "Traceback" not in wrong.stderr
