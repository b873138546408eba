"""A snapshot: a service's tables at a position of its journal, in one file, so that less has to be replayed.

One line of JSON says what it is; a line for each row follows, and a last one that says how many they were. Rows are as
in the changelog, schema id and all.

Invariant: a file that was not written to its end, or that is of another service, is refused.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from farandole.errors import ReplayError

FORMAT: Final = "farandole-snapshot/1"


@dataclass(frozen=True)
class Snapshot:
    """position: partition → the offset after the last journal line that is in it

    rows:  (table, partition) → key → encoded row
    times: of each row's last change, milliseconds since 1970; 0 where that is not known
    """

    service: str
    position: Mapping[int, int]
    rows: Mapping[tuple[str, int], Mapping[bytes, bytes]]
    times: Mapping[tuple[str, int], Mapping[bytes, int]]

    def rows_of(self, partition: int) -> Iterator[tuple[str, str, bytes, int]]:
        for (table, p), rows in self.rows.items():
            if p == partition:
                times = self.times.get((table, p), {})
                for key, value in rows.items():
                    yield table, key.decode(), value, times.get(key, 0)

    @property
    def count(self) -> int:
        return sum(len(rows) for rows in self.rows.values())

    def save(self, path: Path, namespace: str) -> None:
        """Write it, in one piece or not at all."""
        temporary = path.with_name(path.name + ".part")
        with gzip.open(temporary, "wt", compresslevel=1) as file:
            head = {"format": FORMAT, "service": self.service, "namespace": namespace}
            file.write(json.dumps(head | {"position": {str(p): at for p, at in self.position.items()}}) + "\n")
            for (table, partition), rows in sorted(self.rows.items()):
                times = self.times.get((table, partition), {})
                for key, value in rows.items():
                    text = base64.b64encode(value).decode()
                    file.write(json.dumps([table, partition, key.decode(), text, times.get(key, 0)]) + "\n")
            file.write(json.dumps({"rows": self.count}) + "\n")
        os.replace(temporary, path)

    @classmethod
    def load(cls, path: Path, service: str, namespace: str) -> Snapshot:
        """ReplayError if it is none of this service, or not whole."""
        try:
            with gzip.open(path, "rt") as file:
                head = json.loads(file.readline())
                if head["format"] != FORMAT:
                    raise ValueError(f"format {head['format']!r}")
                if (head["service"], head["namespace"]) != (service, namespace):
                    raise ValueError(f"it is of {head['namespace']}{head['service']}, not of {namespace}{service}")
                rows: dict[tuple[str, int], dict[bytes, bytes]] = {}
                times: dict[tuple[str, int], dict[bytes, int]] = {}
                count, told = 0, None
                for line in file:
                    said = json.loads(line)
                    if isinstance(said, dict):
                        told = said["rows"]
                        break
                    table, partition, key, text, time = said
                    rows.setdefault((table, partition), {})[key.encode()] = base64.b64decode(text)
                    times.setdefault((table, partition), {})[key.encode()] = time
                    count += 1
                if told != count:
                    raise ValueError(f"{count} rows of {told}: it was not written to its end")
                file.read()  # to its end: only there the checksum is compared
                return cls(service, {int(p): at for p, at in head["position"].items()}, rows, times)
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zlib.error) as error:
            raise ReplayError(
                f"the snapshot cannot be used: {error}", where=str(path), mend="`farandole replay snapshot` writes one"
            ) from error
