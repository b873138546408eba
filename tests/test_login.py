"""Logins on a real Kafka, with workers that are killed in the middle, and what an outsider finds in the topics then."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import events
from farandole.demo.login import SERVICES, Demo, Options, register
from farandole.demo.mischief import Kill
from farandole.demo.stage import OwnStage
from farandole.demo.visitors import Visitor, Ways, other
from farandole.door import FULL_FOR
from farandole.system import System, silent
from tests.farandole.rig import read_all
from tests.flows.world import ROOT, codec
from tests.test_workers import request, wait_until


@pytest.fixture(scope="module")
def system(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    directory = tmp_path_factory.mktemp("login")
    with System(
        directory,
        namespace="logins.",
        services=SERVICES,
        client_config=kafka.config,
        workers={"login": 2},
        environment={"FARANDOLE_HOME": str(directory / "home")},
    ) as running:
        guests = [Visitor(user, Ways.PLAIN) for user in ("anna", "bea", "cleo")]
        asyncio.run(register(OwnStage("logins", directory, running), guests))
        yield running


def begin(system: System, user: str, worker: int = 0) -> tuple[int, Any]:
    return request("POST", system.url("login", worker) + "/login", {"user": user})


def verify(system: System, challenge: str, code: str, worker: int = 0) -> tuple[int, Any]:
    return request("POST", system.url("login", worker) + "/login/verify", {"challenge": challenge, "code": code})


def code_of(system: System, challenge: str) -> str:
    def sent() -> list[Any]:
        return [each for each in system.sandbox.state("mail").operations if each.order == challenge]

    wait_until(lambda: bool(sent()))
    return str(sent()[0].code)


def test_any_worker_begins_and_any_verifies(system: System) -> None:
    for worker in (0, 1):
        status, said = begin(system, "anna", worker)
        assert (status, said["expires_in"]) == (201, 300)
        code = code_of(system, said["challenge"])
        assert verify(system, said["challenge"], other(code, 1), 1 - worker)[1]["attempts_left"] == 4
        assert verify(system, said["challenge"], code, 1 - worker) == (200, {"outcome": "granted"})
        assert verify(system, said["challenge"], code, worker)[0] == 410


def test_of_many_verifies_at_once_at_both_workers_one_is_granted(system: System) -> None:
    _, said = begin(system, "bea")
    code = code_of(system, said["challenge"])
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda n: verify(system, said["challenge"], code, n % 2)[0], range(12)))
    assert sorted(answers) == [200] + [410] * 11


def test_a_silent_directory_is_told_to_everybody_alike(system: System) -> None:
    system.kill("directory")
    try:
        known, unknown = begin(system, "cleo"), begin(system, "nobody")
    finally:
        system.restart("directory")
        system.wait_ready()
    assert known == unknown
    assert known[0] == 503


def test_bad_requests_are_told_so(system: System) -> None:
    for path, body in (
        ("/login", {"user": ""}),
        ("/login", b"{"),
        ("/login/verify", {"challenge": "c-1", "code": "1"}),
    ):
        status, said = request("POST", system.url("login") + path, body)
        assert status == 422
        assert all(said[name] for name in ("what", "where", "mend"))


def _asked(system: System, path: str, key: str = "") -> tuple[int, str]:
    asked = urllib.request.Request(
        system.url("login") + path, headers={"Authorization": f"Bearer {key}"} if key else {}
    )
    try:
        with urllib.request.urlopen(asked, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_a_stranger_cannot_watch_the_call_that_a_login_begins(system: System) -> None:
    assert _asked(system, "/health") == (200, '{"service":"login","ready":true}')
    for key in ("", "x" * 64, "é" * 64):
        status, said = _asked(system, "/metrics", key)
        assert status == 403
        assert all(json.loads(said)[name] for name in ("what", "where", "mend"))
        assert "farandole_calls" not in said
    assert "farandole_calls" in _asked(system, "/metrics", system.metrics_key)[1]
    assert "calls" in json.loads(_asked(system, "/health", system.metrics_key)[1])


def test_a_key_for_figures_that_is_set_is_the_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert System(tmp_path, namespace="n.").metrics_key != System(tmp_path, namespace="n.").metrics_key
    monkeypatch.setenv("FARANDOLE_METRICS_KEY", "of the environment " * 2)
    assert System(tmp_path, namespace="n.").metrics_key == "of the environment " * 2
    chosen = {"FARANDOLE_METRICS_KEY": "of this system alone " * 2}
    assert System(tmp_path, namespace="n.", environment=chosen).metrics_key == "of this system alone " * 2


def test_addresses_are_sensitive_wherever_they_stand() -> None:
    for name in ("directory.looked_up.1", "directory.users.user_registered.1", "directory.tables.directory_user.1"):
        fields = json.loads((ROOT / "schemas" / f"{name}.avsc").read_text())["fields"]
        assert [field["sensitive"] for field in fields if field["name"] == "address"] == [True]


def test_no_log_and_no_page_has_a_code_or_a_key(system: System) -> None:
    codes = [each.code for each in system.sandbox.state("mail").operations if each.code]
    assert codes
    logs = "".join(worker.log.read_text() for workers in system.workers.values() for worker in workers)
    pages = repr(_asked(system, "/health", key=system.metrics_key) + _asked(system, "/metrics", key=system.metrics_key))
    assert not [code for code in codes if code in logs + pages]
    assert system.passcode_key not in logs + pages


def test_killed_in_the_middle_every_challenge_ends_once_and_no_code_is_in_any_topic(
    kafka: Any, tmp_path: Path, namespace: str
) -> None:
    options = Options(logins=120, rate=15.0, kills=(Kill("login", 40), Kill("directory", 70), Kill("login", 90)))
    environment = {"FARANDOLE_HOME": str(tmp_path / "home")}
    with System(
        tmp_path, namespace=namespace, services=SERVICES, client_config=kafka.config, environment=environment
    ) as system:
        outcome = Demo.of_system(system, options).play(silent)
        assert outcome.problems == []
        assert outcome.ok
        assert outcome.audit is not None
        ended = outcome.audit["flows"]["login"]
        assert ended["granted"] > 60
        assert ended["locked"] > 0
        codes = {each.order: each.code for each in system.sandbox.state("mail").operations if each.code}
        assert len(codes) > 80
        # Once more, by hand: in no record that names the challenge.
        for topic in (
            "login.commands",
            "login.calls",
            "login-calls-changelog",
            "login-challenges-changelog",
            "login.dlq",
        ):
            for message in read_all(kafka.config, namespace + topic):
                said = (message.key() or b"") + (message.value() or b"")
                assert not [c for c, code in codes.items() if c.encode() in said and code.encode() in said]


def test_who_is_asked_while_a_worker_is_killed_gets_an_answer_in_the_end(system: System) -> None:
    """A flood of right codes across a kill: one is granted, whoever is told so."""
    _, said = begin(system, "cleo")
    code = code_of(system, said["challenge"])
    answers: list[int] = []

    def ask(worker: int) -> None:
        for _ in range(10):
            with contextlib.suppress(OSError):  # it was killed under the request
                answers.append(verify(system, said["challenge"], code, worker)[0])
            time.sleep(0.05)

    asking = [threading.Thread(target=ask, args=(worker,)) for worker in (0, 1)]
    for thread in asking:
        thread.start()
    system.kill("login", 0)
    system.restart("login", 0)
    for thread in asking:
        thread.join()
    system.wait_ready()
    assert answers.count(200) <= 1
    wait_until(lambda: _asked_again(answers, system, said["challenge"], code) == 410)
    assert answers.count(200) <= 1
    assert _granted(system).count(said["challenge"]) == 1


def _asked_again(answers: list[int], system: System, challenge: str, code: str) -> int:
    answers.append(verify(system, challenge, code, 1)[0])
    return answers[-1]


def _granted(system: System) -> list[str]:
    """The challenges of which the topic says that they were granted."""
    kind = codec().type_of(events.LoginGranted)
    records = [record.value() for record in read_all(system.client_config, f"{system.namespace}{kind.topic}")]
    return [codec().meta_of(value).saga for value in records if value.startswith(kind.prefix)]


def test_who_is_told_that_there_is_no_room_has_written_nothing(kafka: Any, tmp_path: Path, namespace: str) -> None:
    """Made-up names fill a partition. When the flood is over nothing of it is left to be read before anybody else's."""
    environment = {"FARANDOLE_HOME": str(tmp_path / "home"), "FARANDOLE_OPEN_SAGAS": "3"}
    with System(
        tmp_path, namespace=namespace, services=SERVICES, client_config=kafka.config, environment=environment
    ) as system:
        begun = 0
        for number in range(200):
            status, said = begin(system, f"nobody-{number}")
            assert status == 201 or (status, said["retry_after"]) == (503, FULL_FOR)
            begun += status == 201
        assert 0 < begun < 100
        assert len(read_all(kafka.config, f"{namespace}login.commands")) == begun
