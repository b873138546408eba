"""A record that begins as an event of a known schema, and is none."""

from __future__ import annotations

import json
from random import Random

from farandole import config
from farandole.chaos import Fault, Stage


class SchemaViolation(Fault):
    name = "schema-violation"

    def inject(self, stage: Stage, rng: Random) -> None:
        topic = rng.choice(stage.topics())
        ids = json.loads((config.project_root() / "schemas" / "ids.json").read_text())
        known = b"\0" + int(rng.choice(sorted(ids))).to_bytes(4, "big")
        body = rng.choice((b"", rng.randbytes(2), b"\xff" * 30, b"\x02a\x02b\x02c"))
        stage.poison(topic, known + body, f"chaos-{rng.getrandbits(40)}".encode())
