"""What Kafka's errors mean to the engine."""

from __future__ import annotations

import logging
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from farandole.errors import BrokerError

log = logging.getLogger(__name__)

REFUSALS = frozenset((KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_RECORD, KafkaError._QUEUE_FULL))
"""Errors of a record, or of a batch, that will never be taken, however often it is sent."""

UNPACKABLE = frozenset((KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG))
"""Errors of a record that the client will never unpack: damaged, or grown beyond its memory when decompressed."""

FENCED = frozenset((KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED))
"""Errors that say: another producer has this transactional id now."""

HOPELESS = frozenset((KafkaError._FATAL, KafkaError.TOPIC_AUTHORIZATION_FAILED))
"""Errors after which a consumer never returns anything again. `_FATAL` does not call itself fatal."""


def raise_if_hopeless(group: str, message: Any) -> None:
    """What a consumer returns in the place of a message: raises what no waiting mends, and logs the rest."""
    error = message.error()
    code = error.code()
    if code == KafkaError._AUTO_OFFSET_RESET:
        raise BrokerError(
            f"{group}: the committed position lies outside the log: {error.str()}",
            where=f"{message.topic()}[{message.partition()}]",
            mend="records were deleted before they were handled (retention): decide what to do about them, then "
            "set the group's offset; skipping them in silence is not done here",
        )
    if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
        raise BrokerError(
            f"a topic is missing: {error.str()}", where=message.topic() or "", mend="farandole topics apply"
        )
    if error.fatal() or code in HOPELESS:
        raise KafkaException(error)
    if code not in UNPACKABLE:  # which is stepped over
        log.warning("%s: %s", group, error)


class Inconsistent(Exception):
    """What Kafka says and what the engine knows do not fit: the engine starts anew from what Kafka says."""
