"""What every test may ask for is in farandole.pytest_plugin: `kafka`, `kafka_cluster`, `namespace`."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient

from farandole.pytest_plugin import RUNNING

# A shell starts what runs in its background with Ctrl-C ignored, and children inherit that: tests that send it to a
# command would find it deaf.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def topics_go_with_their_module(pytestconfig: pytest.Config) -> Iterator[None]:
    """A session's broker has little memory, and each module some hundred topics: without this it does nothing but
    collect garbage in the end.
    """
    yield
    if (kafka := pytestconfig.stash.get(RUNNING, None)) is not None:
        admin = AdminClient({**kafka.config, "log_level": 0})
        left = [name for name in admin.list_topics(timeout=30).topics if not name.startswith("__")]
        for deleted in admin.delete_topics(left, operation_timeout=30).values() if left else ():
            deleted.result()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also tests that cost minutes (farandole chaos)")
