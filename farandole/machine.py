"""What a measurement was made on: figures without it say little."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil
from confluent_kafka import libversion

from farandole.kafka import jars

CHANGED: Final = ", with uncommitted changes"


def machine() -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "load_average": [round(each, 2) for each in os.getloadavg()],
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "librdkafka": libversion()[0],
        **{name: version(name) for name in ("confluent-kafka", "faust-streaming", "msgspec")},
        "embedded kafka": jars.version(),
    }


def commit(root: Path) -> str | None:
    """The project's commit, and whether files are not as they are there (CHANGED); None if that cannot be known."""
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return head + (CHANGED if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
