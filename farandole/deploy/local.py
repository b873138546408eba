"""The target `local`: workers of this machine, looked after by a supervisor that outlives the command.

Invariant: this says what is to be, and the supervisor does it (desired.json, observed.json); so a command that is
killed leaves behind a system that goes on as it was told.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import psutil

import farandole
from farandole import config
from farandole.deploy import keys, supervisor
from farandole.deploy.planning import Plan
from farandole.deploy.state import Deployment, write_json
from farandole.deploy.target import Instance, NotWell
from farandole.errors import ConfigError, FarandoleError
from farandole.kafka.embedded import hold_free
from farandole.schemas import Schemas
from farandole.system import LAST_LINES, Progress
from farandole.topics import Problem, Topics

HOST: Final = "127.0.0.1"
LOOK_EVERY: Final = 0.05
STARTS_WITHIN: Final = 20.0
"""Seconds for the supervisor to be there."""

ENDS_WITHIN: Final = supervisor.STOPPED_WITHIN + 10.0
HEALTH_WITHIN: Final = 2.0


class LocalTarget:
    """root: the project that is deployed; ready_within: seconds for a worker to be ready."""

    name = "local"

    def __init__(self, deployment: Deployment, root: Path, ready_within: float) -> None:
        self.deployment, self.root, self.ready_within = deployment, root, ready_within
        self.home = deployment.home

    def check(self) -> None:
        config.check_broker(config.kafka_client_config())

    def refusals(self, plan: Plan) -> list[Problem]:
        return keys.local_problems(plan, self._workers_environment())

    def _workers_environment(self) -> dict[str, str] | None:
        """None: no supervisor runs, or it is somebody else's."""
        running = self.supervisor_pid
        with contextlib.suppress(psutil.Error):
            return psutil.Process(running).environ() if running else None
        return None

    def prepare(self, plan: Plan, progress: Progress) -> None:
        state = self.deployment.state
        if plan.verb == "apply":
            progress("applying topics", 0, 0)
            version_root = self.deployment.versions.path(plan.version)
            Topics.load(version_root / "topics.yaml").apply(config.kafka_client_config(), config.namespace())
            self.deployment.learn(plan.manifest, version_root / "schemas")
            if url := config.schema_registry_url():
                from farandole.registry import SchemaRegistry

                progress("registering schemas", 0, 0)
                SchemaRegistry(url).ids(Schemas.load(version_root / "schemas"))
        with ExitStack() as held:
            for step in plan.steps:
                for index in range(step.workers[1]):
                    name = f"{step.service}-{index}"
                    if name not in state.ports:
                        state.ports[name] = hold_free(held)
        self.deployment.save()
        self._start_supervisor(progress)

    # ---- the supervisor

    @property
    def supervisor_pid(self) -> int | None:
        return supervisor.pid_of(self.home)

    def _start_supervisor(self, progress: Progress) -> None:
        if self.supervisor_pid is not None:
            return
        progress("starting the supervisor", 0, 0)
        code = str(Path(farandole.__file__).parents[1])
        log = self.home / "logs" / "supervisor.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            started = subprocess.Popen(
                [sys.executable, "-m", "farandole.deploy.supervisor", str(self.home)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.home,
                env={**os.environ, "PYTHONPATH": code},
                start_new_session=True,
            )
        deadline = time.monotonic() + STARTS_WITHIN
        while self._observed().get("pid") != started.pid:
            if started.poll() is not None or time.monotonic() > deadline:
                raise FarandoleError(f"the supervisor did not start:\n{last_words(log)}", where=str(log))
            time.sleep(LOOK_EVERY)

    def stop(self, progress: Progress) -> bool:
        """End all workers and the supervisor. False if there was none; workers that it left behind end all the same."""
        ran = self.supervisor_pid is not None
        left = bool(self._desired())
        if not ran and not left:
            return False
        self._say({})
        self._start_supervisor(progress)  # one that was killed has left its workers: only a supervisor finds them
        pid = self.supervisor_pid
        progress("stopping workers", 0, 0)
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + ENDS_WITHIN
        while self.supervisor_pid is not None:
            if time.monotonic() > deadline:
                raise FarandoleError("the workers do not end", where=str(self.home / "logs"), mend="run it again")
            time.sleep(LOOK_EVERY)
        return True

    # ---- what is to be, and what is

    def _desired(self) -> dict[str, Any]:
        workers: dict[str, Any] = _read_json(self.home / "desired.json").get("workers", {})
        return workers

    def _say(self, workers: dict[str, Any]) -> int:
        """Say what is to be. Returns the number by which the supervisor tells that it knows."""
        serial = int(_read_json(self.home / "desired.json").get("serial", 0)) + 1
        write_json(self.home / "desired.json", {"serial": serial, "workers": workers})
        return serial

    def _observed(self) -> dict[str, Any]:
        return _read_json(self.home / "observed.json")

    def _want(self, name: str, wanted: dict[str, Any] | None) -> int:
        """Say what one worker is to be; None: it is not to be."""
        desired = self._desired()
        if wanted is None:
            desired.pop(name, None)
        else:
            desired[name] = wanted
        return self._say(desired)

    def roll(self, service: str, version: str, workers: int, progress: Progress) -> None:
        names = [f"{service}-{index}" for index in range(workers)]
        for name in self._desired():
            if name.rpartition("-")[0] == service and name not in names:
                self._remove(name)
        for name in names:
            self._roll(name, service, version, progress)

    def _roll(self, name: str, service: str, version: str, progress: Progress) -> None:
        port = self.deployment.state.ports[name]
        log = self.home / "logs" / f"{name}.log"
        before = self._observed().get("workers", {}).get(name, {}).get("restarts", 0)
        told = self._want(name, {"service": service, "version": version, "port": port})
        deadline = time.monotonic() + self.ready_within
        while True:
            observed = self._observed()
            seen = observed.get("workers", {}).get(name)
            if seen and observed["serial"] == told:
                if seen["failures"] or seen["restarts"] > before:
                    raise NotWell(f"{name} of version {version} ended:\n{last_words(log)}", where=str(log))
                current = seen["current"]
                is_new = current and (current["version"], current["port"]) == (version, port)
                if is_new and not seen["following"] and not seen["ending"] and self._ready(name):
                    return
            if self.supervisor_pid is None:
                raise FarandoleError(
                    "the supervisor has died", where=str(self.home / "logs"), mend="run the same command again"
                )
            if time.monotonic() > deadline:
                what = f"{name} of version {version} is not ready after {self.ready_within:.0f} s"
                raise NotWell(f"{what}; the end of its log:\n{last_words(log)}", where=str(log))
            time.sleep(LOOK_EVERY)

    def remove(self, service: str) -> None:
        for name in [name for name in self._desired() if name.rpartition("-")[0] == service]:
            self._remove(name)

    def _remove(self, name: str) -> None:
        self._want(name, None)
        deadline = time.monotonic() + ENDS_WITHIN
        while name in self._observed().get("workers", {}):
            if time.monotonic() > deadline:
                raise FarandoleError(f"{name} does not end", where=str(self.home / "logs" / f"{name}.log"))
            time.sleep(LOOK_EVERY)

    def _ready(self, name: str) -> bool:
        try:
            url = f"http://{HOST}:{self.deployment.state.ports[name]}/health"
            with urllib.request.urlopen(url, timeout=HEALTH_WITHIN) as response:
                return bool(json.load(response)["ready"])
        except (OSError, ValueError, KeyError):
            return False

    def instances(self) -> list[Instance]:
        alive = self.supervisor_pid is not None
        workers = self._observed().get("workers", {}) if alive else {}
        found = []
        for name, wanted in sorted({**self._desired(), **workers}.items()):
            seen = workers.get(name) or {}
            current = seen.get("current")
            state = "" if alive else "nobody looks after it: the supervisor is not there"
            if seen.get("following"):
                state = f"version {seen['following']['version']} is to take over"
            elif alive and not current:
                state = f"it ended {seen.get('restarts', 0) + seen.get('failures', 0)} times, and is begun again"
            port = self.deployment.state.ports.get(name)
            found.append(
                Instance(
                    name=name,
                    service=wanted["service"],
                    version=current["version"] if current else "",
                    pid=current["pid"] if current else None,
                    uptime=time.time() - current["started"] if current else 0.0,
                    restarts=seen.get("restarts", 0),
                    ready=self._ready(name),
                    address=f"http://{HOST}:{port}" if port else "",
                    state=state,
                )
            )
        return found


def last_words(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:]
    except OSError:
        lines = []
    return "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(path.read_text())
        return read
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ConfigError(f"it cannot be read: {error}", where=str(path), mend="farandole deploy apply") from error
