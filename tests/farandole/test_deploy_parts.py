"""The parts of a deployment that need no Kafka: waits, versions, state, successions, docker's command lines."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from confluent_kafka import TopicPartition

from farandole import runtime
from farandole.config import METRICS_KEY
from farandole.deploy import waits
from farandole.deploy.compose import ComposeTarget
from farandole.deploy.keys import compose_problems, local_problems
from farandole.deploy.local import LocalTarget
from farandole.deploy.manifest import Manifest
from farandole.deploy.planning import Plan
from farandole.deploy.state import Deployment
from farandole.deploy.supervisor import Supervisor, Wanted, _lock
from farandole.deploy.target import NotWell
from farandole.deploy.version import KEPT, Versions, version_of
from farandole.deploy.waits import longest
from farandole.errors import ConfigError
from farandole.passcodes import KEY
from farandole.succession import Succession, is_awaited
from farandole.system import silent

# ---- what workers would lack


def plan_for(*services: str, workers: int = 1) -> Plan:
    steps: Any = [SimpleNamespace(service=service, workers=(0, workers)) for service in services]
    return Plan("apply", "local", "1234", "", "", Manifest(), steps)


@pytest.fixture
def dotenv(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the project's .env says, and nothing of the key in the environment."""
    said: dict[str, str] = {}
    monkeypatch.setattr("farandole.config._dotenv", lambda: said)
    monkeypatch.delenv(KEY, raising=False)
    return said


def local(theirs: dict[str, str] | None, *services: str) -> list[str]:
    return [each.what for each in local_problems(plan_for(*services), theirs)]


ONE, ANOTHER = "0123456789abcdef" * 2, "fedcba9876543210" * 2
OTHER = f"the workers that run have another {KEY}"
WITHOUT = f"the supervisor of the workers that run was started without a good {KEY}"


def test_logins_need_their_key_and_nobody_else_does(dotenv: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert local(None, "order", "payment") == []
    assert local(None, "order", "login") == [f"{KEY} is not set"]
    monkeypatch.setenv(KEY, ONE[1:])
    assert local(None, "login") == [f"{KEY} has 31 characters, 16 different ones"]
    monkeypatch.setenv(KEY, ANOTHER)
    assert local(None, "login") == []
    monkeypatch.delenv(KEY)
    dotenv[KEY] = ANOTHER
    assert local(None, "login") == []


@pytest.mark.parametrize(
    ("theirs", "here", "file", "said"),
    [
        (ONE, "", "", []),
        (ONE, ONE, "", []),
        (ONE, ANOTHER, "", [OTHER]),
        ("", ONE, ONE, []),
        (ONE, "", ONE, []),
        ("", "", ONE, []),
        ("", ONE, "", [WITHOUT]),
        ("", "", "", [WITHOUT]),
        (ONE[1:], ONE[1:], "", [WITHOUT]),
    ],
)
def test_the_key_that_counts_is_the_one_of_the_supervisor_that_runs(
    dotenv: dict[str, str], monkeypatch: pytest.MonkeyPatch, theirs: str, here: str, file: str, said: list[str]
) -> None:
    """It hands on the environment with which it was started, whatever a later command has."""
    monkeypatch.setenv(KEY, here)
    dotenv[KEY] = file
    assert local({KEY: theirs}, "login") == said
    assert local({KEY: theirs}, "order") == []


def test_a_short_key_for_figures_is_told_where_logins_would_not_start_for_it(
    dotenv: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, ONE)
    said = [f"{METRICS_KEY} has 5 characters"]
    theirs = {KEY: ONE, METRICS_KEY: "short"}
    assert local(theirs, "login") == said
    assert local({KEY: ONE}, "login") == local(None, "login") == local(theirs, "order") == []
    monkeypatch.setenv(METRICS_KEY, "short")
    assert local(None, "login") == said
    assert [each.what for each in compose_problems(plan_for("login"))] == said
    assert compose_problems(plan_for("order")) == []


def test_the_environment_of_a_supervisor_is_its_process_own(tmp_path: Path) -> None:
    target = LocalTarget(Deployment(tmp_path), tmp_path, 0.0)
    assert target._workers_environment() is None
    assert not (target.home / "supervisor.lock").exists(), "a plan changes nothing"
    held = _lock(target.home)
    assert held is not None
    with subprocess.Popen(["sleep", "60"], env={KEY: "its own"}) as process:
        try:
            (target.home / "supervisor.lock").write_text(str(process.pid))
            assert target._workers_environment() == {KEY: "its own"}
        finally:
            process.kill()
            os.close(held)


@pytest.mark.parametrize(
    ("key", "workers", "said"),
    [
        ("", 1, []),
        ("", 2, [f"{KEY} is not set"]),
        (ONE[1:], 1, [f"{KEY} has 31 characters, 16 different ones"]),
        (ANOTHER, 2, []),
    ],
)
def test_containers_draw_a_key_but_several_need_the_same(
    dotenv: dict[str, str], monkeypatch: pytest.MonkeyPatch, key: str, workers: int, said: list[str]
) -> None:
    monkeypatch.setenv(KEY, key)
    assert [each.what for each in compose_problems(plan_for("login", workers=workers))] == said


# ---- stop


def stop(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "farandole.cli.main", "deploy", "stop", *arguments]
    return subprocess.run(
        command, env={**os.environ, "FARANDOLE_HOME": str(home)}, capture_output=True, text=True, timeout=60
    )


def deployed_to(target: str, home: Path) -> None:
    deployment = Deployment(home)
    deployment.state.target, deployment.state.current = target, "1234"
    wanted = {"payment-0": {"service": "payment", "version": "1234", "port": 0}}
    (deployment.home / "desired.json").parent.mkdir(parents=True, exist_ok=True)
    (deployment.home / "desired.json").write_text(json.dumps({"number": 1, "workers": wanted}))
    deployment.save()


def test_a_dry_stop_says_who_would_be_ended_and_ends_nobody(tmp_path: Path) -> None:
    deployed_to("local", tmp_path)
    done = stop(tmp_path, "--dry-run", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"workers": ["payment-0"]}), done.stderr
    assert json.loads((tmp_path / "deploy/desired.json").read_text())["workers"]


