"""What is sampled: growth is told from noise, and memory and CPU are those of the stretch."""

from __future__ import annotations

import random

import pytest

from farandole.load.figures import cpu_of, samples_of
from farandole.load.memory import rows_of
from farandole.load.sampler import Sample, growing


def noisy(slope: float, seconds: int = 30, level: float = 50.0) -> list[tuple[float, float]]:
    draw = random.Random(1)
    return [(at, max(0.0, level + slope * at + draw.uniform(-30, 30))) for at in range(seconds)]


@pytest.mark.parametrize(("slope", "grows"), [(0.0, False), (-20.0, False), (2.0, False), (20.0, True), (100.0, True)])
def test_a_backlog_grows_if_it_does_so_by_more_than_a_twentieth_of_the_rate(slope: float, grows: bool) -> None:
    assert growing(noisy(slope), rate=200.0) is grows


def test_a_few_samples_say_nothing() -> None:
    assert not growing([(0, 0.0), (1, 1e6)], rate=1.0)


def sample(at: float, cpu: float | None, rss: int, busy: float = 0.0) -> Sample:
    there = {} if cpu is None else {"order[0]": cpu}
    return Sample(at, 0, {}, there, {} if cpu is None else {"order[0]": rss}, busy, 0.0)


def test_memory_at_start_and_end_is_a_mean_of_some_samples() -> None:
    mib = 2**20
    samples = [sample(at, 1.0, (100 if at < 5 else 110) * mib) for at in range(20)]
    (row,) = rows_of(samples)
    assert (row["start_mib"], row["end_mib"], row["ratio"]) == (100, 110, 1.1)


def test_cpu_is_that_between_two_samples_and_a_gap_where_a_process_was_away() -> None:
    samples = [sample(0, 1.0, 1), sample(1, 1.5, 1, 0.9), sample(2, None, 1, 1.0), sample(3, 0.1, 1, 1.2)]
    found = samples_of(samples)
    assert found["cpu"]["order[0]"] == [None, 0.5, None, None]
    assert found["rss"]["order[0]"][2] is None
    assert found["others_cpu"][1] == pytest.approx(0.4)
    assert cpu_of(samples[:2], ["order[0]"]) == {"order[0]": 0.5}
