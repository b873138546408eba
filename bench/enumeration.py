"""Whether the time of an answer tells who is in the user directory: `python -m bench.enumeration`.

A known and an unknown name, each asked for once, one request at a time, the order within each pair at random; so
whatever else the machine does meets both alike. No part of `make bench`: it compares two answers, not two systems.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from statistics import median, quantiles
from typing import Annotated, Any, Final

import aiohttp
import typer

from bench.errors import BenchError
from bench.stage import Stage, stage, tell
from farandole.demo.login import SERVICES, register
from farandole.demo.stage import OwnStage
from farandole.demo.visitors import Visitor, Ways
from farandole.system import System

WARM_UP: Final = 50
"""Pairs that are not counted."""


async def ask(url: str, names: list[tuple[str, str]], seed: int) -> list[dict[str, float]]:
    """Seconds of each pair's two answers, by "known" and "unknown". names: known, unknown"""
    draw, pairs = random.Random(seed), []
    async with aiohttp.ClientSession() as session:
        for known, unknown in names:
            took = {}
            for kind, user in draw.sample([("known", known), ("unknown", unknown)], 2):
                began = time.perf_counter()
                async with session.post(f"{url}/login", json={"user": user}) as answer:
                    await answer.read()
                took[kind] = time.perf_counter() - began
                if answer.status != 201:
                    raise BenchError(f"POST /login was answered with {answer.status}", mend="try again")
            pairs.append(took)
    return pairs


def measure(where: Stage, count: int, seed: int) -> dict[str, Any]:
    """Medians in milliseconds, and the quartiles of the differences within pairs."""
    names = [(f"known-{n}", f"strange-{n}") for n in range(count + WARM_UP)]
    directory = where.home / "enumeration"
    with (
        where.namespace("enumeration") as namespace,
        System(directory, namespace=namespace, services=SERVICES, client_config=where.kafka) as system,
    ):
        guests = [Visitor(known, Ways.PLAIN) for known, _ in names]
        asyncio.run(register(OwnStage("enumeration", directory, system), guests))
        tell(f"{count} pairs of a known and an unknown name")
        pairs = asyncio.run(ask(system.url("login"), names, seed))[WARM_UP:]
    differences = [(each["known"] - each["unknown"]) * 1000 for each in pairs]
    return {
        "pairs": count,
        "known_ms": round(median(each["known"] for each in pairs) * 1000, 2),
        "unknown_ms": round(median(each["unknown"] for each in pairs) * 1000, 2),
        "difference_ms": [round(each, 2) for each in quantiles(differences, n=4)],
        "known_was_slower": sum(each > 0 for each in differences),
    }


def command(
    pairs: Annotated[int, typer.Option(min=2, max=100_000, help="Pairs of names that are asked for.")] = 1_000,
    seed: Annotated[int, typer.Option(help="Which name of a pair comes first.")] = 0,
) -> None:
    """Ask the login service for known and unknown names in turn, and print how long the answers took, as JSON.

    difference_ms: quartiles of known minus unknown; known_was_slower: in so many pairs, half of them if by chance.

    Example: python -m bench.enumeration --pairs 1000
    """
    with stage() as where:
        print(json.dumps(measure(where, pairs, seed)))


if __name__ == "__main__":
    typer.run(command)
