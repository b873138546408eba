"""The Docker engine, as far as tests need it, and the system of docker-compose.yml in it.

Invariant: what Docker does not have is a reason in one sentence, and no failure.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

BRING_UP_SECONDS = 600
"""A bound, and no promise: two cores that test other things meanwhile have taken 160 s."""

HEALTH = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:6066/health', timeout=3).read().decode())"


def docker(*arguments: str, timeout: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def base_images() -> dict[str, str]:
    """The images of others, by the variable that names each, as Compose sees them (`.env` included)."""
    services = json.loads(docker("compose", "config", "--format", "json").stdout)["services"]
    return {
        "PYTHON_IMAGE": services["setup"]["build"]["args"]["PYTHON_IMAGE"],
        "KAFKA_IMAGE": services["kafka"]["image"],
        "REGISTRY_IMAGE": services["registry"]["image"],
    }


def is_here(image: str) -> bool:
    return docker("image", "inspect", image).returncode == 0


def no_compose() -> str | None:
    """Why docker-compose.yml cannot be read here, or None."""
    if not shutil.which("docker") or docker("compose", "version").returncode:
        return "docker compose is not installed"
    return None


def no_engine() -> str | None:
    """Why the system cannot be brought up here without fetching anything, or None."""
    if reason := no_compose():
        return reason
    if docker("info").returncode:
        return "no Docker engine answers"
    for variable, image in base_images().items():
        if not is_here(image):
            return f"the engine does not have {image} (make compose-test, docker pull, or {variable})"
    return None


class Running:
    """The system in containers, under a name and on ports of its own."""

    def __init__(self) -> None:
        self.name = f"farandole-test-{secrets.token_hex(3)}"
        names = sorted(set(re.findall(r"\$\{(\w+_PORT)\b", (ROOT / "docker-compose.yml").read_text())))
        self.environment = dict(zip(names, map(str, _free_ports(len(names))), strict=True))
        self.environment |= {"COMPOSE_PROJECT_NAME": self.name, "FARANDOLE_IMAGE": f"{self.name}:local"}

    def compose(self, *arguments: str, timeout: float = BRING_UP_SECONDS) -> str:
        done = docker("compose", *arguments, timeout=timeout, **self.environment)
        assert done.returncode == 0, f"docker compose {' '.join(arguments)}: {done.stderr[-3000:]}"
        return done.stdout

    def take_down(self) -> None:
        """Containers, volumes, network and image; whatever there is of them."""
        docker("compose", "down", "--volumes", "--timeout", "45", timeout=180, **self.environment)
        docker("image", "rm", f"{self.name}:local")

    def containers(self, service: str) -> list[str]:
        return self.compose("ps", "--all", "--quiet", service).split()

    def inside(self, service: str, *command: str, timeout: float = 60) -> str:
        return self.compose("exec", "-T", service, *command, timeout=timeout)

    def scale(self, service: str, number: int) -> None:
        self.compose("up", "--detach", "--wait", "--no-recreate", "--scale", f"{service}={number}", service)


def state(container: str) -> dict[str, Any]:
    """All that the engine knows of a container."""
    return dict(json.loads(docker("inspect", container).stdout)[0])


def crash(container: str) -> None:
    """Kill every process in it, as a crash would: `docker kill` says that somebody wants it to be down."""
    docker("exec", container, "sh", "-c", "kill -9 -1")


def partitions(container: str) -> list[int]:
    """What the worker in this container owns; none while it is not ready (503) or does not answer."""
    done = docker("exec", container, "python3", "-c", HEALTH)
    return list(json.loads(done.stdout)["partitions"]) if done.returncode == 0 else []


def eventually(promise: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not promise():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.5)


def _free_ports(number: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(number)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
