"""The network between workers and brokers, as the harness holds it: a proxy process (farandole.chaos.proxy).

Invariant: the proxy ends with the process that started it, however that ends.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Final

from farandole.errors import FarandoleError

MODES: Final = ("drop", "reset", "delay")


class Network:
    """brokers: ports behind the proxy; `ports`: the ones in front, in the same order"""

    def __init__(self, brokers: Sequence[int]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "farandole.chaos.proxy", *map(str, brokers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self.ports: list[int] = list(self._heard())

    def cut(
        self,
        mode: str,
        pids: Iterable[int] | None = None,
        brokers: Iterable[int] | None = None,
        delay: float = 0.0,
    ) -> tuple[int, int]:
        """(number of the cut, connections that it concerns). See farandole.chaos.proxy.Rule."""
        number = next(self._numbers)
        rule = {
            "mode": mode,
            "pids": None if pids is None else list(pids),
            "brokers": None if brokers is None else list(brokers),
            "delay": delay,
        }
        return number, int(self._ask({"id": number, "rule": rule})["links"])

    def heal(self, number: int) -> None:
        self._ask({"id": number})

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        with self._lock:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            return dict(self._heard())

    def _heard(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise FarandoleError("the proxy between workers and brokers ended", mend="run it again; see what it wrote")
        return json.loads(line)
