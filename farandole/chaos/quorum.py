"""Questions about a cluster that the client library does not ask: who coordinates what, who is the controller.

Sources: KIP-595 (DescribeQuorum); Kafka's `Utils.abs(id.hashCode) % partitions` for coordinators.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

HOST: Final = "127.0.0.1"
ANSWER_WITHIN: Final = 5.0
DESCRIBE_QUORUM: Final = 55
METADATA_TOPIC: Final = b"__cluster_metadata"


def java_hash(text: str) -> int:
    """String.hashCode."""
    value = 0
    for character in text:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def coordinator_partition(id: str, partitions: int) -> int:
    """Partition of `__consumer_offsets` or `__transaction_state` whose leader coordinates this group or id."""
    return (java_hash(id) & 0x7FFFFFFF) % partitions


def active_controller(port: int) -> int:
    """Node id of the active controller, by the broker on `port`. OSError: it does not say.

    Metadata does not tell: there, any broker may stand for the controller (KRaft).
    """
    topic = bytes((len(METADATA_TOPIC) + 1,)) + METADATA_TOPIC
    body = b"\2" + topic + b"\2" + struct.pack(">i", 0) + b"\0" + b"\0" + b"\0"
    client = b"chaos"
    header = struct.pack(">hhih", DESCRIBE_QUORUM, 0, 1, len(client)) + client + b"\0"
    with socket.create_connection((HOST, port), ANSWER_WITHIN) as connection:
        connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
        size = struct.unpack(">i", _read(connection, 4))[0]
        answer = _read(connection, size)
    # correlation id, tags; error, topics (a length plus 1 each), name, partitions, index, error, leader
    at = 4 + 1
    error, at = struct.unpack_from(">h", answer, at)[0], at + 2
    if error:
        raise OSError(f"DescribeQuorum: error {error}")
    at += 1 + len(topic) + 1 + 4 + 2
    leader = int(struct.unpack_from(">i", answer, at)[0])
    if leader < 0:
        raise OSError("no controller is active")
    return leader


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise OSError("the broker closed the connection")
        data += more
    return data
