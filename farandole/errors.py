"""Every error that a user of farandole can meet, in one tree.

    FarandoleError            what, where and how to mend it
    ├── ConfigError           a flag, an environment variable, a file of the project
    ├── SchemaError           an .avsc file, ids.json, an incompatible version
    ├── TopicsError           topics.yaml, or a cluster that does not match it
    ├── CodecError            bytes that are not the record they claim to be
    ├── FlowError             a flow that binds what cannot be bound
    ├── BrokerError           no broker, a broker that refuses, positions lost
    ├── EmbeddedKafkaError    the embedded Kafka could not be fetched, started or stopped
    ├── AuditError            the audit could not be carried out (not: it found something)
    └── ReplayError           history that cannot be replayed: it is gone, cut, or moves

The command line prints the three parts and exits with `exit_code`; no traceback reaches a user who made a mistake.
"""

from __future__ import annotations


class FarandoleError(Exception):
    """Something that its reader can mend.

    what:  the fact ("the port is taken")
    where: the file and line, the option, the address ("127.0.0.1:9092"), or empty
    mend:  what to do now ("stop the process that uses it, or pass --port 0"), or empty
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", mend: str = "") -> None:
        self.what, self.where, self.mend = what, where, mend
        super().__init__(what)

    def __str__(self) -> str:
        return "\n".join(
            filter(None, [self.what, self.where and f"  where: {self.where}", self.mend and f"  mend:  {self.mend}"])
        )


class ConfigError(FarandoleError):
    exit_code = 2


class SchemaError(FarandoleError):
    pass


class TopicsError(FarandoleError):
    pass


class CodecError(FarandoleError):
    pass


class FlowError(FarandoleError):
    pass


class BrokerError(FarandoleError):
    exit_code = 3


class EmbeddedKafkaError(FarandoleError):
    exit_code = 3


class AuditError(FarandoleError):
    exit_code = 4


class ReplayError(FarandoleError):
    exit_code = 4
