"""Bytes that are no event, on a topic that services hear."""

from __future__ import annotations

from random import Random

from farandole.chaos import Fault, Stage


class Undecodable(Fault):
    name = "undecodable"

    def inject(self, stage: Stage, rng: Random) -> None:
        topic = rng.choice(stage.topics())
        values = (None, b"", b"{}", b"\0", rng.randbytes(50), b"\0\xff\xff\xff\xff" + rng.randbytes(20))
        stage.poison(topic, rng.choice(values), f"chaos-{rng.getrandbits(40)}".encode())
