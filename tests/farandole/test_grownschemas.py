"""Records of schemas that came after the code: a worker that was taken back reads what the newer one wrote.

And the other way round: the newer one reads the rows that the older one left in a changelog.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from farandole.codec import Codec
from farandole.errors import CodecError
from farandole.event import Meta
from farandole.schemas import Schemas
from tests.farandole.schemaproject import event, events_module, field, number, put, row

META = Meta("order/0/1", "o-1", "order/1", "")
OLD_ROW = row("payment.tables.charge", field("amount", "long"))
NEW_ROW = row("payment.tables.charge", field("amount", "long"), field("note", "string", default="none"))
OLD_EVENT = event("payment.captured", field("amount", "long"))
NEW_EVENT = event("payment.captured", field("note", "string", default="none"), field("amount", "long"))


class Project:
    """Schemas and code of one version; its records carry ids that no later version gives away."""

    def __init__(self, directory: Path, grown: Path | None = None, *, newer: bool) -> None:
        directory.mkdir()
        put(directory, OLD_ROW, OLD_EVENT)
        number(directory)
        if newer:
            put(directory, NEW_ROW, NEW_EVENT, version=2)
            ids = {"1": "payment.captured.1.avsc", "2": "payment.tables.charge.1.avsc"}
            ids |= {"3": "payment.captured.2.avsc", "4": "payment.tables.charge.2.avsc"}
            (directory / "ids.json").write_text(str(ids).replace("'", '"'))
        self.directory = directory
        self.events: Any = events_module(Schemas.load(directory))
        self.codec = Codec.load(directory, self.events, grown=grown)
        self.row = self.codec.type_of(self.events.Charge)


@pytest.fixture
def versions(tmp_path: Path) -> tuple[Project, Project, Path]:
    grown = tmp_path / "grown"
    grown.mkdir()
    return Project(tmp_path / "old", grown, newer=False), Project(tmp_path / "new", newer=True), grown


def deploy(project: Project, grown: Path) -> None:
    """As a deployment does it, ids last."""
    for path in sorted(project.directory.glob("*.avsc")):
        shutil.copyfile(path, grown / path.name)
    shutil.copyfile(project.directory / "ids.json", grown / "ids.json")


def test_rows_of_the_older_version_are_read_with_the_new_fields_default(
    versions: tuple[Project, Project, Path],
) -> None:
    old, new, _ = versions
    written = old.row.encode_row(old.events.Charge(amount=7))
    assert new.row.decode_row(written) == new.events.Charge(amount=7, note="none")


def test_rows_and_events_of_a_newer_version_are_read_as_soon_as_it_was_deployed(
    versions: tuple[Project, Project, Path],
) -> None:
    old, new, grown = versions
    written = new.row.encode_row(new.events.Charge(amount=7, note="new"))
    said = new.codec.encode(new.events.PaymentCaptured(amount=9, note="new"), META)
    for unknown in (lambda: old.row.decode_row(written), lambda: old.codec.decode(said)):
        with pytest.raises(CodecError):
            unknown()
    deploy(new, grown)
    assert old.row.decode_row(written) == old.events.Charge(amount=7)
    assert old.codec.decode(said) == (META, old.events.PaymentCaptured(amount=9, saga="o-1"))


def test_a_schema_whose_id_is_not_there_yet_harms_nobody(versions: tuple[Project, Project, Path]) -> None:
    old, new, grown = versions
    deploy(old, grown)
    shutil.copyfile(new.directory / "payment.tables.charge.2.avsc", grown / "payment.tables.charge.2.avsc")
    with pytest.raises(CodecError):
        old.row.decode_row(new.row.encode_row(new.events.Charge(amount=7, note="new")))
    deploy(new, grown)
    os.utime(grown / "ids.json", ns=(1, 1))  # a file system whose clock is coarse: any other time is a change
    assert old.row.decode_row(new.row.encode_row(new.events.Charge(amount=7, note="x"))).amount == 7


def test_a_row_is_not_read_as_an_event_nor_rubbish_as_either(versions: tuple[Project, Project, Path]) -> None:
    old, new, grown = versions
    deploy(new, grown)
    said = new.codec.encode(new.events.PaymentCaptured(amount=9, note="new"), META)
    for value in (said, b"\0\0\0\0\x63rest", b"\1\0\0\0\4rest", b"", b"\0\0", None):
        with pytest.raises(CodecError):
            old.row.decode_row(value)  # type: ignore[arg-type]
