"""The target `compose`: docker-compose.yml, one service after the other, each version an image with its own tag.

A tag is never built twice with other content, as a version is a hash of what is in it; so going back is starting the
former tag. Compose stops a container before it starts the new one: with one worker of a service nobody does its work
for some seconds, with several the others do.

Invariant: only containers of agents are replaced. Kafka, the registry and the outside world are started if they do not
run, and never recreated.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any, Final

from farandole import config
from farandole.deploy import keys
from farandole.deploy.planning import Plan
from farandole.deploy.state import Deployment
from farandole.deploy.target import Instance, NotWell
from farandole.errors import ConfigError, FarandoleError
from farandole.system import LAST_LINES, Progress
from farandole.topics import Problem

IMAGE: Final = "farandole:local"
"""docker-compose.yml's own default."""

SETUP: Final = "setup"
"""The container that applies topics and registers schemas, and ends."""

LOOK_EVERY: Final = 0.5
ANSWER_WITHIN: Final = 60.0
BUILT_WITHIN: Final = 1_800.0
BROUGHT_UP_WITHIN: Final = 600.0


class ComposeTarget:
    """root: the project's directory; ready_within: seconds for a service's containers to be healthy."""

    name = "compose"

    def __init__(self, deployment: Deployment, root: Path, ready_within: float) -> None:
        self.deployment, self.root, self.ready_within = deployment, root, ready_within

    def check(self) -> None:
        if not shutil.which("docker"):
            raise ConfigError("docker is not installed", where="--target compose", mend="install it, or --target local")
        for arguments, what in (
            (("compose", "version"), "Docker Compose v2 is not installed"),
            (("info",), "no Docker engine answers"),
        ):
            done = _run(["docker", *arguments], self.root, dict(os.environ), ANSWER_WITHIN)
            if done.returncode:
                said = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
                raise ConfigError(f"{what}: {said}", where="--target compose", mend="start it, or --target local")

    def image(self, version: str) -> str:
        """The name that is set, with the version for its tag."""
        name = config.setting("FARANDOLE_IMAGE", IMAGE)
        repository, colon, tag = name.rpartition(":")
        return f"{name if '/' in tag or not colon else repository}:{version}"

    def refusals(self, plan: Plan) -> list[Problem]:
        return keys.compose_problems(plan)

    def prepare(self, plan: Plan, progress: Progress) -> None:
        version = plan.version
        if plan.verb == "rollback":
            if self._docker("image", "inspect", self.image(version), version=version, check=False).returncode:
                raise ConfigError(
                    f"the image of version {version} is gone",
                    where=self.image(version),
                    mend="check out its commit, and: farandole deploy apply --target compose",
                )
            return
        progress(f"building {self.image(version)}", 0, 0)
        self._docker("compose", "build", SETUP, version=version, within=BUILT_WITHIN)
        services = self._docker("compose", "config", "--services", version=version).stdout.split()
        around = [each for each in services if each not in (*plan.manifest.services, SETUP)]
        if around:
            progress(f"bringing up {', '.join(around)}", 0, 0)
            self._docker(
                "compose", "up", "-d", "--no-recreate", "--wait", *around, version=version, within=BROUGHT_UP_WITHIN
            )
        progress("applying topics and registering schemas", 0, 0)
        self._docker("compose", "run", "--rm", "--no-deps", SETUP, version=version, within=BROUGHT_UP_WITHIN)
        self.deployment.learn(plan.manifest, self.deployment.versions.path(version) / "schemas")

    def roll(self, service: str, version: str, workers: int, progress: Progress) -> None:
        scale = f"{service}={workers}"
        arguments = "compose", "up", "-d", "--no-deps", "--scale", scale, service
        done = self._docker(*arguments, version=version, check=False, within=BROUGHT_UP_WITHIN)
        if done.returncode:
            raise NotWell(f"{service} does not start:\n{_last(done.stderr)}", where=f"docker {' '.join(arguments)}")
        image, deadline = self.image(version), time.monotonic() + self.ready_within
        while True:
            containers = self._containers(service)
            new = [each for each in containers if each.get("Image") == image]
            if len(new) == len(containers) == workers and all(_healthy(each) for each in new):
                return
            ended = [each for each in new if each.get("State") in ("exited", "dead", "restarting")]
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else f"is not healthy after {self.ready_within:.0f} s"
                log = self._docker("compose", "logs", "--no-color", "--tail", str(LAST_LINES), service, check=False)
                raise NotWell(f"{service} of version {version} {what}; its log:\n{_last(log.stdout)}", where=image)
            progress(f"waiting: {service}, {sum(map(_healthy, new))} of {workers} healthy", 0, 0)
            time.sleep(LOOK_EVERY)

    def remove(self, service: str) -> None:
        self._docker("compose", "rm", "--stop", "--force", service, within=BROUGHT_UP_WITHIN)

    def instances(self) -> list[Instance]:
        self.check()
        return [
            Instance(
                name=str(each.get("Name", "")),
                service=str(each.get("Service", "")),
                version=str(each.get("Image", "")).rpartition(":")[2],
                pid=None,
                uptime=0.0,
                restarts=0,
                ready=_healthy(each),
                state=str(each.get("Status", "")),
            )
            for each in self._containers(*self.deployment.state.workers)
        ]

    # ---- docker

    def _containers(self, *services: str) -> list[dict[str, Any]]:
        said = self._docker("compose", "ps", "--all", "--format", "json", *services).stdout.strip()
        if said.startswith("["):  # one array in older versions, an object a line in newer ones
            array: list[dict[str, Any]] = json.loads(said)
            return array
        return [json.loads(line) for line in said.splitlines() if line.strip()]

    def _docker(
        self, *arguments: str, version: str = "", check: bool = True, within: float = ANSWER_WITHIN
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **({"FARANDOLE_IMAGE": self.image(version)} if version else {})}
        done = _run(["docker", *arguments], self.root, environment, within)
        if check and done.returncode:
            raise FarandoleError(
                f"docker ends with {done.returncode}:\n{_last(done.stderr)}", where=f"docker {' '.join(arguments)}"
            )
        return done


def _run(
    command: list[str], root: Path, environment: dict[str, str], within: float
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise FarandoleError(
            f"docker does not come back within {within:.0f} s", where=" ".join(command), mend="run it again"
        ) from None


def _healthy(container: dict[str, Any]) -> bool:
    return container.get("State") == "running" and container.get("Health") == "healthy"


def _last(text: str) -> str:
    lines = text.strip().splitlines()[-LAST_LINES:]
    return "\n".join(f"    {line}" for line in lines) or "    (it wrote nothing)"
