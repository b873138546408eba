"""The pace: orders are placed when they are due, whatever became of the ones before, and lateness is seen."""

from __future__ import annotations

import threading
import time

import pytest

from farandole.load import sending
from farandole.load.figures import generator_of
from farandole.load.orders import Mix, Order, Orders
from farandole.load.recorder import Played, Recorder
from farandole.load.sending import Pace
from farandole.load.stages import Stage, burst, steady


class Placing:
    """Places orders nowhere, and may take its time."""

    def __init__(self, takes: float = 0.0) -> None:
        self.recorder = Recorder()
        self.takes = takes
        self.dues: list[float] = []
        self.pace = Pace(Orders(Mix(), "r"), self.recorder, self.place, lambda: 0.0)

    def place(self, order: Order, due: float, played: Played) -> None:
        self.dues.append(due)
        self.recorder.placed(order.saga.encode(), due, played)
        if self.takes:
            time.sleep(self.takes)

    def play(self, *stages: Stage) -> list[Played]:
        at = time.monotonic()
        played = []
        for stage in stages:
            played.append(self.recorder.begin(stage, at))
            self.pace.add(played[-1])
            at += stage.seconds
        thread = threading.Thread(target=self.pace.run, args=(time.sleep,))
        thread.start()
        while not all(each.over for each in played) and thread.is_alive():
            time.sleep(0.005)
        self.pace.halted.set()
        thread.join()
        assert self.pace.error is None
        return played


def test_every_order_is_placed_and_none_before_it_is_due() -> None:
    placing = Placing()
    one, other = placing.play(steady("one", 100, 0.2), steady("other", 200, 0.1))
    assert (one.placed, other.placed) == (20, 20)
    assert placing.dues == sorted(placing.dues)
    assert one.late.count == 20
    assert one.over >= one.began + 0.2


def test_a_slow_generator_puts_off_no_due_time_and_says_that_it_is_the_bottleneck() -> None:
    placing = Placing(takes=0.02)
    (played,) = placing.play(steady("too quick", 200, 0.2))
    assert placing.dues[-1] - placing.dues[0] == pytest.approx(39 / 200)
    assert played.late.largest > 0.3
    assert any("placed late" in why for why in generator_of(played)["bottleneck"])


def test_a_generator_that_keeps_up_is_not_the_bottleneck() -> None:
    played = Played(steady("s", 10, 10), began=0.0, over=10.0, placed=100, cpu=(1.0, 2.0))
    played.late.add(0.002)
    assert generator_of(played)["bottleneck"] == []


@pytest.mark.parametrize(
    ("placed", "cpu", "held_back", "said"),
    [
        (90, (1.0, 1.0), 0, "90 of 100 orders were placed"),
        (100, (9.5, 12.0), 0, "95% of a core"),
        (100, (1.0, 1.0), 7, "7 orders waited"),
    ],
)
def test_each_way_of_being_the_bottleneck_is_said(
    placed: int, cpu: tuple[float, float], held_back: int, said: str
) -> None:
    played = Played(steady("s", 10, 10), began=0.0, over=10.0, placed=placed, cpu=cpu, held_back=held_back)
    (why,) = generator_of(played)["bottleneck"]
    assert said in why


def test_a_burst_is_late_by_nature_and_that_says_nothing_against_the_generator() -> None:
    (played,) = Placing(takes=0.01).play(burst(30))
    assert played.placed == 30
    assert generator_of(played)["bottleneck"] == []


def test_a_stage_can_be_cut_short_and_the_next_one_is_played() -> None:
    placing = Placing()
    threading.Timer(0.1, placing.pace.cut).start()
    began = time.monotonic()
    one, other = placing.play(steady("long", 100, 60), Stage("short", 0.05, 100, 100))
    assert time.monotonic() - began < 30
    assert one.cut
    assert one.placed < 6_000
    assert not other.cut


def test_with_as_many_in_flight_as_may_be_the_next_order_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "MOST_IN_FLIGHT", 5)
    placing = Placing()

    def end_some() -> None:
        while len(placing.dues) < 10:
            for saga in list(placing.recorder.in_flight)[:1]:
                placing.recorder.ended(saga, "completed", time.monotonic())
            time.sleep(0.002)

    ending = threading.Thread(target=end_some)
    ending.start()
    (played,) = placing.play(burst(10))
    ending.join()
    assert played.placed == 10
    assert played.held_back > 0
    assert "orders waited" in generator_of(played)["bottleneck"][0]