def test_containers_are_not_stopped_by_a_command_for_processes(tmp_path: Path) -> None:
    deployed_to("compose", tmp_path)
    done = stop(tmp_path)
    assert done.returncode == 2
    assert "docker compose stop" in done.stderr
    assert done.stdout == ""


# ---- how long orders waited


def test_the_longest_wait_is_between_two_records_of_one_order() -> None:
    records = {
        "a": [(5_000, "inventory.reserved"), (1_000, "order.placed"), (9_500, "order.completed")],
        "b": [(2_000, "order.placed"), (2_100, "order.refused")],
    }
    found = longest(records, began=4_000, ended=20_000)
    assert (found.seconds, found.saga, found.after) == (4.5, "a", "inventory.reserved")
    assert (found.orders, found.open, found.usual) == (1, 0, 0.1)


def test_an_order_that_has_not_gone_on_waits_until_the_end() -> None:
    found = longest({"a": [(1_000, "order.placed"), (3_000, "inventory.reserved")]}, began=4_000, ended=20_000)
    assert (found.seconds, found.after, found.open) == (17.0, "inventory.reserved", 1)


def test_a_wait_that_was_over_before_the_rollout_is_not_of_it() -> None:
    records = {"a": [(1_000, "order.placed"), (9_000, "payment.authorised"), (9_100, "order.completed")]}
    assert longest(records, began=9_050, ended=20_000).seconds == 0.1


def test_a_command_that_nobody_takes_waits_and_one_that_caused_nothing_does_not() -> None:
    asked = {"a": [(5_000, "order.commands.place_order")], "repeated": [(5_000, "order.commands.place_order")]}
    found = longest(asked, began=4_000, ended=20_000, undecided={"a"})
    assert (found.seconds, found.saga, found.open) == (15.0, "a", 1)


def test_whose_command_nobody_has_taken_is_asked_of_the_group_that_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies before the group's position has been decided, were it to nothing."""
    asked: list[str] = []

    class Group:
        def __init__(self, settings: dict[str, Any]) -> None:
            asked.append(settings["group.id"])

        def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
            return [TopicPartition(tp.topic, tp.partition, 7 if tp.partition == 0 else -1001) for tp in places]

        def close(self) -> None:
            pass

    monkeypatch.setattr(waits, "Consumer", Group)
    hears = {"order": ["order.commands"], "payment": ["inventory"]}
    watch = waits.Waits({}, "n.", Manifest(hears=hears), None)  # type: ignore[arg-type]
    topic = "n.order.commands"
    watch._asked = {"decided": (topic, 0, 6), "next": (topic, 0, 7), "other": (topic, 1, 0)}
    assert watch._undecided() == {"next", "other"}
    assert asked == ["n.order"]


