"""A whole system on a real Kafka, to be poisoned: one for all tests of this folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from farandole.system import System

NAMESPACE = f"poison-{secrets.token_hex(3)}."


@pytest.fixture(scope="module", autouse=True)
def topics_go_with_their_module() -> None:
    """Not here: the system is used by all modules of the package."""


@pytest.fixture(scope="package")
def system(kafka: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """Two workers of order, so that requests are forwarded; one of every other service."""
    directory = tmp_path_factory.mktemp("poisoned")
    with System(
        directory,
        namespace=NAMESPACE,
        workers={"order": 2},
        environment={"FARANDOLE_HOME": str(directory / "home")},
        client_config=kafka.config,
    ) as running:
        yield running
