"""Where the demo takes place: a system of its own, or one that runs already.

Invariant: a system that runs already is only used, as any customer would. Nothing in it is started, stopped or killed;
the faults of its outside world are set if the environment names a sandbox, and lifted at the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import events
from farandole import config
from farandole.codec import Codec
from farandole.demo import runs
from farandole.demo.mischief import Kill, Restart
from farandole.errors import ConfigError, FarandoleError
from farandole.registry import SchemaRegistry
from farandole.sandbox import ENVIRONMENT, SYSTEMS
from farandole.system import Progress, System
from farandole.topics import Topics

ANSWER_WITHIN: Final = 5.0
SERVES_WITHIN: Final = 60.0
"""Seconds for a worker that was started again to be ready."""

NO_MESSAGE_AFTER: Final = 10.0
"""Seconds after which a worker that is ready, and has been sent nothing, is no longer waited for."""

LOOK_EVERY: Final = 0.02
ORDER_URL: Final = "http://127.0.0.1:6066"
COMPOSE_PORTS: Final = {"login": 6067, "transfers": 6068, "accounts": 6069}


class Stage(Protocol):
    """What the demo needs of a system.

    run:        name of the run
    directory:  where logs are, if they are ours
    order_urls: of the order service's workers
    systems:    of the outside world, whose faults can be set
    own:        nobody else uses it
    stops_kafka: Kafka was started for this run, and is stopped with it
    """

    run: str
    directory: Path | None
    namespace: str
    client_config: config.ClientConfig
    topics: Topics
    codec: Codec
    order_urls: Sequence[str]
    systems: Sequence[str]
    own: bool
    stops_kafka: bool

    def outside_url(self, system: str) -> str:
        """Where a system of the outside world tells what it has done; empty if it does not."""
        ...

    def set_faults(self, system: str, plan: Mapping[str, Any]) -> None: ...

    def check(self) -> None:
        """FarandoleError if a part of it has died by itself."""
        ...

    def calls_under_way(self) -> int:
        """Outside calls without an answer; 0 if that cannot be known."""
        ...

    def violations(self) -> dict[str, int]:
        """System of the outside world → how often it was asked for what may never happen, such as a second capture."""
        ...

    async def kill_and_restart(self, kill: Kill) -> Restart: ...


def load_codec(root: Path, namespace: str) -> Codec:
    """The ids of the registry that is set, else those of schemas/ids.json: as the workers have it."""
    url = config.schema_registry_url()
    return Codec.load(root / "schemas", events, SchemaRegistry(url, namespace) if url else None)


class OwnStage:
    """A system that was started for this run."""

    own = True

    def __init__(self, run: str, directory: Path, system: System) -> None:
        self.run, self.namespace, self.system = run, system.namespace, system
        self.directory: Path | None = directory
        self.client_config, self.topics = system.client_config, system.topics
        self.codec = load_codec(system.root, self.namespace)
        self.order_urls: Sequence[str] = [worker.port.url for worker in system.workers.get("order", ())]
        self.systems: Sequence[str] = tuple(SYSTEMS)
        self.stops_kafka = system.kafka_is_ours
        self._killing = asyncio.Lock()

    def outside_url(self, system: str) -> str:
        return self.system.sandbox.admin_urls[system]

    def set_faults(self, system: str, plan: Mapping[str, Any]) -> None:
        self.system.sandbox.faults(system, **plan)

    def check(self) -> None:
        self.system.check()

    def calls_under_way(self) -> int:
        workers = [worker for workers in self.system.workers.values() for worker in workers]
        return sum(health.calls for worker in workers if (health := worker.health()))

    def violations(self) -> dict[str, int]:
        return {system: _violations(url) for system, url in self.system.sandbox.admin_urls.items()}

    async def kill_and_restart(self, kill: Kill) -> Restart:
        """kill -9 the service's first worker, start it again, and see how long it takes to serve. One at a time."""
        async with self._killing:
            return await self._kill_and_restart(kill)

    async def _kill_and_restart(self, kill: Kill) -> Restart:
        killed = time.monotonic()
        await asyncio.to_thread(self.system.kill, kill.service)
        worker = await asyncio.to_thread(self.system.restart, kill.service)
        ready = serving = None
        while serving is None and (waited := time.monotonic() - worker.started) < SERVES_WITHIN:
            self.check()
            health = await asyncio.to_thread(worker.health)
            now = time.monotonic()
            if health is not None and health.ready:
                ready = ready or now - worker.started
                serving = now - worker.started if health.messages else None
                if serving is None and waited > ready + NO_MESSAGE_AFTER:
                    break
            await asyncio.sleep(LOOK_EVERY)
        if ready is None:
            raise FarandoleError(
                f"the {kill.service} worker was killed and did not come back within {SERVES_WITHIN:.0f} s; the end of "
                f"its log:\n{worker.last_words()}",
                where=str(worker.log),
            )
        moving = None if serving is None else serving + worker.started - killed
        return Restart(kill.service, kill.accepted, ready, serving, moving)


