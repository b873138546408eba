"""The errors that librdkafka gives, as its clients see them. Codes and flags were observed on a real cluster."""

from __future__ import annotations

from confluent_kafka import KafkaError, KafkaException

END_OF_PARTITION = KafkaError(KafkaError._PARTITION_EOF)


def failure(
    code: int, reason: str, *, fatal: bool = False, retriable: bool = False, abort: bool = False
) -> KafkaException:
    """An exception around an error. abort: the transaction must be aborted."""
    return KafkaException(KafkaError(code, reason, fatal, retriable, abort))


def timed_out(what: str, *, retriable: bool = False) -> KafkaException:
    return failure(KafkaError._TIMED_OUT, f"{what}: timed out", retriable=retriable)


def fenced() -> KafkaException:
    """Every call of a producer whose transactional id another one has initialised, or whose transaction timed out."""
    return failure(KafkaError._FENCED, "this instance has been fenced by a newer instance", fatal=True)
