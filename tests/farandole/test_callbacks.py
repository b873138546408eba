"""What goes wrong in a rebalance callback is an error of the step; an engine that has ended ends its process."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

import farandole.runtime
from farandole.kafkaerrors import Inconsistent
from farandole.runtime import EngineService
from tests.farandole.rig import Rig

MOVES = ("open", "abandon", "close")


@pytest.fixture
def order(kafka: Any, namespace: str) -> Iterator[Rig]:
    rig = Rig("order", kafka, namespace)
    yield rig
    rig.engine.abandon()


def test_an_error_of_kafka_inside_a_callback_is_raised_as_what_it_is(
    order: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    nobody = AdminClient({"bootstrap.servers": "127.0.0.1:9", "log_level": 0})

    def away(topic: str) -> int:
        """As librdkafka itself raises it: an exception that Python raises would not show it."""
        return len(nobody.list_topics(topic, timeout=0.1).topics)

    with monkeypatch.context() as patched:
        patched.setattr(order.engine.clients, "count_partitions", away)
        order.engine.open()
        with pytest.raises(KafkaException, match="Failed to get metadata"):
            order.step_for(10.0)
    assert not order.engine.assigned
    order.engine.abandon()
    order.start()
    assert order.engine.owned == frozenset(range(6))


@pytest.mark.parametrize(("since", "hangs"), [(None, False), (5.0, False), (61.0, True)])
@pytest.mark.parametrize("what", ["leaving_since", "busy_since"])
def test_a_process_whose_engine_hangs_in_librdkafka_ends(
    what: str, since: float | None, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ended(BaseException):
        pass

    def end(code: int) -> None:
        assert code == 70
        raise Ended

    began = None if since is None else time.monotonic() - since * (1 if what == "leaving_since" else 3)
    engine = SimpleNamespace(**{"busy_since": None, "leaving_since": None, what: began})
    app = SimpleNamespace(service_name="s")
    service: Any = SimpleNamespace(_halt=threading.Event(), _thread=None, engine=engine, app=app)
    monkeypatch.setattr(os, "_exit", end)

    async def watch() -> None:
        await asyncio.wait_for(EngineService._watch(service), 1.5)

    with pytest.raises(Ended if hangs else TimeoutError):
        asyncio.run(watch())


@pytest.mark.parametrize("alive", [False, True])
def test_a_process_whose_engine_has_ended_ends(alive: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ended(BaseException):
        pass

    def end(code: int) -> None:
        assert code == 70
        raise Ended

    halt, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    if not alive:
        done.set()
        thread.join()
    service: Any = SimpleNamespace(_halt=halt, _thread=thread, engine=None, app=SimpleNamespace(service_name="s"))
    monkeypatch.setattr(farandole.runtime, "ENDS_WITHIN", -1.0)
    monkeypatch.setattr(os, "_exit", end)

    async def watch() -> None:
        await asyncio.wait_for(EngineService._watch(service), 2.5)

    with pytest.raises(TimeoutError if alive else Ended):
        asyncio.run(watch())
    done.set()


@pytest.mark.parametrize("error", [SystemError("error return without exception set"), Inconsistent("fenced")])
def test_what_begins_anew_does_so_after_giving_up_its_clients(error: Exception) -> None:
    """SystemError: confluent-kafka 2.15, out of librdkafka's log."""
    done: list[str] = []
    halt = threading.Event()

    def step() -> None:
        if "abandon" not in done:
            raise error
        halt.set()

    engine = SimpleNamespace(step=step, **{name: functools.partial(done.append, name) for name in MOVES})
    service: Any = SimpleNamespace(_halt=halt, engine=engine, app=SimpleNamespace(service_name="s"))
    EngineService._cycle(service)
    assert done == ["open", "abandon", "open", "close"]