class RunningStage:
    """A system that somebody else runs: addresses come from the environment, as for any client.

    order_url: of the order service; empty: it is not asked for anything by HTTP
    """

    own = stops_kafka = False
    directory: Path | None = None

    def __init__(self, order_url: str) -> None:
        root = config.project_root()
        self.run = time.strftime("run-%Y%m%d-%H%M%S")
        self.namespace = config.namespace()
        self.client_config = config.kafka_client_config()
        config.check_broker(self.client_config)
        self.topics = Topics.load(root / "topics.yaml")
        self.codec = load_codec(root, self.namespace)
        self.order_urls: Sequence[str] = [order_url.rstrip("/")] if order_url else []
        if order_url:
            self._check_order_service()
        self._sandbox = {system: url for system in SYSTEMS if (url := _sandbox_url(system))}
        self.systems: Sequence[str] = tuple(self._sandbox)
        self._faulty: set[str] = set()

    def outside_url(self, system: str) -> str:
        return self._sandbox.get(system, "")

    def set_faults(self, system: str, plan: Mapping[str, Any]) -> None:
        self._faulty.add(system)
        _ask(self._sandbox[system] + "/faults", "PUT", json.dumps(plan).encode())

    def lift_faults(self) -> None:
        """Those that were set here: others may show something at the same time."""
        for system in sorted(self._faulty):
            with contextlib.suppress(OSError):
                self.set_faults(system, {})

    def check(self) -> None:
        """Whoever runs it looks after it."""

    def calls_under_way(self) -> int:
        return 0

    def violations(self) -> dict[str, int]:
        return {}  # others use it too, and may have done anything

    async def kill_and_restart(self, kill: Kill) -> Restart:
        raise AssertionError("workers of a system that is not ours are not killed")

    def _check_order_service(self) -> None:
        url = self.order_urls[0]
        try:
            _ask(f"{url}/health")
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"the order service does not answer: {error}",
                where=url,
                mend="start the system (docker compose up --wait), or name its address: --order-url, ORDER_URL",
            ) from error


@contextmanager
def own_stage(
    workers: Mapping[str, int],
    environment: Mapping[str, str],
    run: Path,
    progress: Progress,
    sandbox_options: Sequence[str] = (),
    services: Sequence[str] | None = None,
) -> Iterator[OwnStage]:
    """Start a system in the run's directory; stop it at the end. services: those that are started; None: all"""
    with System(
        run,
        namespace=runs.namespace_of(run),
        workers=workers,
        environment=environment,
        progress=progress,
        sandbox_options=sandbox_options,
        services=services,
    ) as system:
        if not config.setting("KAFKA_BOOTSTRAP_SERVERS"):
            runs.clear_old(system.client_config, run.parent.name)
        yield OwnStage(run.name, run, system)
        progress("stopping", 0, 0)


@contextmanager
def running_stage(order_url: str | None) -> Iterator[RunningStage]:
    """Use the system that the environment names. order_url: None: from there, too; empty: no order service is asked"""
    stage = RunningStage(os.environ.get("ORDER_URL") or ORDER_URL if order_url is None else order_url)
    try:
        yield stage
    finally:
        stage.lift_faults()


def url_of(service: str) -> str:
    """Of a service of a running system, as its variable says, such as LOGIN_URL. ConfigError if there is none."""
    name = f"{service.upper()}_URL"
    url = config.setting(name)
    if not url:
        mend = f"{name}=http://127.0.0.1:{COMPOSE_PORTS[service]}, as docker-compose.yml has it"
        raise ConfigError(f"no address of the {service} service", where=name, mend=mend)
    return url.rstrip("/")


def _sandbox_url(system: str) -> str:
    """Where a system of the outside world takes faults, if its variable is set and it is the sandbox."""
    url = config.setting(ENVIRONMENT[system]).rstrip("/")
    if not url:
        return ""
    try:
        faults = json.loads(_ask(f"{url}/faults"))
        health = json.loads(_ask(f"{url}/health"))
    except (OSError, ValueError):
        return ""
    return url if isinstance(faults, dict) and health.get("system") == system else ""


def _violations(url: str) -> int:
    return int(json.loads(_ask(f"{url}/health"))["violations"])


def _ask(url: str, method: str = "GET", body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, method=method)
    with urllib.request.urlopen(request, timeout=ANSWER_WITHIN) as response:
        return bytes(response.read())
