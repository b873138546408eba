"""Several workers of one service on a real Kafka: they share its partitions, and one's end is another's beginning."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

import events
from farandole.codec import Codec
from farandole.demo.flows import FLOW, services_of
from farandole.event import Meta
from farandole.system import System

PATIENCE = 40.0


@pytest.fixture(scope="module")
def system(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("workers")
    with System(
        directory,
        namespace="workers.",
        services=services_of([FLOW]),
        workers={"order": 2, "payment": 2},
        environment={"FARANDOLE_HOME": str(directory / "home")},
        client_config=kafka.config,
    ) as running:
        codec = Codec.load(running.root / "schemas", events)
        producer = Producer({**kafka.config, "partitioner": "murmur2_random"})
        meta = Meta("test/stock", "delivery-1", "restock/1", "")
        stock = codec.encode(events.StockReceived(sku="sku-1", quantity=10_000), meta)
        producer.produce("workers.stock", stock, "sku-1")
        producer.flush(10)
        yield running


def request(method: str, url: str, body: Any = None) -> tuple[int, Any]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
    asked = urllib.request.Request(url, data, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=30) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def an_order(key: str, **changes: Any) -> dict[str, Any]:
    return {
        "customer": "anna",
        "idempotency_key": key,
        "lines": [{"line": 1, "sku": "sku-1", "quantity": 1, "price": 500}],
        "currency": "EUR",
        "email": "anna@example.org",
        "ship_to": "1 Main Street",
        "card_token": "tok_visible_nowhere",
        **changes,
    }


def place(system: System, key: str, worker: int = 0, **changes: Any) -> tuple[int, Any]:
    """Place an order, again when nobody owns its partition at that moment: that is what 503 asks for."""
    end = time.monotonic() + PATIENCE
    while True:
        status, said = request("POST", system.url("order", worker) + "/orders", an_order(key, **changes))
        if status != 503 or time.monotonic() > end:
            return status, said
        time.sleep(0.1)


def wait_until(happened: Callable[[], bool], patience: float = PATIENCE) -> float:
    """Seconds that it took."""
    begin = time.monotonic()
    while not happened():
        assert time.monotonic() - begin < patience, "it did not happen"
        time.sleep(0.05)
    return time.monotonic() - begin


def status_of(system: System, order: str, worker: int = 0) -> str:
    code, said = request("GET", f"{system.url('order', worker)}/orders/{order}")
    return str(said["status"]) if code == 200 else f"HTTP {code}"


def wait_until_completed(system: System, order: str, worker: int = 0) -> None:
    wait_until(lambda: status_of(system, order, worker) == "completed")


def partitions(system: System, service: str, worker: int) -> set[int]:
    health = system.health(service, worker)
    return set(health.partitions) if health else set()


def test_two_workers_share_the_partitions(system: System) -> None:
    # A cooperative rebalance ends later than the workers are ready: what one has given back is nobody's until then.
    seen: list[tuple[set[int], set[int]]] = []

    def all_are_owned() -> bool:
        seen.append((partitions(system, "payment", 0), partitions(system, "payment", 1)))
        return set.union(*seen[-1]) == set(range(6)) and all(seen[-1])

    wait_until(all_are_owned)
    first, second = seen[-1]
    assert len(first) == len(second) == 3
    assert not first & second


def test_a_workers_figures_are_there_for_prometheus(system: System) -> None:
    with urllib.request.urlopen(system.url("payment") + "/metrics", timeout=10) as response:
        figures = response.read().decode()
    owned = len(partitions(system, "payment", 0))
    assert f'farandole_partitions{{service="payment"}} {owned}.0' in figures
    assert 'farandole_transactions_total{service="payment"}' in figures


def test_any_worker_answers_for_any_order(system: System) -> None:
    placed = [place(system, f"any-{n}", worker=n % 2) for n in range(12)]
    assert {status for status, _ in placed} == {201}
    for n, (_, said) in enumerate(placed):
        wait_until_completed(system, said["order"], worker=(n + 1) % 2)


def test_the_same_request_is_the_same_order_and_another_body_a_conflict(system: System) -> None:
    status, said = place(system, "same")
    assert status == 201
    status, again = place(system, "same", worker=1)
    assert (status, again["order"]) == (200, said["order"])
    status, conflict = place(system, "same", worker=1, ship_to="2 Other Street")
    assert (status, conflict["order"]) == (409, said["order"])


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lines": []}, "lines"),
        ({"lines": [{"line": 1, "sku": "sku-1", "quantity": -1, "price": 500}]}, "quantity"),
        ({"lines": [{"line": 1, "sku": "sku-1", "quantity": "two", "price": 500}]}, "quantity"),
        ({"lines": [{"line": 1, "sku": "sku-1", "quantity": 1, "price": 1 << 70}]}, "minor units"),
        ({"lines": [{"line": 1 << 40, "sku": "sku-1", "quantity": 1, "price": 5}]}, "line"),
        ({"currency": "euro"}, "currency"),
        ({"email": "nobody"}, "email"),
        ({"reserve_fro": 5}, "reserve_fro"),
        ({"customer": "\ud800"}, ""),
        ({"customer": None}, "customer"),
    ],
)
def test_a_bad_order_is_refused_with_what_is_wrong(system: System, changes: dict[str, Any], named: str) -> None:
    status, said = place(system, "bad", **changes)
    assert status == 422
    assert named in " ".join(said["problems"])
    assert "tok_visible" not in json.dumps(said)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_order_is_refused(system: System, body: bytes) -> None:
    assert request("POST", system.url("order") + "/orders", body)[0] == 422


def test_an_unknown_order_is_not_found_and_an_ended_one_cannot_be_cancelled(system: System) -> None:
    url = system.url("order") + "/orders/"
    assert request("GET", url + "o-nobody")[0] == 404
    assert request("POST", url + "o-nobody/cancel")[0] == 404
    _, said = place(system, "ends")
    wait_until_completed(system, said["order"])
    assert request("POST", f"{url}{said['order']}/cancel")[0] == 409


def test_a_worker_that_is_told_to_stop_hands_over_at_once(system: System) -> None:
    system.kill("payment", 1, signal.SIGTERM)
    took = wait_until(lambda: partitions(system, "payment", 0) == set(range(6)), patience=20)
    assert took < 6, "sooner than the session time-out, or nothing was handed over"
    _, said = place(system, "after-handover")
    wait_until_completed(system, said["order"])
    system.restart("payment", 1)
    wait_until(lambda: partitions(system, "payment", 1) != set())


def test_when_a_worker_is_killed_the_other_takes_over_and_every_order_ends(system: System) -> None:
    orders = [place(system, f"kill-{n}")[1]["order"] for n in range(10)]
    system.kill("payment", 1)
    orders += [place(system, f"killed-{n}")[1]["order"] for n in range(10)]
    wait_until(lambda: partitions(system, "payment", 0) == set(range(6)))
    for order in orders:
        wait_until_completed(system, order)
    system.restart("payment", 1)
    wait_until(lambda: partitions(system, "payment", 1) != set())


def test_a_worker_that_wakes_up_after_its_partitions_moved_does_no_harm(system: System) -> None:
    system.kill("payment", 0, signal.SIGSTOP)
    orders = [place(system, f"zombie-{n}")[1]["order"] for n in range(10)]
    wait_until(lambda: partitions(system, "payment", 1) == set(range(6)))
    system.kill("payment", 0, signal.SIGCONT)
    orders += [place(system, f"awake-{n}")[1]["order"] for n in range(10)]
    for order in orders:
        wait_until_completed(system, order)
    wait_until(lambda: partitions(system, "payment", 0) | partitions(system, "payment", 1) == set(range(6)))


def test_no_card_token_in_any_log(system: System) -> None:
    logs = [path for path in Path(system.directory).glob("*.log") if path.stat().st_size]
    assert logs
    assert not [path.name for path in logs if b"tok_visible" in path.read_bytes()]