def test_what_comes_behind_an_orders_end_is_no_wait() -> None:
    records = {"a": [(5_000, "order.placed"), (5_200, "order.completed"), (19_000, "order.commands.cancel_order")]}
    assert longest(records, began=4_000, ended=20_000).seconds == 0.2


# ---- versions


def tiny(root: Path, text: str = "1") -> Path:
    for name in ("agents", "flows", "schemas", "farandole"):
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "a.py").write_text(text)
    (root / "events.py").write_text("")
    (root / "topics.yaml").write_text("")
    return root


def test_a_version_is_its_content(tmp_path: Path) -> None:
    one, other = tiny(tmp_path / "one"), tiny(tmp_path / "other")
    assert version_of(one) == version_of(other)
    (other / "agents/__pycache__").mkdir()
    (other / "agents/__pycache__/a.pyc").write_bytes(b"x")
    assert version_of(one) == version_of(other)
    (other / "agents/a.py").rename(other / "agents/b.py")
    assert version_of(one) != version_of(other)


def test_what_is_needed_is_kept_and_the_oldest_of_the_rest_goes(tmp_path: Path) -> None:
    versions = Versions(tmp_path / "versions")
    made = []
    for number in range(KEPT + 3):
        made.append(versions.keep(tiny(tmp_path / "project", str(number)), Manifest()))
        os.utime(versions.path(made[-1]) / ".complete", (number, number))
    assert versions.forget({made[0]}) == [made[2], made[1]]
    assert [each for each in made if versions.has(each)] == [made[0], *made[3:]]


def test_a_copy_that_was_not_finished_is_made_again(tmp_path: Path) -> None:
    versions, root = Versions(tmp_path / "versions"), tiny(tmp_path / "project")
    version = version_of(root)
    (versions.path(version) / "agents").mkdir(parents=True)
    assert not versions.has(version)
    assert versions.keep(root, Manifest()) == version
    assert (versions.path(version) / "agents/a.py").read_text() == "1"


def test_going_back_and_forth_remembers_where_it_was(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path)
    for version in ("v1", "v2", "v1"):
        deployment.arrived(version)
    assert (deployment.state.current, deployment.state.former) == ("v1", ["v2"])
    assert Deployment(tmp_path).state == deployment.state


# ---- who takes over


WAIT = "import sys; from pathlib import Path; from farandole.succession import Succession; \
Succession(Path(sys.argv[1])).enter(); print('runs', flush=True); sys.stdin.read()"


