"""What librdkafka says once and never again: that a consumer was fenced for good."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from farandole.engine import Engine


def test_a_consumer_that_was_fenced_for_good_together_with_its_partitions_ends_the_engines_cycle() -> None:
    fatal = KafkaError(KafkaError._FATAL, "static consumer fenced by other consumer with same group.instance.id")
    message = SimpleNamespace(topic=lambda: None, partition=lambda: -1, offset=lambda: -1001, error=lambda: fatal)
    anything: Any = SimpleNamespace(
        group="g",
        partitions=set(),
        rollback=lambda: None,
        consumer=SimpleNamespace(consume=lambda *arguments: [message], assignment=list),
    )
    engine = Engine(anything, anything, anything, anything, now=lambda: 0)
    engine.assigned = True
    engine._lost(None, [])
    assert not engine.assigned
    with pytest.raises(KafkaException, match="fenced"):
        engine._consume()
