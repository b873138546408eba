"""The proxy between workers and brokers: silence that loses nothing, ends, delays, and whom they concern."""

from __future__ import annotations

import os
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from farandole.chaos.brokers import Brokers
from farandole.chaos.network import Network
from farandole.chaos.quorum import coordinator_partition, java_hash
from farandole.errors import EmbeddedKafkaError
from farandole.kafka import embedded

PATIENCE = 10.0


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65_536):
            self.request.sendall(data)


@pytest.fixture
def network() -> Iterator[Network]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as first:
        first.daemon_threads = True
        threading.Thread(target=first.serve_forever, daemon=True).start()
        network = Network([first.server_address[1], first.server_address[1]])
        try:
            yield network
        finally:
            network.stop()
            first.shutdown()


def connect(network: Network, index: int = 0) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", network.ports[index]), PATIENCE)
    connection.settimeout(PATIENCE)
    return connection


def echoed(connection: socket.socket, data: bytes) -> bytes:
    connection.sendall(data)
    return received(connection, len(data))


def received(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return data


def refuses(network: Network) -> bool:
    """Whether a new connection ends by itself, one way or another."""
    try:
        with connect(network) as connection:
            return not connection.recv(1)
    except ConnectionError:
        return True


def silent(connection: socket.socket) -> bool:
    connection.settimeout(0.3)
    try:
        return not connection.recv(1)
    except TimeoutError:
        return True
    finally:
        connection.settimeout(PATIENCE)


def test_everything_passes_in_order(network: Network) -> None:
    data = os.urandom(3_000_000)
    with connect(network) as connection:
        sender = threading.Thread(target=connection.sendall, args=(data,))
        sender.start()
        assert received(connection, len(data)) == data
        sender.join()


def test_a_cut_is_silence_and_what_was_sent_meanwhile_arrives_when_it_is_healed(network: Network) -> None:
    with connect(network) as before:
        assert echoed(before, b"one") == b"one"
        number, concerned = network.cut("drop")
        assert concerned == 1
        with connect(network) as meanwhile:
            before.sendall(b"two")
            meanwhile.sendall(b"three")
            assert silent(before)
            assert silent(meanwhile)
            network.heal(number)
            assert received(before, 3) == b"two"
            assert received(meanwhile, 5) == b"three"


def test_a_reset_ends_connections_and_refuses_new_ones_until_it_is_healed(network: Network) -> None:
    with connect(network) as connection:
        assert echoed(connection, b"one") == b"one"
        number, _ = network.cut("reset")
        with pytest.raises(OSError, match="reset"):
            connection.recv(1)
        assert refuses(network)
        network.heal(number)
    with connect(network) as again:
        assert echoed(again, b"three") == b"three"


def test_a_delay_keeps_the_order_even_when_it_is_lifted(network: Network) -> None:
    with connect(network) as connection:
        assert echoed(connection, b"a") == b"a"
        number, _ = network.cut("delay", delay=0.3)
        began = time.monotonic()
        connection.sendall(b"b")
        time.sleep(0.05)
        network.heal(number)
        connection.sendall(b"c")
        assert received(connection, 2) == b"bc"
        assert time.monotonic() - began >= 0.3


def test_a_cut_concerns_one_process_and_one_broker(network: Network) -> None:
    number, concerned = network.cut("drop", pids=[1])
    with connect(network) as ours:
        assert concerned == 0
        assert echoed(ours, b"one") == b"one"
        network.heal(number)
        network.cut("drop", pids=[os.getpid()], brokers=[1])
        assert echoed(ours, b"two") == b"two"
        with connect(network, 1) as other:
            other.sendall(b"three")
            assert silent(other)


def test_no_proxy_outlives_whoever_started_it() -> None:
    script = (
        "import os; from farandole.chaos.network import Network as N; print(N([1]).ports[0], flush=True); os._exit(1)"
    )
    port = int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False).stdout)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return
        time.sleep(0.05)
    raise AssertionError("the proxy still listens")


def test_coordinators_are_found_as_kafka_finds_them() -> None:
    assert [java_hash(text) for text in ("", "a", "hello", "polygenelubricants")] == [0, 97, 99162322, -2147483648]
    assert coordinator_partition("hello", 50) == 99162322 % 50
    assert coordinator_partition("polygenelubricants", 8) == 0


def test_a_port_behind_the_proxy_is_kept_until_the_brokers_have_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that finds one of its ports twice in its settings does not start."""
    brokers = Brokers(tmp_path, lambda *_: None)
    try:
        monkeypatch.setattr(embedded, "FREE_PORTS", range(brokers._behind[0], brokers._behind[0] + 1))
        with ExitStack() as held, pytest.raises(EmbeddedKafkaError, match="no free port"):
            embedded.hold_free(held)
    finally:
        brokers.stop()
    with ExitStack() as held:
        embedded.hold_free(held)