def test_a_successor_begins_when_its_predecessor_lets_go_and_a_dead_one_is_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "payment-0.payment"
    first = Succession(path)
    first.enter()
    assert not first.succeeded
    assert not first.has_successor()
    next_one = subprocess.Popen(
        [sys.executable, "-c", WAIT, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        until(first.has_successor)
        assert is_awaited(path)
        next_one.kill()
        until(lambda: not first.has_successor())
    finally:
        next_one.kill()
        next_one.communicate()
    second = Succession(path)
    first.leave()
    second.enter()
    assert not is_awaited(path)
    second.leave()


@pytest.mark.parametrize("works", [True, False])
def test_a_successor_waits_for_an_engine_that_does_not_come_to_its_end(
    works: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "STOP_TIMEOUT", 0.05)
    ends, let_go = threading.Event(), list[str]()
    service = runtime.EngineService.__new__(runtime.EngineService)
    service._halt, service._waiters, service.performer = threading.Event(), {}, None
    service.app = SimpleNamespace(doors=[])  # type: ignore[assignment]
    service.succession = SimpleNamespace(leave=lambda: let_go.append("left"))  # type: ignore[assignment]
    service._thread = threading.Thread(target=ends.wait, daemon=True)
    service._thread.start()
    if not works:
        ends.set()
        service._thread.join()
    asyncio.run(service.on_stop())
    ends.set()
    assert let_go == ([] if works else ["left"])


def until(holds: Any, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


# ---- the supervisor: processes that are no workers stand in for them

SLEEPS = """
import os, sys, time
from pathlib import Path
from farandole.succession import Succession
if "{version}" == "broken":
    sys.exit("planted")
Succession(Path(os.environ["FARANDOLE_SUCCESSION"] + "." + sys.argv[2])).enter()
time.sleep(600)
"""


@pytest.fixture
def supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    home = tmp_path / "deploy"
    repository = str(Path(__file__).parents[2])
    for version in ("v1", "v2", "broken"):
        package = home / "versions" / version / "farandole"
        (package / "cli").mkdir(parents=True)
        # Everything but the worker's command is the project's own.
        (package / "__init__.py").write_text(f"__path__.append({repository + '/farandole'!r})\n")
        (package / "cli/__init__.py").write_text("")
        (package / "cli/main.py").write_text(SLEEPS.replace("{version}", version))
    monkeypatch.setattr("farandole.deploy.supervisor.FIRST_PAUSE", 0.2)
    # However long the old one has been well: what fails is the new one.
    monkeypatch.setattr("farandole.deploy.supervisor.WELL_AFTER", 0.0)
    supervisor = Supervisor(home)
    yield supervisor
    supervisor.ending = True
    turn(supervisor, lambda: not supervisor.slots)


def turn(supervisor: Supervisor, holds: Any) -> None:
    def look() -> bool:
        supervisor.step(time.time())
        return bool(holds())

    until(look, 60)


def want(supervisor: Supervisor, version: str, port: int = 0) -> None:
    desired = {"serial": time.monotonic_ns(), "workers": {"payment-0": vars(Wanted("payment", version, port))}}
    (supervisor.home / "desired.json").write_text(json.dumps(desired))


def running(supervisor: Supervisor) -> str:
    slot = supervisor.slots.get("payment-0")
    return slot.current.version if slot and slot.current and slot.current.alive and not slot.following else ""


def test_a_worker_of_another_service_does_not_get_the_key_of_passcodes(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGIN_PASSCODE_KEY", "a key of the one who deploys")
    workers = {f"{service}-0": vars(Wanted(service, "v1", 0)) for service in ("payment", "login")}
    (supervised.home / "desired.json").write_text(json.dumps({"serial": 1, "workers": workers}))
    turn(supervised, lambda: all(name in supervised.slots for name in workers))
    pids = {name: supervised.slots[name].current.pid for name in workers}  # type: ignore[union-attr]
    turn(supervised, lambda: all("main" in " ".join(psutil.Process(pid).cmdline()) for pid in pids.values()))
    has = {name for name, pid in pids.items() if "LOGIN_PASSCODE_KEY" in psutil.Process(pid).environ()}
    assert has == {"login-0"}


def test_a_worker_is_begun_again_and_succeeded_and_a_broken_one_takes_over_nothing(supervised: Supervisor) -> None:
    want(supervised, "v1")
    turn(supervised, lambda: is_held(supervised))
    slot = supervised.slots["payment-0"]
    first = slot.current
    assert first is not None
    os.kill(first.pid, 9)
    turn(supervised, lambda: slot.current and slot.current.pid != first.pid and is_held(supervised))
    assert slot.restarts == 1
    second = slot.current
    want(supervised, "broken")
    turn(supervised, lambda: slot.failures > 1)
    assert second is not None
    assert slot.current == second
    assert second.alive
    want(supervised, "v2")
    turn(supervised, lambda: running(supervised) == "v2")
    assert not second.alive
    assert slot.restarts == 1, "that one was told to end"


def test_another_port_is_another_worker(supervised: Supervisor) -> None:
    want(supervised, "v1")
    turn(supervised, lambda: is_held(supervised))
    first = supervised.slots["payment-0"].current
    assert first is not None
    want(supervised, "v1", port=7)
    turn(supervised, lambda: running(supervised) and supervised.slots["payment-0"].current != first)
    second = supervised.slots["payment-0"].current
    assert second is not None
    assert (second.version, second.port) == ("v1", 7)
    assert not first.alive


def test_an_old_worker_that_dies_does_not_count_against_the_new_one(supervised: Supervisor) -> None:
    want(supervised, "v1")
    turn(supervised, lambda: is_held(supervised))
    slot = supervised.slots["payment-0"]
    old = slot.current
    assert old is not None
    want(supervised, "v2")
    turn(supervised, lambda: slot.following is not None)
    os.kill(old.pid, 9)
    turn(supervised, lambda: running(supervised) == "v2")
    assert (slot.restarts, slot.failures) == (0, 0)


def is_held(supervisor: Supervisor) -> bool:
    path = supervisor.home / "succession" / "payment-0.payment"
    from farandole.succession import is_locked

    return path.exists() and is_locked(path)


def test_another_supervisor_finds_the_workers_of_one_that_was_killed(supervised: Supervisor) -> None:
    want(supervised, "v1")
    turn(supervised, lambda: is_held(supervised))
    worker = supervised.slots["payment-0"].current
    assert worker is not None
    another = Supervisor(supervised.home)
    another.adopt()
    turn(another, lambda: running(another) == "v1")
    adopted = another.slots["payment-0"].current
    assert adopted is not None
    assert adopted.pid == worker.pid
    want(another, "v2")
    turn(another, lambda: running(another) == "v2")
    another.ending = True
    turn(another, lambda: not another.slots)


# ---- docker

DOCKER = """#!{python}
import json, os, sys
from pathlib import Path
here = Path(__file__).parent
arguments = sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(os.environ.get("FARANDOLE_IMAGE", "-") + " " + " ".join(arguments) + "\\n")
if (here / "away").exists() and arguments == ["info"]:
    sys.exit("Cannot connect to the Docker daemon")
if arguments[:3] == ["compose", "config", "--services"]:
    print("kafka\\nregistry\\nsetup\\ngateway\\norder\\npayment")
if arguments[:3] == ["compose", "up", "-d"] and "--scale" in arguments:
    service, count = arguments[arguments.index("--scale") + 1].split("=")
    image = os.environ["FARANDOLE_IMAGE"]
    state = "restarting" if image.endswith(":broken") else "running"
    made = [
        {{"Name": f"x-{{service}}-{{n}}", "Service": service, "Image": image, "State": state, "Health": "healthy"}}
        for n in range(int(count))
    ]
    (here / service).write_text("\\n".join(map(json.dumps, made)))
if arguments[:2] == ["compose", "ps"]:
    for service in arguments[5:]:
        if (here / service).exists():
            print((here / service).read_text())
if arguments[:2] == ["compose", "logs"]:
    print("what it said last")
"""


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "docker").write_text(DOCKER.format(python=sys.executable))
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.delenv("FARANDOLE_IMAGE", raising=False)
    return folder


def calls(docker: Path) -> list[str]:
    return (docker / "calls").read_text().splitlines()


def compose(tmp_path: Path) -> ComposeTarget:
    return ComposeTarget(Deployment(tmp_path / "home"), tmp_path, ready_within=5)


def test_a_version_is_an_image_of_its_own_and_only_agents_are_replaced(docker: Path, tmp_path: Path) -> None:
    target = compose(tmp_path)
    manifest = Manifest(tables={"order": {}, "payment": {}})
    target.check()
    target.prepare(Plan("apply", "compose", "v1", "", "", manifest), silent)
    target.roll("payment", "v1", 3, silent)
    assert calls(docker)[2:] == [
        "farandole:v1 compose build setup",
        "farandole:v1 compose config --services",
        "farandole:v1 compose up -d --no-recreate --wait kafka registry gateway",
        "farandole:v1 compose run --rm --no-deps setup",
        "farandole:v1 compose up -d --no-deps --scale payment=3 payment",
        "- compose ps --all --format json payment",
    ]
    target.deployment.state.workers = {"payment": 3}
    assert [(each.name, each.version, each.ready) for each in target.instances()] == [
        (f"x-payment-{number}", "v1", True) for number in range(3)
    ]


def test_a_container_that_keeps_ending_is_not_well(docker: Path, tmp_path: Path) -> None:
    with pytest.raises(NotWell, match="payment of version broken ended; its log:\n    what it said last"):
        compose(tmp_path).roll("payment", "broken", 1, silent)


def test_the_image_keeps_the_name_that_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, image in (
        ("farandole:local", "farandole:v1"),
        ("registry:5000/farandole", "registry:5000/farandole:v1"),
        ("registry:5000/farandole:7", "registry:5000/farandole:v1"),
    ):
        monkeypatch.setenv("FARANDOLE_IMAGE", name)
        assert compose(tmp_path).image("v1") == image


def test_without_an_engine_it_says_so(docker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (docker / "away").touch()
    with pytest.raises(ConfigError, match="no Docker engine answers: Cannot connect"):
        compose(tmp_path).check()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="docker is not installed"):
        compose(tmp_path).check()
