"""The recorder: latency from the intended start, and memory with a bound."""

from __future__ import annotations

import pytest

from farandole.load import recorder as recording
from farandole.load.figures import with_open
from farandole.load.recorder import MOST_INTERVALS, Recorder
from farandole.load.stages import Stage, steady

STAGE = steady("s", 10, 10)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def begun(stage: Stage = STAGE) -> tuple[Recorder, recording.Played, Clock]:
    clock = Clock()
    recorder = Recorder(clock)
    return recorder, recorder.begin(stage, clock.now), clock


def test_latency_counts_from_when_an_order_was_meant_to_be_placed() -> None:
    recorder, played, clock = begun()
    clock.now = 103.0  # the generator, or the system, stood still for three seconds
    recorder.placed(b"o-1", 100.0, played)
    recorder.ended(b"o-1", "completed", 103.5)
    assert played.latency.largest == pytest.approx(3.5)
    assert played.late.largest == pytest.approx(3.0)
    first, *_, last = recorder.intervals
    assert (first.intended, first.placed, first.ended, first.latency.count) == (1, 0, 0, 1)
    assert (last.intended, last.placed, last.ended, last.latency.count) == (0, 1, 1, 0)


def test_an_order_ends_once_and_only_those_that_were_placed_count() -> None:
    recorder, played, _ = begun()
    recorder.placed(b"o-1", 100.0, played)
    for _ in range(2):
        recorder.ended(b"o-1", "completed", 101.0)
    recorder.ended(b"o-of-somebody-else", "completed", 101.0)
    assert played.outcomes == {"completed": 1}
    assert not recorder.in_flight


def test_what_has_not_ended_counts_with_the_time_that_it_has_waited() -> None:
    recorder, played, _ = begun()
    for number in range(100):
        recorder.placed(b"o-%d" % number, 100.0, played)
        if number < 90:
            recorder.ended(b"o-%d" % number, "completed", 100.1)
    found = with_open([played], recorder, now=160.0).percentile(99)
    assert played.latency.percentile(99) == pytest.approx(0.1, rel=0.02)
    assert found == pytest.approx(60, rel=0.02)


def test_an_order_that_was_not_placed_is_counted_and_named() -> None:
    recorder, played, _ = begun()
    recorder.placed(b"o-1", 100.0, played)
    recorder.failed(b"o-1", "the broker is full")
    assert (recorder.open, played.failed, recorder.problems) == (0, 1, {"the broker is full": 1})


def test_a_parked_order_is_not_open_any_more_until_it_is_released() -> None:
    recorder, played, _ = begun()
    recorder.placed(b"o-1", 100.0, played)
    recorder.park(b"o-1", True)
    recorder.park(b"o-of-somebody-else", True)
    assert recorder.open == 0
    recorder.park(b"o-1", False)
    assert recorder.open == 1
    recorder.park(b"o-1", True)
    recorder.ended(b"o-1", "cancelled", 101.0)
    assert (recorder.open, recorder.parked) == (0, set())


def test_a_run_of_hours_keeps_as_many_intervals_as_one_of_minutes_and_loses_no_order() -> None:
    recorder, played, clock = begun()
    for number in range(20_000):
        clock.now = 100.0 + number
        recorder.placed(b"o", clock.now, played)
        recorder.ended(b"o", "completed", clock.now + 0.2)
    assert len(recorder.intervals) <= MOST_INTERVALS
    assert recorder.width == 64
    assert sum(each.intended for each in recorder.intervals) == 20_000
    assert sum(each.latency.count for each in recorder.intervals) == 20_000
    assert not recorder.in_flight
