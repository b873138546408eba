"""What is shown, what is hidden, and what is chosen: without Kafka."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from events import FarandoleCall, PlaceOrder
from farandole.audit.records import LogRecord
from farandole.cli import replay
from farandole.errors import CodecError, ConfigError
from farandole.event import Meta
from farandole.replay import inspecting
from farandole.replay.inspecting import Inspection
from farandole.replay.pace import Pace
from farandole.replay.plain import content, described, line
from farandole.replay.selection import Selection, bounds, instant, stretch
from farandole.simulation.workers import Workshop
from tests.replay.maker import order
from tests.replay.model import ModelSource, played, quiet


@pytest.fixture(scope="module")
def workshop() -> Workshop:
    return Workshop()


@pytest.fixture(scope="module")
def source(workshop: Workshop) -> ModelSource:
    """A run with parked sagas and nonsense in it."""
    return next(found for seed in range(200) if (found := ModelSource(played(workshop, seed))) and _is_rich(found))


def _is_rich(source: ModelSource) -> bool:
    return any(source.log["order.dlq", p] for p in range(source.partitions["order"]))


def inspected(source: ModelSource, workshop: Workshop, selection: Selection, **options: Any) -> list[dict[str, Any]]:
    said: list[str] = []
    inspection = Inspection(workshop.project.codec, selection, bounds(source, selection), Pace(), **options)
    inspection.run(source, said.append, quiet)
    return [json.loads(each) for each in said]


# ---- what is shown


def test_secrets_are_masked_wherever_they_are(workshop: Workshop) -> None:
    codec = workshop.project.codec
    command = order(1, "tea", 1, card="tok_secret")
    value = codec.encode(command, Meta("client/1", "o-1", "order/1", ""))
    said = content(codec, value)
    assert said["event"]["card_token"] == "***"
    assert said["event"]["lines"] == [{"line": 1, "sku": "tea", "quantity": 1, "price": 1_000}]
    call = FarandoleCall("o-1", "gateway", "authorise", b'{"card": "tok_secret"}', "a", b"meta", 1.0)
    row = content(codec, codec.type_of(FarandoleCall).encode_row(call))
    assert "tok_secret" not in line(said) + line(row)
    assert b"tok_secret".hex() not in line(row)


BROKEN = [b"", b"\0", b"\xff" * 9, b"\0\0\0\0\x19", b"\0\0\0\0\x19\x02\xff\xff", b"\0" * 10_000]


@pytest.mark.parametrize("value", BROKEN)
def test_no_bytes_stop_it(workshop: Workshop, value: bytes) -> None:
    record = LogRecord("order", 0, 7, 1_750_000_000_000, b"\xff\xfe", value)
    said = json.loads(line(described(workshop.project.codec, record)))
    assert said["undecodable"]
    assert bytes.fromhex(said["bytes"].removesuffix("…")) == value[:4_096]
    assert (said["topic"], said["partition"], said["offset"], said["time"]) == (
        "order", 0, 7, "2025-06-15T15:06:40.000Z",
    )  # fmt: skip


def test_every_record_of_a_run_is_shown_once_and_in_the_order_of_its_partition(
    workshop: Workshop, source: ModelSource
) -> None:
    said = inspected(source, workshop, Selection())
    assert len(said) == sum(map(len, source.log.values()))
    seen: dict[tuple[str, int], int] = {}
    for each in said:
        place = each["topic"], each["partition"]
        assert each["offset"] > seen.get(place, -1)
        seen[place] = each["offset"]
    letters = [each["letter"] for each in said if each["topic"].endswith(".dlq")]
    assert letters
    assert all({"reason", "errors.topic", "errors.offset"} <= letter.keys() for letter in letters)


# ---- what is chosen


def test_a_saga_a_flow_a_type_choose_what_names_them(workshop: Workshop, source: ModelSource) -> None:
    everything = inspected(source, workshop, Selection())
    saga = next(each["saga"] for each in everything if each.get("type") == "order.placed")
    of_saga = inspected(source, workshop, Selection(saga=saga))
    assert [each["time"] for each in of_saga] == sorted(each["time"] for each in of_saga)
    assert len(of_saga) == sum(each.get("saga") == saga for each in everything)
    restocks = inspected(source, workshop, Selection(flow="restock/1"))
    assert {each["type"] for each in restocks} == {"stock.received"}
    placed = inspected(source, workshop, Selection(types=frozenset({"order.placed"})))
    assert len(placed) == sum(each.get("type") == "order.placed" for each in everything)
    assert len(inspected(source, workshop, Selection(), limit=5)) == 5


def test_times_split_history_in_two(workshop: Workshop, source: ModelSource) -> None:
    times = sorted(record.timestamp for records in source.log.values() for record in records)
    middle = times[len(times) // 2]
    early = inspected(source, workshop, Selection(end=middle))
    late = inspected(source, workshop, Selection(begin=middle))
    assert len(early) == sum(time < middle for time in times)
    assert len(early) + len(late) == len(times)


def test_what_is_past_retention_is_told(workshop: Workshop, source: ModelSource) -> None:
    place = next(place for place, records in source.log.items() if place[0] == "order" and len(records) > 3)
    before, source.starts[place] = source.starts[place], 2
    try:
        whole = bounds(source, Selection(topics=frozenset({"order"})))
        stretched = bounds(source, Selection(stretches={place: (0, 3)}))
        after = bounds(source, Selection(stretches={place: (2, 3)}))
    finally:
        source.starts[place] = before
    assert whole.gone == [f"order/{place[1]}: what lay before offset 2 is past retention"]
    assert stretched.gone == [f"order/{place[1]}: offsets 0 to 1 are past retention"]
    assert (stretched.first[place], stretched.last[place]) == (2, 3)
    assert after.gone == []


@pytest.mark.parametrize("text", ["yesterday", "2026-03-01T08:00:00", ""])
def test_a_time_without_a_zone_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        instant(text, "--from-timestamp")


def test_times_and_stretches_are_read() -> None:
    assert instant("2026-03-01T08:00:00+01:00", "x") == instant("2026-03-01T07:00:00Z", "x") == 1_772_348_400_000
    assert stretch("order.calls/3/100-200") == (("order.calls", 3), (100, 201))
    assert stretch("order/0/5-") == (("order", 0), (5, None))
    for wrong in ("order/3", "order/3/200-100", "order/x/1-2", "3/4"):
        with pytest.raises(ConfigError):
            stretch(wrong)


# ---- where it goes on


def test_a_state_of_another_selection_or_no_state_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert inspecting.load(state, {"saga": ""}) is None
    state.write_text(json.dumps({"format": inspecting.FORMAT, "asked": {"saga": "a"}, "position": {}, "end": {}}))
    with pytest.raises(ConfigError, match="another selection"):
        inspecting.load(state, {"saga": ""})
    for nonsense in ("", "[]", "{}", '{"format": "x"}'):
        state.write_text(nonsense)
        with pytest.raises(ConfigError, match="no state"):
            inspecting.load(state, {"saga": ""})


def test_an_interruption_hands_out_nothing_twice_and_misses_nothing(
    workshop: Workshop, source: ModelSource, tmp_path: Path
) -> None:
    selection, codec, state = Selection(), workshop.project.codec, tmp_path / "state"
    whole = [line(each) for each in inspected(source, workshop, selection)]
    for stop in (0, 1, 7, len(whole) - 1):
        state.unlink(missing_ok=True)
        said: list[str] = []

        def out(text: str, said: list[str] = said, stop: int = stop) -> None:
            if len(said) == stop:
                raise KeyboardInterrupt
            said.append(text)

        first = Inspection(codec, selection, bounds(source, selection), Pace())
        with pytest.raises(KeyboardInterrupt):
            first.run(source, out, quiet)
        inspecting.save(state, {}, first)
        where = inspecting.load(state, {})
        assert where is not None
        Inspection(codec, selection, where, Pace()).run(source, said.append, quiet)
        assert sorted(said) == sorted(whole), f"stopped at {stop}"


def test_a_signal_waits_until_what_was_handed_out_is_noted(workshop: Workshop, source: ModelSource) -> None:
    selection, codec = Selection(), workshop.project.codec
    inspection = Inspection(codec, selection, bounds(source, selection), Pace())
    said: list[str] = []

    def stop() -> None:
        raise KeyboardInterrupt

    def out(text: str) -> None:
        said.append(text)
        if len(said) == 3:
            inspection.interrupt(stop)  # as a handler that is called at the worst moment

    with pytest.raises(KeyboardInterrupt):
        inspection.run(source, out, quiet)
    noted = sum(
        first <= record.offset < inspection.position[place]
        for place, first in bounds(source, selection).first.items()
        for record in source.log[place]
    )
    assert noted == len(said) == 3


def test_a_pace_is_kept() -> None:
    now, slept = [0.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    pace = Pace(100.0, lambda: now[0], sleep)
    for _ in range(500):
        pace.step()
    assert 4.9 < now[0] < 5.1
    assert slept
    Pace(0.0, lambda: now[0], sleep).step()


def test_types_that_are_none_are_told(workshop: Workshop) -> None:
    with pytest.raises(CodecError, match="no schema"):
        workshop.project.codec.type_named("order.misplaced")
    assert isinstance(order(1, "tea", 1), PlaceOrder)


# ---- where it is written to


@pytest.mark.parametrize("command", ["shadow --out", "snapshot order --out", "inspect --out", "rebuild order --resume"])
@pytest.mark.parametrize("place", ["nowhere/file", "."])
def test_a_file_that_cannot_be_written_is_found_before_anything_is_read(
    command: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("farandole.replay.opening.opened", lambda: pytest.fail("it is about to read"))
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    words = [*command.split(), str(tmp_path / place)]
    if words[0] == "inspect" and place == ".":
        words[-1] += "/nowhere/file"  # one that is there is another error
    failure = CliRunner().invoke(replay.app, words).exception
    assert isinstance(failure, ConfigError), failure
    assert (failure.what.partition(":")[0], failure.where) == (
        "the file cannot be written", f"{words[-2]} {tmp_path / words[-1]}",
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_a_saga_is_handed_out_whole_before_a_stop_and_noted_only_then(workshop: Workshop, source: ModelSource) -> None:
    saga = next(each["saga"] for each in inspected(source, workshop, Selection()) if each.get("type") == "order.placed")
    selection = Selection(saga=saga)
    where = bounds(source, selection)
    said: list[str] = []

    def inspection_of(out: Any) -> Inspection:
        made = Inspection(workshop.project.codec, selection, where, Pace())
        with pytest.raises((KeyboardInterrupt, OSError)):
            made.run(source, lambda text: out(made, text), quiet)
        return made

    def stopped(made: Inspection, text: str) -> None:
        said.append(text)
        made.interrupt(interrupted)

    def interrupted() -> None:
        raise KeyboardInterrupt

    def full(made: Inspection, text: str) -> None:
        raise OSError("no space is left")

    made = inspection_of(stopped)
    assert len(said) == made.found > 1
    assert made.position == where.last
    assert inspection_of(full).position == where.first
