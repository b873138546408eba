"""The same Kafka from a Docker image, for tests where a Docker engine answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from farandole.config import check_broker
from farandole.errors import BrokerError, EmbeddedKafkaError
from farandole.kafka.broker import Address, settings
from farandole.kafka.embedded import READY_SECONDS, hold_free

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

CONTROLLER_PORT = 19_093


def docker_problem() -> str:
    """Why no Docker engine answers; empty if one does."""
    try:
        import docker

        docker.from_env(timeout=5).ping()
    except ImportError as error:
        return f"{error.name} is not installed"
    except Exception as error:  # docker's, requests' and the system's own
        return str(error).splitlines()[0]
    return ""


@contextmanager
def kafka_in_a_container(image: str) -> Iterator[str]:
    """A broker with the embedded one's settings; its address."""
    with ExitStack() as held:
        port = hold_free(held)
    with _started(image, port) as container:
        address = f"{container.get_container_host_ip()}:{port}"
        _wait_ready(address, image, container)
        yield address


@contextmanager
def _started(image: str, port: int) -> Iterator[DockerContainer]:
    from docker.errors import DockerException
    from testcontainers.core.container import DockerContainer

    with ExitStack() as held:
        try:
            # One port number inside and outside: the broker finds itself at the address that it gives to clients.
            container = DockerContainer(image, env=_environment("127.0.0.1", port)).with_bind_ports(port, port)
            held.enter_context(container)
        except DockerException as error:
            raise EmbeddedKafkaError(
                f"the container could not be started: {str(error).splitlines()[0]}",
                where=image,
                mend="pull the image, or name one that is there in FARANDOLE_KAFKA_IMAGE; without testcontainers/ryuk, "
                "which clears up after a killed session: TESTCONTAINERS_RYUK_DISABLED=true; or use --kafka=embedded",
            ) from error
        yield container


def _environment(host: str, port: int) -> dict[str, str]:
    """The settings as the image apache/kafka takes them: KAFKA_ and the property's name, dots as underscores."""
    me = Address(1, port, CONTROLLER_PORT)
    listeners = {
        "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://127.0.0.1:{CONTROLLER_PORT}",
        "advertised.listeners": f"PLAINTEXT://{host}:{port}",
    }
    properties = settings(me, [me], Path("/tmp/kraft-combined-logs")) | listeners
    return {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in properties.items()}


def _wait_ready(address: str, image: str, container: DockerContainer) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            check_broker({"bootstrap.servers": address}, timeout=2)
            return
        except BrokerError as error:
            if time.monotonic() > deadline:
                said = b"".join(container.get_logs()).decode(errors="replace").strip()
                raise EmbeddedKafkaError(
                    f"the container of {image} does not answer after {READY_SECONDS:.0f} s: {error.what}",
                    where=address,
                    mend=f"it said at last: {said[-500:] or '(nothing)'}\n         or use --kafka=embedded",
                ) from None
