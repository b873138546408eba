"""The three brokers: killing one, bringing it back, and knowing when the cluster is whole again.

Invariant: never more than one broker is away, and none is taken away before all replicas are in sync: with three
replicas and min.isr 2, one is what the cluster bears without refusing to write.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from farandole.chaos.network import Network
from farandole.chaos.quorum import active_controller, coordinator_partition
from farandole.config import ClientConfig
from farandole.errors import FarandoleError
from farandole.kafka import EmbeddedKafka
from farandole.kafka.broker import HOST, Address
from farandole.kafka.embedded import hold_free
from farandole.system import Progress

SIZE: Final = 3
ASKED_WITHIN: Final = 5.0
"""Seconds of one question about metadata."""

ASKED_TIMES: Final = 6

GROUPS, TRANSACTIONS = "__consumer_offsets", "__transaction_state"


class Brokers:
    """A cluster of three, each with one listener for the harness and one, behind a proxy, for workers."""

    def __init__(self, home: Path, progress: Progress) -> None:
        self._held = ExitStack()
        """Keeps the ports behind the proxy until the brokers have chosen their other ones."""
        self._behind = [hold_free(self._held) for _ in range(SIZE)]
        self._lock = threading.Lock()
        self.network = Network(self._behind)
        self.away: set[int] = set()
        """Nodes that a fault has taken away."""
        self._kafka = EmbeddedKafka(home, SIZE, port=0, guarded=True, progress=progress, extra=self._listeners)

    def _listeners(self, me: Address) -> Mapping[str, str]:
        self._held.close()
        index = me.node - 1
        inside, outside = f"{HOST}:{me.port}", f"{HOST}:{self.network.ports[index]}"
        return {
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,WORKERS:PLAINTEXT",
            "listeners": f"PLAINTEXT://{inside},CONTROLLER://{HOST}:{me.controller_port},"
            f"WORKERS://{HOST}:{self._behind[index]}",
            "advertised.listeners": f"PLAINTEXT://{inside},WORKERS://{outside}",
        }

    def start(self) -> None:
        self._kafka.start()
        self._admin = AdminClient({**self.client_config, "log_level": 0})

    def stop(self) -> None:
        self._held.close()
        for index in range(len(self._kafka.brokers)):
            self._kafka.kill(index, signal.SIGCONT)
            self._kafka.kill(index)  # nobody reads its data again, so it need not be put in order
        self.network.stop()

    @property
    def client_config(self) -> ClientConfig:
        """For the harness: past the proxy."""
        return {"bootstrap.servers": self._kafka.bootstrap_servers, "log.connection.close": False}

    @property
    def workers_servers(self) -> str:
        """Where workers find the brokers: through the proxy."""
        return ",".join(f"{HOST}:{port}" for port in self.network.ports)

    # ---- who does what

    def topics(self) -> Any:
        """Metadata of all topics, asked for until somebody answers; FarandoleError if nobody does for long."""
        tried = 0
        while True:
            try:
                return self._admin.list_topics(timeout=ASKED_WITHIN).topics
            except KafkaException as error:
                tried += 1
                if tried == ASKED_TIMES:
                    raise FarandoleError(f"the cluster does not say who leads: {error.args[0].str()}") from error

    def leader(self, topic: str, partition: int) -> int:
        """Node id of the leader of a partition; topic with its namespace."""
        return int(self.topics()[topic].partitions[partition].leader)

    def group_coordinator(self, group: str) -> int:
        return self._coordinator(GROUPS, group)

    def transaction_coordinator(self, transactional_id: str) -> int:
        return self._coordinator(TRANSACTIONS, transactional_id)

    def _coordinator(self, topic: str, id: str) -> int:
        partitions = self.topics()[topic].partitions
        return int(partitions[coordinator_partition(id, len(partitions))].leader)

    def controller(self) -> int:
        """Node id of the active controller."""
        for broker in self._kafka.brokers:
            try:
                return active_controller(broker.me.port)
            except OSError:
                continue
        raise FarandoleError("no broker says who the controller is")

    # ---- state

    def unled(self) -> int:
        """Partitions without a leader, or led by a broker that does not run."""
        running = {broker.me.node for broker in self._kafka.brokers if broker.pid} - self.away
        return sum(
            partition.leader not in running
            for topic in self.topics().values()
            for partition in topic.partitions.values()
        )

    def in_sync(self) -> bool:
        """Whether every broker runs and every replica is in sync."""
        if not all(broker.pid for broker in self._kafka.brokers):
            return False
        return all(
            partition.leader > 0 and len(partition.isrs) == len(partition.replicas)
            for topic in self.topics().values()
            for partition in topic.partitions.values()
        )

    def dead(self) -> list[int]:
        """Nodes whose process is gone."""
        return [broker.me.node for broker in self._kafka.brokers if not broker.pid]

    # ---- trouble

    def signal(self, node: int, number: signal.Signals) -> None:
        """To one broker; after SIGKILL it is gone when this returns, after SIGTERM as a rule."""
        with self._lock:
            self._kafka.kill(node - 1, number)

    def restart(self, node: int) -> None:
        """Start a broker that is gone, and return when the cluster answers as a whole."""
        with self._lock:
            if self._kafka.brokers[node - 1].pid:
                self._kafka.kill(node - 1)
            self._kafka.start()
