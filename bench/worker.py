"""Farandole's side: what `farandole worker order inventory payment shipping notification` runs, calls answered at once.

    python -m bench.worker [--learn FILE | --stages FILE | --profile DIRECTORY] [SERVICE...]

Only the outside world is replaced: over HTTP, it would be aiohttp that is measured. The answers go through the
`<service>.calls` topics as ever.
"""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.children import end_with_parent, unheard

SERVICES = ("order", "inventory", "payment", "shipping", "notification")


class AtOnce:
    """Performs outside calls by accepting them, in the engine's own thread."""

    def __init__(self, urls: Mapping[str, str], answered: Callable[[Any], None]) -> None:
        from farandole.ports import Answer

        self._answered, self._answer = answered, Answer

    def start(self, partition: int, key: str, call: Any) -> None:
        self._answered(self._answer(partition, key, "accepted", key, ""))

    def stop(self, partition: int, key: str) -> None: ...

    def forget(self, partition: int) -> None: ...

    def under_way(self) -> int:
        return 0

    def stuck(self) -> list[tuple[str, float]]:
        return []

    async def close(self) -> None: ...


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--learn", type=Path)
    parser.add_argument("--stages", type=Path)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("services", nargs="*", default=SERVICES)
    options = parser.parse_args()
    asked: Callable[[str], None] = unheard
    prepare(options.services)
    if options.learn:
        from bench.learning import record_transactions

        record_transactions(options.learn)
    if options.stages:
        from bench.profiling import time_stages

        asked = time_stages(options.stages).snapshot
    if options.profile:
        from bench.profiling import profile_engines

        profile_engines(options.profile)
    end_with_parent(asked)
    run(options.services)


def prepare(services: list[str]) -> None:
    """The outside world: every system has an address, and nobody goes there."""
    from farandole.runtime import EngineService

    EngineService.make_performer = AtOnce
    for service in services:
        for variable in importlib.import_module(f"agents.{service}").app.outsides.values():
            os.environ[variable] = "http://127.0.0.1:9"


def run(services: list[str]) -> None:
    from farandole.cli import worker

    worker.command(list(services), web_port=None, web_host="127.0.0.1", without_web=True, loglevel="warning")


if __name__ == "__main__":
    main()
